"""The brake of an integration, between processes that share nothing but the state server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
import redis
from servers import ValkeyServer
from structlog.testing import capture_logs

from worker.errors import Unavailable
from worker.records.brake import (
    FIRST_PROBE_SECONDS,
    JUDGED,
    LAST_PROBE_SECONDS,
    LEAST_JUDGED,
    PROBE_SECONDS,
    RECENT_SECONDS,
    REMEMBERED_SECONDS,
    Brakes,
)
from worker.records.brake_states import BrakeState, LetDie, Release

NAMES = ("env", "rudderstack")


class World:
    """Several processes on one state server. Time passes for all of them, and for the server, when a test says so."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.now = 1000.0

    def process(self) -> Brakes:
        """The brakes of another process."""
        return Brakes(self.client, lambda: self.now)

    def passes(self, seconds: float) -> None:
        """Time passes: what is further in the past by the server's clock is what was stored as further back."""
        self.now += seconds
        self.server_clock_steps(seconds)

    def server_clock_steps(self, seconds: float) -> None:
        for field, text in cast("dict[bytes, bytes]", self.client.hgetall("segsync:brakes")).items():
            record: dict[str, Any] = msgspec.json.decode(text)
            # When it was released is there to be compared, not to be counted from.
            for name in record.keys() & {"since_ms", "next_probe_ms", "probe_until_ms", "spared_until_ms"}:
                record[name] -= round(seconds * 1000)
            self.client.hset("segsync:brakes", field, msgspec.json.encode(record))

    def state(self) -> BrakeState:
        [state] = Brakes(self.client).list()
        return state

    def wait_seconds(self) -> float:
        """How long from now to the next probe."""
        seconds, micros = self.client.time()
        return self.state().next_probe_ms / 1000 - seconds - micros / 1e6


@pytest.fixture
def world(redis_client: redis.Redis) -> World:
    return World(redis_client)


def engaged(world: World, names: tuple[str, str] = NAMES) -> Brakes:
    """A process whose batches have all died."""
    process = world.process()
    assert [process.died(*names, "members: no array") for _ in range(LEAST_JUDGED)].count(True) == 1
    return process


def test_an_integration_whose_batches_live_is_never_braked(world: World) -> None:
    process = world.process()
    for _ in range(100):
        process.lived(*NAMES)
        assert not process.engaged(*NAMES)
        assert not process.probe_due(*NAMES)
    assert process.list() == []


def test_the_brake_is_engaged_by_the_tenth_death_and_not_before(world: World) -> None:
    process = world.process()
    assert [process.died(*NAMES) for _ in range(LEAST_JUDGED)] == [False] * (LEAST_JUDGED - 1) + [True]
    assert process.engaged(*NAMES)
    assert process.died(*NAMES), "it is engaged: nothing more is buried"


def test_half_of_the_batches_may_die_and_one_more_may_not(world: World) -> None:
    process = world.process()
    for _ in range(JUDGED):
        process.lived(*NAMES)
        assert not process.died(*NAMES)
    assert process.died(*NAMES), "eleven of the last twenty"
    assert (world.state().dead, world.state().of) == (11, 20)


def test_only_the_last_twenty_outcomes_count(world: World) -> None:
    process = world.process()
    process.lived(*NAMES, count=10_000)
    assert [process.died(*NAMES) for _ in range(11)] == [False] * 10 + [True]


def test_batches_that_live_push_out_the_deaths_before_them(world: World) -> None:
    process = world.process()
    for _ in range(LEAST_JUDGED - 1):
        process.died(*NAMES)
    process.lived(*NAMES, count=LEAST_JUDGED)
    assert not process.died(*NAMES)
    process.lived(*NAMES, count=JUDGED)
    assert [process.died(*NAMES) for _ in range(10)] == [False] * 10


def test_deaths_that_lie_far_apart_are_single_bad_payloads(world: World) -> None:
    process = world.process()
    for _ in range(3 * JUDGED):
        assert not process.died(*NAMES)
        world.passes(RECENT_SECONDS / (LEAST_JUDGED - 1))


def test_integrations_and_environments_are_braked_apart(world: World) -> None:
    process = engaged(world)
    assert not process.engaged("env", "amplitude")
    assert not process.engaged("other", "rudderstack")
    assert not process.died("env", "amplitude")
    engaged(world, ("env", "amplitude"))
    assert [(state.environment_id, state.integration_key) for state in process.list()] == [
        ("env", "amplitude"),
        ("env", "rudderstack"),
    ]


def test_other_processes_learn_of_it_within_a_second_and_bury_nothing_then(world: World) -> None:
    other = world.process()
    assert not other.engaged(*NAMES)
    engaged(world)
    assert not other.engaged(*NAMES)
    world.passes(REMEMBERED_SECONDS)
    assert other.died(*NAMES)
    assert other.engaged(*NAMES)


def test_two_processes_that_find_it_at_once_engage_it_once(world: World) -> None:
    one, two = world.process(), world.process()
    with capture_logs() as lines:
        for process in (one, two):
            for _ in range(LEAST_JUDGED - 1):
                assert not process.died(*NAMES)
        assert one.died(*NAMES, "first")
        assert two.died(*NAMES, "second")
    assert [line["event"] for line in lines] == ["brake.engaged"]
    assert lines[0]["log_level"] == "error"
    assert world.state().reason == "first"
    assert two.engaged(*NAMES), "what it has seen it knows"


def before_it_writes(process: Brakes, happens: Callable[[], object]) -> None:
    """Something happens after the process has read, and before what it writes arrives."""
    replace = process._replace

    def late(**arguments: Any) -> object:
        happens()
        return replace(**arguments)

    process._replace = late  # type: ignore[assignment]


def test_of_two_that_engage_it_at_the_same_moment_one_does_and_both_stop(world: World) -> None:
    process = world.process()
    before_it_writes(process, lambda: engaged(world))
    with capture_logs() as lines:
        assert [process.died(*NAMES) for _ in range(LEAST_JUDGED)][-1]
    assert [line["event"] for line in lines] == ["brake.engaged"]


def test_of_two_that_would_probe_at_the_same_moment_one_does(world: World) -> None:
    process, other = engaged(world), world.process()
    world.passes(FIRST_PROBE_SECONDS)
    before_it_writes(process, lambda: other.probe_due(*NAMES))
    assert not process.probe_due(*NAMES)
    process.probed(*NAMES, ok=False)
    assert world.state().probes == 0
    other.probed(*NAMES, ok=False)
    assert world.state().probes == 1


def test_a_release_that_meets_a_probes_report_releases_all_the_same(world: World) -> None:
    command, prober = world.process(), engaged(world)
    world.passes(FIRST_PROBE_SECONDS)
    assert prober.probe_due(*NAMES)
    before_it_writes(command, lambda: prober.probed(*NAMES, ok=False))
    assert command.release(*NAMES)
    assert world.process().list() == []


def test_what_is_not_engaged_is_asked_for_once_a_second_at_most(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    process, hgetall = world.process(), world.client.hgetall
    asked: list[str] = []

    def counted(key: str) -> object:
        asked.append(key)
        return hgetall(key)

    monkeypatch.setattr(world.client, "hgetall", counted)
    for _ in range(100):
        process.engaged(*NAMES)
        process.engaged("env", "amplitude")
    assert len(asked) == 1
    world.now += REMEMBERED_SECONDS
    process.engaged(*NAMES)
    assert len(asked) == 2
    engaged(world).release(*NAMES)
    world.now += REMEMBERED_SECONDS
    asked.clear()
    for _ in range(100):
        process.engaged(*NAMES)
    assert len(asked) == 1, "one that is released is not engaged, either"


def test_exactly_one_caller_probes_when_the_time_has_come(world: World) -> None:
    processes = [engaged(world), *(world.process() for _ in range(5))]
    world.passes(FIRST_PROBE_SECONDS - 0.5)
    assert not any(process.probe_due(*NAMES) for process in processes)
    assert not world.state().due
    world.passes(0.5)
    assert world.state().due
    assert [process.probe_due(*NAMES) for process in processes for _ in range(2)].count(True) == 1
    assert not world.state().due


def test_a_probe_that_succeeds_releases_the_brake_for_all_at_once(world: World) -> None:
    one, other = engaged(world), world.process()
    assert other.engaged(*NAMES)
    world.passes(FIRST_PROBE_SECONDS)
    assert one.probe_due(*NAMES)
    with capture_logs() as lines:
        one.probed(*NAMES, ok=True)
    assert not one.engaged(*NAMES)
    assert not other.engaged(*NAMES)
    assert world.process().list() == []
    assert [(line["event"], line["by"]) for line in lines] == [("brake.released", "probe")]
    assert lines[0]["engaged_seconds"] >= FIRST_PROBE_SECONDS


def test_each_probe_that_fails_doubles_the_time_to_the_next_up_to_five_minutes(world: World) -> None:
    process, waits = engaged(world), []
    for n in range(8):
        waits.append(world.wait_seconds())
        world.passes(waits[-1] + 0.01)
        assert process.probe_due(*NAMES)
        process.probed(*NAMES, ok=False, reason=f"probe {n}")
    assert waits == pytest.approx([15, 30, 60, 120, 240, 300, 300, 300], abs=1)
    assert (world.state().probes, world.state().reason) == (8, "probe 7")
    assert process.engaged(*NAMES)
    assert waits[-1] == pytest.approx(LAST_PROBE_SECONDS, abs=1)


def test_the_right_to_probe_of_a_process_that_died_expires(world: World) -> None:
    dead, other = engaged(world), world.process()
    world.passes(FIRST_PROBE_SECONDS)
    assert dead.probe_due(*NAMES)
    world.passes(PROBE_SECONDS - 0.5)
    assert not other.probe_due(*NAMES)
    world.passes(0.5)
    assert other.probe_due(*NAMES)
    dead.probed(*NAMES, ok=True)
    dead.probed(*NAMES, ok=False)
    dead.abstained(*NAMES)
    assert world.state().probes == 0
    other.probed(*NAMES, ok=False)
    assert world.state().probes == 1


def test_who_has_no_right_to_probe_changes_nothing(world: World) -> None:
    process = engaged(world)
    for ok in (True, False):
        process.probed(*NAMES, ok=ok)
    process.abstained(*NAMES)
    assert world.state().probes == 0


def test_a_probe_that_learnt_nothing_leaves_it_to_the_next(world: World) -> None:
    one, other = engaged(world), world.process()
    world.passes(FIRST_PROBE_SECONDS)
    assert one.probe_due(*NAMES)
    one.abstained(*NAMES)
    assert other.probe_due(*NAMES)


def test_a_command_releases_it_and_a_probe_under_way_changes_nothing_then(world: World) -> None:
    prober, command = engaged(world), world.process()
    world.passes(FIRST_PROBE_SECONDS)
    assert prober.probe_due(*NAMES)
    with capture_logs() as lines:
        assert command.release(*NAMES)
        assert not command.release(*NAMES)
        prober.probed(*NAMES, ok=False)
    assert [(line["event"], line["by"]) for line in lines] == [("brake.released", "command")]
    assert not prober.engaged(*NAMES)
    assert not prober.probe_due(*NAMES)
    assert not world.process().release("env", "never braked")


def test_after_a_release_every_process_judges_anew(world: World) -> None:
    other = world.process()
    for _ in range(LEAST_JUDGED - 1):
        other.died(*NAMES)
    one = engaged(world)
    world.process().release(*NAMES)
    for process in (one, other):
        assert [process.died(*NAMES) for _ in range(LEAST_JUDGED - 1)] == [False] * (LEAST_JUDGED - 1)


def test_what_a_process_saw_before_a_release_engages_nothing_even_within_the_second(world: World) -> None:
    other = world.process()
    for _ in range(LEAST_JUDGED - 1):
        other.died(*NAMES)
    engaged(world)
    world.process().release(*NAMES)
    assert not other.died(*NAMES)
    world.passes(REMEMBERED_SECONDS)
    assert not other.died(*NAMES)
    assert world.process().list() == []


def test_it_can_be_engaged_again_after_a_release(world: World) -> None:
    process = engaged(world)
    process.release(*NAMES)
    assert [process.died(*NAMES, "again") for _ in range(LEAST_JUDGED)][-1]
    assert world.state().reason == "again"
    assert world.state().probes == 0


def test_after_a_release_that_lets_batches_die_no_death_engages_it_for_so_long(world: World) -> None:
    process = engaged(world)
    world.process().release(*NAMES, spare_seconds=600)
    assert [process.died(*NAMES) for _ in range(LEAST_JUDGED * 3)].count(True) == 0
    world.passes(599)
    assert not process.died(*NAMES)
    world.passes(2)
    process.engaged(*NAMES)  # it learns of what the test has changed
    assert [process.died(*NAMES) for _ in range(LEAST_JUDGED)][-1]


def test_a_server_clock_that_steps_back_lets_batches_die_no_longer_than_was_said(world: World) -> None:
    process = engaged(world)
    world.process().release(*NAMES, spare_seconds=600)
    world.server_clock_steps(-3600)
    world.passes(REMEMBERED_SECONDS)
    process.engaged(*NAMES)
    assert [process.died(*NAMES) for _ in range(LEAST_JUDGED)][-1]


def test_a_release_that_lets_batches_die_is_listed_until_that_time_has_come(world: World) -> None:
    engaged(world)
    assert world.process().let_die() == []
    done = world.process().release(*NAMES, spare_seconds=600)
    assert done is not None
    assert done.was_engaged
    assert world.process().let_die() == [LetDie(*NAMES, until_ms=done.let_die_until_ms or 0)]
    seconds, _ = world.client.time()
    assert abs((done.let_die_until_ms or 0) / 1000 - 600 - seconds) < 5
    assert world.process().list() == []
    world.passes(601)
    assert world.process().let_die() == []


def test_a_release_that_lets_no_batch_die_says_so_and_is_not_listed(world: World) -> None:
    engaged(world)
    assert world.process().release(*NAMES) == Release(was_engaged=True, let_die_until_ms=None)
    assert world.process().let_die() == []
    assert world.process().release(*NAMES) is None


def test_a_second_release_ends_the_time_in_which_batches_may_die(world: World) -> None:
    process = engaged(world)
    world.process().release(*NAMES, spare_seconds=600)
    assert not process.engaged(*NAMES)
    assert [process.died(*NAMES) for _ in range(LEAST_JUDGED)].count(True) == 0
    with capture_logs() as logged:
        assert world.process().release(*NAMES) == Release(was_engaged=False, let_die_until_ms=None)
    assert (logged[0]["event"], logged[0]["engaged_seconds"]) == ("brake.released", 0.0)
    assert world.process().let_die() == []
    world.passes(REMEMBERED_SECONDS)
    assert not process.died(*NAMES), "what died while it might is forgotten"
    assert [process.died(*NAMES) for _ in range(LEAST_JUDGED)].count(True) == 2


def test_a_second_release_that_lets_batches_die_says_anew_until_when(world: World) -> None:
    engaged(world)
    world.process().release(*NAMES, spare_seconds=600)
    done = world.process().release(*NAMES, spare_seconds=60)
    assert done is not None
    assert not done.was_engaged
    [still] = world.process().let_die()
    assert still.until_ms == done.let_die_until_ms
    world.passes(61)
    assert world.process().let_die() == []


def test_a_status_page_learns_why_since_when_by_whom_and_until_when(world: World) -> None:
    engaged(world)
    seconds, _ = world.client.time()
    state = world.state()
    assert (state.environment_id, state.integration_key) == NAMES
    assert (state.dead, state.of, state.reason, state.probes) == (LEAST_JUDGED, LEAST_JUDGED, "members: no array", 0)
    assert abs(state.since_ms / 1000 - seconds) < 5
    assert state.next_probe_ms - state.since_ms == FIRST_PROBE_SECONDS * 1000
    assert ":" in state.by


def test_a_server_clock_that_steps_keeps_no_brake_engaged_for_longer_than_one_more_delay(world: World) -> None:
    process = engaged(world)
    world.passes(5)
    world.server_clock_steps(-3600)
    assert process.probe_due(*NAMES), "a time further away than the whole delay was set under another clock"
    world.server_clock_steps(-3600)
    assert process.probe_due(*NAMES), "nor may the right to probe last for ever"
    process.probed(*NAMES, ok=False)
    world.server_clock_steps(3600)
    assert process.probe_due(*NAMES), "one early probe"


def test_a_state_server_that_lost_everything_finds_nothing_braked(world: World) -> None:
    process = engaged(world)
    world.passes(FIRST_PROBE_SECONDS)
    assert process.probe_due(*NAMES)
    world.client.flushall()
    process.probed(*NAMES, ok=False)
    assert not process.engaged(*NAMES)
    assert not process.died(*NAMES)


def test_a_state_server_that_is_away_is_said_to_be_away(start_valkey: Callable[[], ValkeyServer]) -> None:
    server = start_valkey()
    client = server.client(decode_responses=False, socket_timeout=2)
    world = World(client)
    process = engaged(world)
    world.passes(FIRST_PROBE_SECONDS)
    assert process.probe_due(*NAMES)
    server.kill()
    process.lived(*NAMES)
    for call in (
        lambda: process.engaged(*NAMES),
        lambda: process.died(*NAMES),
        lambda: process.probe_due(*NAMES),
        lambda: process.probed(*NAMES, ok=True),
        lambda: process.release(*NAMES),
        process.list,
    ):
        with pytest.raises(Unavailable) as raised:
            call()
        assert raised.value.dependency == "state"
    client.close()
