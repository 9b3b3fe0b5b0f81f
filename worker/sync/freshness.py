"""The heartbeat: tells each store how fresh it is, never more than is true (rule 21)."""

from __future__ import annotations

import structlog

from worker.errors import Unavailable
from worker.model import SegmentId, StoreRecord
from worker.wiring import Wiring

_log = structlog.get_logger(__name__)


def beat(wiring: Wiring) -> None:
    """Write ``synchronizedOn`` of every store that is on.

    It is the accept time of the oldest batch whose effect may not be in the store, or not stay there; else the time
    before the look. Every registered segment is looked at, not those in the index: the index is a hint, and what it
    misses would be claimed as applied. What it did miss is entered (rule 11, the slow walk).

    Raises:
        Unavailable: the state server is away. A store that is away is logged, and does not hold the others.
    """
    for environment_id in wiring.directory.fresh().environments:
        stores = wiring.stores_of(environment_id)
        if stores:
            _beat_environment(wiring, environment_id, stores)


def _beat_environment(wiring: Wiring, environment_id: str, stores: list[StoreRecord]) -> None:
    fresh = dict.fromkeys((store.store_id for store in stores), wiring.upkeep.server_ms())
    waiting: list[SegmentId] = []
    keys = wiring.segment_keys.registered(environment_id)
    for status in wiring.upkeep.statuses(environment_id, keys, list(fresh)):
        for store_id, store in status.stores.items():
            if store.oldest_ms is not None:
                fresh[store_id] = min(fresh[store_id], store.oldest_ms)
        if not all(store.settled for store in status.stores.values()):
            waiting.append(status.segment)
    _enter_missing(wiring, waiting)
    for store_id, epoch_ms in fresh.items():
        opened = wiring.stores.get(store_id)
        try:
            if opened is not None:
                opened.set_synchronized_on(epoch_ms)
        except Unavailable as error:
            _log.warning("store.away", store_id=store_id, error=str(error))


def _enter_missing(wiring: Wiring, waiting: list[SegmentId]) -> None:
    indexed = wiring.upkeep.ahead() if waiting else {}
    missing = [segment for segment in waiting if segment not in indexed]
    if missing:
        wiring.upkeep.index(missing, ticket=str(wiring.upkeep.server_ms()))
