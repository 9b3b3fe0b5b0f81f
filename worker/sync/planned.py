"""A replay as it is planned: plain values between the planner, those who show it, and the replayer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.log.dead_letters import DeadEntry
from worker.model import Cohort, MemberPolicy, Rejections, SegmentId
from worker.sync.batches import KeptBatch


@dataclass(slots=True)
class Target:
    """One segment that a batch is for, by today's requestParser.

    Attributes:
        segment: its generation is 0 when it does not exist yet.
        position: where in its log the batch comes to lie.
        of_dead: the dead entry at that very position comes to life.
        moved: the batch lies in the logs of other segments; this one it comes to newly.
        skipped: why nothing can be done; None when something is.
        added, removed: members who would be in, or out, and are not.
        unchanged: members who are already as the batch says.
        decided_later: members of whom a later batch says what they are: they stay so.
        waits: batches were accepted there that no store has applied yet; what they say is in none of these numbers.
    """

    segment: SegmentId
    position: str
    cohort: Cohort
    of_dead: bool
    moved: bool
    skipped: str | None = None
    added: int = 0
    removed: int = 0
    unchanged: int = 0
    decided_later: int = 0
    waits: bool = False


@dataclass(slots=True)
class Replay:
    """One batch as it would be replayed.

    Attributes:
        entries: as which it is kept: dead entries of one batch id, or one rejected body.
        problem: why it cannot be replayed, for a person; None when it can.
        reason, pointer: the slug and the place of what is wrong with its body today, when that is why.
        leaves: dead entries in logs of segments that today's parse does not name any more.
        already_live: segments of the batch that have it, alive: of its own, or by a replay that was cut short.
    """

    batch_id: str
    integration_key: str
    position: str
    entries: Sequence[KeptBatch]
    problem: str | None = None
    reason: str | None = None
    pointer: str | None = None
    targets: list[Target] = field(default_factory=list)
    leaves: list[DeadEntry] = field(default_factory=list)
    already_live: list[SegmentId] = field(default_factory=list)
    context_kind: str = ""
    parser_digest: str = ""
    parser_text: str = ""
    policy: MemberPolicy = "reject"
    body: bytes = field(default=b"", repr=False)
    rejected: Rejections = field(default_factory=Rejections)

    @property
    def does_something(self) -> bool:
        """Whether anything would be changed; if only that it does not wait any more."""
        return self.problem is None and (
            bool(self.already_live) or not self.targets or any(target.skipped is None for target in self.targets)
        )
