"""Replaying many batches, one after the other: each is planned by what holds at its turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from worker.log.batch import WakeUp
from worker.log.position import order
from worker.model import SegmentId
from worker.sync.batches import Batches, Group
from worker.sync.preview import portions
from worker.sync.replay import Replayer
from worker.sync.replay_plan import Planner, group_batches

# Publishing one takes a millisecond. The others' segments are in the index, where the sweeper finds them in seconds.
MOST_WAKE_UPS = 300


@dataclass(slots=True)
class Outcome:
    """What replaying some batches did.

    Attributes:
        done: how many batches were dealt with.
        replayed: of these, how many lie alive in a log now, or did before.
        problems: batch id -> why nothing was done of it.
        skipped: batch id -> segment key -> why nothing was done there, though it was elsewhere.
        upto: segment -> the position up to which it must be applied for all of them to be in its stores.
        wake_ups: the caller's to send; not all that are due.
    """

    done: int = 0
    replayed: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)
    upto: dict[SegmentId, str] = field(default_factory=dict)
    wake_ups: list[WakeUp] = field(default_factory=list)


def replay(batches: Batches, planner: Planner, replayer: Replayer, groups: Sequence[Group]) -> Iterator[Outcome]:
    """Replay these, in the order given: yields the same outcome again and again, after each.

    Cut short at any point, it can be begun again with the same selection.

    Raises:
        ParserInterrupted: bodies cannot be parsed now.
        Unavailable: the state server is away, or lacks what it takes to read a log.
    """
    outcome = Outcome()
    yield outcome
    for portion in portions(groups):
        found = group_batches(batches.read(portion))
        for group in found:
            [planned] = planner.plan([group], with_effects=False)
            done = replayer.replay(planned)
            if done.problem is not None:
                outcome.problems[done.batch_id] = done.problem
            elif done.skipped and not done.inserted and not planned.already_live:
                outcome.problems[done.batch_id] = "; ".join(f"{key}: {why}" for key, why in done.skipped.items())
            else:
                outcome.replayed += 1
                if done.skipped:
                    outcome.skipped[done.batch_id] = done.skipped
            for segment, position in done.upto.items():
                outcome.upto[segment] = max(outcome.upto.get(segment, position), position, key=order)
            outcome.wake_ups += done.wake_ups[: MOST_WAKE_UPS - len(outcome.wake_ups)]
            outcome.done += 1
            yield outcome
        # What somebody else has decided about meanwhile is done, too.
        outcome.done += len(portion) - len(found)
    yield outcome
