"""A segment is deleted while payloads come and drains are cut: does everybody leave, and is no payload lost?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from explore import reachable_from

NOT_AFTER = 1
END = 3


@dataclass(frozen=True, slots=True)
class DeletionRules:
    """The rules, and what goes wrong without each."""

    listed_before_it_is_deleted: bool = True
    listed_until_it_cannot_land: bool = True
    server_refuses_a_late_deletion: bool = True
    last_entry_and_deletion_are_one_step: bool = True
    closed_when_every_store_is_through: bool = True
    closed_when_nothing_can_still_land: bool = True
    closed_when_nothing_can_be_lost: bool = True
    compared_again_as_it_is_closed: bool = True
    what_is_refused_before_stays_out: bool = True


class Deleting(NamedTuple):
    """A segment with a member that its only store has, or may have; a deletion; one payload; one body refused earlier.

    ``log``: of the first generation, beginning with the member's add. ``alive``: the generation that payloads go to,
    0 where the next one creates another. ``position``: how much of the log the store has applied; ``mark``: a drain is
    not over. ``holds``: the store has somebody in the first generation. ``fresh``: what it answered last may be lost,
    should another server process answer for it. ``deleting``: how far whoever deletes is.
    ``seen``: the sweeper found the store through. ``payload``: the generation that took it. ``replayed``: the same.
    """

    now: int = 0
    log: tuple[str, ...] = ("add",)
    alive: int = 1
    position: int = 0
    mark: bool = False
    holds: bool = False
    fresh: bool = False
    crashes: int = 1
    failovers: int = 1
    restores: int = 1
    deleting: str = "begins"
    listed: bool = False
    seen: bool = False
    closed: bool = False
    payload: int = 0
    replayed: int = 0


def _steps(rules: DeletionRules, now: Deleting) -> Iterator[Deleting]:
    if now.now < END:
        yield now._replace(now=now.now + 1)
    yield from _delete(rules, now)
    if not now.payload:
        if now.alive:
            log = (*now.log, "add") if now.alive == 1 else now.log
            yield now._replace(log=log, payload=now.alive)
        else:
            yield now._replace(alive=2, payload=2)
    if not now.replayed:
        late = now.alive != 1 and rules.what_is_refused_before_stays_out
        yield now._replace(replayed=3 if late else now.alive or 2, alive=now.alive if late else now.alive or 2)
    yield from _drain(now)
    yield from _fail_over(now)
    yield from _restore(now)
    yield from _close(rules, now)


def _delete(rules: DeletionRules, now: Deleting) -> Iterator[Deleting]:
    before = rules.listed_before_it_is_deleted
    if now.deleting not in {"done", "dead"}:
        yield now._replace(deleting="dead")
    if now.deleting == "begins":
        yield now._replace(deleting="sent", listed=before)
    elif now.deleting == "sent" and now.alive == 1:
        if now.now > NOT_AFTER and rules.server_refuses_a_late_deletion:
            yield now._replace(deleting="done")
        elif rules.last_entry_and_deletion_are_one_step:
            yield now._replace(log=(*now.log, "final"), alive=0, deleting="done" if before else "landed")
        else:
            yield now._replace(log=(*now.log, "final"), deleting="half")
    elif now.deleting == "half":
        yield now._replace(alive=0, deleting="done" if before else "landed")
    elif now.deleting == "landed":
        yield now._replace(listed=True, deleting="done")


def _drain(now: Deleting) -> Iterator[Deleting]:
    if now.closed:
        return
    if not now.mark and now.position < len(now.log):
        yield now._replace(mark=True)
    if now.mark:
        if now.position < len(now.log):
            holds = now.log[now.position] == "add"
            yield now._replace(position=now.position + 1, holds=holds, fresh=True)
        yield now._replace(mark=False)
        if now.crashes and "add" in now.log[: now.position]:
            # It is cut, and a request of its lands when everything seems to be over; the mark is settled then.
            yield now._replace(holds=True, position=0, mark=False, crashes=0)


def _fail_over(now: Deleting) -> Iterator[Deleting]:
    if now.fresh:
        yield now._replace(fresh=False)
        if now.failovers:  # rule 13: the cursor goes back, where there still is one
            yield now._replace(holds=True, position=0 if not now.closed else now.position, failovers=0)


def _restore(now: Deleting) -> Iterator[Deleting]:
    # From a backup: another life, for which no cursor was made. One that begins after the close is compared with the
    # logs, and whoever is in a closed generation is a stray.
    if now.restores and not now.closed:
        yield now._replace(holds=True, position=0, mark=False, fresh=False, restores=0)


def _close(rules: DeletionRules, now: Deleting) -> Iterator[Deleting]:
    if now.listed and now.alive == 1 and (now.now > NOT_AFTER or not rules.listed_until_it_cannot_land):
        yield now._replace(listed=False)
    through = now.position == len(now.log) or not rules.closed_when_every_store_is_through
    over = through and (not now.mark or not rules.closed_when_nothing_can_still_land)
    over = over and (not now.fresh or not rules.closed_when_nothing_can_be_lost)
    if now.listed and now.alive != 1 and over and not now.seen:
        yield now._replace(seen=True)
    if now.seen and not now.closed:
        if over or not rules.compared_again_as_it_is_closed:
            # What a drain that is not over has sent may still land.
            for lands in {False, now.mark}:
                yield now._replace(closed=True, listed=False, holds=now.holds or lands)
        else:
            yield now._replace(seen=False)


def goes_wrong(rules: DeletionRules) -> bool:
    """Whether somebody can stay in a deleted generation for good, or what was accepted later goes with it."""
    for now, _ in reachable_from(Deleting(), lambda now: list(_steps(rules, now))):
        deleted = "final" in now.log
        if deleted and "add" in now.log[now.log.index("final") :]:
            return True  # a payload that was accepted after the deletion is in no generation that lives
        if deleted and now.closed and now.holds:
            return True
        # Nobody is about to list it, and the index, which is a hint, may have lost it: it is forgotten.
        if deleted and not now.listed and not now.closed and now.deleting in {"done", "dead"}:
            return True
        if deleted and now.replayed == 2:
            return True
    return False
