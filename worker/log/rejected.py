"""The members that were left out of accepted batches, as long as the batches are in the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import cast

import redis

from worker.log import keyspace
from worker.log.entry import unpack, unpack_rejected
from worker.model import Rejections, SegmentId
from worker.state import state_errors

_PIPELINE = 500


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


def read_rejected(client: redis.Redis, segments: Sequence[SegmentId], most: int) -> list[RejectedMembers]:
    """The batches of these segments' logs from which members were left out, the latest first, ``most`` at the most.

    Raises:
        Unavailable: the state server is away.
    """
    entries: list[tuple[tuple[int, ...], SegmentId, bytes]] = []
    for start in range(0, len(segments), _PIPELINE):
        portion = segments[start : start + _PIPELINE]
        with state_errors(), client.pipeline(transaction=False) as pipe:
            for segment in portion:
                pipe.zrange(f"{_prefix(segment)}:rejected", 0, most - 1, desc=True)
            found = cast("list[list[bytes]]", pipe.execute())
        entries += [
            (tuple(map(int, entry_id.split(b"-"))), segment, entry_id)
            for segment, entry_ids in zip(portion, found, strict=True)
            for entry_id in entry_ids
        ]
        entries = nlargest(most, entries)
    # Only now, and only of so many, what they hold: bodies are large.
    return [batch for _, segment, entry_id in entries for batch in _read(client, segment, entry_id)]


def _read(client: redis.Redis, segment: SegmentId, entry_id: bytes) -> Iterator[RejectedMembers]:
    """An entry, beside the stream or of it; none, when it was trimmed meanwhile."""
    with state_errors(), client.pipeline(transaction=False) as pipe:
        pipe.hgetall(f"{_prefix(segment)}:late:{entry_id.decode()}")
        pipe.xrange(f"{_prefix(segment)}:log", entry_id, entry_id)
        beside, found = cast("tuple[dict[bytes, bytes], list[tuple[bytes, dict[bytes, bytes]]]]", pipe.execute())
    for fields in [beside] if beside else [fields for _, fields in found]:
        entry = unpack(entry_id, [part for pair in fields.items() for part in pair], 0)
        yield RejectedMembers(
            segment=segment,
            batch_id=entry.batch_id,
            integration_key=entry.integration_key,
            accepted_ms=int(entry.entry_id.partition("-")[0]),
            rejected=unpack_rejected(entry.rejected),
        )


def _prefix(segment: SegmentId) -> str:
    return f"{keyspace.base(segment.environment_id, segment.segment_key)}:g{segment.generation}"
