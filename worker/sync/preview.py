"""What replaying many batches would do, added up: some numbers per segment, however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from worker.log.position import order
from worker.model import SegmentId
from worker.sync.batches import Batches, Group
from worker.sync.planned import Replay
from worker.sync.replay_plan import Planner, group_batches

# Planned at once, and held in memory with all their members.
MOST_AT_ONCE = 200
MOST_BYTES_AT_ONCE = 8 * 1024 * 1024


@dataclass(slots=True)
class Change:
    """What replays would do to one segment; see ``Target``.

    Attributes:
        batches: how many come to it.
        moved: how many of them died in another segment, or in none.
        waits: see ``Target``.
    """

    batches: int = 0
    moved: int = 0
    added: int = 0
    removed: int = 0
    unchanged: int = 0
    decided_later: int = 0
    waits: bool = False


@dataclass(slots=True)
class Obstacle:
    """Why some batches, or parts of them, cannot be replayed.

    Attributes:
        count: how many.
        batch_id: one of them, and ``problem``, what is wrong with that one.
    """

    count: int
    batch_id: str
    problem: str


@dataclass(slots=True)
class Preview:
    """The sum of planned replays.

    Attributes:
        batches: how many were planned; ``replayable``, how many of them would change something.
        segments: what would become of each; its generation is 0 when it does not exist yet.
        obstacles: reason -> the batches that cannot be replayed at all.
        skipped: reason -> the segments' parts of batches that cannot be.
        left_out: members that cannot be read, and that the policy ``skip`` leaves out, of all batches together.
        leaving: segment -> how many of the batches died there, and go to other segments alone.
        approximate: see ``Effects``.
    """

    batches: int = 0
    replayable: int = 0
    left_out: int = 0
    leaving: dict[SegmentId, int] = field(default_factory=dict)
    segments: dict[SegmentId, Change] = field(default_factory=dict)
    obstacles: dict[str, Obstacle] = field(default_factory=dict)
    skipped: dict[str, Obstacle] = field(default_factory=dict)
    approximate: bool = False

    def add(self, replays: Iterable[Replay]) -> None:
        """Take in planned replays."""
        for replay in replays:
            self.batches += 1
            self.replayable += replay.does_something
            if replay.problem is not None:
                _count(self.obstacles, replay.reason or replay.problem, replay.batch_id, replay.problem)
                continue
            self.left_out += replay.rejected.count
            for entry in replay.leaves:
                self.leaving[entry.segment] = self.leaving.get(entry.segment, 0) + 1
            for target in replay.targets:
                if target.skipped is not None:
                    _count(self.skipped, target.skipped, replay.batch_id, target.skipped)
                    continue
                change = self.segments.setdefault(target.segment, Change())
                change.batches += 1
                change.moved += target.moved
                change.added += target.added
                change.removed += target.removed
                change.unchanged += target.unchanged
                change.decided_later += target.decided_later
                change.waits |= target.waits

    @property
    def total(self) -> Change:
        """All segments together."""
        total = Change()
        for change in self.segments.values():
            total.batches += change.batches
            total.moved += change.moved
            total.added += change.added
            total.removed += change.removed
            total.unchanged += change.unchanged
            total.decided_later += change.decided_later
            total.waits |= change.waits
        return total


def _count(counted: dict[str, Obstacle], reason: str, batch_id: str, problem: str) -> None:
    counted.setdefault(reason, Obstacle(0, batch_id, problem)).count += 1


def preview(batches: Batches, planner: Planner, groups: Sequence[Group]) -> Iterator[Preview]:
    """What replaying these would do: yields the same preview again and again, as it grows.

    Raises:
        ParserInterrupted: bodies cannot be parsed now.
        Unavailable: the state server is away, or lacks what it takes to read a log.
    """
    found = Preview()
    yield found
    # Segment by segment, for each log is read once for all that is planned at once.
    by_segment = sorted(groups, key=lambda group: (group.places[0][0] if group.places else (), order(group.position)))
    for portion in portions(by_segment):
        found.add(planner.plan(group_batches(batches.read(portion))))
        found.approximate = planner.approximate
        yield found


def portions(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """The same, so many at a time as can be planned at once; one at least."""
    portion: list[Group] = []
    size = 0
    for group in groups:
        if portion and (len(portion) == MOST_AT_ONCE or size + group.size_bytes > MOST_BYTES_AT_ONCE):
            yield portion
            portion, size = [], 0
        portion.append(group)
        size += group.size_bytes
    if portion:
        yield portion
