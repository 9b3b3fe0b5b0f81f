"""Stores that people make, change or switch on are seen to at once: noticed, looked at, and woken without patience."""

from __future__ import annotations

import pytest
import redis
from sync_builders import Installation

from worker.log.batch import WakeUp
from worker.model import RedisStoreConfiguration
from worker.records.stores import StoreRecords
from worker.sync.drain import drain
from worker.sync.freshness import Heartbeat
from worker.sync.store_watch import StoreWatch
from worker.sync.sweep import Sweeper


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client)


@pytest.fixture
def watch(installation: Installation) -> StoreWatch:
    found = StoreWatch(installation.wiring)
    assert found.changed() == set()
    return found


def add(installation: Installation, *, on: bool = True) -> str:
    elsewhere = RedisStoreConfiguration(host="elsewhere")
    return StoreRecords(installation.client).add(installation.environment_id, "second", elsewhere, on=on).store_id


def test_nothing_counts_as_changed_at_first(watch: StoreWatch) -> None:
    assert watch.changed() == set()


def test_a_store_that_was_made_is_told_once_a_look_later(installation: Installation, watch: StoreWatch) -> None:
    made = add(installation)
    assert [watch.changed() for _ in range(3)] == [set(), {made}, set()]


def test_a_store_that_was_changed_is_told(installation: Installation, watch: StoreWatch) -> None:
    StoreRecords(installation.client).set(installation.store_id, configuration=RedisStoreConfiguration(host="other"))
    assert [watch.changed() for _ in range(3)] == [set(), {installation.store_id}, set()]


def test_a_store_that_changes_again_is_told_when_that_is_old_enough(
    installation: Installation, watch: StoreWatch
) -> None:
    records = StoreRecords(installation.client)
    records.set(installation.store_id, name="a")
    assert watch.changed() == set()
    records.set(installation.store_id, name="b")
    assert [watch.changed() for _ in range(3)] == [set(), {installation.store_id}, set()]


def test_a_store_that_is_off_is_told_when_it_is_on(installation: Installation, watch: StoreWatch) -> None:
    made = add(installation, on=False)
    assert [watch.changed() for _ in range(3)] == [set(), set(), set()]
    StoreRecords(installation.client).set(made, on=True)
    assert [watch.changed() for _ in range(2)] == [set(), {made}]


def test_a_store_that_is_gone_by_then_is_not_told(installation: Installation, watch: StoreWatch) -> None:
    made = add(installation)
    watch.changed()
    StoreRecords(installation.client).remove(made)
    assert watch.changed() == set()


def test_what_a_changed_store_misses_is_woken_without_patience(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain(installation.wiring, installation.segment(), installation.store_id)
    sweeper = Sweeper(installation.wiring)
    assert sweeper.sweep() == []
    made = add(installation)
    installation.wiring.directory.fresh(0)
    Heartbeat(installation.wiring).beat()
    assert sweeper.sweep([installation.store_id]) == []
    assert sweeper.sweep([made]) == [WakeUp(installation.segment(), made)]
    assert sweeper.sweep() == []


def test_what_a_store_misses_that_was_moved_is_found_by_the_second_beat(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain(installation.wiring, installation.segment(), installation.store_id)
    heartbeat, sweeper = Heartbeat(installation.wiring), Sweeper(installation.wiring)
    heartbeat.beat()
    StoreRecords(installation.client).set(installation.store_id, configuration=RedisStoreConfiguration(host="other"))
    installation.wiring.directory.fresh(0)
    installation.opened.clear()
    for _ in range(2):
        heartbeat.beat()
    assert sweeper.sweep([installation.store_id]) == [WakeUp(installation.segment(), installation.store_id)]
