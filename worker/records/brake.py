"""A brake per integration: when most of its batches die, the deploy is broken and not the data, and draining stops."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import redis
import structlog

from worker.records.brake_states import BrakeState, LetDie, Release
from worker.state import state_errors

# Judged over so many of the last outcomes that this process saw, once it has seen the least number of them: one bad
# payload is the data's fault, and a whole queue of dead letters would be ours.
JUDGED = 20
LEAST_JUDGED = 10
# Deaths that are further apart are single bad payloads.
RECENT_SECONDS = 3600.0
FIRST_PROBE_SECONDS = 15.0
LAST_PROBE_SECONDS = 300.0
# Whoever has the right to probe and has not reported by then is dead: ten batches, each perhaps in a child of its own.
PROBE_SECONDS = 60.0
# That no brake is engaged is remembered for so long; that one is, never: after a release the wake-ups come at once.
REMEMBERED_SECONDS = 1.0
_LONGEST_REASON = 300

_BRAKES = "segsync:brakes"
# KEYS: the hash. ARGV: field, what it is now ('' if absent), what it shall be
_REPLACE = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""

_log = structlog.get_logger(__name__)


class _Record(msgspec.Struct, omit_defaults=True):
    """A brake in the state server. A released one stays, so that every process forgets what it saw before."""

    since_ms: int = 0
    reason: str = ""
    dead: int = 0
    of: int = 0
    by: str = ""
    probes: int = 0
    wait_ms: int = 0
    next_probe_ms: int = 0
    probe: str = ""
    probe_until_ms: int = 0
    released_ms: int = 0
    spare_ms: int = 0
    spared_until_ms: int = 0

    @property
    def engaged(self) -> bool:
        return not self.released_ms

    def due(self, now_ms: int) -> bool:
        probed = self.probe and _lies_ahead(self.probe_until_ms, _ms(PROBE_SECONDS), now_ms)
        return not probed and not _lies_ahead(self.next_probe_ms, self.wait_ms, now_ms)

    def spared(self, now_ms: int) -> bool:
        """A person has said that batches may die for now."""
        return _lies_ahead(self.spared_until_ms, self.spare_ms, now_ms)


_decode = msgspec.json.Decoder(_Record).decode
_encode = msgspec.json.encode


class Brakes:
    """The brakes of all integrations, shared through the state server. For one thread.

    Keys: ``segsync:brakes`` hash, ``ENVIRONMENT/INTEGRATION`` -> JSON (see ``_Record``).
    """

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._replace = client.register_script(_REPLACE)
        self._by = f"{socket.gethostname()}:{os.getpid()}"
        self._outcomes: dict[str, deque[tuple[float, bool]]] = defaultdict(lambda: deque(maxlen=JUDGED))
        self._records: dict[str, bytes] = {}
        self._read_at: float | None = None
        self._probes: dict[str, str] = {}

    def lived(self, environment_id: str, integration_key: str, count: int = 1) -> None:
        """Note that so many batches could be applied; asks nobody."""
        now = self._clock()
        self._outcomes[_field(environment_id, integration_key)].extend([(now, False)] * min(count, JUDGED))

    def died(self, environment_id: str, integration_key: str, reason: str = "") -> bool:
        """Note that a batch can never succeed.

        Returns:
            Whether the brake is engaged, now or by somebody else. Then the batch must not be buried, and nothing more
            of this integration be drained.

        Raises:
            Unavailable: the state server is away; the brake may have been engaged.
        """
        if self.engaged(environment_id, integration_key):
            return True
        field, now = _field(environment_id, integration_key), self._clock()
        outcomes = self._outcomes[field]
        outcomes.append((now, True))
        recent = [dead for at, dead in outcomes if now - at < RECENT_SECONDS]
        if len(recent) < LEAST_JUDGED or sum(recent) * 2 <= len(recent):
            return False
        return self._engage(field, reason, sum(recent), len(recent))

    def engaged(self, environment_id: str, integration_key: str) -> bool:
        """Whether nothing of this integration is to be drained; known within a second of being engaged.

        Raises:
            Unavailable: the state server is away.
        """
        field = _field(environment_id, integration_key)
        old = self._read_at is None or self._clock() - self._read_at >= REMEMBERED_SECONDS
        if old or _is_engaged(self._records.get(field, b"")):
            self._read()
        return _is_engaged(self._records.get(field, b""))

    def probe_due(self, environment_id: str, integration_key: str) -> bool:
        """Whether the caller is the one that probes now: it parses some of what waits, buries nothing, and reports.

        The right holds until it reports (``probed``, ``abstained``), and for a minute at most.

        Raises:
            Unavailable: the state server is away. The right may have been given, to nobody: it expires.
        """
        field = _field(environment_id, integration_key)
        text, now_ms = self._look(field)
        if not _is_engaged(text):
            return False
        record = _decode(text)
        if not record.due(now_ms):
            return False
        record.probe, record.probe_until_ms = uuid.uuid4().hex, now_ms + _ms(PROBE_SECONDS)
        if not self._put(field, text, record):
            return False
        self._probes[field] = record.probe
        return True

    def probed(self, environment_id: str, integration_key: str, *, ok: bool, reason: str = "") -> None:
        """Report a probe: release the brake, or put the next one off. Without the right to probe, nothing happens.

        Raises:
            Unavailable: the state server is away; the right then expires.
        """
        field = _field(environment_id, integration_key)
        token = self._probes.pop(field, "")
        found = self._held(field, token)
        if found is None:
            return
        text, record, now_ms = found
        if ok:
            self._let_go(field, text, record, now_ms, by="probe")
            return
        record.probes += 1
        record.reason = reason[:_LONGEST_REASON] or record.reason
        record.probe, record.probe_until_ms = "", 0
        record.wait_ms = _ms(min(FIRST_PROBE_SECONDS * 2 ** min(record.probes, 30), LAST_PROBE_SECONDS))
        record.next_probe_ms = now_ms + record.wait_ms
        if self._put(field, text, record):
            wait_seconds = record.wait_ms / 1000
            _log.warning("brake.probe_failed", **_names(field), reason=record.reason, retry_seconds=wait_seconds)

    def abstained(self, environment_id: str, integration_key: str) -> None:
        """Give the right to probe back: nothing was learnt, there was nothing to parse or it could not be read.

        Raises:
            Unavailable: the state server is away; the right then expires.
        """
        field = _field(environment_id, integration_key)
        found = self._held(field, self._probes.pop(field, ""))
        if found is not None:
            text, record, _ = found
            record.probe, record.probe_until_ms = "", 0
            self._put(field, text, record)

    def release(
        self, environment_id: str, integration_key: str, by: str = "command", *, spare_seconds: float = 0.0
    ) -> Release | None:
        """Release it by command. For so long, it is not engaged again by any death.

        Given while an earlier command still lets batches die, it takes that one's place: by itself, it ends it.

        Returns:
            None when there was nothing to end.

        Raises:
            Unavailable: the state server is away; it may have been released.
        """
        field = _field(environment_id, integration_key)
        while True:
            text, now_ms = self._look(field)
            record = _decode(text) if text else None
            if record is None or not (record.engaged or record.spared(now_ms)):
                return None
            spare_ms = _ms(spare_seconds)
            if self._let_go(field, text, record, now_ms, by=by, spare_ms=spare_ms):
                return Release(record.engaged, now_ms + spare_ms if spare_ms else None)

    def list(self) -> Sequence[BrakeState]:
        """The brakes that are engaged, by environment and integration.

        Raises:
            Unavailable: the state server is away.
        """
        records, now_ms = self._look_at_all()
        return [
            BrakeState(
                **_names(field),
                since_ms=record.since_ms,
                reason=record.reason,
                dead=record.dead,
                of=record.of,
                by=record.by,
                probes=record.probes,
                next_probe_ms=record.next_probe_ms,
                due=record.due(now_ms),
            )
            for field, record in records
            if record.engaged
        ]

    def let_die(self) -> Sequence[LetDie]:
        """The integrations whose batches may die for now, by environment and integration; none of them is engaged.

        Raises:
            Unavailable: the state server is away.
        """
        records, now_ms = self._look_at_all()
        return [
            LetDie(**_names(field), until_ms=record.spared_until_ms)
            for field, record in records
            if record.spared(now_ms)
        ]

    def _engage(self, field: str, reason: str, dead: int, of: int) -> bool:
        known = self._records.get(field, b"")
        text, now_ms = self._look(field)
        if text != known:
            # Engaged by somebody else, or engaged and released: then what this process saw lies before that.
            return _is_engaged(text)
        if text and _decode(text).spared(now_ms):
            return False
        wait_ms = _ms(FIRST_PROBE_SECONDS)
        record = _Record(now_ms, reason[:_LONGEST_REASON], dead, of, self._by, 0, wait_ms, now_ms + wait_ms)
        if not self._put(field, text, record):
            return _is_engaged(self._look(field)[0])
        _log.error(
            "brake.engaged",
            **_names(field),
            dead=dead,
            of=of,
            reason=record.reason,
            problem="most of the recent batches of this integration die; it is not drained until a probe succeeds",
        )
        return True

    def _let_go(self, field: str, text: bytes, record: _Record, now_ms: int, by: str, *, spare_ms: int = 0) -> bool:
        released = _Record(released_ms=now_ms, spare_ms=spare_ms, spared_until_ms=now_ms + spare_ms)
        if not self._put(field, text, released):
            return False
        seconds = max(0, now_ms - record.since_ms) / 1000 if record.engaged else 0.0
        _log.warning("brake.released", **_names(field), by=by, engaged_seconds=seconds, spared_seconds=spare_ms / 1000)
        return True

    def _held(self, field: str, token: str) -> tuple[bytes, _Record, int] | None:
        """The brake as it is and the server's time, if that token still has the right to probe."""
        if not token:
            return None
        text, now_ms = self._look(field)
        if not _is_engaged(text):
            return None
        record = _decode(text)
        return (text, record, now_ms) if record.probe == token else None

    def _read(self) -> None:
        asked_at = self._clock()
        with state_errors():
            found = cast("dict[bytes, bytes]", self._client.hgetall(_BRAKES))
        texts = {field.decode(): text for field, text in found.items()}
        for field in self._records.keys() | texts.keys():
            self._remember(field, texts.get(field, b""))
        self._read_at = asked_at

    def _look(self, field: str) -> tuple[bytes, int]:
        """One brake as it lies in the state server, b"" if it never was engaged, and the server's time."""
        with state_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hget(_BRAKES, field)
            (seconds, micros), text = pipe.execute()
        self._remember(field, text or b"")
        return text or b"", seconds * 1000 + micros // 1000

    def _look_at_all(self) -> tuple[Sequence[tuple[str, _Record]], int]:
        """Every brake as it lies in the state server, released ones too, in order, and the server's time."""
        with state_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(_BRAKES)
            (seconds, micros), found = pipe.execute()
        records = [(field.decode(), _decode(text)) for field, text in sorted(found.items())]
        return records, seconds * 1000 + micros // 1000

    def _put(self, field: str, text: bytes, record: _Record) -> bool:
        """Replace what was read, unless somebody else has meanwhile."""
        new = _encode(record)
        with state_errors():
            done = bool(self._replace(keys=[_BRAKES], args=[field, text, new]))
        if done:
            self._remember(field, new)
        return done

    def _remember(self, field: str, text: bytes) -> None:
        if self._records.get(field, b"") != text:
            self._records[field] = text
            self._outcomes.pop(field, None)


def _field(environment_id: str, integration_key: str) -> str:
    return f"{environment_id}/{integration_key}"


def _names(field: str) -> dict[str, Any]:
    environment_id, _, integration_key = field.partition("/")
    return {"environment_id": environment_id, "integration_key": integration_key}


def _is_engaged(text: bytes) -> bool:
    return bool(text) and _decode(text).engaged


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _lies_ahead(at_ms: int, span_ms: int, now_ms: int) -> bool:
    """Whether that time is still to come; one further away than the span was set before the server's clock stepped."""
    return at_ms - span_ms <= now_ms < at_ms
