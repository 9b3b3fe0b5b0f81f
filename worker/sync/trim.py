"""Trimming: applied batches leave the log when their retention time is over."""

from __future__ import annotations

import structlog

from worker.wiring import Wiring

# Dead batches are kept for a person to look at, with everything after them: what came later must be able to decide.
DEAD_RETENTION_SECONDS = 7 * 86_400

_log = structlog.get_logger(__name__)


def trim(wiring: Wiring) -> int:
    """Drop applied entries older than the retention time from every log; returns how many.

    Stores that are off count too: their cursors hold what they have not applied.

    Raises:
        Unavailable: the state server is away; the next trim goes on.
    """
    dropped = 0
    now_ms = wiring.upkeep.server_ms()
    before_ms = now_ms - wiring.settings.retention_seconds * 1000
    dead_before_ms = now_ms - max(DEAD_RETENTION_SECONDS, wiring.settings.retention_seconds) * 1000
    directory = wiring.directory.fresh()
    for environment_id in directory.environments:
        stores = [store.store_id for store in directory.stores_of(environment_id)]
        keys = wiring.segment_keys.registered(environment_id)
        for status in wiring.upkeep.statuses(environment_id, keys, stores):
            dropped += wiring.upkeep.trim(status.segment, stores, before_ms, dead_before_ms)
    if dropped:
        _log.info("log.trimmed", entries=dropped)
    return dropped
