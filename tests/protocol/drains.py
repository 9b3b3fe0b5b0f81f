"""Every interleaving of drains, deaths, time-outs, fences and late bytes on one small log (rules 4 to 9)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from slot import RULES, Rules, Slot, Taken, advance, append, expire, release, renew, rewind, settle, take

Write = tuple[int, int]  # (member, 1 in or 0 out)


class Worker(NamedTuple):
    """One drain. ``step``: idle, taking, read, write, done, lost. ``cut``: its connection was killed by a fence."""

    step: str = "idle"
    token: int = 0
    epoch: int = 0
    position: int = 0
    upto: int = 0
    todo: tuple[Write, ...] = ()
    fenced: frozenset[int] = frozenset()
    cut: bool = False


class World(NamedTuple):
    """``late``: (token, write) sent by a drain whose owner is gone or gave up; lands any time, or never."""

    slot: Slot
    store: tuple[int, ...]
    workers: tuple[Worker, ...]
    late: frozenset[tuple[int, Write]]
    next_token: int
    kills: int
    expiries: int
    timeouts: int
    refusals: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is accepted, who drains, and how much may go wrong."""

    entries: tuple[dict[int, int], ...] = ({0: 1}, {0: 0})
    workers: int = 2
    kills: int = 0
    expiries: int = 0  # of leases whose owner still runs: it was frozen, or cut off
    timeouts: int = 0
    refusals: int = 0
    fences: bool = False
    rules: Rules = RULES

    @property
    def members(self) -> int:
        return 1 + max(member for entry in self.entries for member in entry)


def truth(scenario: Scenario) -> tuple[int, ...]:
    """Where the store must end: the last write per member wins, in accept order."""
    store = [0] * scenario.members
    for entry in scenario.entries:
        for member, value in entry.items():
            store[member] = value
    return tuple(store)


def _put(store: tuple[int, ...], write: Write) -> tuple[int, ...]:
    member, value = write
    return (*store[:member], value, *store[member + 1 :])


def _with(world: World, number: int, worker: Worker) -> World:
    workers = (*world.workers[:number], worker, *world.workers[number + 1 :])
    return world._replace(workers=workers)


def steps(scenario: Scenario, world: World) -> Iterator[tuple[str, World]]:
    """Everything that may happen next."""
    if world.slot.last < len(scenario.entries):
        yield f"accept entry {world.slot.last + 1}", world._replace(slot=append(world.slot)[0])
    for number, worker in enumerate(world.workers):
        name = "ABC"[number]
        for what, after in _drain_steps(scenario, world, number, worker):
            yield f"{name} {what}", after
        if worker.step != "idle" and world.kills:
            dead = _with(world, number, Worker())._replace(kills=world.kills - 1)
            yield f"kill -9 {name}", dead
            if worker.step == "write" and worker.todo and not worker.cut:
                yield (
                    f"kill -9 {name}, a write still under way",
                    dead._replace(late=dead.late | {(worker.token, worker.todo[0])}),
                )
    owned = world.slot.lease in {worker.token for worker in world.workers if worker.step != "idle"}
    if world.slot.lease and (world.expiries or not owned):
        slot, _ = expire(world.slot, world.slot.lease, world.slot.beat)
        yield "the lease expires", world._replace(slot=slot, expiries=world.expiries - owned)
    for token, write in world.late:
        left = world.late - {(token, write)}
        yield f"late write {write} of {token} lands", world._replace(store=_put(world.store, write), late=left)
        yield f"late write {write} of {token} is gone for good", world._replace(late=left)
    for token, _ in world.slot.marks:
        alive = any(worker.token == token for worker in world.workers) or any(at == token for at, _ in world.late)
        if token != world.slot.lease and not (alive and scenario.rules.settle_waits_for_late_bytes):
            yield f"the sweeper settles {token}", world._replace(slot=settle(world.slot, token, scenario.rules)[0])


def _drain_steps(scenario: Scenario, world: World, number: int, worker: Worker) -> Iterator[tuple[str, World]]:
    if worker.step in {"idle", "taking"}:
        yield from _take_steps(scenario, world, number, worker)
    elif worker.step == "read":
        net: dict[int, int] = {}
        for entry in scenario.entries[worker.position : world.slot.last]:
            net.update(entry)
        after = worker._replace(step="write", upto=world.slot.last, todo=tuple(sorted(net.items())))
        yield f"reads {worker.position + 1}..{world.slot.last}", _with(world, number, after)
    elif worker.step == "write" and worker.todo:
        yield from _write_steps(scenario, world, number, worker)
    elif worker.step == "write":
        slot, moved = advance(world.slot, worker.token, worker.epoch, worker.upto, scenario.rules)
        after = worker._replace(step="done" if moved else "lost", position=worker.upto)
        yield f"advances to {worker.upto}: {moved}", _with(world._replace(slot=slot), number, after)
    elif worker.step == "done":
        if world.slot.last > worker.position:
            yield "goes on", _with(world, number, worker._replace(step="read"))
        yield from _release_steps(scenario, world, number, worker, "releases", clean=True)
    elif worker.step == "lost":
        slot, _ = rewind(world.slot, worker.token, scenario.rules)
        yield "rewinds", _with(world._replace(slot=slot), number, Worker())


def _take_steps(scenario: Scenario, world: World, number: int, worker: Worker) -> Iterator[tuple[str, World]]:
    orphans = frozenset(token for token, _ in world.slot.marks)
    waived = frozenset() if scenario.fences else orphans
    token = world.next_token
    slot, found = take(world.slot, token, fenced=worker.fenced, waived=waived, rules=scenario.rules)
    after = world._replace(slot=slot)
    if isinstance(found, Taken):
        lease = Worker("read", token, found.epoch, found.position)
        yield f"takes the lease at {found.position}", _with(after, number, lease)._replace(next_token=token + 1)
    elif isinstance(found, frozenset):
        fenced = _with(after, number, Worker("taking", fenced=worker.fenced | found))
        if scenario.rules.fence_before_settling_at_take:
            cut = (w._replace(cut=w.cut or (w.token in found and w.token > 0)) for w in fenced.workers)
            late = frozenset((at, write) for at, write in fenced.late if at not in found)
            fenced = fenced._replace(workers=tuple(cut), late=late)
        yield f"fences {set(found)}", fenced
    elif worker.step == "taking":
        yield f"finds it {found}", _with(after, number, Worker())


def _write_steps(scenario: Scenario, world: World, number: int, worker: Worker) -> Iterator[tuple[str, World]]:
    write, rest = worker.todo[0], worker.todo[1:]
    _, renewed = renew(world.slot, worker.token, worker.epoch)
    if not renewed:
        yield "finds the lease lost", _with(world, number, worker._replace(step="lost", todo=()))
    # It need not look before each write, nor write at once after it has looked: so it may write all the same.
    if worker.cut:
        yield from _release_steps(scenario, world, number, worker, "finds its connection cut", clean=False)
        return
    written = world._replace(store=_put(world.store, write))
    yield f"writes {write}", _with(written, number, worker._replace(todo=rest))
    if world.timeouts:
        late = world._replace(late=world.late | {(worker.token, write)}, timeouts=world.timeouts - 1)
        yield from _release_steps(scenario, late, number, worker, f"has no answer to {write}", clean=False)
    if world.refusals:
        refused = world._replace(refusals=world.refusals - 1)
        yield from _release_steps(scenario, refused, number, worker, f"is refused {write}", clean=True)


def _release_steps(
    scenario: Scenario, world: World, number: int, worker: Worker, what: str, *, clean: bool
) -> Iterator[tuple[str, World]]:
    slot, due = release(world.slot, worker.token, clean=clean, rules=scenario.rules)
    lost = due is None and worker.step == "done"
    after = worker._replace(step="lost") if lost else Worker()
    yield what, _with(world._replace(slot=slot), number, after)


def find_violation(scenario: Scenario) -> tuple[int, list[str] | None]:
    """Explore everything.

    Returns:
        The number of states, and the shortest way to a quiet state whose store is wrong, or to one where something
        is left undone though nothing can happen any more; None if there is no such way.
    """
    first = World(
        Slot(),
        (0,) * scenario.members,
        (Worker(),) * scenario.workers,
        frozenset(),
        1,
        scenario.kills,
        scenario.expiries,
        scenario.timeouts,
        scenario.refusals,
    )
    came_from: dict[World, tuple[World, str] | None] = {first: None}
    queue = deque([first])
    while queue:
        world = queue.popleft()
        stuck = True
        for what, after in steps(scenario, world):
            stuck = stuck and after == world
            if after not in came_from:
                came_from[after] = (world, what)
                queue.append(after)
        quiet = (
            world.slot.position == world.slot.last == len(scenario.entries)
            and not (world.slot.lease or world.slot.marks or world.late)
            and all(worker.step == "idle" for worker in world.workers)
        )
        if (quiet and world.store != truth(scenario)) or (stuck and not quiet):
            return len(came_from), _trace(came_from, world)
    return len(came_from), None


def _trace(came_from: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    trace = [f"store {world.store}"]
    while (step := came_from[world]) is not None:
        world, what = step
        trace.append(what)
    return trace[::-1]
