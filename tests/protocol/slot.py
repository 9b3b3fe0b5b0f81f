"""What the Lua scripts do to one segment's log and one store's cursor, as pure functions on a small value.

The exhaustive model explores these functions, and the in-step test compares them with the scripts, call by call. Entry
ids are the numbers 1, 2, 3 …; tokens are numbers too, 0 meaning none.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of the protocol; the model shows for each what goes wrong without it."""

    rewind_bumps_epoch: bool = True
    advance_checks_epoch: bool = True
    open_marks: bool = True
    settle_waits_for_late_bytes: bool = True
    unclean_release_keeps_mark: bool = True
    fence_before_settling_at_take: bool = True
    release_checks_log: bool = True


RULES = Rules()


class Slot(NamedTuple):
    """The slot's state. ``marks`` holds (token, began) pairs."""

    last: int = 0
    position: int = 0
    epoch: int = 0
    woken: bool = False
    lease: int = 0
    beat: int = 0
    marks: frozenset[tuple[int, int]] = frozenset()


class Taken(NamedTuple):
    """A lease: where it starts and in which epoch."""

    position: int
    epoch: int


def _arm(slot: Slot) -> tuple[Slot, bool]:
    if slot.lease or slot.woken or slot.last <= slot.position:
        return slot, False
    return slot._replace(woken=True), True


def _rewind_mark(slot: Slot, token: int, rules: Rules) -> Slot:
    began = dict(slot.marks).get(token)
    if began is None:
        return slot
    return slot._replace(
        position=min(slot.position, began),
        epoch=slot.epoch + rules.rewind_bumps_epoch,
        marks=slot.marks - {(token, began)},
    )


def append(slot: Slot) -> tuple[Slot, bool]:
    """append.lua: one more entry; returns whether a wake-up is due."""
    return _arm(slot._replace(last=slot.last + 1))


def take(
    slot: Slot, token: int, *, fenced: Collection[int] = (), waived: Collection[int] = (), rules: Rules = RULES
) -> tuple[Slot, str | frozenset[int] | Taken]:
    """take.lua: "busy", "idle", the orphans' tokens, or the lease."""
    slot = slot._replace(woken=False)
    if slot.lease:
        return slot, "busy"
    for orphan in fenced:
        slot = _rewind_mark(slot, orphan, rules)
    orphans = frozenset(orphan for orphan, _ in slot.marks) - set(waived)
    if orphans:
        return slot, orphans
    if slot.last <= slot.position:
        return slot, "idle"
    marks = slot.marks | {(token, slot.position)} if rules.open_marks else slot.marks
    return slot._replace(lease=token, beat=1, marks=marks), Taken(slot.position, slot.epoch)


def renew(slot: Slot, token: int, epoch: int) -> tuple[Slot, bool]:
    """renew.lua: whether the lease and its epoch still stand."""
    if slot.lease != token or slot.epoch != epoch:
        return slot, False
    return slot._replace(beat=slot.beat + 1), True


def advance(slot: Slot, token: int, epoch: int, position: int, rules: Rules = RULES) -> tuple[Slot, bool]:
    """advance.lua: move cursor and open mark, if the lease and its epoch still stand."""
    if slot.lease != token or (rules.advance_checks_epoch and slot.epoch != epoch):
        return slot, False
    if rules.open_marks and token not in dict(slot.marks):
        return slot, False
    assert slot.position < position <= slot.last or not rules.advance_checks_epoch
    marks = frozenset((t, position if t == token else began) for t, began in slot.marks)
    return slot._replace(position=position, beat=slot.beat + 1, marks=marks), True


def release(slot: Slot, token: int, *, clean: bool, rules: Rules = RULES) -> tuple[Slot, bool | None]:
    """release.lua: whether a wake-up is due, or None when the lease was lost."""
    if slot.lease != token:
        return slot, None
    slot = slot._replace(lease=0)
    if clean or not rules.unclean_release_keeps_mark:
        slot = slot._replace(marks=frozenset(mark for mark in slot.marks if mark[0] != token))
    return _arm(slot) if rules.release_checks_log else (slot, False)


def rewind(slot: Slot, token: int, rules: Rules = RULES) -> tuple[Slot, bool]:
    """rewind.lua: whether a wake-up is due. A lease that is still that drain's own is given back."""
    slot = _rewind_mark(slot, token, rules)
    return _arm(slot._replace(lease=0) if slot.lease == token else slot)


def settle(slot: Slot, token: int, rules: Rules = RULES) -> tuple[Slot, bool]:
    """settle.lua: whether a wake-up is due; nothing while that token holds the lease."""
    return (slot, False) if slot.lease == token else _arm(_rewind_mark(slot, token, rules))


def expire(slot: Slot, token: int, beat: int) -> tuple[Slot, bool]:
    """expire.lua: whether a wake-up is due; nothing when the lease moved or is another's."""
    if slot.lease != token or slot.beat != beat:
        return slot, False
    return _arm(slot._replace(lease=0))
