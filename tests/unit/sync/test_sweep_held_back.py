"""What the sweeper wakes while a circuit is open or a brake engaged, and when that is over."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest
import redis
from sync_builders import Installation

from worker.errors import Unavailable
from worker.log.append import Appends
from worker.log.batch import Batch, Target, WakeUp
from worker.log.lease import Lease
from worker.model import Cohort, DynamoDBStoreConfiguration, SegmentId
from worker.records.brake import LEAST_JUDGED
from worker.records.circuit import Circuits
from worker.sync.drain import drain
from worker.sync.sweep import LEASE_SECONDS, MOST_WAKE_AGAIN_SECONDS, SETTLE_SECONDS, WAKE_AGAIN_SECONDS, Sweeper

AWAY = Unavailable("no answer in time", dependency="store")
COHORTS = ("beta", "gamma", "delta")


class Swept:
    """A sweeper and its clock."""

    def __init__(self, installation: Installation) -> None:
        self.now = 1000.0
        self._sweeper = Sweeper(installation.wiring, lambda: self.now)

    def after(self, seconds: float) -> list[WakeUp]:
        self.now += seconds
        return self._sweeper.sweep()


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    made = Installation(redis_client)
    for cohort in COHORTS:
        made.accept(cohort, add=("ann",))
    return made


@pytest.fixture
def swept(installation: Installation) -> Swept:
    """A sweeper that has seen every log waiting."""
    found = Swept(installation)
    assert found.after(0) == []
    return found


def logs(installation: Installation, *cohorts: str, store_id: str | None = None) -> set[WakeUp]:
    return {WakeUp(installation.segment(cohort), store_id or installation.store_id) for cohort in cohorts or COHORTS}


def accept_from_another_partner(installation: Installation) -> WakeUp:
    """A batch of the integration amplitude; returns the wake-up of its log."""
    [key] = installation.wiring.segment_keys.allot(installation.environment_id, "amplitude", ["vip"])
    batch = Batch(
        batch_id="of-amplitude",
        environment_id=installation.environment_id,
        context_kind="user",
        integration_key="amplitude",
        parser_digest=installation.manifest.parser.digest,
        body=installation.body("vip", add=("ann",)),
        targets=[Target(key, Cohort("vip", members={"ann": True}))],
        store_ids=[installation.store_id],
        not_after_ms=10**15,
    )
    Appends(installation.client).append([batch])
    return WakeUp(SegmentId(installation.environment_id, key, 1), installation.store_id)


def open_circuit(installation: Installation, store_id: str | None = None) -> None:
    """Another process finds the store away."""
    Circuits(installation.client, chance=lambda: 1.0).failed(store_id or installation.store_id, AWAY)


def let_circuit_time_come(installation: Installation, store_id: str | None = None) -> None:
    installation.client.hincrby(f"segsync:circuit:{{{store_id or installation.store_id}}}", "retry_at_ms", -10_000_000)


def probe(installation: Installation) -> Circuits:
    """Another process that probes."""
    circuits = Circuits(installation.client, chance=lambda: 1.0)
    assert circuits.allows(installation.store_id)
    return circuits


def engage_brake(installation: Installation, integration_key: str = "rudderstack") -> None:
    brakes = installation.wiring.brakes
    assert any(brakes.died(installation.environment_id, integration_key) for _ in range(LEAST_JUDGED))


def let_brake_time_come(installation: Installation) -> None:
    for field, text in cast("dict[bytes, bytes]", installation.client.hgetall("segsync:brakes")).items():
        record: dict[str, Any] = msgspec.json.decode(text)
        installation.client.hset("segsync:brakes", field, msgspec.json.encode({**record, "next_probe_ms": 1}))


def add_store(installation: Installation) -> str:
    made = installation.wiring.records.bootstrap(
        environment_id=None, store_configuration=DynamoDBStoreConfiguration(tableName="t", region="r")
    )
    installation.wiring.directory._read_at = None
    return made.store.store_id


def test_while_a_circuit_is_open_none_of_its_stores_logs_is_woken(installation: Installation, swept: Swept) -> None:
    open_circuit(installation)
    for _ in range(5):
        assert swept.after(MOST_WAKE_AGAIN_SECONDS) == [] or pytest.fail("no time has come yet")


def test_the_logs_of_other_stores_are_woken_as_ever(installation: Installation) -> None:
    other = add_store(installation)
    swept = Swept(installation)
    swept.after(0)
    open_circuit(installation)
    assert set(swept.after(WAKE_AGAIN_SECONDS)) == logs(installation, store_id=other)


def test_when_its_time_has_come_one_log_is_woken_and_another_when_that_led_to_nothing(
    installation: Installation, swept: Swept
) -> None:
    open_circuit(installation)
    let_circuit_time_come(installation)
    first = swept.after(0)
    assert len(first) == 1
    assert swept.after(WAKE_AGAIN_SECONDS - 0.1) == []
    second = swept.after(0.1)
    assert swept.after(WAKE_AGAIN_SECONDS) == []
    third = swept.after(WAKE_AGAIN_SECONDS)
    assert set(first + second + third) == logs(installation)


def test_nothing_is_woken_while_somebody_probes(installation: Installation, swept: Swept) -> None:
    open_circuit(installation)
    let_circuit_time_come(installation)
    probe(installation)
    assert swept.after(WAKE_AGAIN_SECONDS) == []


def test_each_time_that_comes_has_its_own_wake_up_at_once(installation: Installation, swept: Swept) -> None:
    open_circuit(installation)
    for _ in range(3):
        let_circuit_time_come(installation)
        assert len(swept.after(0)) == 1
        probing = probe(installation)
        assert swept.after(WAKE_AGAIN_SECONDS) == []
        probing.failed(installation.store_id, AWAY)
        assert swept.after(0) == []


def test_when_it_closes_every_log_is_woken_at_once_and_then_with_fresh_patience(
    installation: Installation, swept: Swept
) -> None:
    for _ in range(5):
        swept.after(MOST_WAKE_AGAIN_SECONDS)
    open_circuit(installation)
    let_circuit_time_come(installation)
    swept.after(MOST_WAKE_AGAIN_SECONDS)
    probe(installation).succeeded(installation.store_id)
    assert set(swept.after(0)) == logs(installation)
    assert swept.after(WAKE_AGAIN_SECONDS - 0.1) == []
    assert set(swept.after(0.1)) == logs(installation)


def test_a_circuit_that_opened_and_closed_between_two_sweeps_has_cost_wake_ups_too(
    installation: Installation, swept: Swept
) -> None:
    open_circuit(installation)
    let_circuit_time_come(installation)
    probe(installation).succeeded(installation.store_id)
    assert set(swept.after(0)) == logs(installation)
    assert swept.after(0) == []


def test_a_circuit_that_is_reset_by_command_lets_every_log_be_woken(installation: Installation, swept: Swept) -> None:
    open_circuit(installation)
    assert swept.after(0) == []
    installation.wiring.circuits.reset(installation.store_id)
    assert set(swept.after(0)) == logs(installation)


def test_a_log_that_came_while_the_circuit_was_open_is_woken_with_the_others(
    installation: Installation, swept: Swept
) -> None:
    open_circuit(installation)
    swept.after(0)
    installation.accept("new", add=("bob",))
    installation.wiring.circuits.reset(installation.store_id)
    assert set(swept.after(0)) == logs(installation, *COHORTS, "new")


def test_a_new_sweeper_takes_no_old_circuit_for_one_that_has_just_closed(installation: Installation) -> None:
    open_circuit(installation)
    installation.wiring.circuits.succeeded(installation.store_id)
    assert Swept(installation).after(0) == []


def test_leases_expire_while_the_circuit_is_open_and_the_log_is_woken_when_it_closes(
    installation: Installation,
) -> None:
    lease = installation.wiring.drain_log.take(installation.segment(), installation.store_id, connection="dead")
    assert isinstance(lease, Lease)
    swept = Swept(installation)
    open_circuit(installation)
    swept.after(0)
    assert swept.after(LEASE_SECONDS) == []
    [status] = installation.wiring.upkeep.statuses(
        installation.environment_id, ["rudderstack-beta"], [installation.store_id]
    )
    assert not status.stores[installation.store_id].lease
    installation.wiring.circuits.reset(installation.store_id)
    assert set(swept.after(0)) == logs(installation)


def test_marks_are_settled_while_the_circuit_is_open(installation: Installation) -> None:
    lease = installation.wiring.drain_log.take(installation.segment(), installation.store_id, connection="dead")
    assert isinstance(lease, Lease)
    lease.release(clean=False)
    swept = Swept(installation)
    open_circuit(installation)
    swept.after(0)
    assert swept.after(SETTLE_SECONDS) == []
    [status] = installation.wiring.upkeep.statuses(
        installation.environment_id, ["rudderstack-beta"], [installation.store_id]
    )
    assert not status.stores[installation.store_id].marks


def test_a_log_that_is_being_drained_is_not_woken_for_a_probe(installation: Installation, swept: Swept) -> None:
    for cohort in COHORTS[1:]:
        lease = installation.wiring.drain_log.take(
            installation.segment(cohort), installation.store_id, connection="busy"
        )
        assert isinstance(lease, Lease)
    open_circuit(installation)
    let_circuit_time_come(installation)
    for seconds in (0, WAKE_AGAIN_SECONDS, 2 * WAKE_AGAIN_SECONDS):
        assert set(swept.after(seconds)) == logs(installation, "beta")


def test_a_log_that_has_nothing_for_the_store_is_not_woken_for_a_probe(installation: Installation) -> None:
    for cohort in COHORTS:
        assert drain(installation.wiring, installation.segment(cohort), installation.store_id).outcome == "applied"
    open_circuit(installation)
    let_circuit_time_come(installation)
    assert Swept(installation).after(0) == []


def test_two_sweepers_that_both_wake_for_a_probe_cause_one(installation: Installation) -> None:
    one, two = Swept(installation), Swept(installation)
    open_circuit(installation)
    let_circuit_time_come(installation)
    assert len(one.after(0)) == len(two.after(0)) == 1
    first, second = (Circuits(installation.client) for _ in range(2))
    assert [process.allows(installation.store_id) for process in (first, second)] == [True, False]


def test_the_logs_of_a_braked_integration_are_woken_for_a_probe_alone(installation: Installation, swept: Swept) -> None:
    engage_brake(installation)
    for _ in range(3):
        assert swept.after(MOST_WAKE_AGAIN_SECONDS) == []
    let_brake_time_come(installation)
    assert len(swept.after(0)) == 1
    assert swept.after(WAKE_AGAIN_SECONDS - 0.1) == []
    assert len(swept.after(0.1)) == 1


def test_a_store_is_probed_with_a_log_that_no_brake_holds_back(installation: Installation) -> None:
    unbraked = accept_from_another_partner(installation)
    swept = Swept(installation)
    engage_brake(installation)
    let_brake_time_come(installation)
    open_circuit(installation)
    let_circuit_time_come(installation)
    for seconds in (0, WAKE_AGAIN_SECONDS, 2 * WAKE_AGAIN_SECONDS):
        assert swept.after(seconds) == [unbraked]


def test_a_brake_holds_back_the_logs_of_its_own_integration_alone(installation: Installation) -> None:
    unbraked = accept_from_another_partner(installation)
    swept = Swept(installation)
    swept.after(0)
    engage_brake(installation)
    assert swept.after(WAKE_AGAIN_SECONDS) == [unbraked]


def test_the_brake_of_another_integration_or_environment_holds_nothing_back(
    installation: Installation, swept: Swept
) -> None:
    engage_brake(installation, "amplitude")
    for _ in range(LEAST_JUDGED):
        installation.wiring.brakes.died("other", "rudderstack")
    assert set(swept.after(WAKE_AGAIN_SECONDS)) == logs(installation)


def test_when_a_brake_is_released_every_log_is_woken_at_once(installation: Installation, swept: Swept) -> None:
    engage_brake(installation)
    assert swept.after(0) == []
    installation.wiring.brakes.release(installation.environment_id, "rudderstack")
    assert set(swept.after(0)) == logs(installation)
    assert swept.after(0) == []


def test_with_every_store_braked_one_log_is_woken_for_one_store(installation: Installation) -> None:
    add_store(installation)
    swept = Swept(installation)
    engage_brake(installation)
    let_brake_time_come(installation)
    assert len(swept.after(0)) == 1


def test_a_brake_is_probed_through_a_store_that_is_there(installation: Installation) -> None:
    other = add_store(installation)
    swept = Swept(installation)
    engage_brake(installation)
    let_brake_time_come(installation)
    open_circuit(installation)
    [woken] = swept.after(0)
    assert woken.store_id == other
    let_circuit_time_come(installation)
    assert swept.after(0) == [], "a braked log would not show whether the store takes writes"


def test_what_circuit_and_brake_hold_back_is_woken_when_both_are_due_and_goes_on_when_both_are_over(
    installation: Installation, swept: Swept
) -> None:
    engage_brake(installation)
    open_circuit(installation)
    let_circuit_time_come(installation)
    assert swept.after(0) == []
    let_brake_time_come(installation)
    assert len(swept.after(0)) == 1
    installation.wiring.brakes.release(installation.environment_id, "rudderstack")
    assert swept.after(0) == []
    installation.wiring.circuits.reset(installation.store_id)
    assert set(swept.after(0)) == logs(installation)


def test_the_index_is_tidied_and_cut_payloads_are_dropped_all_the_same(
    installation: Installation, swept: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[bool] = []
    monkeypatch.setattr(installation.wiring.upkeep, "drop_cut_payloads", lambda: dropped.append(True))
    open_circuit(installation)
    installation.wiring.upkeep.index([installation.segment()._replace(generation=99)], ticket="old")
    installation.client.hdel("segsync:ahead", f"{installation.environment_id}/rudderstack-beta/1")
    swept.after(0)
    assert all(segment.generation == 1 for segment in installation.wiring.upkeep.ahead())
    assert dropped


def test_a_state_server_that_is_away_is_said_to_be_away_and_nothing_is_forgotten(
    installation: Installation, swept: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_circuit(installation)
    swept.after(0)
    with monkeypatch.context() as patched:

        def away(_: object) -> object:
            raise Unavailable("away", dependency="state")

        patched.setattr(installation.wiring.circuits, "read", away)
        with pytest.raises(Unavailable):
            swept.after(0)
    installation.wiring.circuits.reset(installation.store_id)
    assert set(swept.after(0)) == logs(installation)
