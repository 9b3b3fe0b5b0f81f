"""Watching stores come to certain positions of logs, while workers do the writing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.log.position import order
from worker.log.upkeep import SegmentStatus
from worker.model import SegmentId
from worker.wiring import Wiring


@dataclass(slots=True, frozen=True)
class Standing:
    """How far it is.

    Attributes:
        done: segments of which every store that is watched is there; of ``total``.
        batches_left: how many batches the others are behind their logs' ends, added up.
        sign: changes with anything that moves.
    """

    done: int
    total: int
    batches_left: int
    sign: int

    @property
    def over(self) -> bool:
        """Whether everything is there."""
        return self.done == self.total


class Following:
    """Looks again and again, at what is not there yet.

    Args:
        wiring: of this process.
        targets: the segments, and the position of each that its stores are to come to.
        store_ids: the stores to watch; None for all that are on, of each segment's environment.
    """

    def __init__(
        self, wiring: Wiring, targets: Mapping[SegmentId, str], store_ids: Sequence[str] | None = None
    ) -> None:
        self._wiring = wiring
        self._left = dict(targets)
        self._total = len(targets)
        self._store_ids = store_ids

    def look(self) -> Standing:
        """Look once; a segment that is there, or gone, is not looked at again.

        Raises:
            Unavailable: the state server is away.
        """
        by_environment: dict[str, list[str]] = defaultdict(list)
        for segment in self._left:
            by_environment[segment.environment_id].append(segment.segment_key)
        batches_left, signs = 0, []
        still_left: dict[SegmentId, str] = {}
        for environment_id, keys in by_environment.items():
            store_ids = self._store_ids
            if store_ids is None:
                store_ids = [store.store_id for store in self._wiring.stores_of(environment_id)]
            for status in self._wiring.upkeep.statuses(environment_id, keys, store_ids):
                target = self._left.get(status.segment)
                if target is not None and not _is_there(status, target):
                    still_left[status.segment] = target
                    batches_left += sum(store.batches_behind for store in status.stores.values())
                    signs += [(store.position, store.lease, store.beat) for store in status.stores.values()]
        self._left = still_left
        return Standing(self._total - len(still_left), self._total, batches_left, hash(tuple(signs)))


def _is_there(status: SegmentStatus, target: str) -> bool:
    return all(order(store.position) >= order(target) for store in status.stores.values())
