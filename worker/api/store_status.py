"""``_status`` of a store integration: from what the heartbeat last saw of the store, its circuit and its last errors.

Nobody asks a store for it, and no log is walked: it costs four round trips to the state server for any number of
stores and segments, and is as old as the last heartbeat, ten seconds at the most while a scheduler runs. Without one it
ages, as the stores do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import Field

from worker.api.wire import Told
from worker.model import StoreRecord
from worker.records.circuit import CircuitState
from worker.records.store_errors import StoreError, StoreErrors
from worker.records.store_health import StoreHealth, StoreHealths
from worker.wiring import Wiring

# SDKs call a store stale when what it says of its freshness is older than this, unless they are told otherwise.
STALE_MS: Final = 120_000
# LaunchDarkly: available is what has been synchronised within the last few minutes.
AVAILABLE_MS: Final = 300_000

_MS = Field(strict=True, ge=0, description="Epoch milliseconds")


class StatusError(Told):
    """Something that went wrong with a store."""

    status_code: int = Field(description="HTTP status that says the same: 503 passes by itself, 4xx is configuration")
    message: str
    timestamp: int = _MS


class Status(Told):
    """How a store is. What is not known is left out."""

    available: bool = Field(description="On, reachable, filled, and synchronised within the last five minutes")
    potentially_stale: bool = Field(description="SDKs may read what is older than two minutes, or not all there is")
    last_sync: int | None = Field(
        None, description="What the store was last told as synchronizedOn, epoch milliseconds"
    )
    last_error: int | None = Field(None, description="When it last failed, epoch milliseconds")
    errors: list[StatusError] | None = Field(None, description="The last ten that differ, newest first, for a week")


def read_statuses(wiring: Wiring, records: Sequence[StoreRecord]) -> dict[str, Status]:
    """How these stores are, by id.

    Raises:
        Unavailable: the state server is away.
    """
    if not records:
        return {}
    store_ids = [record.store_id for record in records]
    healths = StoreHealths(wiring.client).read(records)
    circuits = wiring.circuits.read(store_ids)
    errors = StoreErrors(wiring.client).read(store_ids)
    now_ms = wiring.upkeep.server_ms()
    return {
        record.store_id: status_of(
            record, healths[record.store_id], circuits[record.store_id], errors[record.store_id], now_ms
        )
        for record in records
    }


def status_of(
    record: StoreRecord, health: StoreHealth, circuit: CircuitState, errors: Sequence[StoreError], now_ms: int
) -> Status:
    """How a store is. Pure.

    Args:
        record: the store.
        health: what the heartbeat saw.
        circuit: whether it is left alone.
        errors: the newest first.
        now_ms: the state server's clock.
    """
    age_ms = now_ms - health.synchronized_ms
    works = record.on and health.filled and not circuit.open
    return Status(
        available=works and age_ms <= AVAILABLE_MS,
        potentially_stale=not works or age_ms > STALE_MS,
        last_sync=health.synchronized_ms or None,
        last_error=errors[0].at_ms if errors else None,
        errors=[
            StatusError(status_code=error.status_code, message=error.message, timestamp=error.at_ms) for error in errors
        ]
        or None,
    )
