"""Forgetting stores that were removed, once nobody uses their records any more."""

from __future__ import annotations

import structlog

from worker.errors import Unavailable
from worker.log.forget import forget_cursors
from worker.records.store_health import StoreHealths
from worker.wiring import Wiring

# Processes follow a change of the records within seconds, and a drain that has begun ends within some more. What one
# that was frozen for longer leaves behind is a key that nobody reads.
GRACE_SECONDS = 60.0

_log = structlog.get_logger(__name__)


def forget_removed(wiring: Wiring) -> int:
    """Delete cursors and open marks of stores that were removed a minute ago or earlier, and all else known of them.

    What lies in the stores stays. Idempotent; what is cut short is begun anew by the next call.

    Returns:
        How many stores are forgotten now.

    Raises:
        Unavailable: the state server is away. A store that could not be forgotten in some segment is logged, and
            tried again the next time.
    """
    stores = wiring.store_records
    forgotten = 0
    for store_id in stores.removed_before(wiring.upkeep.server_ms() - int(GRACE_SECONDS * 1000)):
        try:
            _forget(wiring, store_id)
        except Unavailable as error:
            _log.error("forget.incomplete", store_id=store_id, error=str(error))
            continue
        stores.forgotten(store_id)
        forgotten += 1
    return forgotten


def _forget(wiring: Wiring, store_id: str) -> None:
    directory = wiring.records.directory()
    deleted = 0
    for environment_id in directory.environments:
        others = directory.stores_of(environment_id)
        deleted += forget_cursors(
            wiring.client,
            environment_id,
            wiring.segment_keys.registered(environment_id),
            store_id,
            # Ids are ordered by age, and the oldest store's replies count members.
            counted_members=not others or store_id < others[0].store_id,
            ending=[ending.segment for ending in wiring.closings.endings(environment_id)],
        )
    wiring.circuits.forget(store_id)
    wiring.incarnations.forget(store_id)
    StoreHealths(wiring.client).forget(store_id)
    wiring.refused_members.forget(store_id)
    _log.info("store.forgotten", store_id=store_id, keys=deleted)
