"""The sweeper and the heartbeat, on a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from servers import wait_until
from sync_builders import FaultyStore, Installation

from worker.errors import Unavailable
from worker.log import keyspace
from worker.log.batch import WakeUp
from worker.log.lease import Lease
from worker.log.upkeep import SegmentStatus
from worker.model import DynamoDBStoreConfiguration
from worker.sync.compact import due
from worker.sync.drain import drain
from worker.sync.freshness import Heartbeat
from worker.sync.sweep import (
    LEASE_SECONDS,
    MOST_WAKE_AGAIN_SECONDS,
    SETTLE_SECONDS,
    WAKE_AGAIN_SECONDS,
    Sweeper,
)


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Swept:
    """A sweeper and its clock."""

    def __init__(self, installation: Installation) -> None:
        self.clock = Clock()
        self._sweeper = Sweeper(installation.wiring, self.clock)

    def after(self, seconds: float) -> list[WakeUp]:
        self.clock.now += seconds
        return self._sweeper.sweep()


def expected(installation: Installation) -> list[WakeUp]:
    return [WakeUp(installation.segment(), installation.store_id)]


def die_holding_the_lease(installation: Installation) -> Lease:
    lease = installation.wiring.drain_log.take(installation.segment(), installation.store_id, connection="dead")
    assert isinstance(lease, Lease)
    return lease


def test_a_lost_wake_up_is_sent_again_after_a_while_and_then_less_and_less_often(installation: Installation) -> None:
    installation.accept(add=("ann",))
    swept = Swept(installation)
    assert swept.after(0) == []
    assert swept.after(WAKE_AGAIN_SECONDS) == expected(installation)
    assert swept.after(WAKE_AGAIN_SECONDS) == []
    assert swept.after(WAKE_AGAIN_SECONDS) == expected(installation)
    for _ in range(5):
        swept.after(MOST_WAKE_AGAIN_SECONDS)
    assert swept.after(MOST_WAKE_AGAIN_SECONDS) == expected(installation)


def test_a_log_that_moves_is_not_woken(installation: Installation) -> None:
    swept = Swept(installation)
    for number in range(5):
        installation.accept(add=(f"p{number}",))
        assert swept.after(WAKE_AGAIN_SECONDS) == []
        drain(installation.wiring, installation.segment(), installation.store_id)


def test_a_lease_whose_beat_stands_still_is_taken_away_and_the_log_woken(installation: Installation) -> None:
    installation.accept(add=("ann",))
    die_holding_the_lease(installation)
    swept = Swept(installation)
    assert swept.after(0) == []
    assert swept.after(LEASE_SECONDS - 1) == []
    assert swept.after(1) == expected(installation)
    assert drain(installation.wiring, installation.segment(), installation.store_id).outcome == "applied"


def test_a_lease_that_is_renewed_is_never_taken_away(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.log.lease.RENEWAL_SECONDS", -1.0)
    installation.accept(add=("ann",))
    lease = die_holding_the_lease(installation)
    swept = Swept(installation)
    for _ in range(5):
        assert swept.after(LEASE_SECONDS) == []
        lease.renew()


def test_a_mark_that_nobody_can_fence_is_settled_when_nothing_can_land_any_more(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.store.can_fence = False
    installation.store.failure = Unavailable("no answer", dependency="store", fate_unknown=True)
    drain(installation.wiring, installation.segment(), installation.store_id)
    installation.wiring.circuits.reset(installation.store_id)
    drain(installation.wiring, installation.segment(), installation.store_id)
    swept = Swept(installation)
    swept.after(0)
    swept.after(SETTLE_SECONDS - 1)
    done = drain(installation.wiring, installation.segment(), installation.store_id)
    assert done.outcome == "idle"
    assert expected(installation)[0] in swept.after(1)
    assert drain(installation.wiring, installation.segment(), installation.store_id).batches == 1


def test_a_new_sweeper_starts_to_watch_from_the_beginning(installation: Installation) -> None:
    installation.accept(add=("ann",))
    die_holding_the_lease(installation)
    Swept(installation).after(LEASE_SECONDS)
    assert Swept(installation).after(LEASE_SECONDS) == []


def test_two_sweepers_at_once_are_harmless(installation: Installation) -> None:
    installation.accept(add=("ann",))
    die_holding_the_lease(installation)
    one, two = Swept(installation), Swept(installation)
    one.after(0)
    two.after(0)
    assert one.after(LEASE_SECONDS) == expected(installation)
    assert two.after(LEASE_SECONDS) == []
    assert drain(installation.wiring, installation.segment(), installation.store_id).outcome == "applied"


def test_a_sweep_drops_what_was_stored_for_requests_that_were_cut(installation: Installation) -> None:
    installation.client.zadd(keyspace.PAYLOADS, {"cut": 1})
    installation.client.hset(keyspace.payload("cut"), "body", b"{}")
    Swept(installation).after(0)
    assert installation.client.keys("*payload*") == []


def test_logs_that_are_settled_leave_the_index(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain(installation.wiring, installation.segment(), installation.store_id)
    Swept(installation).after(0)
    assert installation.wiring.upkeep.ahead() == {}


def test_the_heartbeat_of_a_store_that_has_everything_is_the_time_before_the_look(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain(installation.wiring, installation.segment(), installation.store_id)
    before = installation.wiring.upkeep.server_ms()
    Heartbeat(installation.wiring).beat()
    beat = installation.store.synchronized_on()
    assert beat is not None
    assert before <= beat <= installation.wiring.upkeep.server_ms()


def test_the_heartbeat_never_claims_more_than_the_oldest_unapplied_batch(installation: Installation) -> None:
    installation.accept(add=("ann",))
    [status] = installation.wiring.upkeep.statuses(
        installation.environment_id, ["rudderstack-beta"], [installation.store_id]
    )
    accepted = status.stores[installation.store_id].oldest_ms
    installation.accept("gamma", add=("bob",))
    drain(installation.wiring, installation.segment("gamma"), installation.store_id)
    Heartbeat(installation.wiring).beat()
    assert installation.store.synchronized_on() == accepted


def test_the_heartbeat_finds_what_the_index_has_lost(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.client.delete("segsync:ahead")
    Heartbeat(installation.wiring).beat()
    assert list(installation.wiring.upkeep.ahead()) == [installation.segment()]


def add_store(installation: Installation) -> FaultyStore:
    made = installation.wiring.records.bootstrap(
        environment_id=None, store_configuration=DynamoDBStoreConfiguration(tableName="t", region="r")
    )
    installation.wiring.directory._read_at = None
    found = installation.wiring.stores.get(made.store.store_id)
    assert isinstance(found, FaultyStore)
    return found


def test_a_store_that_is_away_does_not_keep_the_others_from_being_told(installation: Installation) -> None:
    other = add_store(installation)
    installation.store.away = True
    Heartbeat(installation.wiring).beat()
    installation.store.away = False
    assert installation.store.synchronized_on() is None
    assert other.synchronized_on() is not None


def test_a_store_that_hangs_does_not_keep_the_others_from_being_told(installation: Installation) -> None:
    other, answer = add_store(installation), threading.Event()
    installation.store.set_synchronized_on = lambda *_: answer.wait(30)  # type: ignore[method-assign]
    heartbeat = Heartbeat(installation.wiring)
    heartbeat.beat()
    first = other.synchronized_on()
    assert first is not None
    wait_until(lambda: installation.wiring.upkeep.server_ms() > first, message="the clock to move")
    heartbeat.beat()
    second = other.synchronized_on()
    answer.set()
    assert second is not None
    assert second > first


def test_a_segment_that_cannot_be_looked_at_keeps_its_environment_from_claiming_freshness(
    installation: Installation,
) -> None:
    installation.accept(add=("ann",))
    base = f"segsync:{{{installation.environment_id}/rudderstack-beta}}"
    installation.client.delete(f"{base}:segment")
    installation.client.set(f"{base}:segment", "no hash")
    with pytest.raises(Unavailable):
        Heartbeat(installation.wiring).beat()
    assert installation.store.synchronized_on() is None


def test_the_heartbeat_claims_no_more_than_the_time_before_it_looked(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep = installation.wiring.upkeep
    statuses, accepted_ms = upkeep.statuses, []

    def accept_after_the_look(*arguments: Any) -> Iterator[SegmentStatus]:
        yield from statuses(*arguments)
        installation.accept(add=("ann",))
        accepted_ms.append(upkeep.server_ms())
        wait_until(lambda: upkeep.server_ms() > accepted_ms[0] + 5, message="the clock to move")

    monkeypatch.setattr(upkeep, "statuses", accept_after_the_look)
    Heartbeat(installation.wiring).beat()
    beat = installation.store.synchronized_on()
    assert beat is not None
    assert beat <= accepted_ms[0]


def test_an_unusable_segment_keeps_no_other_from_being_swept_found_or_compacted(redis_client: redis.Redis) -> None:
    installation = Installation(redis_client, retention_seconds=0)
    installation.accept(add=("ann",))
    installation.accept("gamma", add=("bob",))
    base = f"segsync:{{{installation.environment_id}/rudderstack-gamma}}"
    redis_client.delete(f"{base}:segment")
    redis_client.set(f"{base}:segment", "no hash")
    redis_client.delete("segsync:ahead")
    with pytest.raises(Unavailable):
        Heartbeat(installation.wiring).beat()
    assert installation.segment() in installation.wiring.upkeep.ahead()
    swept = Swept(installation)
    swept.after(0)
    assert swept.after(WAKE_AGAIN_SECONDS) == expected(installation)
    drain(installation.wiring, installation.segment(), installation.store_id)
    before = installation.wiring.upkeep.server_ms()
    wait_until(lambda: installation.wiring.upkeep.server_ms() > before, message="the clock to move")
    assert due(installation.wiring) == [installation.segment()]


def test_a_segment_that_cannot_be_looked_at_keeps_no_other_in_the_index_from_being_woken(
    installation: Installation,
) -> None:
    installation.accept(add=("ann",))
    installation.accept("gamma", add=("bob",))
    base = f"segsync:{{{installation.environment_id}/rudderstack-gamma}}"
    installation.client.delete(f"{base}:segment")
    installation.client.set(f"{base}:segment", "no hash")
    swept = Swept(installation)
    swept.after(0)
    assert swept.after(WAKE_AGAIN_SECONDS) == expected(installation)


def test_a_log_is_woken_for_what_a_dead_drain_may_have_left_to_land(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain(installation.wiring, installation.segment(), installation.store_id)
    marks = f"{keyspace.prefix(installation.segment())}:open:{installation.store_id}"
    installation.client.hset(marks, "dead", "0-0 0 0 connection")
    swept = Swept(installation)
    swept.after(0)
    assert swept.after(WAKE_AGAIN_SECONDS) == expected(installation)
    assert drain(installation.wiring, installation.segment(), installation.store_id).outcome == "applied"
    assert installation.store.fenced == ["connection"]
