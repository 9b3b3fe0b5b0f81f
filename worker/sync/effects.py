"""Whom replays would add to their segments and remove from them, and of whom a later batch has decided since."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from worker.log.chunk import Decision
from worker.log.lease import Behind
from worker.log.names import included_name
from worker.log.position import order
from worker.model import SegmentId
from worker.sync.planned import Replay, Target
from worker.sync.truth import decisions_about
from worker.wiring import Wiring

# Decisions of planned batches that are remembered, for what the batches after them do to the same members: some 150
# bytes each.
MOST_REMEMBERED = 1_000_000
_UNKNOWN: Decision = (False, "")


class Effects:
    """Counts the effects of planned replays, each batch as if those that were counted before it were replayed.

    Attributes:
        approximate: so many members were counted that the first of them were forgotten: batches that are about the
            same member may be counted as if each were alone.
    """

    def __init__(self, wiring: Wiring, most_remembered: int = MOST_REMEMBERED) -> None:
        self.approximate = False
        self._wiring = wiring
        self._most_remembered = most_remembered
        self._planned: dict[SegmentId, dict[str, Decision]] = {}
        self._remembered = 0

    def count(self, replays: Sequence[Replay]) -> None:
        """Fill in the counts of their targets.

        Raises:
            Unavailable: the state server is away, or lacks what it takes to read a log.
        """
        by_segment: dict[SegmentId, list[Target]] = {}
        for replay in replays:
            for target in replay.targets:
                if target.skipped is None:
                    by_segment.setdefault(target.segment, []).append(target)
        for segment, targets in by_segment.items():
            self._count(segment, targets)
        if self._remembered > self._most_remembered:
            self.approximate = True
            self._planned.clear()
            self._remembered = 0

    def _count(self, segment: SegmentId, targets: Sequence[Target]) -> None:
        members = {included_name(member) for target in targets for member in target.cohort.members}
        known = decisions_about(self._wiring, segment, members) if segment.generation else {}
        waits = bool(segment.generation) and self._waits(segment)
        planned = self._planned.setdefault(segment, {})
        for target in targets:
            here = order(target.position)
            target.waits = waits
            for member, include in target.cohort.members.items():
                name = included_name(member)
                decided, position = _later(known.get(name, _UNKNOWN), planned.get(name, _UNKNOWN))
                if position and order(position) > here:
                    target.decided_later += 1
                    continue
                target.added += include and not decided
                target.removed += decided and not include
                target.unchanged += decided == include
                self._remembered += name not in planned
                planned[name] = (include, target.position)

    def _waits(self, segment: SegmentId) -> bool:
        """Whether the log has what no store has applied: nobody has parsed it yet, and it may kill who does."""
        reached = self._wiring.snapshots.bounds(segment)[2]
        with suppress(Behind):
            return bool(self._wiring.drain_log.read(segment, reached, most_bytes=1, most_entries=1))
        return True


def _later(one: Decision, other: Decision) -> Decision:
    """That of two decisions which holds; one without a position was made before everything that is remembered."""
    if not other[1]:
        return one
    return other if not one[1] or order(other[1]) >= order(one[1]) else one
