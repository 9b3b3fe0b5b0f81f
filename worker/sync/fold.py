"""Many batches into few changes: pure, order in, last write per member wins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from worker.log.names import Marked, split_names
from worker.model import SegmentPatch

# From so many names on, a change is passed on when folding does not pay: when most of what a batch names is new. It
# keeps a server busy while the next batches are decoded: with 16,000 it stood still for a tenth of the time.
PART_NAMES: Final = 8_000
# And with so many in any case: some 50 MiB.
MOST_NAMES: Final = 200_000


def fold(
    segment_ref: str,
    batches: Iterable[Mapping[str, bool]],
    *,
    part_names: int = PART_NAMES,
    most_names: int = MOST_NAMES,
) -> Iterator[SegmentPatch]:
    """Fold batches of one segment, in the order accepted, into patches to be written in the order given.

    Cohorts that are sent again and again fold into one patch, however long that takes; large ones that name everybody
    once come in parts, each of them made when it is asked for.

    Args:
        segment_ref: the segment that all of them are for.
        batches: name (names.py) -> True (add) or False (remove), one mapping per batch, or per piece of one.
        part_names: how many names a patch has at least before it is passed on, where most of a batch is new.
        most_names: how many it has before it is passed on in any case.

    Returns:
        Patches in which each member stands once in each list, as the last batch folded into it decides; what a later
        patch says of a member holds.
    """
    net: dict[str, bool] = {}
    marked = False
    for members in batches:
        before = len(net)
        net.update(members)
        marked = marked or isinstance(members, Marked)
        # One batch more than is enough: whether folding pays shows only when the next one comes.
        pays = 2 * (len(net) - before) <= len(members)
        if (before >= part_names and not pays) or len(net) >= most_names:
            yield _patch(segment_ref, net, marked=marked)
            net, marked = {}, False
    if net:
        yield _patch(segment_ref, net, marked=marked)


def _patch(segment_ref: str, net: Mapping[str, bool], *, marked: bool) -> SegmentPatch:
    added = [name for name, include in net.items() if include]
    removed = [name for name, include in net.items() if not include] if len(added) < len(net) else []
    return patch_of(segment_ref, added, removed) if marked else SegmentPatch(segment_ref, added, removed)


def patch_of(segment_ref: str, added: Iterable[str], removed: Iterable[str]) -> SegmentPatch:
    """The patch that adds and removes these names, each in its list."""
    (add, add_excluded), (remove, remove_excluded) = split_names(added), split_names(removed)
    return SegmentPatch(segment_ref, add, remove, add_excluded, remove_excluded)
