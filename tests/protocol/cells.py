"""A sentinel spread over a cluster, one cell on each primary: can a primary lose its data, and nobody ever notice?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from explore import reachable_from

NONE = 0
SHARDS = 2


@dataclass(frozen=True, slots=True)
class CellRules:
    """The rules, and what goes wrong without each."""

    decision_is_carried_by_who_made_it: bool = True
    every_primary_is_looked_at: bool = True


class Drainer(NamedTuple):
    """One process that checks out, claims where there is no sentinel, and drains.

    ``step``: idle, look, looked, cells, confirm, fill. ``at``: the shard that is next. ``seen``: the arbiter and the
    cells, as far as they were read. ``life``: what it carries to the cells, or fills the store for.
    """

    step: str = "idle"
    at: int = 0
    seen: tuple[tuple[int, bool], tuple[int, ...]] = ((NONE, False), ())
    life: int = NONE


class Spread(NamedTuple):
    """Two primaries, the first of which has the arbiter, too.

    ``arbiter``: a life, and whether the decision is still being carried to the cells. ``full``: whether a primary has
    what the logs say. ``known``: the life of which the state server knows; ``of``: the one that the cursor, which is at
    its end, was made for. ``leased``: somebody drains.
    """

    arbiter: tuple[int, bool] = (1, False)
    cells: tuple[int, ...] = (1, 1)
    full: tuple[bool, ...] = (True, True)
    known: int = 1
    of: int = 1
    leased: bool = False
    drainers: tuple[Drainer, ...] = (Drainer(), Drainer())
    lives: int = 1
    losses: int = 2


def _put(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], value, *values[at + 1 :])


def _sentinel(seen: tuple[tuple[int, bool], tuple[int, ...]]) -> int:
    (life, pending), cells = seen
    return NONE if pending or any(cell != life for cell in cells) else life


def _steps(rules: CellRules, now: Spread) -> Iterator[Spread]:
    if now.losses:
        for at in range(SHARDS):
            lost = now._replace(
                cells=_put(now.cells, at, NONE),
                full=(*now.full[:at], False, *now.full[at + 1 :]),
                losses=now.losses - 1,
            )
            yield lost._replace(arbiter=(NONE, False)) if at == 0 else lost
    for number, drainer in enumerate(now.drainers):
        for after, then in _moves(rules, now, drainer):
            yield after._replace(drainers=(*now.drainers[:number], then, *now.drainers[number + 1 :]))


def _moves(rules: CellRules, now: Spread, me: Drainer) -> Iterator[tuple[Spread, Drainer]]:
    if me.step == "idle":
        yield now, Drainer("look")
    elif me.step == "look":
        arbiter = now.arbiter if me.at == 0 else me.seen[0]
        looked_at = me.at == 0 or rules.every_primary_is_looked_at
        cells = (*me.seen[1], now.cells[me.at]) if looked_at else me.seen[1]
        step = "look" if me.at + 1 < SHARDS else "looked"
        yield now, me._replace(step=step, at=(me.at + 1) % SHARDS, seen=(arbiter, cells))
    elif me.step == "looked":
        yield from _judge(rules, now, me)
    elif me.step == "cells":
        step = "cells" if me.at + 1 < SHARDS else "confirm"
        yield now._replace(cells=_put(now.cells, me.at, me.life)), me._replace(step=step, at=(me.at + 1) % SHARDS)
    elif me.step == "confirm":
        done = now.arbiter == (me.life, True)
        yield now._replace(arbiter=(me.life, False)) if done else now, Drainer()
    elif me.step == "fill":
        if me.at < SHARDS:
            full = (*now.full[: me.at], True, *now.full[me.at + 1 :])
            yield now._replace(full=full), me._replace(at=me.at + 1)
        else:
            yield now._replace(of=me.life, leased=False), Drainer()


def _judge(rules: CellRules, now: Spread, me: Drainer) -> Iterator[tuple[Spread, Drainer]]:
    life = _sentinel(me.seen)
    if life:
        if now.known != life:
            yield now._replace(known=life), me
        elif now.of != life and not now.leased:
            yield now._replace(leased=True), Drainer("fill", life=life)
        else:
            yield now, Drainer()
        return
    seen = me.seen[0]
    if seen[1] and not rules.decision_is_carried_by_who_made_it:
        yield now, Drainer("cells", life=seen[0])
        return
    if now.arbiter != seen:
        yield now, Drainer()  # somebody else decides, or has decided: look again
        return
    made = now.lives + 1
    decided = now._replace(arbiter=(made, True), lives=made)
    yield decided, Drainer("cells", life=made)


def goes_unnoticed(rules: CellRules, most_lives: int = 4) -> bool:
    """Whether a primary can lack what the logs say while a checkout finds the life for which everything is applied."""

    def following(now: Spread) -> list[Spread]:
        return [after for after in _steps(rules, now) if after.lives <= most_lives]

    for now, _ in reachable_from(Spread(), following):
        resting = all(drainer.step in {"idle", "look"} and not drainer.seen[1] for drainer in now.drainers)
        cells = now.cells if rules.every_primary_is_looked_at else now.cells[:1]
        life = _sentinel((now.arbiter, cells))
        if resting and life and life == now.known == now.of and not all(now.full):
            return True
    return False
