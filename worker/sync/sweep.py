"""The sweeper: finds what nobody drains, leases whose owner stands still, and marks of drains that nobody runs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from worker.errors import Unavailable
from worker.log.append import WakeUp
from worker.log.upkeep import SegmentStatus, StoreStatus
from worker.model import SegmentId
from worker.wiring import Wiring

# A drain renews every two seconds, or after the ten that a request to its store may take; one that has not for so long
# is dead, frozen or cut off.
LEASE_SECONDS = 20.0
# Z: longer than any request to a store can take to land. With a lease, it stays under the SDK's 120 s of staleness.
SETTLE_SECONDS = 60.0
# A wake-up that has not led to a drain by then is sent again, then half as often each time: with a long queue the
# first is still on its way, and more of them would only make the queue longer.
WAKE_AGAIN_SECONDS = 4.0
MOST_WAKE_AGAIN_SECONDS = 60.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Seen:
    """What was seen of a lease, a mark or a waiting log, and since when by this process's monotonic clock."""

    what: tuple[str, ...]
    since: float
    patience: float = WAKE_AGAIN_SECONDS


class Sweeper:
    """Remembers what it saw the last time; any number of them may run, each judging by its own clock (rule 4)."""

    def __init__(self, wiring: Wiring, clock: Callable[[], float] = time.monotonic) -> None:
        self._wiring = wiring
        self._clock = clock
        self._seen: dict[tuple[str, ...], _Seen] = {}

    def sweep(self) -> list[WakeUp]:
        """Look once at every log that the index says may be ahead.

        Returns:
            The wake-ups to send. They ignore the flag "one outstanding": that one may be lost (rule 10).

        What could not be looked at is logged, and looked at by the next sweep.

        Raises:
            Unavailable: the state server is away: nothing was looked at.
        """
        due: list[WakeUp] = []
        looked_at: set[tuple[str, ...]] = set()
        by_environment: dict[str, dict[str, tuple[SegmentId, str]]] = defaultdict(dict)
        for segment, ticket in self._wiring.upkeep.ahead().items():
            by_environment[segment.environment_id][segment.segment_key] = (segment, ticket)
        for environment_id, indexed in by_environment.items():
            stores = [store.store_id for store in self._wiring.stores_of(environment_id)]
            try:
                for status in self._wiring.upkeep.statuses(environment_id, indexed, stores):
                    for store_id, store in status.stores.items():
                        due += self._look(status.segment, store_id, store, looked_at)
                    segment, ticket = indexed[status.segment.segment_key]
                    self._tidy_index(status, segment, ticket)
            except Unavailable as error:
                # Wake-ups that were claimed by then must be sent, and other environments looked at, all the same.
                _log.error("sweep.incomplete", environment_id=environment_id, error=str(error))
        self._seen = {key: seen for key, seen in self._seen.items() if key in looked_at}
        self._wiring.upkeep.drop_cut_payloads()
        return due

    def _tidy_index(self, status: SegmentStatus, segment: SegmentId, ticket: str) -> None:
        past = segment.generation != status.segment.generation
        if past or all(store.settled for store in status.stores.values()):
            self._wiring.upkeep.remove_from_index(segment, ticket)

    def _look(
        self, segment: SegmentId, store_id: str, store: StoreStatus, looked_at: set[tuple[str, ...]]
    ) -> list[WakeUp]:
        upkeep, due = self._wiring.upkeep, False

        def stands_still(key: tuple[str, ...], what: tuple[str, ...], seconds: float) -> bool:
            looked_at.add(key)
            return self._stands_still(key, what) >= seconds

        where = (*map(str, segment), store_id)
        if store.lease and stands_still((*where, "lease"), (store.lease, store.beat), LEASE_SECONDS):
            _log.warning("lease.expired", segment=segment.ref, store_id=store_id)
            due |= upkeep.expire(segment, store_id, store.lease, store.beat)
        for mark in store.orphans:
            if stands_still((*where, "mark", mark.token), (mark.token,), SETTLE_SECONDS):
                _log.warning("drain.settled", segment=segment.ref, store_id=store_id)
                due |= upkeep.settle(segment, store_id, mark.token)
        if not store.lease and (store.ahead or store.orphans):
            due |= self._patience_is_over((*where, "waiting"), (store.position, store.epoch), looked_at)
        return [WakeUp(segment, store_id)] if due else []

    def _stands_still(self, key: tuple[str, ...], what: tuple[str, ...]) -> float:
        """For how many seconds this has been seen unchanged."""
        seen = self._seen.get(key)
        if seen is None or seen.what != what:
            seen = self._seen[key] = _Seen(what, self._clock())
        return self._clock() - seen.since

    def _patience_is_over(self, key: tuple[str, ...], what: tuple[str, ...], looked_at: set[tuple[str, ...]]) -> bool:
        looked_at.add(key)
        if self._stands_still(key, what) < self._seen[key].patience:
            return False
        patience = min(self._seen[key].patience * 2, MOST_WAKE_AGAIN_SECONDS)
        self._seen[key] = _Seen(what, self._clock(), patience)
        return True
