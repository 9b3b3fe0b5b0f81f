"""Everybody whom a segment includes, as a stream: the snapshot, and what came after it, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator

from worker.log.entry import Entry
from worker.log.merging import merge
from worker.log.position import START, order
from worker.log.snapshot import Changes, members
from worker.log.snapshots import Base
from worker.model import SegmentId
from worker.sync.members import read_members
from worker.wiring import Wiring

_READ_BYTES = 4 * 1024 * 1024
_READ_ENTRIES = 256
# So many members of the log's tail are held at once, some 50 MB; then they are merged into a copy of the snapshot.
MOST_CHANGES = 250_000


def included_pages(
    wiring: Wiring,
    segment: SegmentId,
    meanwhile: Callable[[], object] = lambda: None,
    most_changes: int = MOST_CHANGES,
) -> Iterator[list[str]]:
    """The context keys that the segment includes, sorted, in pages, as far as some store has been when it is begun.

    Where the tail of the log is long, the snapshot is copied into a temporary file with a portion of it merged in, as
    often as it takes. ``meanwhile`` is called every now and then; what it raises goes on to the caller.

    Raises:
        Behind, SnapshotReplaced: the log was compacted meanwhile: what was told so far is to be thrown away.
        Unavailable: the state server is away, or lacks what it takes to read an entry.
        OSError: there is no room for the file.
    """
    reached = wiring.snapshots.bounds(segment)[2]
    base = wiring.snapshots.base(segment)
    floor = START if base is None else base.floor
    chunks: Iterable[bytes] = () if base is None else (base.chunk(number) for number in range(base.chunks))
    tail, copy = Changes(), None
    try:
        for entry in _entries(wiring, segment, base, reached):
            meanwhile()
            if not entry.dead:
                tail.add(entry.entry_id, read_members(wiring, entry))
            if len(tail) >= most_changes:
                former, copy = copy, _Copy()
                copy.fill(_each(merge(chunks, tail, floor), meanwhile))
                if former is not None:
                    former.close()
                chunks, tail = copy, Changes()
        for chunk in _each(merge(chunks, tail, floor), meanwhile):
            yield members(chunk)[0]
    finally:
        if copy is not None:
            copy.close()


def _entries(wiring: Wiring, segment: SegmentId, base: Base | None, upto: str) -> Iterator[Entry]:
    """What the snapshot does not have, as in truth.py."""
    yield from base.late if base is not None else ()
    position = START if base is None else base.position
    while entries := wiring.drain_log.read(segment, position, most_bytes=_READ_BYTES, most_entries=_READ_ENTRIES):
        for entry in entries:
            if order(entry.entry_id) > order(upto):
                return
            yield entry
        position = entries[-1].entry_id


def _each(chunks: Iterable[bytes], meanwhile: Callable[[], object]) -> Iterator[bytes]:
    for chunk in chunks:
        meanwhile()
        yield chunk


class _Copy:
    """Chunks in a file without a name."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="segsync-")  # noqa: SIM115 - closed with this object
        self._sizes: list[int] = []

    def fill(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self._file.write(chunk)
            self._sizes.append(len(chunk))

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        for size in self._sizes:
            yield self._file.read(size)

    def close(self) -> None:
        self._file.close()
