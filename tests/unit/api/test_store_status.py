"""What ``_status`` says of a store: true of its freshness, its reachability, its content and its errors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.api.store_status import AVAILABLE_MS, STALE_MS, Status, status_of
from worker.model import RedisStoreConfiguration, StoreRecord
from worker.records.circuit import CircuitState
from worker.records.store_errors import StoreError
from worker.records.store_health import StoreHealth

NOW = 1_700_000_000_000
RECORD = StoreRecord(store_id="1", environment_id="e", name="", configuration=RedisStoreConfiguration())
WELL = StoreHealth(fresh_ms=NOW, synchronized_ms=NOW)


def judged(
    health: StoreHealth = WELL, *, on: bool = True, circuit_open: bool = False, errors: tuple[StoreError, ...] = ()
) -> Status:
    record = RECORD.model_copy(update={"on": on})
    return status_of(record, health, CircuitState(open=circuit_open), errors, NOW)


def told(status: Status) -> tuple[bool, bool]:
    return status.available, status.potentially_stale


def synchronized(ago_ms: int) -> StoreHealth:
    return replace(WELL, synchronized_ms=NOW - ago_ms)


def test_a_store_that_has_everything_is_available_and_not_stale() -> None:
    assert told(judged()) == (True, False)


@pytest.mark.parametrize(
    ("ago_ms", "available", "stale"),
    [
        (STALE_MS, True, False),
        (STALE_MS + 1, True, True),
        (AVAILABLE_MS, True, True),
        (AVAILABLE_MS + 1, False, True),
        (-5000, True, False),
    ],
)
def test_a_store_grows_old_as_its_sdks_see_it(ago_ms: int, available: bool, stale: bool) -> None:
    assert told(judged(synchronized(ago_ms))) == (available, stale)


@pytest.mark.parametrize(
    "health",
    [StoreHealth(), replace(WELL, fresh_ms=0), replace(WELL, withheld=True), replace(WELL, synchronized_ms=0)],
    ids=["never seen", "being filled", "wiped", "never told"],
)
def test_a_store_that_has_not_everything_is_stale_at_once(health: StoreHealth) -> None:
    assert told(judged(health)) == (False, True)


def test_a_store_that_is_off_or_away_is_stale_at_once() -> None:
    assert told(judged(on=False)) == told(judged(circuit_open=True)) == (False, True)


def test_what_is_not_known_is_left_out() -> None:
    assert judged(StoreHealth()).model_dump(mode="json", exclude_none=True) == {
        "available": False,
        "potentiallyStale": True,
    }


def test_errors_are_told_newest_first_with_the_time_of_the_last() -> None:
    status = judged(errors=(StoreError(503, "away", NOW - 1), StoreError(401, "refused", NOW - 9)))
    assert status.model_dump(mode="json", exclude_none=True) == {
        "available": True,
        "potentiallyStale": False,
        "lastSync": NOW,
        "lastError": NOW - 1,
        "errors": [
            {"statusCode": 503, "message": "away", "timestamp": NOW - 1},
            {"statusCode": 401, "message": "refused", "timestamp": NOW - 9},
        ],
    }
