"""What goes into the logs, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from worker.errors import InvalidBatch, Unavailable
from worker.model import DEFAULT_MEMBER_POLICY, Cohort, MemberPolicy, Rejections, SegmentId


class Target(Struct):
    """One cohort of a batch and the segment that it became."""

    segment_key: str
    cohort: Cohort


class Batch(Struct):
    """One accepted request, on its way into the log.

    Attributes:
        batch_id: unique; an append that is repeated with it changes nothing.
        body: the request's bytes, decoded from any content encoding, otherwise unchanged.
        store_ids: the environment's stores that are on, each of which has a cursor of its own.
        not_after_ms: by the state server's clock; an append that arrives later is refused. It is when the sender is
            told of a failure at the latest: bytes that are still on their way then must not overtake what it sends
            and is told 2xx for afterwards.
        policy: what was to become of members that cannot be read.
        rejected: the members that were left out.
        prerequisites: hash entries (key, field, value) that must be there before the entry is: the requestParser.
            Written if absent, before every append: a state server that lost them without anybody noticing gets them
            back.
    """

    batch_id: str
    environment_id: str
    context_kind: str
    integration_key: str
    parser_digest: str
    body: bytes
    targets: Sequence[Target]
    store_ids: Sequence[str]
    not_after_ms: int
    policy: MemberPolicy = DEFAULT_MEMBER_POLICY
    rejected: Rejections = msgspec.field(default_factory=Rejections)
    prerequisites: Sequence[tuple[str, str, str]] = ()


@dataclass(slots=True, frozen=True)
class WakeUp:
    """A hint that a store may be behind a log. Losing one costs time, never data."""

    segment: SegmentId
    store_id: str


@dataclass(slots=True, frozen=True)
class Made:
    """An entry that people made, for a segment that is there.

    Attributes:
        segment, context_kind, integration_key, cohort_id: the segment as they saw it.
        fields: as ``entry.pack_made`` gives them.
        batch_id, store_ids, not_after_ms: as of a ``Batch``.
        import_id: of an import; and how many chunks it has.
        final: it ends the log: with it, the segment is deleted.
    """

    segment: SegmentId
    context_kind: str
    integration_key: str
    cohort_id: str
    batch_id: str
    fields: Sequence[str | bytes]
    store_ids: Sequence[str]
    not_after_ms: int
    import_id: str = ""
    chunks: int = 0
    final: bool = False


# What became of one batch: it is in its logs, and these wake-ups are due; or it can never be; or not now.
Outcome = list[WakeUp] | InvalidBatch | Unavailable
