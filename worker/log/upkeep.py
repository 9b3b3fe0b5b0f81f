"""The sweeper's side of the log: how far each store is, leases and marks of the dead, the index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

import redis
import structlog

from worker.errors import Unavailable
from worker.log import keyspace
from worker.log.scripts import run_pipeline, script
from worker.model import SegmentId
from worker.state import refused, state_errors

# A request that names several segments has either appended to all of them by then, or never will.
CUT_AFTER_SECONDS = 60
_PIPELINE = 500

_log = structlog.get_logger(__name__)


@dataclass(slots=True, frozen=True)
class Mark:
    """An open mark: a drain that has not cleanly ended."""

    token: str
    began: str
    connection: str


@dataclass(slots=True, frozen=True)
class StoreStatus:
    """How far one store has applied one segment's log.

    Attributes:
        oldest_ms: accept time of the oldest batch whose effect may not be, or not stay, in the store; None if none,
            and 0 when nothing is known of what the store has.
        incarnation: the life of the store that the cursor was made for; empty before the first drain.
    """

    position: str
    batches_behind: int
    bytes_behind: int
    epoch: str
    woken: bool
    lease: str
    beat: str
    oldest_ms: int | None
    marks: tuple[Mark, ...]
    ahead: bool
    incarnation: str = ""

    @property
    def orphans(self) -> list[Mark]:
        """Marks of drains that do not hold the lease."""
        return [mark for mark in self.marks if mark.token != self.lease]

    @property
    def settled(self) -> bool:
        """Nothing to do: everything applied, nobody at work, nothing that could still land."""
        return not (self.ahead or self.lease or self.marks)


@dataclass(slots=True, frozen=True)
class SegmentStatus:
    """One segment's log and its stores' cursors, read in one step."""

    segment: SegmentId
    batches: int
    bytes: int
    integration_key: str = ""
    last: str = "0-0"
    trimmed: str = "0-0"
    stores: Mapping[str, StoreStatus] = field(default_factory=dict)


class Upkeep:
    """What the scheduler's tasks and the read-only commands need of the log."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def server_ms(self) -> int:
        """The state server's clock, epoch milliseconds: the one that stamps accept times.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            seconds, micros = self._client.time()
        return seconds * 1000 + micros // 1000

    def statuses(
        self, environment_id: str, segment_keys: Iterable[str], store_ids: Sequence[str]
    ) -> Iterator[SegmentStatus]:
        """The living generation of each of these segments; those that do not exist are left out.

        Raises:
            Unavailable: the state server is away, or could not look at some of the segments: the others have been
                yielded by then.
        """
        yield from self._statuses(environment_id, [(key, "") for key in segment_keys], store_ids)

    def statuses_of(self, segments: Iterable[SegmentId], store_ids: Sequence[str]) -> Iterator[SegmentStatus]:
        """As ``statuses``, of these generations of one environment, living or deleted.

        One that was deleted, and that every store is through, is not there any more.
        """
        by_environment: dict[str, list[tuple[str, str]]] = {}
        for segment in segments:
            by_environment.setdefault(segment.environment_id, []).append((segment.segment_key, str(segment.generation)))
        for environment_id, wanted in by_environment.items():
            yield from self._statuses(environment_id, wanted, store_ids)

    def _statuses(
        self, environment_id: str, wanted: Sequence[tuple[str, str]], store_ids: Sequence[str]
    ) -> Iterator[SegmentStatus]:
        """Of these segment keys and generations; "" for the one that lives."""
        refusals: list[Exception] = []
        lives = read_lives(self._client, store_ids)
        asked = [str(text) for store_id in store_ids for text in (store_id, *lives.get(store_id, NO_LIFE))]
        for start in range(0, len(wanted), _PIPELINE):
            portion = wanted[start : start + _PIPELINE]
            replies = run_pipeline(self._client, partial(_queue_status, environment_id, portion, asked), "status")
            for (key, _), reply in zip(portion, replies, strict=True):
                if isinstance(reply, Exception):
                    _log.error("segment.unusable", environment_id=environment_id, segment_key=key, error=str(reply))
                    refusals.append(reply)
                elif int(reply[0]):
                    yield _status(SegmentId(environment_id, key, int(reply[0])), reply[1:], store_ids)
        if refusals:
            raise refused(refusals[0])

    def looked_at(
        self, environment_id: str, segment_keys: Iterable[str], store_ids: Sequence[str] = ()
    ) -> list[SegmentStatus]:
        """As ``statuses``, of those segments that could be looked at; of the others a line is logged.

        Raises:
            Unavailable: the state server is away: nothing could be looked at.
        """
        found: list[SegmentStatus] = []
        try:
            for status in self.statuses(environment_id, segment_keys, store_ids):
                found.append(status)  # noqa: PERF402 - what was found before the fault counts
        except Unavailable:
            if not found:
                raise
        return found

    def expire(self, segment: SegmentId, store_id: str, token: str, beat: str) -> bool:
        """Take the lease from a drain whose beat stands still; returns whether a wake-up is now the caller's to send.

        Raises:
            Unavailable: the state server is away.
        """
        return bool(self._run("expire", segment, store_id, token, beat)[1])

    def settle(self, segment: SegmentId, store_id: str, token: str) -> bool:
        """End a drain that nobody runs: rewind to where it began, drop its mark; never while it holds the lease.

        Returns:
            Whether a wake-up is due, and now the caller's to send.

        Raises:
            Unavailable: the state server is away.
        """
        return bool(self._run("settle", segment, store_id, token)[1])

    def release_payloads(self, segment: SegmentId) -> int:
        """Let go of shared payloads that no entry of this log refers to any more; returns how many.

        Raises:
            Unavailable: the state server is away; those that are left are let go the next time.
        """
        payload_ids = self._run("payloads", segment)
        with state_errors():
            for payload_id in payload_ids:
                self._release_payload(payload_id.decode(), keyspace.log_name(segment))
                self._client.srem(f"{keyspace.prefix(segment)}:releasing", payload_id)
        return len(payload_ids)

    def ahead(self) -> dict[SegmentId, str]:
        """The index of logs that may be ahead of a cursor: segment -> ticket. A hint, not the truth.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            found = cast("dict[bytes, bytes]", self._client.hgetall(keyspace.AHEAD))
        return {keyspace.segment_of(name.decode()): ticket.decode() for name, ticket in found.items()}

    def index(self, segments: Iterable[SegmentId], ticket: str) -> None:
        """Enter logs that were found ahead though the index did not have them.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            self._client.hset(keyspace.AHEAD, mapping={keyspace.log_name(segment): ticket for segment in segments})

    def remove_from_index(self, *logs: tuple[SegmentId, str]) -> None:
        """Take logs out, each unless something was appended to it since its ticket was read (rule 11).

        Raises:
            Unavailable: the state server is away.
        """
        text = (
            "for i = 1, #ARGV, 2 do "
            "if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end end"
        )
        for start in range(0, len(logs), _PIPELINE):
            portion = logs[start : start + _PIPELINE]
            told = [part for segment, ticket in portion for part in (keyspace.log_name(segment), ticket)]
            with state_errors():
                self._client.eval(text, 1, keyspace.AHEAD, *told)

    def drop_cut_payloads(self) -> int:
        """Release what was stored for requests that were cut before every one of their appends; returns how many.

        The appends that did happen stay (their slices are whole), the others never will: nobody was told that the
        request was accepted, and appending them now could overtake what was accepted since.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            limit = self.server_ms() - CUT_AFTER_SECONDS * 1000
            cut = cast("list[bytes]", self._client.zrangebyscore(keyspace.PAYLOADS, "-inf", limit))
            for payload_id in cut:
                text = payload_id.decode()
                names = cast("set[bytes]", self._client.smembers(f"{keyspace.payload(text)}:logs"))
                for name in names:
                    segment = keyspace.segment_of(name.decode())
                    base = keyspace.base(segment.environment_id, segment.segment_key)
                    if self._client.zscore(f"{base}:g{segment.generation}:refs", text) is None:
                        self._release_payload(text, name.decode())
                self._release_payload(text, "")  # of a request that was cut before it had written any log's name
                self._client.zrem(keyspace.PAYLOADS, payload_id)
        return len(cut)

    def _release_payload(self, payload_id: str, name: str) -> None:
        """Take a log's name from the payload's set; with the last one, both keys go (rule 2: never a counter)."""
        text = (
            "redis.call('SREM', KEYS[2], ARGV[1]) "
            "if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('DEL', KEYS[1]) end"
        )
        key = keyspace.payload(payload_id)
        self._client.eval(text, 2, key, f"{key}:logs", name)

    def _run(self, name: str, segment: SegmentId, *arguments: object) -> Any:
        base = keyspace.base(segment.environment_id, segment.segment_key)
        return script(name)(self._client, base, segment.generation, *arguments)


class Life(NamedTuple):
    """What answers for a store now.

    Attributes:
        incarnation: the life of the store that cursors must have been made for (rule 12).
        process: the server process, in its role; "" where the store does not tell.
        other_until_ms: when another process was last seen to answer (rule 13).
    """

    incarnation: str
    process: str
    other_until_ms: int


NO_LIFE = Life("", "", 0)


def read_lives(client: redis.Redis, store_ids: Sequence[str]) -> dict[str, Life]:
    """The present life of each of these stores, as far as it is known.

    Raises:
        Unavailable: the state server is away.
    """
    if not store_ids:
        return {}
    with state_errors(), client.pipeline(transaction=True) as pipe:
        pipe.hmget(keyspace.INCARNATIONS, list(store_ids))
        pipe.hmget(keyspace.PROCESSES, list(store_ids))
        incarnations, processes = pipe.execute()
    lives: dict[str, Life] = {}
    for store_id, incarnation, told in zip(store_ids, incarnations, processes, strict=True):
        if incarnation is not None:
            process, _, until = (told or b"").decode().rpartition(" ")
            lives[store_id] = Life(incarnation.decode(), process, int(until or 0))
    return lives


def _queue_status(environment_id: str, wanted: Sequence[tuple[str, str]], asked: Sequence[str], pipe: Any) -> None:
    for key, generation in wanted:
        pipe.evalsha(script("status").sha, 1, keyspace.base(environment_id, key), generation, *asked)


def _status(segment: SegmentId, reply: Sequence[Any], store_ids: Sequence[str]) -> SegmentStatus:
    last, batches, total = reply[0].decode(), int(reply[1]), int(reply[2])
    rest = iter(reply[5:])

    def text() -> str:
        return str(next(rest).decode())

    stores: dict[str, StoreStatus] = {}
    for store_id in store_ids:
        position, applied, applied_bytes, epoch, woken, lease, beat, incarnation = (text() for _ in range(8))
        beside, oldest = int(next(rest)), text()
        marks = tuple(Mark(text(), text(), text()) for _ in range(int(next(rest))))
        stores[store_id] = StoreStatus(
            position=position,
            batches_behind=batches - int(applied) + beside,
            bytes_behind=total - int(applied_bytes),
            epoch=epoch,
            woken=woken == "1",
            lease=lease,
            beat=beat,
            oldest_ms=int(oldest) if oldest else None,
            marks=marks,
            ahead=position != last,
            incarnation=incarnation,
        )
    return SegmentStatus(
        segment,
        batches,
        total,
        integration_key=reply[3].decode(),
        last=last,
        trimmed=reply[4].decode(),
        stores=stores,
    )
