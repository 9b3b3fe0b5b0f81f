"""How long a circuit waits, whatever clocks do, and how often a store that is away is asked."""

from __future__ import annotations

import random
from typing import Any

import pytest
import redis
from circuit_world import AWAY, CONFIGURATION, REFUSED, STORE, TRANSIENT, World, opened

from worker.errors import Unavailable
from worker.records.circuit import STEADY_SECONDS


@pytest.fixture
def world(redis_client: redis.Redis) -> World:
    return World(redis_client)


@pytest.mark.parametrize(("error", "curve"), [(AWAY, TRANSIENT), (REFUSED, CONFIGURATION)])
def test_delays_double_up_to_the_cap_and_are_never_given_up(world: World, error: Unavailable, curve: Any) -> None:
    process, waits = opened(world, error), []
    for _ in range(40):
        waits.append(world.wait_seconds())
        world.passes(world.wait_seconds())
        assert process.allows(STORE)
        process.failed(STORE, error)
    assert waits == [min(curve.cap, curve.base * 2**n) for n in range(40)]


@pytest.mark.parametrize(("error", "curve"), [(AWAY, TRANSIENT), (REFUSED, CONFIGURATION)])
def test_every_delay_is_any_part_of_the_whole_but_never_less_than_the_floor(
    world: World, error: Unavailable, curve: Any
) -> None:
    dice = random.Random(4)
    process = opened(world, error)
    for n in range(1, 60):
        world.passes(curve.cap)
        assert process.allows(STORE)
        world.chance = dice.choice([0.0, 0.001, 0.999, dice.random()])
        process.failed(STORE, error)
        whole = min(curve.cap, curve.base * 2**n)
        assert world.wait_seconds() == pytest.approx(max(curve.floor, world.chance * whole), abs=0.002)
    assert 0 < curve.floor < curve.base


def test_the_fault_of_the_last_failure_says_which_curve_and_each_has_its_own_count(world: World) -> None:
    process, waits = opened(world, AWAY), []
    for error in (AWAY, REFUSED, AWAY, REFUSED):
        world.passes(CONFIGURATION.cap)
        assert process.allows(STORE)
        process.failed(STORE, error)
        waits.append((world.state().fault, world.wait_seconds()))
    assert waits == [("transient", 2.0), ("configuration", 30.0), ("transient", 4.0), ("configuration", 60.0)]
    assert world.state().failures == 5


def reopened(world: World, steady_seconds: float) -> float:
    """The delay of a circuit that opens anew so long after three probes failed and a fourth succeeded."""
    process = opened(world)
    for _ in range(3):
        world.passes(world.wait_seconds())
        assert process.allows(STORE)
        process.failed(STORE, AWAY)
    world.passes(world.wait_seconds())
    assert process.allows(STORE)
    process.succeeded(STORE)
    world.passes(steady_seconds)
    assert process.allows(STORE)
    process.failed(STORE, AWAY)
    return world.wait_seconds()


def test_a_store_that_fails_again_at_once_goes_on_with_its_delays(world: World) -> None:
    assert reopened(world, STEADY_SECONDS - 0.5) == min(TRANSIENT.base * 2**4, TRANSIENT.cap)


def test_a_store_that_has_been_well_for_a_while_starts_with_short_delays(world: World) -> None:
    assert reopened(world, STEADY_SECONDS) == TRANSIENT.base


def test_a_server_clock_that_steps_back_keeps_nobody_out_for_longer_than_one_more_delay(world: World) -> None:
    process = opened(world, REFUSED)
    world.passes(20)
    world.server_clock_steps(-3600)
    assert world.state().due
    assert process.allows(STORE), "a time further away than the whole delay was set under another clock"
    world.server_clock_steps(-3600)
    assert process.allows(STORE), "nor may the right to probe last for ever"


def test_a_small_step_back_adds_what_has_been_waited_and_no_more(world: World) -> None:
    process = opened(world, REFUSED)
    world.passes(20)
    world.server_clock_steps(-19)
    world.passes(29 - 0.5)
    assert not process.allows(STORE)
    world.passes(1)
    assert process.allows(STORE)


def test_a_server_clock_that_steps_forward_costs_one_early_probe(world: World) -> None:
    process = opened(world, REFUSED)
    world.server_clock_steps(3600)
    assert process.allows(STORE)
    process.failed(STORE, REFUSED)
    assert not process.allows(STORE)
    assert world.wait_seconds() == CONFIGURATION.base * 2


def test_the_clock_of_a_process_that_steps_makes_no_difference_to_an_open_circuit(world: World) -> None:
    process = opened(world)
    world.now += 10**6
    assert not process.allows(STORE)
    world.now -= 2 * 10**6
    assert not process.allows(STORE)


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("fault", ["transient", "configuration"])
def test_a_store_that_is_away_for_a_minute_is_asked_a_few_times_however_many_processes_there_are(
    real_redis: redis.Redis, count: int, fault: Any
) -> None:
    world, dice, tick = World(real_redis), random.Random(11), 0.25
    processes, attempts = [world.process() for _ in range(count)], 0
    error = Unavailable("away", dependency="store", fault=fault)
    for _ in range(round(60 / tick)):
        dice.shuffle(processes)
        begun = [process for process in processes if process.allows(STORE)]
        for process in begun:  # all of them are at it at the same time
            world.chance = dice.random()
            process.failed(STORE, error)
        attempts += len(begun)
        world.passes(tick)
    probes = attempts - count
    assert world.state().failures == probes + 1, "but for the first moment, when nobody knew, each attempt is a probe"
    # With full jitter the delays are, on average, half of 1, 2, 4, 8, 15, 15 … s: some ten probes in a minute.
    assert 1 <= probes <= (16 if fault == "transient" else 4)
