"""What the heartbeat notes of stores, and so what is told of them without asking them."""

from __future__ import annotations

import pytest
import redis
from sync_builders import Installation

from worker.api.store_status import Status, read_statuses
from worker.errors import Unavailable
from worker.model import RedisStoreConfiguration
from worker.records.store_health import StoreHealth, StoreHealths
from worker.records.stores import StoreRecords
from worker.sync import forget as forgetting
from worker.sync.drain import drain
from worker.sync.freshness import Heartbeat


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client)


def beat(installation: Installation) -> None:
    Heartbeat(installation.wiring).beat()


def apply(installation: Installation) -> None:
    drain(installation.wiring, installation.segment(), installation.store_id)


def health(installation: Installation) -> StoreHealth:
    record = installation.wiring.directory.fresh(0).store(installation.store_id)
    assert record is not None
    return StoreHealths(installation.client).read([record])[record.store_id]


def status(installation: Installation) -> Status:
    record = installation.wiring.directory.fresh(0).store(installation.store_id)
    assert record is not None
    return read_statuses(installation.wiring, [record])[record.store_id]


def test_of_a_store_that_was_never_seen_nothing_is_known(installation: Installation) -> None:
    assert health(installation) == StoreHealth()
    assert not status(installation).available


def test_a_store_that_has_everything_is_well_and_was_told_as_much(installation: Installation) -> None:
    installation.accept(add=("ann",))
    apply(installation)
    beat(installation)
    found = health(installation)
    assert found.filled
    assert found.synchronized_ms == installation.store.synchronized_on()
    assert status(installation).last_sync == found.synchronized_ms
    assert status(installation).available


def test_a_store_that_lags_was_told_the_accept_time_of_what_waits(installation: Installation) -> None:
    installation.accept(add=("ann",))
    apply(installation)
    beat(installation)
    installation.accept(add=("bob",))
    beat(installation)
    beat(installation)
    assert health(installation).synchronized_ms == installation.store.synchronized_on()


def test_a_store_that_was_wiped_is_not_well_until_it_is_filled_anew(installation: Installation) -> None:
    installation.accept(add=("ann",))
    apply(installation)
    beat(installation)
    last_sync = status(installation).last_sync
    installation.store.wipe()
    beat(installation)
    assert not health(installation).filled
    found = status(installation)
    assert (found.available, found.potentially_stale, found.last_sync) == (False, True, last_sync)
    for _ in range(3):
        apply(installation)
        beat(installation)
    assert status(installation).available


def test_a_store_that_may_hold_strays_is_not_well(installation: Installation) -> None:
    beat(installation)
    beat(installation)
    assert status(installation).available
    installation.wiring.incarnations.note_strays(installation.store_id)
    beat(installation)
    assert health(installation).withheld
    assert not status(installation).available


def test_a_store_that_was_moved_is_one_of_which_nothing_is_known(installation: Installation) -> None:
    installation.accept(add=("ann",))
    apply(installation)
    beat(installation)
    StoreRecords(installation.client).set(
        installation.store_id, configuration=RedisStoreConfiguration(host="elsewhere", prefix="p")
    )
    assert health(installation) == StoreHealth()
    assert status(installation).last_sync is None


def test_a_store_that_got_another_name_or_login_is_the_same(installation: Installation) -> None:
    beat(installation)
    before = health(installation)
    [record] = installation.wiring.directory.fresh(0).stores
    login = record.configuration.model_copy(update={"username": "ann"})
    StoreRecords(installation.client).set(installation.store_id, name="other", configuration=login)
    assert health(installation) == before


def test_a_store_that_fails_tells_why(installation: Installation) -> None:
    beat(installation)
    installation.wiring.circuits.failed(
        installation.store_id, Unavailable("it answered NOPERM", dependency="store", answered="NOPERM")
    )
    found = status(installation)
    assert not found.available
    assert found.errors is not None
    assert [(error.status_code, error.timestamp) for error in found.errors] == [(403, found.last_error)]


def test_what_is_known_goes_with_the_store(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    beat(installation)
    installation.wiring.circuits.failed(installation.store_id, Unavailable("away", dependency="store"))
    StoreRecords(installation.client).remove(installation.store_id)
    monkeypatch.setattr(forgetting, "GRACE_SECONDS", 0.0)
    assert forgetting.forget_removed(installation.wiring) == 1
    assert not list(installation.client.scan_iter(f"*{installation.store_id}*"))
