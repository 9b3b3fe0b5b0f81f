"""What a segment's log says: who is in, and which entry decided so. The snapshot, and what came after it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from worker.errors import Unavailable
from worker.log.chunk import Decision
from worker.log.entry import Entry
from worker.log.lease import Behind
from worker.log.names import is_excluded, split_names
from worker.log.position import START, order
from worker.log.snapshot import Changes, decisions, reset_of
from worker.log.snapshots import Base, SnapshotReplaced
from worker.model import SegmentId
from worker.sync.members import read_members
from worker.wiring import Wiring

_READ_BYTES = 4 * 1024 * 1024
_READ_ENTRIES = 256
# A compaction replaces what is being read; it comes a few times an hour at the most.
_MOST_TRIES = 5

T = TypeVar("T")


def decisions_about(wiring: Wiring, segment: SegmentId, names: Collection[str]) -> dict[str, Decision]:
    """The last decision about each of these members, by name; those of whom nothing is known are left out.

    Of all others, a replace has decided that they are out. Memory is bounded by their number, whatever the segment's
    size.

    Raises:
        Unavailable: the state server is away, or lacks what it takes to read an entry.
    """

    def read() -> dict[str, Decision]:
        found = {name: decision for name, decision in _decided(wiring, segment, None, names) if name in names}
        base = wiring.snapshots.base(segment, most_bytes=0)
        if base is not None and (reset := reset_of(base.chunk(0))):
            found |= {name: (False, reset) for name in names if name not in found and not is_excluded(name)}
        return found

    return _consistently(segment, read)


def included_members(wiring: Wiring, segment: SegmentId, meanwhile: Callable[[], object] = lambda: None) -> list[str]:
    """The context keys that the segment includes now; as ``members_by_name``."""
    return split_names(members_by_name(wiring, segment, None, meanwhile))[0]


def members_by_name(
    wiring: Wiring,
    segment: SegmentId,
    upto: str | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> list[str]:
    """Everybody who is in one of the segment's lists, as of the entry at ``upto`` (which no compaction has passed), or
    as of now, as far as some store has been.

    ``meanwhile`` is called every now and then: to keep a lease, say. What it raises goes on to the caller.

    Raises:
        Unavailable: the state server is away, or lacks what it takes to read an entry.
    """
    return _consistently(
        segment, lambda: [name for name, (include, _) in _decided(wiring, segment, upto, None, meanwhile) if include]
    )


def removed_members(wiring: Wiring, segment: SegmentId, meanwhile: Callable[[], object] = lambda: None) -> list[str]:
    """The names of those of whom the log and its snapshot still know that they left a list; as ``members_by_name``."""
    return _consistently(
        segment,
        lambda: [name for name, (include, _) in _decided(wiring, segment, None, None, meanwhile) if not include],
    )


def decided_after(
    wiring: Wiring, segment: SegmentId, position: str, meanwhile: Callable[[], object] = lambda: None
) -> set[str]:
    """The names of all about whom an entry after a position says something; ``meanwhile`` as in ``members_by_name``.

    Raises:
        Behind: the log does not go back so far any more.
        Unavailable: the state server is away, or lacks what it takes to read an entry.
    """
    found: set[str] = set()
    reached = wiring.snapshots.bounds(segment)[2]
    while entries := wiring.drain_log.read(segment, position, most_bytes=_READ_BYTES, most_entries=_READ_ENTRIES):
        for entry in entries:
            meanwhile()
            if order(entry.entry_id) > order(reached):
                return found
            if not entry.dead:
                found.update(read_members(wiring, entry))
        position = entries[-1].entry_id
    return found


def _decided(
    wiring: Wiring,
    segment: SegmentId,
    upto: str | None,
    names: Collection[str] | None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[tuple[str, Decision]]:
    """The last decision about everybody, or about these members and some others; each member once."""
    base = wiring.snapshots.base(segment)
    tail = Changes()
    for entry in _entries(wiring, segment, base, upto):
        meanwhile()
        if not entry.dead:
            said = read_members(wiring, entry)
            tail.add(
                entry.entry_id,
                said if names is None else {name: include for name, include in said.items() if name in names},
            )
    if base is None:
        yield from tail.within("", None)
        return
    for number in range(base.chunks):
        meanwhile()
        yield from decisions(base.chunk(number), tail, final=number == base.chunks - 1)


def _entries(wiring: Wiring, segment: SegmentId, base: Base | None, upto: str | None) -> Iterator[Entry]:
    """What the snapshot does not have: entries replayed below it, and those above it.

    Only as far as some store has ever been: what nobody has parsed yet may be dead, or kill who parses it.
    """
    reached = wiring.snapshots.bounds(segment)[2]
    yield from base.late if base is not None else ()
    position = START if base is None else base.position
    while True:
        entries = wiring.drain_log.read(segment, position, most_bytes=_READ_BYTES, most_entries=_READ_ENTRIES)
        for entry in entries:
            if order(entry.entry_id) > order(reached if upto is None else upto):
                return
            yield entry
        if not entries:
            return
        position = entries[-1].entry_id


def _consistently(segment: SegmentId, read: Callable[[], T]) -> T:
    """Read anew when a compaction has replaced the snapshot, or trimmed the log, in the midst of it."""
    for _ in range(_MOST_TRIES):
        try:
            return read()
        except (Behind, SnapshotReplaced):
            continue
    raise Unavailable(f"{segment.ref} was compacted again and again while it was read", dependency="state")
