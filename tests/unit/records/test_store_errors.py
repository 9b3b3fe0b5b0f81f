"""The last errors of a store: ten, the newest first, kept over its circuit's closing, forgotten with the store."""

from __future__ import annotations

import pytest
import redis
from circuit_world import AWAY, ONE_ITEM, REFUSED, STORE, World, opened

from worker.errors import Unavailable
from worker.records.store_errors import KEPT_SECONDS, MOST_KEPT, StoreErrors, status_of

KEY = f"segsync:errors:{{{STORE}}}"


@pytest.fixture
def world(redis_client: redis.Redis) -> World:
    return World(redis_client)


def messages(world: World) -> list[str]:
    return [error.message for error in StoreErrors(world.client).read([STORE])[STORE]]


def failure(text: str) -> Unavailable:
    return Unavailable(text, dependency="store")


def test_a_store_that_never_failed_has_none(world: World) -> None:
    assert StoreErrors(world.client).read([STORE, "store-2"]) == {STORE: [], "store-2": []}


def test_a_failure_is_kept_with_its_time_and_status(world: World) -> None:
    seconds, _ = world.client.time()
    opened(world)
    [error] = StoreErrors(world.client).read([STORE])[STORE]
    assert (error.status_code, error.message) == (503, str(AWAY))
    assert 0 <= error.at_ms - seconds * 1000 < 60_000


def test_fifty_processes_that_fail_at_the_same_moment_leave_one(world: World) -> None:
    processes = [world.process() for _ in range(50)]
    assert all(process.allows(STORE) for process in processes)
    for number, process in enumerate(processes):
        process.failed(STORE, failure(f"process {number}"))
    assert messages(world) == ["process 0"]


def test_the_newest_is_first_and_ten_are_kept(world: World) -> None:
    errors = StoreErrors(world.client)
    for number in range(MOST_KEPT + 3):
        errors.note(STORE, failure(f"{number}"))
    assert messages(world) == [str(number) for number in range(MOST_KEPT + 2, 2, -1)]


def test_one_that_is_met_again_and_again_stays_one_with_the_time_of_the_last(world: World) -> None:
    errors = StoreErrors(world.client)
    errors.note(STORE, failure("other"))
    errors.note(STORE, failure("same"))
    world.client.lset(KEY, 0, "1000 503 same")
    errors.note(STORE, failure("same"))
    newest, oldest = errors.read([STORE])[STORE]
    assert (newest.message, oldest.message) == ("same", "other")
    assert newest.at_ms > 1000


def test_the_same_words_of_another_fault_are_another_error(world: World) -> None:
    errors = StoreErrors(world.client)
    errors.note(STORE, failure("same"))
    errors.note(STORE, Unavailable("same", dependency="store", fault="configuration"))
    assert [error.status_code for error in errors.read([STORE])[STORE]] == [400, 503]


def test_they_are_kept_for_days_after_the_last(world: World) -> None:
    opened(world)
    assert KEPT_SECONDS - 60 < world.client.ttl(KEY) <= KEPT_SECONDS


def test_a_circuit_that_closes_or_is_reset_leaves_them(world: World) -> None:
    process = opened(world)
    process.succeeded(STORE)
    process.reset(STORE)
    assert messages(world) == [str(AWAY)]


def test_they_are_forgotten_with_the_store(world: World) -> None:
    process = opened(world)
    process.forget(STORE)
    assert messages(world) == []
    assert not list(world.client.scan_iter(f"*{STORE}*"))


def test_a_fault_of_one_item_is_kept_too(world: World) -> None:
    process = world.process()
    process.failed(STORE, ONE_ITEM)
    assert [error.status_code for error in StoreErrors(world.client).read([STORE])[STORE]] == [422]


def test_a_state_server_that_is_away_is_no_error_of_the_store(world: World) -> None:
    world.process().failed(STORE, Unavailable("away", dependency="state"))
    assert messages(world) == []


@pytest.mark.parametrize(
    ("answered", "status"),
    [
        ("WRONGPASS", 401),
        ("NOPERM", 403),
        ("ResourceNotFoundException", 404),
        ("AccessDeniedException", 403),
        ("ThrottlingException", 429),
        ("READONLY", 400),
        ("", 400),
    ],
)
def test_a_status_says_what_the_store_answered(answered: str, status: int) -> None:
    error = Unavailable("x", dependency="store", fault="configuration", answered=answered)
    assert status_of(error) == status


def test_a_line_of_a_message_is_one_line(world: World) -> None:
    StoreErrors(world.client).note(STORE, REFUSED)
    assert messages(world) == [str(REFUSED)]
