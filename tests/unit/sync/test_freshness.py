"""What a store is told of its freshness, and when it is told nothing: it never claims more than is true (rule 21)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from sync_builders import FaultyStore, Installation

from worker.errors import Unavailable
from worker.incarnation import ROLLED_BACK_MS, Incarnations
from worker.log import keyspace
from worker.log.pending import read_pending
from worker.log.upkeep import SegmentStatus, StoreStatus
from worker.model import RedisStoreConfiguration, StoreRecord
from worker.records.stores import StoreRecords
from worker.stores.segment_store import Sentinel
from worker.sync.drain import drain
from worker.sync.freshness import Heartbeat


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    """A store that has everything, and has been told so."""
    installed = Installation(redis_client)
    installed.accept(add=("ann",))
    apply(installed)
    beat(installed)
    assert installed.store.synchronized_on() is not None
    return installed


def apply(installation: Installation, store_id: str = "") -> None:
    drain(installation.wiring, installation.segment(), store_id or installation.store_id)


def beat(installation: Installation) -> None:
    Heartbeat(installation.wiring).beat()


def told(installation: Installation, do: Callable[[Installation], None] = beat) -> bool:
    """Whether the store is told anything by that."""
    installation.store._synchronized_on = None
    do(installation)
    return installation.store.synchronized_on() is not None


def record(installation: Installation) -> StoreRecord:
    found = installation.wiring.directory.fresh(0).store(installation.store_id)
    assert found is not None
    return found


def wait_for_a_person(installation: Installation) -> None:
    """From now on the store is not filled anew by itself."""
    StoreRecords(installation.client).set(installation.store_id, rebuild_when_wiped=False)
    record(installation)


def status(installation: Installation) -> StoreStatus:
    [found] = installation.wiring.upkeep.statuses(
        installation.environment_id, ["rudderstack-beta"], [installation.store_id]
    )
    return found.stores[installation.store_id]


@pytest.fixture
def after_the_look(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Incarnations], object]], None]:
    """Another scheduler does something when this one has looked at the cursors, and has not told the stores yet."""

    def arrange(do: Callable[[Incarnations], object]) -> None:
        statuses = installation.wiring.upkeep.statuses

        def and_then(*arguments: Any) -> Iterator[SegmentStatus]:
            yield from statuses(*arguments)
            monkeypatch.undo()
            do(Incarnations(installation.client))

        monkeypatch.setattr(installation.wiring.upkeep, "statuses", and_then)

    return arrange


AfterTheLook = Callable[[Callable[[Incarnations], object]], None]


def test_a_store_that_is_as_it_was_is_told(installation: Installation) -> None:
    assert told(installation)


def test_a_store_of_whose_life_nothing_is_known_is_told_nothing(installation: Installation) -> None:
    installation.client.hdel(keyspace.INCARNATIONS, installation.store_id)
    assert not told(installation)


def test_a_store_that_is_to_be_compared_is_told_nothing(installation: Installation) -> None:
    installation.wiring.incarnations.note_strays(installation.store_id)
    assert not told(installation)


def test_a_store_that_became_another_process_since_the_look_is_told_nothing(
    installation: Installation, after_the_look: AfterTheLook
) -> None:
    def restart(others: Incarnations) -> None:
        installation.store.process = "another"
        others.note_process(installation.store_id, "another", installation.wiring.upkeep.server_ms())

    after_the_look(restart)
    assert not told(installation)


def test_a_store_that_was_another_process_since_the_look_is_told_nothing(
    installation: Installation, after_the_look: AfterTheLook
) -> None:
    now_ms = installation.wiring.upkeep.server_ms()
    after_the_look(lambda others: others.note_process(installation.store_id, "another", now_ms))
    assert not told(installation)


def test_a_store_that_began_another_life_since_the_look_is_told_nothing(
    installation: Installation, after_the_look: AfterTheLook
) -> None:
    def wipe(others: Incarnations) -> None:
        installation.store.wipe()
        others.confirm(record(installation), installation.store, None, installation.wiring.upkeep.server_ms)

    after_the_look(wipe)
    assert not told(installation)
    assert installation.members("ann") == set()


def test_each_beat_is_remembered(installation: Installation) -> None:
    for _ in range(2):
        beat(installation)
        sentinel = installation.store.sentinel()
        assert sentinel is not None
        assert installation.wiring.incarnations.notes(installation.store_id).beat_ms == sentinel.beat_ms


def put_back(installation: Installation, by_ms: int) -> Sentinel:
    """The store shows a beat from so long before the last one."""
    sentinel = installation.store.sentinel()
    assert sentinel is not None
    old = Sentinel(sentinel.incarnation, sentinel.beat_ms - by_ms)
    installation.store.replace_sentinel(*old)
    return old


def test_what_a_trail_makes_good_ends_no_life(installation: Installation) -> None:
    old = put_back(installation, ROLLED_BACK_MS // 2)
    assert told(installation)
    sentinel = installation.store.sentinel()
    assert sentinel is not None
    assert sentinel.incarnation == old.incarnation


def test_a_store_that_was_rolled_back_and_waits_for_a_person_is_left_as_it_is(installation: Installation) -> None:
    wait_for_a_person(installation)
    old = put_back(installation, ROLLED_BACK_MS + 1)
    for _ in range(2):
        assert not told(installation)
    assert installation.store.sentinel() == old
    assert installation.wiring.incarnations.notes(installation.store_id).wiped_ms is not None


def test_a_store_that_was_wiped_waits_for_a_person_also_when_its_sentinel_is_back(installation: Installation) -> None:
    wait_for_a_person(installation)
    sentinel = installation.store.sentinel()
    assert sentinel is not None
    installation.store.wipe()
    beat(installation)
    installation.store.replace_sentinel(*sentinel)  # with what of the members, nobody knows
    assert not told(installation)


def test_a_store_that_was_filled_anew_waits_for_nobody_any_more(installation: Installation) -> None:
    installation.store.wipe()
    beat(installation)
    assert installation.wiring.incarnations.notes(installation.store_id).wiped_ms is None
    apply(installation)
    wait_for_a_person(installation)
    assert told(installation)


def test_what_moved_long_before_the_process_changed_is_in_the_store(installation: Installation) -> None:
    beat(installation)
    installation.client.hincrby(
        f"{keyspace.prefix(installation.segment())}:cursor:{installation.store_id}", "advanced_ms", -10_000_000
    )
    installation.store.process = "another"
    assert not told(installation)
    assert told(installation)
    assert status(installation).ahead is False


def test_what_moved_shortly_before_the_process_changed_is_to_be_applied_again(installation: Installation) -> None:
    beat(installation)
    installation.store.process = "another"
    beat(installation)
    assert status(installation).ahead is True


def test_notes_of_strays_are_told_apart(installation: Installation) -> None:
    incarnations, store_id = installation.wiring.incarnations, installation.store_id
    incarnations.note_strays(store_id)
    first = incarnations.notes(store_id).strays_due
    incarnations.note_strays(store_id)
    second = incarnations.notes(store_id).strays_due
    assert len({first, second, ""}) == 3
    incarnations.strays_removed(store_id, first)
    assert incarnations.notes(store_id).strays_due == second
    incarnations.strays_removed(store_id, second)
    assert incarnations.notes(store_id).strays_due == ""


def circuit(installation: Installation) -> tuple[bool, bool]:
    """Whether the store's circuit is open, and whether it may be tried."""
    found = installation.wiring.circuits.read([installation.store_id])[installation.store_id]
    return found.open, found.due


def open_circuit(installation: Installation, *, due: bool) -> None:
    installation.wiring.circuits.failed(installation.store_id, Unavailable("no answer", dependency="store"))
    by = -10_000_000 if due else 10_000_000
    installation.client.hincrby(f"segsync:circuit:{{{installation.store_id}}}", "retry_at_ms", by)
    installation.client.hset(f"segsync:circuit:{{{installation.store_id}}}", "wait_ms", 20_000_000)


def test_a_store_whose_circuit_is_open_is_told_nothing(installation: Installation) -> None:
    open_circuit(installation, due=False)
    assert not told(installation)


def test_a_store_that_cannot_be_told_opens_its_circuit(installation: Installation) -> None:
    installation.store.away = True
    beat(installation)
    installation.store.away = False
    assert circuit(installation)[0] is True


def test_a_beat_closes_the_circuit_of_a_store_that_has_everything_and_no_other(installation: Installation) -> None:
    installation.accept(add=("bob",))
    open_circuit(installation, due=True)
    assert told(installation)
    assert circuit(installation) == (True, True), "a drain finds out whether it takes members"
    apply(installation)
    open_circuit(installation, due=True)
    assert told(installation)
    assert circuit(installation) == (False, False)


def test_an_environment_that_cannot_be_looked_at_keeps_no_other_from_being_told(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = installation.wiring.directory.fresh(0)
    [healthy] = directory.environments.values()
    broken = healthy.model_copy(update={"environment_id": "0" * 24, "environment_key": "broken"})
    installation.wiring.segment_keys.allot(broken.environment_id, "rudderstack", ["beta"])
    installation.client.set(f"{keyspace.base(broken.environment_id, 'rudderstack-beta')}:segment", "no hash")
    both = replace(directory, environments={each.environment_id: each for each in (broken, healthy)})
    monkeypatch.setattr(installation.wiring.directory, "fresh", lambda *_: both)

    def beat_and_fail(_: Installation) -> None:
        with pytest.raises(Unavailable):
            beat(installation)

    assert told(installation, beat_and_fail)


def test_of_environments_that_are_removed_nothing_waits_also_of_the_last_one(installation: Installation) -> None:
    record(installation)
    beat(installation)
    assert read_pending(installation.client)
    installation.wiring.project_records.remove_project("default")
    installation.wiring.directory.fresh(0)
    beat(installation)
    assert read_pending(installation.client) == {}


def test_what_waits_is_what_the_most_current_store_has_not_applied(installation: Installation) -> None:
    second = StoreRecords(installation.client).add(
        installation.environment_id, "second", RedisStoreConfiguration(host="elsewhere")
    )
    record(installation)
    installation.accept(add=("bob",))
    apply(installation)
    beat(installation)
    assert read_pending(installation.client)[installation.environment_id].bytes == 0
    installation.accept(add=("cyd",))
    beat(installation)
    pending = read_pending(installation.client)[installation.environment_id]
    assert pending.bytes == status(installation).bytes_behind > 0
    assert pending.oldest_ms == status(installation).oldest_ms
    assert isinstance(installation.wiring.stores.get(second.store_id), FaultyStore)
