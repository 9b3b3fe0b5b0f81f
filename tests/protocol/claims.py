"""What a store is told of its freshness, while it is wiped, filled anew, or fails over: is it ever told too much?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from explore import reachable_from


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """The rules, and what goes wrong without each."""

    written_beside_a_sentinel: bool = True
    of_the_life_that_was_looked_at: bool = True
    cursors_of_another_life_are_nowhere: bool = True
    of_the_process_that_was_looked_at: bool = True


class Claimed(NamedTuple):
    """A store that holds one member when it is current, and a heartbeat.

    ``life``, ``run``: the incarnation in the store (0: none) and its process. ``known``: the life that the state
    server knows of. ``of``, ``ran``: those that the cursor was made for; it is at the end. ``seen``: of which life and
    process the heartbeat found that all is applied. ``claim``: the store says that it is current.
    """

    holds: bool = True
    claim: bool = False
    life: int = 1
    run: int = 1
    known: int = 1
    of: int = 1
    ran: int = 1
    seen: tuple[int, int] | None = None
    wipes: int = 1
    failovers: int = 1


def _steps(rules: ClaimRules, now: Claimed) -> Iterator[Claimed]:
    if now.wipes:
        yield now._replace(holds=False, claim=False, life=0, wipes=now.wipes - 1)
    if now.failovers:
        # The next primary may lack the last writes, the claim among them.
        yield now._replace(holds=False, claim=False, run=now.run + 1, failovers=now.failovers - 1)
        yield now._replace(run=now.run + 1, failovers=now.failovers - 1)
    if not now.life:
        yield now._replace(life=now.known + 1)
    elif now.known != now.life:
        yield now._replace(known=now.life)
    elif now.of != now.life or now.ran != now.run:
        yield now._replace(holds=True, of=now.life, ran=now.run)  # a drain starts over, or goes back, and fills
    if now.of == now.known or not rules.cursors_of_another_life_are_nowhere:
        yield now._replace(seen=(now.known, now.ran))
    if now.seen is not None:
        life, run = now.seen
        told = now.life > 0 or not rules.written_beside_a_sentinel
        told = told and (now.life in {0, life} or not rules.of_the_life_that_was_looked_at)
        told = told and (now.run == run or not rules.of_the_process_that_was_looked_at)
        yield now._replace(claim=now.claim or told, seen=None)


def claims_too_much(rules: ClaimRules) -> bool:
    """Whether the store can say that it is current, and lack what it should hold."""
    reachable = reachable_from(Claimed(), lambda now: list(_steps(rules, now)))
    return any(now.claim and not now.holds for now, _ in reachable)
