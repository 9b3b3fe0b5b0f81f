"""The sentinel of a LaunchDarkly environment: a segment of its own, whose description says what it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from launchdarkly_server import LaunchDarklyServer

from worker.errors import Unavailable
from worker.stores.launchdarkly import LaunchDarklyStore
from worker.stores.launchdarkly.sentinel import RECENT_S
from worker.stores.segment_store import Sentinel

KEY = "segsync-sentinel"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[LaunchDarklyServer]:
    with LaunchDarklyServer() as server:
        yield server


@pytest.fixture
def open_store(server: LaunchDarklyServer, clock: Clock) -> Iterator[Callable[[], LaunchDarklyStore]]:
    opened: list[LaunchDarklyStore] = []

    def make() -> LaunchDarklyStore:
        opened.append(LaunchDarklyStore(server.configuration(), answer_timeout_s=10, clock=clock))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], LaunchDarklyStore]) -> LaunchDarklyStore:
    return open_store()


def checked_out(store: LaunchDarklyStore) -> Sentinel | None:
    with store.session() as session:
        return session.sentinel


def test_a_store_that_nobody_has_claimed_has_none(store: LaunchDarklyStore) -> None:
    assert store.sentinel() is None
    assert checked_out(store) is None
    assert store.synchronized_on() is None


def test_it_is_a_big_segment_that_says_what_it_is(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    assert store.claim("ours", 5) == Sentinel("ours", 5)
    made = server.segments[KEY]
    assert (made.unbounded, made.tags, made.included) == (True, [KEY], set())
    assert "do not change or delete it" in made.description
    assert store.included("anybody") == set(), "it is no segment of a cohort"


def test_of_claims_at_the_same_time_one_wins_and_all_are_told_which(
    open_store: Callable[[], LaunchDarklyStore],
) -> None:
    stores = [open_store() for _ in range(4)]
    told: list[Sentinel] = []

    def claim(number: int) -> None:
        told.append(stores[number].claim(f"claim-{number}", number))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 4
    assert set(told) == {stores[0].sentinel()}


def test_it_can_be_replaced_whatever_is_there(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    store.replace_sentinel("first", 2_000)
    assert store.sentinel() == Sentinel("first", 2_000)
    store.replace_sentinel("second", 1_000)
    assert store.sentinel() == Sentinel("second", 1_000)
    server.segments[KEY].description = "somebody's words"
    store.replace_sentinel("third", 3_000)
    assert store.sentinel() == Sentinel("third", 3_000)


def test_a_description_that_somebody_has_changed_is_a_sentinel_that_nobody_knows(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    store.claim("ours", 5)
    server.segments[KEY].description = "what is this?"
    found = store.sentinel()
    assert found is not None
    assert (found.incarnation != "ours", found.beat_ms) == (True, 0)
    assert not store.set_synchronized_on(17, Sentinel("ours", 6))


def test_freshness_and_beat_are_written_beside_our_sentinel(store: LaunchDarklyStore) -> None:
    store.claim("ours", 5)
    assert store.set_synchronized_on(17, Sentinel("ours", 9))
    assert (store.synchronized_on(), store.sentinel()) == (17, Sentinel("ours", 9))


def test_a_late_heartbeat_may_lower_freshness_but_never_the_beat(store: LaunchDarklyStore) -> None:
    store.claim("ours", 5)
    store.set_synchronized_on(17, Sentinel("ours", 9))
    assert store.set_synchronized_on(16, Sentinel("ours", 8))
    assert (store.synchronized_on(), store.sentinel()) == (16, Sentinel("ours", 9))


def test_freshness_is_not_written_where_there_is_none_or_anothers(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    assert not store.set_synchronized_on(17, Sentinel("ours", 9))
    assert KEY not in server.segments
    store.claim("theirs", 5)
    assert not store.set_synchronized_on(17, Sentinel("ours", 9))
    assert (store.synchronized_on(), store.sentinel()) == (None, Sentinel("theirs", 5))


def test_a_sentinel_that_was_replaced_since_it_was_last_seen_gets_no_freshness(
    store: LaunchDarklyStore, open_store: Callable[[], LaunchDarklyStore]
) -> None:
    store.claim("ours", 5)
    open_store().replace_sentinel("theirs", 6)
    assert not store.set_synchronized_on(17, Sentinel("ours", 9))
    assert (store.synchronized_on(), store.sentinel()) == (None, Sentinel("theirs", 6))


def test_nor_does_one_that_was_deleted(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    store.claim("ours", 5)
    server.delete(KEY)
    assert not store.set_synchronized_on(17, Sentinel("ours", 9))
    assert KEY not in server.segments
    assert checked_out(store) is None


@pytest.mark.parametrize("status", [409, 422, 400])
def test_another_scheduler_may_write_it_between_ours(
    store: LaunchDarklyStore,
    open_store: Callable[[], LaunchDarklyStore],
    server: LaunchDarklyServer,
    status: int,
) -> None:
    server.failed_test_status = status
    other = open_store()
    store.claim("ours", 5)
    assert other.set_synchronized_on(17, Sentinel("ours", 9))
    assert store.set_synchronized_on(18, Sentinel("ours", 8))
    assert (store.synchronized_on(), store.sentinel()) == (18, Sentinel("ours", 9))


def test_a_patch_that_is_refused_for_another_reason_says_so(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    store.claim("ours", 5)
    server.answer_next(422, method="PATCH", times=2)
    with pytest.raises(Unavailable, match=r"it answered 422 \(patch_failed\)") as raised:
        store.set_synchronized_on(17, Sentinel("ours", 9))
    assert not raised.value.fate_unknown


def test_a_heartbeat_costs_one_request(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    store.claim("ours", 5)
    before = len(server.requests)
    for beat in range(10):
        sentinel = checked_out(store)
        assert sentinel is not None
        assert store.set_synchronized_on(beat, Sentinel("ours", beat + 10))
    assert len(server.requests) - before == 10


def test_a_checkout_may_show_what_was_there_a_moment_ago_and_no_longer(
    store: LaunchDarklyStore, open_store: Callable[[], LaunchDarklyStore], clock: Clock
) -> None:
    store.claim("ours", 5)
    open_store().replace_sentinel("theirs", 6)
    assert checked_out(store) == Sentinel("ours", 5)
    clock.now += RECENT_S
    assert checked_out(store) == Sentinel("theirs", 6)


def test_who_asks_for_it_gets_what_is_there_now(
    store: LaunchDarklyStore, open_store: Callable[[], LaunchDarklyStore]
) -> None:
    store.claim("ours", 5)
    open_store().replace_sentinel("theirs", 6)
    assert store.sentinel() == Sentinel("theirs", 6)
    assert checked_out(store) == Sentinel("theirs", 6)


def test_a_missing_environment_is_never_taken_for_no_sentinel(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    server.environment = "another"
    for use in (store.sentinel, lambda: checked_out(store), lambda: store.claim("ours", 5)):
        with pytest.raises(Unavailable, match="no project default with an environment production") as raised:
            use()
        assert raised.value.fault == "configuration"
