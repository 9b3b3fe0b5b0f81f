"""The members that were left out of accepted batches, as long as the batches are in the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import redis

from worker.log import keyspace
from worker.log.entry import unpack, unpack_rejected
from worker.model import Rejections, SegmentId
from worker.state import state_errors


@dataclass(slots=True, frozen=True)
class RejectedMembers:
    """What was left out of one batch.

    Attributes:
        segment: the segment of the payload's own cohort.
        accepted_ms: when the batch was accepted.
        rejected: how many members, and the first hundred of them.
    """

    segment: SegmentId
    batch_id: str
    integration_key: str
    accepted_ms: int
    rejected: Rejections


def read_rejected(client: redis.Redis, segment: SegmentId, most: int) -> Iterator[RejectedMembers]:
    """The batches of a segment's log from which members were left out, the latest first, ``most`` at the most.

    Raises:
        Unavailable: the state server is away.
    """
    prefix = f"{keyspace.base(segment.environment_id, segment.segment_key)}:g{segment.generation}"
    with state_errors():
        entry_ids = cast("list[bytes]", client.zrange(f"{prefix}:rejected", 0, most - 1, desc=True))
    for entry_id in entry_ids:
        with state_errors():
            found = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(f"{prefix}:log", entry_id, entry_id))
        for _, fields in found:  # none, when it was trimmed meanwhile
            entry = unpack(entry_id, [part for pair in fields.items() for part in pair], 0)
            yield RejectedMembers(
                segment=segment,
                batch_id=entry.batch_id,
                integration_key=entry.integration_key,
                accepted_ms=int(entry.entry_id.partition("-")[0]),
                rejected=unpack_rejected(entry.rejected),
            )
