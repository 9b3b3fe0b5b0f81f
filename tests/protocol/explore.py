"""Walking every state that a small model can reach."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple, TypeVar

from happenings import steps
from slot import NONE, Cursor
from world import Compaction, Scenario, Worker, World, first, kept, truth

State = TypeVar("State")


def reachable_from(first: State, following: Callable[[State], list[State]]) -> Iterator[tuple[State, list[State]]]:
    """Every state that can be reached, with what may follow it."""
    seen, queue = {first}, deque([first])
    while queue:
        now = queue.popleft()
        after = following(now)
        yield now, after
        for state in after:
            if state not in seen:
                seen.add(state)
                queue.append(state)


def find_violation(scenario: Scenario, most: int = 10_000_000) -> tuple[int, list[str] | None]:
    """Explore everything.

    Returns:
        The number of states, and the shortest way to a wrong one: quiet, but a store does not hold what the log says;
        snapshot, late entries and stream do not tell the whole truth any more; or nothing leads to a quiet state. None
        if there is no such way.
    """
    start = canonical(scenario, first(scenario))
    numbers: dict[World, int] = {start: 0}
    by_any_name: dict[World, int] = {}
    came_from: list[int] = [0]
    before: list[list[int]] = [[]]
    at_rest: list[int] = []
    queue = deque([start])
    while queue:
        world = queue.popleft()
        number = numbers[world]
        for _, following in steps(scenario, world):
            known = by_any_name.get(following)
            if known is None:
                after = canonical(scenario, following)
                known = numbers.get(after)
                if known is None:
                    known = numbers[after] = len(came_from)
                    came_from.append(number)
                    before.append([])
                    queue.append(after)
                by_any_name[following] = known
            before[known].append(number)
        right = truth(scenario, world)
        wrong = "the log tells" if kept(scenario, world) != right else None
        if quiet(scenario, world):
            at_rest.append(number)
            if any(store.content != right for store in world.stores):
                wrong = "quiet"
        if wrong or len(came_from) > most:
            end = f"{wrong}: {[store.content for store in world.stores]}, log {kept(scenario, world)}, truth {right}"
            return len(came_from), [*_way(scenario, list(numbers), came_from, number), end]
    reached, left = set(at_rest), list(at_rest)
    while left:
        for number in before[left.pop()]:
            if number not in reached:
                reached.add(number)
                left.append(number)
    for number in range(len(came_from)):
        if number not in reached:
            return len(came_from), [*_way(scenario, list(numbers), came_from, number), "never comes to rest"]
    return len(came_from), None


def _way(scenario: Scenario, worlds: list[World], came_from: list[int], number: int) -> list[str]:
    """How a state is reached, told without renaming tokens on the way."""
    numbers = [number]
    while numbers[-1]:
        numbers.append(came_from[numbers[-1]])
    concrete, trace = first(scenario), []
    for goal in numbers[-2::-1]:
        for what, after in steps(scenario, concrete):
            if canonical(scenario, after) == worlds[goal]:
                trace.append(what)
                concrete = after
                break
        else:
            raise AssertionError("a name that canonical() drops has a meaning", trace, concrete, worlds[goal])
    return trace


def quiet(scenario: Scenario, world: World) -> bool:
    """Everything is accepted and applied, nobody is at work, nothing can land any more."""
    rules = scenario.rules
    return (
        not (world.late or any(world.notes))
        and all(worker.step == "idle" for worker in world.workers)
        and all(
            cursor.position >= world.slot.last
            and not (cursor.lease or cursor.marks)
            and (
                not scenario.identity or not rules.cursor_carries_incarnation or cursor.incarnation == store.incarnation
            )
            and (not scenario.identity or not rules.cursor_carries_process or cursor.process == store.process)
            for cursor, store in zip(world.slot.cursors, world.stores, strict=True)
        )
        and all(batch.kind == "rejected" for batch in scenario.batches[world.appended :])
    )


def canonical(scenario: Scenario, world: World) -> World:
    """One value for worlds that differ in names only: of tokens, epochs, snapshots, lives, and of equal workers."""
    slot, everyone = world.slot, world.workers
    tokens, snapshots, lives, runs = {0}, {0, slot.snapshot}, {0}, {0}
    for cursor in slot.cursors:
        tokens.add(cursor.lease)
        for token, _ in cursor.marks:
            tokens.add(token)
        snapshots.add(cursor.base)
        lives.add(cursor.incarnation)
        runs.add(cursor.process)
    for worker in everyone:
        if worker.step != "idle":
            tokens.add(worker.token)
            tokens.update(worker.fenced)
            snapshots.add(worker.base)
            if worker.made:
                snapshots.add(worker.made.draft.seen)
            lives.add(worker.incarnation)
            runs.add(worker.process)
    for token, _, _ in world.late:
        tokens.add(token)
    for made in world.compactions:
        if made:
            snapshots.add(made.draft.seen)
    for store in world.stores:
        lives.add(store.incarnation)
        runs.add(store.process)
    names = _Names(_ranks(tokens), _ranks(snapshots), _ranks(lives), _ranks(runs))
    trailed = scenario.faults.failovers > 0
    workers = sorted([_renamed_worker(worker, slot.cursors[worker.store].epoch, names) for worker in everyone])
    stores, late, compactions = world.stores, world.late, world.compactions
    if scenario.identity:
        stores = tuple(
            store._replace(incarnation=names.lives[store.incarnation], process=names.runs[store.process])
            for store in stores
        )
    if late:
        late = frozenset([(names.tokens[token], store, write) for token, store, write in late])
    if any(compactions):
        compactions = tuple([made and _renamed_compaction(made, names) for made in compactions])
    return World(
        slot._replace(
            snapshot=names.snapshots[slot.snapshot],
            cursors=tuple([_renamed_cursor(cursor, names, trailed=trailed) for cursor in slot.cursors]),
        ),
        stores,
        tuple(workers),
        late,
        world.places,
        world.content,
        compactions,
        world.faults,
        world.notes,
        world.appended,
        world.reset,
    )


class _Names(NamedTuple):
    """What tokens, snapshots, incarnations and processes are called: their ranks."""

    tokens: dict[int, int]
    snapshots: dict[int, int]
    lives: dict[int, int]
    runs: dict[int, int]


def _ranks(found: set[int]) -> dict[int, int]:
    return {number: rank for rank, number in enumerate(sorted(found))}


def _renamed_compaction(made: Compaction, names: _Names) -> Compaction:
    return made._replace(draft=made.draft._replace(seen=names.snapshots[made.draft.seen]))


def _renamed_cursor(cursor: Cursor, names: _Names, *, trailed: bool) -> Cursor:
    return Cursor(
        position=cursor.position,
        lease=names.tokens[cursor.lease],
        marks=frozenset([(names.tokens[token], began) for token, began in cursor.marks]),
        fresh=cursor.fresh,
        strays=cursor.strays,
        base=names.snapshots[cursor.base],
        chunks=cursor.chunks,
        incarnation=names.lives[cursor.incarnation],
        process=names.runs[cursor.process],
        past=cursor.past if trailed else NONE,
        recent=cursor.recent if trailed else NONE,
        ripe=cursor.ripe and trailed,
    )


@cache
def _idle(store: int) -> Worker:
    return Worker(store=store)


def _renamed_worker(worker: Worker, epoch: int, names: _Names) -> Worker:
    if worker.step == "idle":
        return _idle(worker.store)
    token = names.tokens[worker.token]
    stale = -1 if token and worker.epoch != epoch else 0
    base, life, run = names.snapshots[worker.base], names.lives[worker.incarnation], names.runs[worker.process]
    fenced = tuple([names.tokens[token] for token in worker.fenced])
    made = worker.made and _renamed_compaction(worker.made, names)
    before = (worker.token, worker.epoch, worker.base, worker.incarnation, worker.process, worker.fenced, worker.made)
    if before == (token, stale, base, life, run, fenced, made):
        return worker
    return worker._replace(token=token, epoch=stale, base=base, incarnation=life, process=run, fenced=fenced, made=made)
