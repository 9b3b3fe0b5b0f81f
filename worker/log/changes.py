"""What people add to a segment and remove from it, by hand, in either list: through the log, as everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.log.append import Appends
from worker.log.batch import Made, WakeUp
from worker.log.entry import pack_change, pack_made
from worker.log.segments import Segment
from worker.model import SegmentId


@dataclass(slots=True, frozen=True)
class ManualChange:
    """Context keys, by list. Where one is both added to a list and removed from it, it is removed.

    Attributes:
        batch_id: unique; a change that is appended again with it, within a minute, changes nothing.
    """

    batch_id: str
    add: Sequence[str] = field(default=(), repr=False)
    remove: Sequence[str] = field(default=(), repr=False)
    add_excluded: Sequence[str] = field(default=(), repr=False)
    remove_excluded: Sequence[str] = field(default=(), repr=False)


def append_change(
    appends: Appends,
    environment_id: str,
    segment: Segment,
    change: ManualChange,
    *,
    store_ids: Sequence[str],
    not_after_ms: int,
) -> list[WakeUp]:
    """Append a change to the log of a segment that is there: it takes effect at its place in the order accepted.

    Args:
        appends: with the durability that batches have.
        environment_id: the segment's.
        segment: as ``read_segments`` found it; a change is for that generation, and creates none.
        change: what is to be in and out.
        store_ids: the environment's stores that are on.
        not_after_ms: by the state server's clock: an append that arrives later is refused.

    Returns:
        The wake-ups that are due, and now the caller's to send.

    Raises:
        NotFound: the segment is gone.
        ValueError: a key is empty, or no text that UTF-8 could hold; nothing is appended.
        Unavailable: the state server is away; it may be appended, and doing it again with its batch id is right.
    """
    if any("" in keys for keys in (change.add, change.remove, change.add_excluded, change.remove_excluded)):
        raise ValueError("a context key is not empty")
    said = pack_change(change.add, change.remove, change.add_excluded, change.remove_excluded)
    return appends.append_made(
        Made(
            segment=SegmentId(environment_id, segment.segment_key, segment.generation),
            context_kind=segment.context_kind,
            integration_key=segment.integration_key,
            cohort_id=segment.cohort_id,
            batch_id=change.batch_id,
            fields=pack_made(segment.integration_key, "change", said),
            store_ids=store_ids,
            not_after_ms=not_after_ms,
        )
    )
