"""An append whose answer was lost, and what its sender does next: can its bytes overtake what was accepted since?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from explore import reachable_from

NOT_AFTER = 2
END = 5


@dataclass(frozen=True, slots=True)
class LateRules:
    """The rules, and what goes wrong without each."""

    server_refuses_late_appends: bool = True
    failure_is_told_no_earlier: bool = True
    unknown_fate_outlasts_later_tries: bool = True


class Sending(NamedTuple):
    """A partner sends "add"; told of a failure, it sends it again, then sends "remove"; both of these arrive at once.

    ``flying``: the first "add" is still on its way. ``told``: "" until the first request is answered.
    """

    now: int = 0
    flying: bool = True
    told: str = ""
    log: tuple[str, ...] = ()
    sent: int = 0


def _steps(rules: LateRules, world: Sending) -> Iterator[Sending]:
    if world.now < END:
        yield world._replace(now=world.now + 1)
    if world.flying:
        refused = rules.server_refuses_late_appends and world.now > NOT_AFTER
        landed = world.log if refused else (*world.log, "add")
        # The reply is lost, or comes too late, once the sender has been told of a failure.
        yield world._replace(flying=False, log=landed, told=world.told or ("no" if refused else "yes"))
        yield world._replace(flying=False, log=landed)
        yield world._replace(flying=False)
    if not world.told and (world.now > NOT_AFTER or not rules.failure_is_told_no_earlier):
        yield world._replace(told="no")
    if not world.told and not rules.unknown_fate_outlasts_later_tries:
        yield world._replace(told="no")  # a second try is refused at once, and that is taken for the whole truth
    following = ["remove"] if world.told == "yes" else ["add", "remove"] if world.told else []
    if world.sent < len(following):
        yield world._replace(log=(*world.log, following[world.sent]), sent=world.sent + 1)


def resurrects(rules: LateRules) -> bool:
    """Whether the member can be in at the end, though the last thing accepted from its partner was a removal."""
    for world, _ in reachable_from(Sending(), lambda world: list(_steps(rules, world))):
        done = world.told and world.sent == (1 if world.told == "yes" else 2)
        if done and not world.flying and world.log[-1] != "remove":
            return True
    return False
