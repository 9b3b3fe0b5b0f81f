"""Trimming: applied batches leave the log when their retention time is over."""

from __future__ import annotations

import structlog

from worker.errors import Unavailable
from worker.state import memory_share
from worker.wiring import Wiring

# Dead batches are kept for a person to look at, with everything after them: what came later must be able to decide.
DEAD_RETENTION_SECONDS = 7 * 86_400

# Below the share of memory from which receivers take nothing more: what is applied makes room first.
EARLY = 0.8

_log = structlog.get_logger(__name__)


def trim(wiring: Wiring) -> int:
    """Drop applied entries older than the retention time from every log; returns how many.

    Stores that are off count too: their cursors hold what they have not applied. While the state server is nearly full,
    applied entries go without waiting for their time.

    Raises:
        Unavailable: the state server is away; the next trim goes on.
    """
    now_ms = wiring.upkeep.server_ms()
    retention_ms = wiring.settings.retention_seconds * 1000
    if memory_share(wiring.client) > EARLY:
        _log.warning("log.trimmed_early", problem="the state server is nearly full")
        retention_ms = 0
    dead_ms = max(DEAD_RETENTION_SECONDS * 1000, retention_ms)
    dropped = 0
    directory = wiring.directory.fresh()
    for environment_id in directory.environments:
        stores = [store.store_id for store in directory.stores_of(environment_id)]
        if stores:  # with none, nothing is known to be applied
            dropped += _trim_environment(wiring, environment_id, stores, now_ms - retention_ms, now_ms - dead_ms)
    if dropped:
        _log.info("log.trimmed", entries=dropped)
    return dropped


def _trim_environment(
    wiring: Wiring, environment_id: str, stores: list[str], before_ms: int, dead_before_ms: int
) -> int:
    dropped = 0
    keys = wiring.segment_keys.registered(environment_id)
    try:
        for status in wiring.upkeep.statuses(environment_id, keys, stores):
            dropped += wiring.upkeep.trim(status.segment, stores, before_ms, dead_before_ms)
    except Unavailable as error:
        _log.error("trim.incomplete", environment_id=environment_id, error=str(error))
    return dropped
