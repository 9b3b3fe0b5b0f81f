"""One segment, its stores and all that goes on around them: the values of the model, and what they mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from slot import RULES, Cursor, Draft, Rules, Slot, entries

Write = tuple[int, int]  # (member, 1 in or 0 out)
Place = tuple[int, int, int]
Decided = tuple[int, int]  # (value, the position that decided it; 0: before the floor)
Content = tuple[Decided | None, ...]  # of a snapshot: per member, None when it is not in it


@dataclass(frozen=True, slots=True)
class Batch:
    """What a partner sent, and when by the server's clock; of a rejected one that is its accept position.

    ``kind``: "live"; "poison", which every parse finds dead until it is replayed; "dead", the same and known already;
    "fickle", which any parse might kill; "rejected", which is in no log until it is replayed; "replace", an import:
    whoever is not in it is out.
    """

    stamp: int
    writes: tuple[Write, ...]
    kind: str = "live"


class Faults(NamedTuple):
    """How often each thing may still happen."""

    kills: int = 0
    expiries: int = 0  # of leases whose owner still runs: it was frozen, or cut off
    timeouts: int = 0
    refusals: int = 0
    replays: int = 0
    compactions: int = 0
    pauses: int = 0  # of drains that end themselves between two chunks
    wipes: int = 0
    swaps: int = 0  # of the store for one that holds other things
    failovers: int = 0
    rebuilds: int = 0
    ticks: int = 0  # ten minutes go by


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is accepted, who drains, and how much may go wrong."""

    batches: tuple[Batch, ...]
    faults: Faults
    workers: tuple[int, ...] = (0, 0)  # the store that each drains
    compactors: int = 1
    fences: bool = False
    floors: bool = False  # the floor may move, and dead entries expire
    bound: str = "all"  # what a snapshot stays below when it is made, and again when it is committed
    commit_bound: str = "all"
    chunked: bool = False
    identity: bool = False
    skips: bool = False  # a drain reads the store first, and writes only what is not so already
    held: tuple[int, ...] = ()  # what the stores hold at first, and strays are due
    rules: Rules = RULES

    @property
    def members(self) -> int:
        return 1 + max((member for batch in self.batches for member, _ in batch.writes), default=0)

    @property
    def stores(self) -> int:
        return 1 + max(self.workers)


class Worker(NamedTuple):
    """One drain, or one audit. ``cut``: its connection was closed.

    ``step``: idle, taking, read, parsed, write, done, lost; of an audit also compare and compared.
    ``base``, ``chunks``: of the snapshot that it reads, how many chunks are in the store. ``doomed``: positions of
    entries that it read and found to be of the dying sort.
    """

    step: str = "idle"
    store: int = 0
    token: int = 0
    epoch: int = 0
    position: int = 0
    upto: int = 0
    todo: tuple[Write, ...] = ()
    fenced: tuple[int, ...] = ()
    cut: bool = False
    fresh: bool = False
    strays: bool = False
    base: int = 0
    chunks: int = 0
    basing: bool = False
    doomed: tuple[int, ...] = ()
    incarnation: int = 0
    process: int = 0
    note: int = 0  # of strays, when it compares
    planned: bool = False  # it has read the store, and ``todo`` is what differs
    made: Compaction | None = None  # of the import that comes next


class Compaction(NamedTuple):
    """A snapshot that was made and not committed yet, and what is in it; ``reset``: where a replace was folded in."""

    draft: Draft
    content: Content
    reset: int = 0


class Store(NamedTuple):
    """What is in a store.

    ``replica``: what its next primary knows; it lags by less than ten minutes. ``noted``: what the store held when ten
    minutes began; ``caught``: the replica has caught up since.
    """

    content: tuple[int, ...]
    incarnation: int = 1
    process: int = 1
    replica: tuple[int, ...] = ()
    noted: tuple[int, ...] = ()
    caught: bool = False
    before: tuple[int, ...] = ()


class World(NamedTuple):
    """``late``: (token, store, write) sent by a drain whose owner is gone or gave up; lands any time, or never.

    ``notes``: per store the number of the note that strays are due, 0 when they are not.
    ``places``: (position in the log or beside it, number of the batch, position that is its due).
    """

    slot: Slot
    stores: tuple[Store, ...]
    workers: tuple[Worker, ...]
    late: frozenset[tuple[int, int, Write]]
    places: tuple[Place, ...]
    content: Content
    compactions: tuple[Compaction | None, ...]
    faults: Faults
    notes: tuple[int, ...]
    appended: int = 0
    reset: int = 0


def first(scenario: Scenario) -> World:
    """Nothing has happened yet."""
    empty = (0,) * scenario.members
    replica = empty if scenario.identity else ()
    identity = int(scenario.identity)
    cursor = Cursor(incarnation=identity, process=identity)
    return World(
        Slot(cursors=(cursor,) * scenario.stores),
        (Store(scenario.held or empty, replica=replica, noted=replica, before=empty if scenario.skips else ()),)
        * scenario.stores,
        tuple(Worker(store=store) for store in scenario.workers),
        frozenset(),
        (),
        (None,) * scenario.members,
        (None,) * (scenario.compactors if scenario.faults.compactions else 0),
        scenario.faults,
        (int(bool(scenario.held)),) * scenario.stores,
    )


def fold(scenario: Scenario, places: Iterable[tuple[int, int]], start: Content, reset: int = 0) -> Content:
    """What batches, given as (position, number), make of a snapshot: the later position decides.

    ``reset``: of the snapshot. What came before it is over, also for those whom the snapshot does not know.
    """
    net = list(start)
    for place, number in sorted(places):
        if scenario.batches[number].kind == "replace":
            out = (0, place) if scenario.rules.replaced_members_stay else None
            net = [out if decided and decided[0] else decided for decided in net]
        for member, value in scenario.batches[number].writes:
            known = net[member]
            if place < reset:
                if known is None or known[1] < reset:
                    net[member] = (0, reset)
            elif known is None or known[1] <= place:
                net[member] = (value, place)
    return tuple(net)


def reset_after(scenario: Scenario, places: Iterable[tuple[int, int]], reset: int) -> int:
    """Where the last of the replaces among these batches is, and those before."""
    replaces = [place for place, number in places if scenario.batches[number].kind == "replace"]
    return max([*replaces, reset]) if scenario.rules.resets_stay else 0


def base(scenario: Scenario, world: World) -> Content:
    """The snapshot and what was replayed below its position since."""
    slot = world.slot
    late = [(place, number) for place, number, _ in world.places if place in slot.late and place <= slot.trimmed]
    return fold(
        scenario, [(place, number) for place, number in late if place not in slot.dead], world.content, world.reset
    )


def truth(scenario: Scenario, world: World) -> tuple[int, ...]:
    """Where every store must end: the last write per member wins, in order of position, over all that is not dead."""
    live = [(due, number) for place, number, due in world.places if place not in world.slot.dead]
    return values(fold(scenario, live, (None,) * scenario.members))


def kept(scenario: Scenario, world: World) -> tuple[int, ...]:
    """What snapshot, late entries and stream tell together."""
    slot = world.slot
    live = set(entries(slot, slot.trimmed) or ())
    tail = [(place, number) for place, number, _ in world.places if place in live]
    return values(fold(scenario, tail, base(scenario, world)))


def known_at(scenario: Scenario, world: World, position: int) -> tuple[int, ...]:
    """What snapshot, late entries and stream tell of everything up to a position that is not below the snapshot."""
    live = [place for place in entries(world.slot, world.slot.trimmed) or () if place <= position]
    tail = [(place, number) for place, number, _ in world.places if place in live]
    return values(fold(scenario, tail, base(scenario, world)))


def values(content: Content) -> tuple[int, ...]:
    """Who is in."""
    return tuple(decided[0] if decided else 0 for decided in content)
