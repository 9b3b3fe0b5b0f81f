"""The heartbeat: tells each store how fresh it is, never more than is true (rule 21)."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait

import structlog

from worker.errors import Unavailable
from worker.model import SegmentId
from worker.wiring import Wiring

# How long one beat waits for the stores. One that hangs longer is left behind, and skipped until it has answered.
PATIENCE_SECONDS = 1.0
_MOST_AT_ONCE = 16

_log = structlog.get_logger(__name__)


class Heartbeat:
    """Writes ``synchronizedOn`` of every store that is on. Up to sixteen stores that hang delay themselves alone."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._pool = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="heartbeat")
        self._under_way: dict[str, Future[None]] = {}

    def beat(self) -> None:
        """Write how fresh each store is.

        That is the accept time of the oldest batch whose effect may not be in the store, or not stay there; else the
        time before the look. Every registered segment is looked at, not those in the index: the index is a hint, and
        what it misses would be claimed as applied. What it did miss is entered (rule 11, the slow walk).

        Raises:
            Unavailable: the state server is away, or could not look at some segment. The environments that it could
                not look at whole keep their freshness: it ages, and SDKs see that.
        """
        failure: Unavailable | None = None
        for environment_id in self._wiring.directory.fresh().environments:
            try:
                fresh = self._look(environment_id)
            except Unavailable as error:
                failure = error
            else:
                for store_id, epoch_ms in fresh.items():
                    self._start(store_id, epoch_ms)
        wait(self._under_way.values(), timeout=PATIENCE_SECONDS)
        if failure is not None:
            raise failure

    def _look(self, environment_id: str) -> dict[str, int]:
        """Store id -> how fresh it is, in epoch milliseconds."""
        wiring = self._wiring
        store_ids = [store.store_id for store in wiring.stores_of(environment_id)]
        fresh = dict.fromkeys(store_ids, wiring.upkeep.server_ms())
        waiting: list[SegmentId] = []
        keys = wiring.segment_keys.registered(environment_id)
        try:
            for status in wiring.upkeep.statuses(environment_id, keys, store_ids):
                for store_id, store in status.stores.items():
                    if store.oldest_ms is not None:
                        fresh[store_id] = min(fresh[store_id], store.oldest_ms)
                if not all(store.settled for store in status.stores.values()):
                    waiting.append(status.segment)
        finally:
            self._enter_missing(
                waiting
            )  # also when a segment could not be looked at: the others are found all the same
        return fresh

    def _enter_missing(self, waiting: list[SegmentId]) -> None:
        indexed = self._wiring.upkeep.ahead() if waiting else {}
        missing = [segment for segment in waiting if segment not in indexed]
        if missing:
            self._wiring.upkeep.index(missing, ticket=str(self._wiring.upkeep.server_ms()))

    def _start(self, store_id: str, epoch_ms: int) -> None:
        under_way = self._under_way.get(store_id)
        if under_way is None or under_way.done():
            self._under_way[store_id] = self._pool.submit(self._write, store_id, epoch_ms)

    def _write(self, store_id: str, epoch_ms: int) -> None:
        try:
            store = self._wiring.stores.get(store_id)
            if store is not None:
                store.set_synchronized_on(epoch_ms)
        except Unavailable as error:
            _log.warning("store.away", store_id=store_id, error=str(error))
        except Exception:  # noqa: BLE001 - in a thread of a pool nobody would hear of it
            _log.exception("heartbeat.bug", store_id=store_id)
