"""Whom deaths of workers and of their children are laid to: only batches that kill, and all of those (rule 9)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from explore import reachable_from

MOST_CRASHES = 3


@dataclass(frozen=True, slots=True)
class CrashRules:
    """The rules, and what goes wrong without each."""

    suspicion_after_an_expired_lease: bool = True
    only_deaths_of_the_child_count: bool = True
    counted_by_whoever_outlives_the_child: bool = True
    a_worker_that_is_told_to_stop_counts_nothing: bool = True
    deaths_by_kill_are_counted_late: bool = True
    one_batch_at_a_time: bool = True


class Parsing(NamedTuple):
    """A poisonous batch and an innocent one, in this order, and one worker after another that drains them.

    ``step``: idle; ready (for the batch ``at``); alone (it is in the child); dying (the child is gone). ``stop``: the
    worker is told to stop. ``doomed``: whoever killed the child kills the worker in a moment. ``crashes``: counted so
    far, of each. ``killers``: kills by others that may still come, ``stops``: deploys.
    """

    step: str = "idle"
    at: int = 0
    stop: bool = False
    doomed: bool = False
    suspect: bool = False
    crashes: tuple[int, int] = (0, 0)
    dead: tuple[bool, bool] = (False, False)
    killers: int = 4
    stops: int = 4
    applied: bool = False


def _counted(now: Parsing, at: int) -> Parsing:
    count = min(MOST_CRASHES, now.crashes[at] + 1)
    crashes = (count, now.crashes[1]) if at == 0 else (now.crashes[0], count)
    dead = (crashes[0] == MOST_CRASHES, crashes[1] == MOST_CRASHES)
    return now._replace(crashes=crashes, dead=dead)


def _gone(now: Parsing, rules: CrashRules) -> Parsing:
    """The worker is gone; its lease expires."""
    at = now.at
    after = now._replace(step="idle", at=0, stop=False, doomed=False, suspect=rules.suspicion_after_an_expired_lease)
    return after if rules.only_deaths_of_the_child_count or now.step == "idle" else _counted(after, at)


def _next(now: Parsing) -> Parsing:
    """The batch in hand is judged: on to the next, or all is applied, and the release ends the suspicion."""
    if now.at == 0:
        return now._replace(step="ready", at=1)
    return now._replace(step="idle", at=0, suspect=False, applied=True)


def _steps(rules: CrashRules, now: Parsing) -> Iterator[Parsing]:
    if now.step == "idle":
        if not now.applied:
            yield now._replace(step="ready", at=0)
        return
    if now.stops and not now.stop:
        yield now._replace(stop=True, stops=now.stops - 1)
    if now.killers:
        yield _gone(now, rules)._replace(killers=now.killers - 1)
        if now.step == "alone":  # of both, and the child is gone first
            yield now._replace(step="dying", doomed=True, killers=now.killers - 1)
    if now.doomed:
        yield _gone(now, rules)
        if rules.deaths_by_kill_are_counted_late:
            return
    if now.step == "ready":
        if now.stop:
            yield now._replace(step="idle", at=0, stop=False)
        elif now.dead[now.at]:
            yield _next(now)
        elif now.suspect:
            begun = now._replace(step="alone")
            yield begun if rules.counted_by_whoever_outlives_the_child else _counted(begun, now.at)
        elif now.at == 0:
            yield _gone(now, rules)  # it kills the worker
        else:
            yield _next(now)
    elif now.step == "alone":
        poisonous = now.at == 0
        if poisonous or now.stop:  # a deploy ends the child as well, before the worker
            yield now._replace(step="dying")
        if not poisonous:
            yield _next(now)
    elif now.step == "dying":
        if now.stop and rules.a_worker_that_is_told_to_stop_counts_nothing:
            yield now._replace(step="idle", at=0, stop=False)
        elif rules.counted_by_whoever_outlives_the_child:
            counted = _counted(now, now.at)
            if not rules.one_batch_at_a_time:
                counted = _counted(counted, 1 - now.at)
            yield counted._replace(step="ready", doomed=False)
        else:
            yield now._replace(step="ready", doomed=False)


def judges_wrong(rules: CrashRules) -> bool:
    """Whether the innocent batch can die, or the poisonous one hold up the log for ever."""
    ends = False
    for now, following in reachable_from(Parsing(), lambda now: list(_steps(rules, now))):
        if now.dead[1]:
            return True
        ends = ends or (now.applied and now.dead[0])
        if not following and not now.applied:
            return True
    return not ends
