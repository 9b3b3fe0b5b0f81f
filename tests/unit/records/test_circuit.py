"""The circuit of a store, between processes that share nothing but the state server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from circuit_world import AWAY, CONFIGURATION, KEY, ONE_ITEM, REFUSED, STORE, TRANSIENT, World, opened
from servers import ValkeyServer
from structlog.testing import capture_logs

from worker.errors import Unavailable
from worker.records.circuit import KEPT_SECONDS, PROBE_SECONDS, REMEMBERED_SECONDS, CircuitState


@pytest.fixture
def world(redis_client: redis.Redis) -> World:
    return World(redis_client)


def test_a_circuit_that_nobody_opened_allows_and_says_nothing(world: World) -> None:
    assert world.process().allows(STORE)
    assert world.state() == CircuitState()
    assert not world.client.exists(KEY)


def test_a_failure_opens_the_circuit_for_every_process(world: World) -> None:
    one, other = opened(world), world.process()
    assert not one.allows(STORE)
    assert not other.allows(STORE)


def test_a_failure_opens_the_circuit_of_no_other_store(world: World) -> None:
    assert opened(world).allows("store-2")


def test_a_process_asks_about_a_closed_circuit_once_a_second_at_most(world: World) -> None:
    process = world.process()
    for _ in range(100):
        assert process.allows(STORE)
        process.succeeded(STORE)
        world.now += REMEMBERED_SECONDS / 101
    assert world.questions == 1
    world.now += REMEMBERED_SECONDS / 50
    assert process.allows(STORE)
    assert world.questions == 2


def test_a_process_learns_within_a_second_that_another_has_opened_it(world: World) -> None:
    process = world.process()
    assert process.allows(STORE)
    opened(world)
    assert process.allows(STORE)
    world.now += REMEMBERED_SECONDS
    assert not process.allows(STORE)


def test_when_its_time_has_come_exactly_one_caller_may_probe(world: World) -> None:
    processes = [opened(world), *(world.process() for _ in range(5))]
    world.passes(world.wait_seconds() - 0.1)
    assert not any(process.allows(STORE) for process in processes)
    world.passes(0.1)
    assert [process.allows(STORE) for process in processes for _ in range(2)].count(True) == 1


def test_a_probe_that_succeeds_closes_the_circuit_for_all_at_once(world: World) -> None:
    one, other = opened(world), world.process()
    assert not other.allows(STORE)
    world.passes(TRANSIENT.base)
    assert one.allows(STORE)
    assert not other.allows(STORE)
    one.succeeded(STORE)
    assert one.allows(STORE)
    assert other.allows(STORE)
    assert world.state() == CircuitState(version=2)


def test_a_probe_that_fails_puts_the_next_one_off(world: World) -> None:
    process = opened(world)
    world.passes(TRANSIENT.base)
    assert process.allows(STORE)
    process.failed(STORE, AWAY)
    world.passes(TRANSIENT.base)
    assert not process.allows(STORE)
    world.passes(TRANSIENT.base)
    assert process.allows(STORE)


def test_the_right_to_probe_of_a_process_that_died_expires(world: World) -> None:
    dead, other = opened(world), world.process()
    world.passes(TRANSIENT.base)
    assert dead.allows(STORE)
    world.passes(PROBE_SECONDS - 0.1)
    assert not other.allows(STORE)
    world.passes(0.1)
    assert other.allows(STORE)
    assert not world.process().allows(STORE)


def test_a_probe_that_reports_after_another_has_taken_over_does_not_count(world: World) -> None:
    frozen, other = opened(world), world.process()
    world.passes(TRANSIENT.base)
    assert frozen.allows(STORE)
    world.passes(PROBE_SECONDS)
    assert other.allows(STORE)
    frozen.failed(STORE, AWAY)
    assert world.state().failures == 1
    assert not frozen.allows(STORE)
    other.failed(STORE, AWAY)
    assert world.state().failures == 2


def test_a_probe_that_reports_late_counts_when_nobody_has_taken_over(world: World) -> None:
    slow = opened(world)
    world.passes(TRANSIENT.base)
    assert slow.allows(STORE)
    world.passes(PROBE_SECONDS * 2)
    slow.failed(STORE, AWAY)
    assert world.state().failures == 2


def test_a_probe_that_learnt_nothing_leaves_it_to_the_next(world: World) -> None:
    one, other = opened(world), world.process()
    world.passes(TRANSIENT.base)
    assert one.allows(STORE)
    assert not other.allows(STORE)
    one.abstained(STORE)
    assert world.state().failures == 1
    assert other.allows(STORE)
    asked = world.questions
    one.abstained(STORE)
    assert world.questions == asked


def test_a_probe_gives_back_no_right_that_another_has_taken_over(world: World) -> None:
    frozen, other = opened(world), world.process()
    world.passes(TRANSIENT.base)
    assert frozen.allows(STORE)
    world.passes(PROBE_SECONDS)
    assert other.allows(STORE)
    frozen.abstained(STORE)
    assert not world.process().allows(STORE)


def test_a_process_that_asks_again_while_it_probes_is_refused_and_still_has_the_right_to_report(world: World) -> None:
    process = opened(world)
    world.passes(TRANSIENT.base)
    assert process.allows(STORE)
    assert not process.allows(STORE)
    process.failed(STORE, AWAY)
    assert world.state().failures == 2


def test_a_probe_that_fails_after_another_has_closed_the_circuit_does_not_open_it_again(world: World) -> None:
    frozen, other = opened(world), world.process()
    world.passes(TRANSIENT.base)
    assert frozen.allows(STORE)
    world.passes(PROBE_SECONDS)
    assert other.allows(STORE)
    other.succeeded(STORE)
    frozen.failed(STORE, AWAY)
    assert not world.state().open


def test_who_has_no_right_to_probe_gives_none_back_and_asks_nobody(world: World) -> None:
    process = world.process()
    process.allows(STORE)
    process.abstained(STORE)
    assert world.questions == 1


def test_fifty_processes_that_fail_at_the_same_moment_count_once(world: World) -> None:
    processes = [world.process() for _ in range(50)]
    assert all(process.allows(STORE) for process in processes)
    for process in processes:
        process.failed(STORE, AWAY)
    assert world.state().failures == 1
    assert world.wait_seconds() == TRANSIENT.base
    assert not any(process.allows(STORE) for process in processes)


def test_a_failure_of_what_began_before_the_circuit_closed_does_not_open_it_again(world: World) -> None:
    slow, probe = world.process(), opened(world)
    world.client.delete(KEY)
    assert slow.allows(STORE)
    probe = opened(world)
    world.passes(TRANSIENT.base)
    assert probe.allows(STORE)
    probe.succeeded(STORE)
    slow.failed(STORE, AWAY)
    assert not world.state().open
    assert slow.allows(STORE)
    slow.failed(STORE, AWAY)
    assert world.state().open, "what began after it closed counts"


def test_a_late_success_of_what_began_before_it_opened_closes_nothing_and_asks_nobody(world: World) -> None:
    slow = world.process()
    assert slow.allows(STORE)
    opened(world)
    asked = world.questions
    slow.succeeded(STORE)
    assert world.questions == asked
    assert world.state().open


def test_a_failure_of_somebody_who_never_asked_opens_it(world: World) -> None:
    world.process().failed(STORE, AWAY)
    assert world.state().open
    world.process().failed(STORE, AWAY)
    assert world.state().failures == 1


def test_somebody_who_never_asked_opens_what_has_closed_since_and_closes_what_is_closed_without_a_word(
    world: World,
) -> None:
    probe = opened(world)
    world.passes(TRANSIENT.base)
    assert probe.allows(STORE)
    probe.succeeded(STORE)
    with capture_logs() as lines:
        world.process().succeeded(STORE)
    assert lines == []
    world.process().failed(STORE, AWAY)
    assert world.state().open


def test_an_items_own_fault_never_opens_it(world: World) -> None:
    process = world.process()
    assert process.allows(STORE)
    process.failed(STORE, ONE_ITEM)
    assert not world.client.exists(KEY)


def test_what_keeps_one_segment_is_told_until_it_is_not_met_any_more(world: World) -> None:
    process = world.process()
    assert process.allows(STORE)
    process.failed(STORE, ONE_ITEM)
    assert (world.state().open, world.state().of_one) == (False, str(ONE_ITEM))
    process.reset(STORE)
    assert world.state().of_one == ""


def test_a_probe_that_is_answered_with_an_items_own_fault_has_found_the_store_there(world: World) -> None:
    process = opened(world)
    world.passes(TRANSIENT.base)
    assert process.allows(STORE)
    process.failed(STORE, ONE_ITEM)
    assert not world.state().open


def test_the_state_servers_being_away_says_nothing_of_the_store(world: World) -> None:
    world.process().failed(STORE, Unavailable("away", dependency="state"))
    assert not world.client.exists(KEY)


def test_a_reset_lets_everybody_in_and_forgets_the_delays(world: World) -> None:
    process = opened(world, REFUSED)
    world.process().reset(STORE)
    assert world.state() == CircuitState()
    assert process.allows(STORE)
    process.failed(STORE, AWAY)
    assert world.state().failures == 1
    assert world.wait_seconds() == TRANSIENT.base


def test_a_status_page_learns_why_since_when_and_until_when(world: World) -> None:
    process = opened(world, REFUSED)
    seconds, micros = world.client.time()
    now_ms = seconds * 1000 + micros // 1000
    state = world.state()
    assert (state.open, state.failures, state.fault, state.due) == (True, 1, "configuration", False)
    assert state.reason == str(REFUSED)
    assert state.since_ms is not None
    assert state.retry_at_ms is not None
    assert abs(state.since_ms - now_ms) < 5000
    assert state.retry_at_ms - state.since_ms == CONFIGURATION.base * 1000
    world.passes(CONFIGURATION.base)
    assert world.state().due
    assert process.allows(STORE)
    assert not world.state().due, "somebody is at it"
    world.passes(PROBE_SECONDS)
    assert world.state().due, "nobody is at it any more"
    assert world.process().read([STORE, "other", STORE]) == {STORE: world.state(), "other": CircuitState()}
    assert world.process().read([]) == {}


def test_a_reason_is_cut_to_what_a_page_can_hold(world: World) -> None:
    opened(world, Unavailable("x" * 10_000, dependency="store"))
    assert len(world.state().reason) == 300


def test_opening_probing_and_closing_are_logged_once_each(world: World) -> None:
    with capture_logs() as lines:
        process = opened(world)
        for _ in range(2):
            other = world.process()
            other.failed(STORE, AWAY)
            world.passes(world.wait_seconds())
            assert process.allows(STORE)
            if not lines[1:]:
                process.failed(STORE, AWAY)
        process.succeeded(STORE)
        process.succeeded(STORE)
    assert [line["event"] for line in lines] == ["circuit.opened", "circuit.probe_failed", "circuit.closed"]
    assert lines[1]["failures"] == 2
    assert lines[1]["retry_seconds"] == 2.0
    assert lines[2]["open_seconds"] >= 3.0


def test_what_lies_about_a_circuit_goes_when_nobody_has_touched_it_for_a_day(world: World) -> None:
    process = opened(world)
    assert 0 < world.client.ttl(KEY) <= KEPT_SECONDS
    world.client.persist(KEY)
    world.passes(TRANSIENT.base)
    assert process.allows(STORE)
    process.succeeded(STORE)
    assert 0 < world.client.ttl(KEY) <= KEPT_SECONDS


def test_a_state_server_that_lost_everything_finds_every_circuit_closed(world: World) -> None:
    process = opened(world, REFUSED)
    world.client.flushall()
    assert process.allows(STORE)
    process.failed(STORE, AWAY)
    assert world.state().failures == 1


def test_a_state_server_that_is_away_is_said_to_be_away(start_valkey: Callable[[], ValkeyServer]) -> None:
    server = start_valkey()
    client = server.client(decode_responses=False, socket_timeout=2)
    world = World(client)
    process, probe = world.process(), opened(world)
    world.passes(TRANSIENT.base)
    assert probe.allows(STORE)
    server.kill()
    for call in (
        lambda: process.allows(STORE),
        lambda: process.failed(STORE, AWAY),
        lambda: process.succeeded(STORE),
        lambda: probe.abstained(STORE),
        lambda: process.reset(STORE),
        lambda: process.read([STORE]),
    ):
        with pytest.raises(Unavailable) as raised:
            call()
        assert raised.value.dependency == "state"
    client.close()
