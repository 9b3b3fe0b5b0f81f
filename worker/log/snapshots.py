"""Reading what a log no longer has: its snapshot, and the entries beside the stream that belong below it (rule 19)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import redis

from worker.log import keyspace
from worker.log.entry import Entry, unpack
from worker.log.position import START
from worker.log.scripts import script
from worker.model import SegmentId
from worker.state import state_errors

# One reply's worth of the entries beside the stream.
PAGE_BYTES = 4 * 1024 * 1024
# What an entry takes beside its data: bounds are for memory, and a batch may say nothing.
ENTRY_BYTES = 256


class SnapshotReplaced(Exception):
    """Raised when a newer snapshot is in the place of the one that is being read: begin again with that."""


@dataclass(slots=True, frozen=True)
class Base:
    """What a log no longer has, up to a position: a snapshot, and live entries that it does not contain yet.

    Per member the later position decides, as always; ``snapshot.decisions_after`` takes both.

    Attributes:
        token: names the snapshot; another one has another.
        position: up to which chunks and entries together are the whole truth: a cursor may go there when they are
            applied. Where all entries were asked for, it is the last one trimmed.
        trimmed: the last position that the log does not have any more.
        floor: below it, nobody knows any more who was decided when, and who was out is forgotten.
        batches_total, bytes_total: the log's totals up to the position.
        chunks: how many; one at least.
        late: the entries, live, in order of position.
    """

    token: str
    position: str
    trimmed: str
    floor: str
    batches_total: int
    bytes_total: int
    chunks: int
    late: list[Entry]
    _segment: SegmentId = field(repr=False)
    _snapshots: Snapshots = field(repr=False)

    @property
    def whole(self) -> bool:
        """Whether it has all entries that belong to it."""
        return self.position == self.trimmed

    def chunk(self, number: int) -> bytes:
        """The chunk with that number, counted from 0.

        Raises:
            SnapshotReplaced: a newer snapshot has been committed.
            Unavailable: the state server is away.
        """
        return self._snapshots.chunk(self._segment, self.token, number)


class Snapshots:
    """Reads and writes snapshots. Safe between threads, as far as the client is."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def base(self, segment: SegmentId, *, after: str = START, most_bytes: int | None = None) -> Base | None:
        """What the log no longer has; None when it has been compacted never.

        Args:
            segment: whose log.
            after: entries up to this position are not wanted.
            most_bytes: of entries; when there are more, ``position`` is where they end, and a cursor that has gone
                there asks again. Without it, all of them.

        Raises:
            Unavailable: the state server is away.
        """
        late: list[Entry] = []
        left, first, from_ = most_bytes, b"", after
        while True:
            reply = self._call("base", segment, from_, PAGE_BYTES if left is None else min(left, PAGE_BYTES))
            if not reply:
                return None
            token, trimmed, chunks, floor, batches, total, more, *found = reply
            if first and token != first:  # compacted between two pages: some of the entries are in the snapshot now
                late, left, first, from_ = [], most_bytes, b"", after
                continue
            first = token
            page = [unpack(found[i], found[i + 1], 0) for i in range(0, len(found), 2)]
            late += page
            if left is not None:
                left -= sum(len(entry.data) + ENTRY_BYTES for entry in page)
            if more == b"0" or (left is not None and left <= 0):
                break
            from_ = late[-1].entry_id
        whole = more == b"0"
        return Base(
            token=token.decode(),
            position=trimmed.decode() if whole else late[-1].entry_id,
            trimmed=trimmed.decode(),
            floor=floor.decode(),
            batches_total=int(batches) if whole else late[-1].batches_total,
            bytes_total=int(total) if whole else late[-1].bytes_total,
            chunks=chunks,
            late=late,
            _segment=segment,
            _snapshots=self,
        )

    def bounds(self, segment: SegmentId) -> tuple[str, str, str]:
        """A log's floor, the position of its snapshot, and how far any store has ever come; ``START`` for none.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            found = cast(
                "list[bytes | None]",
                self._client.hmget(f"{keyspace.prefix(segment)}:head", "floor", "trimmed", "reached"),
            )
        floor, trimmed, reached = (START if value is None else value.decode() for value in found)
        return floor, trimmed, reached

    def chunk(self, segment: SegmentId, token: str, number: int) -> bytes:
        """See ``Base.chunk``."""
        with state_errors():
            found = cast("bytes | None", self._client.lindex(snapshot_key(segment, token), number))
        if found is None:
            raise SnapshotReplaced
        return found

    def _call(self, name: str, segment: SegmentId, *arguments: object) -> Any:
        base = keyspace.base(segment.environment_id, segment.segment_key)
        return script(name)(self._client, base, segment.generation, *arguments)


def snapshot_key(segment: SegmentId, token: str) -> str:
    """The key of a snapshot's chunks: a list, which never changes once it is committed."""
    return f"{keyspace.prefix(segment)}:snapshot:{token}"
