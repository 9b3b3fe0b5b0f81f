"""Many batches into one net change: pure, order in, last write per member wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from worker.model import SegmentPatch


def fold(segment_ref: str, batches: Iterable[Mapping[str, bool]]) -> SegmentPatch:
    """Fold batches of one segment, in the order accepted, into one patch.

    Args:
        segment_ref: the segment that all of them are for.
        batches: context key -> True (add) or False (remove), one mapping per batch.

    Returns:
        A patch in which each member stands once, as the last batch that names it decides.
    """
    net: dict[str, bool] = {}
    for members in batches:
        net.update(members)
    added = [key for key, include in net.items() if include]
    removed = [key for key, include in net.items() if not include] if len(added) < len(net) else []
    return SegmentPatch(segment_ref, added, removed)
