"""Every interleaving of hints, flags, leases and the index of logs ahead: is anything ever forgotten (rules 10, 11)?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from explore import reachable_from
from slot import RULES, Rules, Slot, Taken, advance, append, release, take

_MOST_TICKETS = 6  # keeps the slow walk, which could enter a log for ever, finite


class Hints(NamedTuple):
    """``due``: receivers that must still publish; ``workers``: (step, token, upto) of each."""

    slot: Slot
    to_append: int
    due: int
    messages: int
    workers: tuple[tuple[str, int, int], ...]
    losses: int


@dataclass(frozen=True, slots=True)
class HintScenario:
    """How many batches, how many messages the broker loses, and whether there is a sweeper."""

    batches: int = 3
    losses: int = 0
    sweeper: bool = False
    sweeper_honours_flag: bool = False
    rules: Rules = RULES


def _waits(slot: Slot) -> bool:
    return slot.cursors[0].position < slot.last


def _steps(scenario: HintScenario, now: Hints) -> Iterator[Hints]:
    if now.to_append:
        slot, [due] = append(now.slot)
        yield now._replace(slot=slot, to_append=now.to_append - 1, due=now.due + due)
    if now.due:
        yield now._replace(due=now.due - 1, messages=now.messages + 1)
    if now.messages and now.losses:
        yield now._replace(messages=now.messages - 1, losses=now.losses - 1)
    for number, (step, token, upto) in enumerate(now.workers):

        def become(after: Hints, worker: tuple[str, int, int], number: int = number) -> Hints:
            return after._replace(workers=(*after.workers[:number], worker, *after.workers[number + 1 :]))

        if step == "idle" and now.messages:
            slot, found = take(now.slot, 0, number + 1, rules=scenario.rules)
            worker = ("taken", number + 1, 0) if isinstance(found, Taken) else (step, token, upto)
            yield become(now._replace(slot=slot, messages=now.messages - 1), worker)
        elif step == "taken":
            yield become(now, ("read", token, now.slot.last))
        elif step == "read":
            slot, _ = advance(now.slot, 0, token, now.slot.cursors[0].epoch, upto)
            yield become(now._replace(slot=slot), ("advanced", token, upto))
        elif step == "advanced":
            slot, due_now = release(now.slot, 0, token, clean=True, rules=scenario.rules)
            yield become(now._replace(slot=slot, messages=now.messages + bool(due_now)), ("idle", 0, 0))
    waiting = _waits(now.slot) and not now.slot.cursors[0].lease and not now.messages
    if scenario.sweeper and waiting and not (scenario.sweeper_honours_flag and now.slot.cursors[0].woken):
        yield now._replace(messages=1)


def forgets(scenario: HintScenario) -> bool:
    """Whether a state can be reached where entries wait and nothing will ever look at them."""
    first = Hints(Slot(), scenario.batches, 0, 0, (("idle", 0, 0),) * 2, scenario.losses)
    reachable = reachable_from(first, lambda now: list(_steps(scenario, now)))
    return any(_waits(now.slot) and not following for now, following in reachable)


class Indexed(NamedTuple):
    """The index lives in another slot than the log: no atomic step covers both. Every wake-up is lost here."""

    slot: Slot
    ticket: int  # 0: not in the index
    next_ticket: int
    to_append: int
    to_index: int  # appended with a wake-up due, not entered yet
    seen_ticket: int  # what the sweeper picked
    seen_empty: bool
    kills: int


@dataclass(frozen=True, slots=True)
class IndexScenario:
    """Whether removal looks at the ticket, whether a slow walk backs the index, and receivers killed in between."""

    ticketed: bool = True
    slow_walk: bool = False
    index_before_append: bool = False
    kills: int = 0


def _index_steps(scenario: IndexScenario, now: Indexed) -> Iterator[Indexed]:
    def enter(state: Indexed) -> Indexed:
        return state._replace(ticket=state.next_ticket, next_ticket=state.next_ticket + 1)

    def add(state: Indexed) -> Indexed:
        slot, [due] = append(state.slot)
        return state._replace(slot=slot, to_index=state.to_index + (due and not scenario.index_before_append))

    if now.to_append:
        if scenario.index_before_append:
            entered = enter(now)._replace(to_append=now.to_append - 1, to_index=now.to_index + 1)
            yield entered
        else:
            yield add(now._replace(to_append=now.to_append - 1))
    if now.to_index:
        rest = now._replace(to_index=now.to_index - 1)
        yield add(rest) if scenario.index_before_append else enter(rest)
        if now.kills:
            yield rest._replace(kills=now.kills - 1)
    if now.ticket:
        yield now._replace(seen_ticket=now.ticket, seen_empty=False)
    if now.seen_ticket and not now.seen_empty:
        if _waits(now.slot):
            yield now._replace(slot=_drained(now.slot))
        else:
            yield now._replace(seen_empty=True)
    if now.seen_empty:
        same = now.seen_ticket == now.ticket or not scenario.ticketed
        yield now._replace(ticket=0 if same else now.ticket, seen_ticket=0, seen_empty=False)
    if scenario.slow_walk and not now.ticket and _waits(now.slot):
        yield enter(now)


def _drained(slot: Slot) -> Slot:
    slot, found = take(slot, 0, 1)
    assert isinstance(found, Taken)
    slot, _ = advance(slot, 0, 1, found.epoch, slot.last)
    return release(slot, 0, 1, clean=True)[0]


def index_forgets(scenario: IndexScenario) -> bool:
    """Whether entries can wait for ever because the index lost their log."""
    first = Indexed(Slot(), 0, 1, 2, 0, 0, seen_empty=False, kills=scenario.kills)
    reachable = reachable_from(
        first, lambda now: [after for after in _index_steps(scenario, now) if after.next_ticket < _MOST_TICKETS]
    )
    return any(_waits(now.slot) and not (now.ticket or now.seen_ticket or following) for now, following in reachable)
