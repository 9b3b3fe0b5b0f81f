"""Writing a snapshot and putting it in the place of the entries that it contains (rules 18 and 19); expiring the dead.

A snapshot is a list of chunks under a key of its own. Until it is committed it has an hour to live, so that a
compactor that dies leaves nothing behind; with the commit, which is one step, the one before it goes. Any number of
compactors may work on one segment: one of them commits.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import redis
import structlog

from worker.errors import Unavailable
from worker.log import keyspace
from worker.log.dead import DeadLetter, decode_letter
from worker.log.position import ms_of
from worker.log.scripts import run_pipeline, script
from worker.log.snapshot import counts
from worker.log.snapshots import snapshot_key
from worker.model import SegmentId
from worker.state import refused, state_errors

# Longer than any compaction takes; each chunk begins it anew.
UNCOMMITTED_SECONDS = 3600
_PIPELINE = 500

_log = structlog.get_logger(__name__)


@dataclass(slots=True, frozen=True)
class Bounds:
    """What a compaction has to respect.

    Attributes:
        horizon_ms: entries accepted later stay.
        limit_ms: a store whose oldest unapplied batch was accepted before it holds the log no longer (rule 15).
        store_ids: all of the environment's stores, those that are off, too.
        none_holds: no store is waited for: memory is short, and who is behind reads the snapshot.
    """

    horizon_ms: int
    limit_ms: int
    store_ids: Sequence[str]
    none_holds: bool = False


@dataclass(slots=True, frozen=True)
class Foldable:
    """What a compaction of one log could do.

    Attributes:
        snapshot, trimmed, floor: of the present snapshot: its token, position and floor; "" and 0-0 before the first.
        reached: the position of the most advanced store: entries up to it have been parsed before, or are dead.
        upto: entries up to here may be folded.
        bytes: of the entries that may be folded.
        oldest_ms: accept time of the first of them; None when there are none.
        lowest: the lowest position at which an entry may come back to life, or waits to be folded: no floor above it.
            None when there is none.
        holding: the stores that hold the log.
    """

    segment: SegmentId
    last: str
    snapshot: str
    trimmed: str
    floor: str
    snapshot_bytes: int
    snapshot_members: int
    snapshot_removed: int
    reached: str
    upto: str
    bytes: int
    oldest_ms: int | None
    lowest: str | None
    holding: Sequence[str]


@dataclass(slots=True, frozen=True)
class Folded:
    """What a new snapshot contains, and the one it was made from.

    Attributes:
        follows: token of the older snapshot, "" for the first.
        entries: how many live entries it contains that the older one did not.
        passed: ids of entries that it passed over because they were dead.
        late: entries from beside the stream that it contains: id -> parser digest.
    """

    follows: str
    position: str
    floor: str
    entries: int
    passed: Sequence[str]
    late: Mapping[str, str]


class Draft:
    """A snapshot that is being written."""

    def __init__(self, client: redis.Redis, segment: SegmentId) -> None:
        self._client = client
        self.segment = segment
        self.token = secrets.token_hex(8)
        self.chunks = self.bytes = self.members = self.excluded = self.removed = 0

    def add(self, chunk: bytes) -> None:
        """Append a chunk.

        Raises:
            Unavailable: the state server is away, or full.
        """
        key = snapshot_key(self.segment, self.token)
        with state_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.rpush(key, chunk)
            pipe.expire(key, UNCOMMITTED_SECONDS)
            pipe.execute()
        found = counts(chunk)
        self.chunks += 1
        self.bytes += len(chunk)
        self.members += found.included
        self.excluded += found.excluded
        self.removed += found.removed

    def abandon(self) -> None:
        """Give its memory back at once, if the server can be reached; never once it is committed."""
        text = "if redis.call('HGET', KEYS[1], 'snapshot') ~= ARGV[1] then redis.call('UNLINK', KEYS[2]) end"
        keys = f"{keyspace.prefix(self.segment)}:head", snapshot_key(self.segment, self.token)
        with suppress(Unavailable), state_errors():
            self._client.eval(text, 2, *keys, self.token)


class Compaction:
    """The steps of a compaction, one script each. Safe between threads, as far as the client is."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def look(self, environment_id: str, segment_keys: Sequence[str], bounds: Bounds) -> Iterator[Foldable]:
        """What could be folded of each of these segments; those that do not exist are left out.

        Raises:
            Unavailable: the state server is away, or could not look at some of the segments: the others have been
                yielded by then.
        """
        refusals: list[Exception] = []
        for start in range(0, len(segment_keys), _PIPELINE):
            portion = segment_keys[start : start + _PIPELINE]
            queue = partial(_queue_look, environment_id, portion, _arguments(bounds))
            for key, reply in zip(portion, run_pipeline(self._client, queue, "foldable"), strict=True):
                if isinstance(reply, Exception):
                    _log.error("segment.unusable", environment_id=environment_id, segment_key=key, error=str(reply))
                    refusals.append(reply)
                elif reply:
                    yield _foldable(environment_id, key, reply)
        if refusals:
            raise refused(refusals[0])

    def look_at(self, segment: SegmentId, bounds: Bounds) -> Foldable | None:
        """As ``look``, at one; also where that generation is gone and its stores are still to be told. None for none.

        Raises:
            Unavailable: the state server is away.
        """
        base = keyspace.base(segment.environment_id, segment.segment_key)
        reply = script("foldable")(self._client, base, segment.generation, *_arguments(bounds))
        return _foldable(segment.environment_id, segment.segment_key, reply) if reply else None

    def draft(self, segment: SegmentId) -> Draft:
        """Begin a snapshot."""
        return Draft(self._client, segment)

    def commit(self, draft: Draft, folded: Folded, bounds: Bounds, holding: Sequence[str]) -> str:
        """Put the draft in the place of the snapshot that it follows, and of the entries that it contains.

        Returns:
            "committed"; or why not, and nothing has changed: "replaced" (another compactor was first), "incomplete"
            (the draft took longer than it had), "in use" (a store went back meanwhile), "changed" (an entry died, or
            was replayed otherwise), "floor" (something below it may come back to life).

        Raises:
            Unavailable: the state server is away; it may have been committed.
        """
        late = [part for entry in folded.late.items() for part in entry]
        others = [store_id for store_id in bounds.store_ids if store_id not in holding]
        reply = self._call(
            "compact",
            draft.segment,
            folded.follows,
            draft.token,
            draft.chunks,
            draft.bytes,
            draft.members,
            draft.excluded,
            draft.removed,
            folded.position,
            folded.floor,
            folded.entries,
            *(len(folded.passed), *folded.passed),
            *(len(folded.late), *late),
            *(len(holding), *holding, *others),
        )
        return cast("bytes", reply).decode()

    def beside(self, segment: SegmentId, upto: str) -> set[str]:
        """The positions of the entries beside the stream, up to the millisecond of a position.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            found = self._client.zrangebyscore(f"{keyspace.prefix(segment)}:late", "-inf", ms_of(upto))
        return {entry_id.decode() for entry_id in cast("list[bytes]", found)}

    def read_dead(self, segments: Sequence[SegmentId]) -> Iterator[tuple[SegmentId, str, bytes, DeadLetter]]:
        """Every record of an entry that no fold reads: segment, entry id, the record as it is kept, and read.

        Raises:
            Unavailable: the state server is away.
        """
        for start in range(0, len(segments), _PIPELINE):
            portion = segments[start : start + _PIPELINE]
            with state_errors(), self._client.pipeline(transaction=False) as pipe:
                for segment in portion:
                    pipe.exists(f"{keyspace.prefix(segment)}:dead")
                there = pipe.execute()
            for segment in (segment for segment, some in zip(portion, there, strict=True) if some):
                with state_errors():
                    kept = cast("dict[bytes, bytes]", self._client.hgetall(f"{keyspace.prefix(segment)}:dead"))
                for entry_id, record in kept.items():
                    yield segment, entry_id.decode(), record, decode_letter(record)

    def expire(self, segment: SegmentId, entry_id: str, record: bytes) -> bool:
        """Forget a dead entry; False when it cannot be: decided about meanwhile, or not compacted yet.

        Raises:
            Unavailable: the state server is away; it may have been forgotten.
        """
        return bool(self._call("dead_expire", segment, entry_id, record))

    def _call(self, name: str, segment: SegmentId, *arguments: object) -> Any:
        base = keyspace.base(segment.environment_id, segment.segment_key)
        return script(name)(self._client, base, segment.generation, *arguments)


def _arguments(bounds: Bounds) -> tuple[object, ...]:
    candidates = 0 if bounds.none_holds else len(bounds.store_ids)
    # Of one millisecond, all entries: the server's sequence numbers, and those of what was not in the stream.
    return f"{bounds.horizon_ms}-{2**53 - 1}", bounds.limit_ms, candidates, *bounds.store_ids


def _queue_look(environment_id: str, segment_keys: Sequence[str], arguments: Sequence[Any], pipe: Any) -> None:
    for key in segment_keys:
        pipe.evalsha(script("foldable").sha, 1, keyspace.base(environment_id, key), "", *arguments)


def _foldable(environment_id: str, segment_key: str, reply: Sequence[bytes]) -> Foldable:
    text = [part.decode() for part in reply]
    return Foldable(
        segment=SegmentId(environment_id, segment_key, int(text[0])),
        last=text[1],
        snapshot=text[2],
        trimmed=text[3],
        floor=text[4],
        snapshot_bytes=int(text[5]),
        snapshot_members=int(text[6]),
        snapshot_removed=int(text[7]),
        reached=text[8],
        upto=text[9],
        bytes=int(text[10]),
        oldest_ms=int(text[11]) if text[11] else None,
        lowest=text[12] or None,
        holding=text[13:],
    )
