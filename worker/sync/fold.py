"""Many batches into one net change: pure, order in, last write per member wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from worker.log.names import Marked, split_names
from worker.model import SegmentPatch


def fold(segment_ref: str, batches: Iterable[Mapping[str, bool]]) -> SegmentPatch:
    """Fold batches of one segment, in the order accepted, into one patch.

    Args:
        segment_ref: the segment that all of them are for.
        batches: name (names.py) -> True (add) or False (remove), one mapping per batch.

    Returns:
        A patch in which each member stands once in each list, as the last batch that names it there decides.
    """
    net: dict[str, bool] = {}
    marked = False
    for members in batches:
        net.update(members)
        marked = marked or isinstance(members, Marked)
    added = [name for name, include in net.items() if include]
    removed = [name for name, include in net.items() if not include] if len(added) < len(net) else []
    return patch_of(segment_ref, added, removed) if marked else SegmentPatch(segment_ref, added, removed)


def patch_of(segment_ref: str, added: Iterable[str], removed: Iterable[str]) -> SegmentPatch:
    """The patch that adds and removes these names, each in its list."""
    (add, add_excluded), (remove, remove_excluded) = split_names(added), split_names(removed)
    return SegmentPatch(segment_ref, add, remove, add_excluded, remove_excluded)
