"""Many batches into few changes: pure, order in, last write per member wins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from worker.log.names import Marked, split_names
from worker.model import SegmentPatch

# With so many names, a change is passed on when folding does not pay: when most of what a batch names is new. The first
# soon, so that the store has something to do; later ones with twice as many, as it works on the ones before meanwhile,
# but with fewer than a store works through while they are made.
FIRST_NAMES: Final = 4_000
LAST_NAMES: Final = 16_000
# And with so many in any case: some 50 MiB.
MOST_NAMES: Final = 200_000


def fold(
    segment_ref: str,
    batches: Iterable[Mapping[str, bool]],
    *,
    first_names: int = FIRST_NAMES,
    last_names: int = LAST_NAMES,
    most_names: int = MOST_NAMES,
) -> Iterator[SegmentPatch]:
    """Fold batches of one segment, in the order accepted, into patches to be written in the order given.

    Batches of the same people fold into one patch, however many they are; of others it becomes several, each of them
    made when it is asked for. A cohort that is sent again page by page is folded from its second time on.

    Args:
        segment_ref: the segment that all of them are for.
        batches: name (names.py) -> True (add) or False (remove), one mapping per batch, or per piece of one.
        first_names: how many names the first patch has at least before it is passed on, where most of a batch is new.
        last_names: up to how many that grows.
        most_names: how many it has before it is passed on in any case.

    Returns:
        Patches in which each member stands once in each list, as the last batch folded into it decides; what a later
        patch says of a member holds.
    """
    net: dict[str, bool] = {}
    marked, enough = False, first_names
    # Whoever is named first. Met again, they tell how many names it takes to go round the cohort once.
    landmark: str | None = None
    since = lap = 0
    for members in batches:
        landmark = next(iter(members), None) if landmark is None else landmark
        if landmark in members:
            since, lap = 0, since
        since += len(members)
        before = len(net)
        net.update(members)
        marked = marked or isinstance(members, Marked)
        # One batch more than is enough: whether folding pays shows only when the next one comes.
        pays = 2 * (len(net) - before) <= len(members)
        if (before >= max(enough, lap) and not pays) or len(net) >= most_names:
            yield _patch(segment_ref, net, marked=marked)
            net, marked, enough = {}, False, min(2 * enough, last_names)
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
