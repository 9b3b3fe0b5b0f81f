"""A circuit per store: one that is away is left alone for longer and longer, and asked by one process at a time."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import redis
import structlog

from worker.errors import Unavailable
from worker.records.store_errors import StoreErrors
from worker.state import state_errors

# What was read of a closed circuit holds for so long: a store that goes away is asked by each process for no longer
# than this after the first of them found out.
REMEMBERED_SECONDS = 1.0
# Whoever has the right to probe and has not reported by then is dead, frozen or cut off: longer than any request to a
# store is waited for.
PROBE_SECONDS = 15.0
# One that fails again within this of closing goes on with the delays that it had: a store that answers one kind of
# request and not another would be back at the first delay each time.
STEADY_SECONDS = 10.0
# What lies about a circuit that nobody touches, as of a store that is removed, goes in the end.
KEPT_SECONDS = 86_400
# What keeps one segment is told for so long after it was last met: it is met with each try.
OF_ONE_SECONDS = 120.0
_LONGEST_REASON = 300

_log = structlog.get_logger(__name__)


class Curve(NamedTuple):
    """Delays in seconds: the n-th is a random part of ``base`` x 2^n, no part of more than ``cap``.

    The whole range is random (full jitter), so that processes and installations do not come back in step; ``floor``
    keeps a probe from following at once.
    """

    base: float
    cap: float
    floor: float


# A configuration fault stays until a person has mended it, and a person who has can say so (``reset``).
CURVES = {"transient": Curve(1.0, 15.0, 0.25), "configuration": Curve(30.0, 600.0, 5.0)}

# The server's clock is the only one that all processes share. It may step: forward, a probe comes early; back, a time
# that is further away than the whole delay was set under another clock, and has come. So a step never costs more than
# one delay (the cap of the curve), and the time already waited.
_CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function whole(number) return string.format('%.0f', number) end
local function lies_ahead(at, span) return now < at and now >= at - span end
"""

# ARGV: token, how long the right to probe holds (ms)
# Returns {'closed' | 'probe' (by this caller, now) | 'open', version}
_ALLOW = (
    _CLOCK
    + """
local open, version, retry_at, wait, probe, probe_until = unpack(redis.call('HMGET', KEYS[1],
  'open', 'version', 'retry_at_ms', 'wait_ms', 'probe', 'probe_until_ms'))
if open ~= '1' then return {'closed', version or ''} end
local waits = lies_ahead(tonumber(retry_at), tonumber(wait))
local probed = probe and lies_ahead(tonumber(probe_until), tonumber(ARGV[2]))
if waits or probed then return {'open', version} end
redis.call('HSET', KEYS[1], 'probe', ARGV[1], 'probe_until_ms', whole(now + tonumber(ARGV[2])))
return {'probe', version}
"""
)

# ARGV: token of the probe ('' if the caller has none), the version under which it began ('?' if it did not ask),
#   fault, reason, chance (0 to 1), base, cap and floor of the curve (ms), steady (ms), kept (ms)
# Returns {'counted' or 'stale', '1' if open now, version, failures, delay in ms, 1 if this call opened it}
_FAIL = (
    _CLOCK
    + """
local open, version, probe, transient, configuration, closed_at = unpack(redis.call('HMGET', KEYS[1],
  'open', 'version', 'probe', 'transient', 'configuration', 'closed_ms'))
local opens, stale = open ~= '1', false
if opens then
  -- It has opened and closed since: what failed began before that, and says nothing of the store as it is now.
  stale = version and ARGV[2] ~= '?' and ARGV[2] ~= version
else
  -- What fails now and is no probe began before it opened, and has been counted with the one that opened it.
  stale = probe ~= ARGV[1]
end
if stale then return {'stale', open or '0', version or '', 0, 0, 0} end

local failures = {transient = tonumber(transient or 0), configuration = tonumber(configuration or 0)}
if opens then
  if not closed_at or not lies_ahead(tonumber(closed_at) + tonumber(ARGV[9]), tonumber(ARGV[9])) then
    failures = {transient = 0, configuration = 0}
  end
  redis.call('HSET', KEYS[1], 'open', '1', 'since_ms', whole(now))
  version = whole(redis.call('HINCRBY', KEYS[1], 'version', 1))
end
local most = math.min(tonumber(ARGV[7]), tonumber(ARGV[6]) * 2 ^ math.min(failures[ARGV[3]], 30))
local delay = math.floor(math.max(tonumber(ARGV[8]), tonumber(ARGV[5]) * most))
failures[ARGV[3]] = failures[ARGV[3]] + 1
redis.call('HSET', KEYS[1], 'fault', ARGV[3], 'reason', ARGV[4],
  'wait_ms', whole(delay), 'retry_at_ms', whole(now + delay), 'transient', whole(failures.transient),
  'configuration', whole(failures.configuration))
redis.call('HDEL', KEYS[1], 'probe', 'probe_until_ms')
redis.call('PEXPIRE', KEYS[1], ARGV[10])
return {'counted', '1', version, failures.transient + failures.configuration, delay, opens and 1 or 0}
"""
)

# ARGV: how long it is kept (ms)
# Returns {1 if it was open, version, failures, since when it was open (ms), now (ms)}
_CLOSE = (
    _CLOCK
    + """
local open, version, since, transient, configuration = unpack(redis.call('HMGET', KEYS[1],
  'open', 'version', 'since_ms', 'transient', 'configuration'))
if open ~= '1' then return {0, version or '', 0, 0, 0} end
redis.call('HSET', KEYS[1], 'open', '0', 'closed_ms', whole(now))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
version = whole(redis.call('HINCRBY', KEYS[1], 'version', 1))
return {1, version, transient + configuration, tonumber(since), now}
"""
)

# ARGV: the token of whoever gives the right to probe back
_GIVE_BACK = """
if redis.call('HGET', KEYS[1], 'probe') ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], 'probe', 'probe_until_ms')
"""


@dataclass(slots=True, frozen=True)
class CircuitState:
    """What a status page says of one store's circuit; of a closed one, only that.

    Attributes:
        since_ms: when it opened; like all times here by the state server's clock.
        failures: how many probes have failed since, with the failure that opened it.
        fault: "transient" or "configuration", of the last failure.
        reason: the last failure, for a person; no secrets.
        retry_at_ms: when the next probe may come.
        due: that time has come, and nobody probes.
        version: another number after every opening and closing; of a closed one, too.
        of_one: what keeps one of its segments waiting, in the last minutes, while the others go on; else empty.
    """

    open: bool = False
    since_ms: int | None = None
    failures: int = 0
    fault: str = ""
    reason: str = ""
    retry_at_ms: int | None = None
    due: bool = False
    version: int = 0
    of_one: str = ""


@dataclass(slots=True)
class _Known:
    """What this process knows of a circuit: the version counts its openings and closings."""

    open: bool
    version: str
    asked_at: float
    probe: str = ""


class Circuits:
    """The circuits of all stores, shared through the state server. Safe between threads, as far as the client is.

    Whoever is about to ask something of a store asks ``allows`` first, once per piece of work, and reports the first
    thing that it learns of the store: ``failed``, ``succeeded`` or ``abstained``.

    Keys: ``segsync:circuit:{STORE}`` hash: open ("1" or "0"), version (openings and closings so far), since_ms,
    closed_ms, transient and configuration (failures of each curve), fault, reason, wait_ms and retry_at_ms, and of
    somebody who probes: probe (a token) and probe_until_ms. ``segsync:circuit:{STORE}:of_one`` string: ``of_one``.
    """

    def __init__(
        self,
        client: redis.Redis,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._clock = clock
        self._chance = chance
        self._allow, self._fail, self._close, self._give_back = (
            client.register_script(text) for text in (_ALLOW, _FAIL, _CLOSE, _GIVE_BACK)
        )
        self._errors = StoreErrors(client)
        self._known: dict[str, _Known] = {}

    def allows(self, store_id: str) -> bool:
        """Whether the store may be asked now.

        Always when the circuit is closed; when it is open and the time has come, for exactly one caller, which then
        has the right to probe until it reports, and for fifteen seconds at most.

        Raises:
            Unavailable: the state server is away. The right to probe may have been given, to nobody: it expires.
        """
        known = self._known.get(store_id)
        asked_at = self._clock()
        if known and not known.open and asked_at - known.asked_at < REMEMBERED_SECONDS:
            return True
        token = uuid.uuid4().hex
        found, version = self._run(self._allow, store_id, token, _ms(PROBE_SECONDS))
        probe = token if found == b"probe" else ""
        if not probe and known:
            probe = known.probe  # another thread of this process may be at it
        self._known[store_id] = _Known(found != b"closed", version.decode(), asked_at, probe)
        return bool(found != b"open")

    def failed(self, store_id: str, error: Unavailable) -> None:
        """Report a store that was away: open the circuit, or, as the probe, put the next one off.

        A failure of something that began before the circuit last opened or closed changes nothing: fifty processes
        that fail at the same moment count once. A fault of one item shows that the store answers: it closes the
        circuit if anything. The state server's being away says nothing of the store. What changes something, or is one
        item's, is kept among the store's last errors.

        Raises:
            Unavailable: the state server is away. Of a probe, the right then expires.
        """
        if error.dependency != "store":
            return
        if error.fault == "item":
            self.succeeded(store_id)
            with state_errors():
                self._client.set(_key_of_one(store_id), str(error)[:_LONGEST_REASON], px=_ms(OF_ONE_SECONDS))
            self._errors.note(store_id, error)
            return
        known, asked_at = self._known.get(store_id), self._clock()
        curve = CURVES[error.fault]
        reason = str(error)[:_LONGEST_REASON]
        verdict, is_open, version, failures, delay_ms, opened = self._run(
            self._fail,
            store_id,
            known.probe if known else "",
            known.version if known else "?",
            error.fault,
            reason,
            f"{self._chance():.6f}",
            *map(_ms, (*curve, STEADY_SECONDS, KEPT_SECONDS)),
        )
        self._known[store_id] = _Known(is_open == b"1", version.decode(), asked_at)
        if verdict == b"counted":
            _log.warning(
                "circuit.opened" if opened else "circuit.probe_failed",
                store_id=store_id,
                fault=error.fault,
                failures=int(failures),
                retry_seconds=int(delay_ms) / 1000,
                error=reason,
            )
            self._errors.note(store_id, error)

    def succeeded(self, store_id: str) -> None:
        """Report that the store did what was asked of it: close the circuit.

        Costs nothing when this process knows it as closed.

        Raises:
            Unavailable: the state server is away; the circuit may still be open, and is probed again.
        """
        known = self._known.get(store_id)
        if known and not known.open:
            return
        asked_at = self._clock()
        was_open, version, failures, since_ms, now_ms = self._run(self._close, store_id, _ms(KEPT_SECONDS))
        self._known[store_id] = _Known(open=False, version=version.decode(), asked_at=asked_at)
        if was_open:
            seconds = max(0, int(now_ms) - int(since_ms)) / 1000
            _log.info("circuit.closed", store_id=store_id, failures=int(failures), open_seconds=seconds)

    def abstained(self, store_id: str) -> None:
        """Report that nothing was learnt of the store: give back the right to probe, if this process has it.

        Costs nothing otherwise.

        Raises:
            Unavailable: the state server is away; the right then expires.
        """
        known = self._known.get(store_id)
        if known and known.probe:
            token, known.probe = known.probe, ""
            self._run(self._give_back, store_id, token)

    def reset(self, store_id: str) -> None:
        """Close it and forget what was, by command: the store was checked, its configuration changed, it is gone.

        Other processes that know it as closed may go on for up to a second; nobody has to wait.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            self._client.delete(_key(store_id), _key_of_one(store_id))

    def forget(self, store_id: str) -> None:
        """The store was removed: forget its circuit and its last errors, which ``reset`` leaves.

        Raises:
            Unavailable: the state server is away.
        """
        self.reset(store_id)
        self._errors.forget(store_id)

    def read(self, store_ids: Iterable[str]) -> dict[str, CircuitState]:
        """The circuits of these stores, read in one round trip, and not remembered.

        Raises:
            Unavailable: the state server is away.
        """
        wanted = list(dict.fromkeys(store_ids))
        with state_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            for store_id in wanted:
                pipe.hgetall(_key(store_id))
                pipe.get(_key_of_one(store_id))
            (seconds, micros), *found = pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        return {
            store_id: replace(_state(fields, now_ms), of_one=(of_one or b"").decode())
            for store_id, fields, of_one in zip(wanted, found[::2], found[1::2], strict=True)
        }

    def _run(self, script: Any, store_id: str, *arguments: object) -> Any:
        with state_errors():
            return script(keys=[_key(store_id)], args=arguments)


def _key(store_id: str) -> str:
    return f"segsync:circuit:{{{store_id}}}"


def _key_of_one(store_id: str) -> str:
    return f"{_key(store_id)}:of_one"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _state(found: dict[bytes, bytes], now_ms: int) -> CircuitState:
    fields = {name.decode(): value.decode() for name, value in found.items()}
    version = int(fields.get("version", 0))
    if fields.get("open") != "1":
        return CircuitState(version=version)

    def lies_ahead(at_ms: int, span_ms: int) -> bool:
        return at_ms - span_ms <= now_ms < at_ms

    retry_at_ms = int(fields["retry_at_ms"])
    probed = "probe" in fields and lies_ahead(int(fields["probe_until_ms"]), _ms(PROBE_SECONDS))
    return CircuitState(
        open=True,
        since_ms=int(fields["since_ms"]),
        failures=int(fields["transient"]) + int(fields["configuration"]),
        fault=fields["fault"],
        reason=fields["reason"],
        retry_at_ms=retry_at_ms,
        due=not probed and not lies_ahead(retry_at_ms, int(fields["wait_ms"])),
        version=version,
    )
