"""Deleting segments: everybody leaves every store, and the key comes back as the next generation, empty."""

from __future__ import annotations

from typing import cast

import pytest
import redis
from servers import wait_until
from sync_builders import FaultyStore, Installation

from worker.errors import NotFound
from worker.log import keyspace
from worker.log.append import Appends
from worker.log.changes import ManualChange, append_change
from worker.log.segments import read_segments
from worker.model import SegmentId
from worker.records.stores import StoreRecords
from worker.sync.batches import Batches, BatchFilter
from worker.sync.deleting import close_deleted, delete_segment
from worker.sync.drain import drain
from worker.sync.expire import expire_dead
from worker.sync.freshness import Heartbeat
from worker.sync.sweep import Sweeper

KEY = "rudderstack-beta"


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client)


def delete(installation: Installation, key: str = KEY) -> None:
    delete_segment(installation.wiring, Appends(installation.client), installation.environment_id, key, by="test")


def drain_all(installation: Installation, *generations: int) -> None:
    for record in installation.wiring.stores_of(installation.environment_id):
        for generation in generations:
            for _ in range(4):
                drain(installation.wiring, generation_of(installation, generation), record.store_id)


def generation_of(installation: Installation, generation: int) -> SegmentId:
    return SegmentId(installation.environment_id, KEY, generation)


def segment_base(installation: Installation) -> str:
    return keyspace.base(installation.environment_id, KEY)


def refs(store: FaultyStore, person: str) -> set[str]:
    return store.included(person) | store.excluded(person)


def keys_of(installation: Installation, generation: int) -> set[str]:
    prefix = keyspace.prefix(generation_of(installation, generation))
    found = cast("list[bytes]", installation.client.keys("*"))
    return {key.decode() for key in found if key.decode().startswith(f"{prefix}:")}


def test_everybody_leaves_both_lists(installation: Installation) -> None:
    installation.accept(add=("ann", "bob"))
    [segment] = read_segments(installation.client, installation.environment_id, [KEY])
    change = ManualChange("by-hand", add_excluded=("cyd", "ann"))
    append_change(
        Appends(installation.client),
        installation.environment_id,
        segment,
        change,
        store_ids=[installation.store_id],
        not_after_ms=10**15,
    )
    drain_all(installation, 1)
    assert refs(installation.store, "cyd") == {f"{KEY}.g1"}
    delete(installation)
    drain_all(installation, 1)
    assert not any(refs(installation.store, person) for person in ("ann", "bob", "cyd"))


def test_a_deleted_segment_is_gone_at_once_for_people(installation: Installation) -> None:
    installation.accept(add=("ann",))
    delete(installation)
    assert read_segments(installation.client, installation.environment_id, [KEY]) == []
    assert list(installation.wiring.upkeep.statuses(installation.environment_id, [KEY], [])) == []
    with pytest.raises(NotFound):
        delete(installation)


def test_the_key_comes_back_as_the_next_generation_and_empty(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    delete(installation)
    installation.accept(add=("bob",))
    drain_all(installation, 2, 1)
    assert refs(installation.store, "ann") == set()
    assert refs(installation.store, "bob") == {f"{KEY}.g2"}
    [segment] = read_segments(installation.client, installation.environment_id, [KEY])
    assert (segment.generation, segment.members, segment.members_exact) == (2, 1, True)


def test_what_no_store_has_applied_goes_with_the_segment(installation: Installation) -> None:
    installation.accept(add=("ann",))
    delete(installation)
    drain_all(installation, 1)
    assert refs(installation.store, "ann") == set()


def test_of_a_closed_generation_nothing_is_left_but_its_number(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    delete(installation)
    assert close_deleted(installation.wiring) == 0
    drain_all(installation, 1)
    assert close_deleted(installation.wiring) == 1
    assert keys_of(installation, 1) == set()
    assert installation.wiring.closings.endings() == []
    assert installation.client.hget(f"{segment_base(installation)}:segment", "generation") == b"1"


def test_a_late_hint_for_a_closed_generation_makes_nothing_of_it_again(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    delete(installation)
    drain_all(installation, 1)
    close_deleted(installation.wiring)
    assert drain(installation.wiring, generation_of(installation, 1), installation.store_id).outcome == "idle"
    assert keys_of(installation, 1) == set()


def test_the_sweeper_wakes_both_generations_and_then_neither(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    delete(installation)
    installation.accept(add=("bob",))
    now = 0.0
    sweeper = Sweeper(installation.wiring, clock=lambda: now)
    sweeper.sweep()
    now = 10.0
    assert {wake_up.segment.generation for wake_up in sweeper.sweep()} == {1, 2}
    drain_all(installation, 1, 2)
    close_deleted(installation.wiring)
    now = 20.0
    assert sweeper.sweep() == []
    assert installation.wiring.upkeep.ahead() == {}


def test_a_store_that_has_not_applied_the_deletion_is_not_fresh(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    Heartbeat(installation.wiring).beat()
    delete(installation)
    deleted_ms = int(cast("bytes", installation.client.hget(f"{segment_base(installation)}:segment", "deleted_ms")))
    wait_until(lambda: installation.wiring.upkeep.server_ms() > deleted_ms)
    Heartbeat(installation.wiring).beat()
    assert cast("int", installation.store.synchronized_on()) <= deleted_ms
    drain_all(installation, 1)
    Heartbeat(installation.wiring).beat()
    assert cast("int", installation.store.synchronized_on()) > deleted_ms


def test_the_index_gets_back_a_deletion_that_it_lost(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    delete(installation)
    installation.client.delete(keyspace.AHEAD)
    Heartbeat(installation.wiring).beat()
    assert set(installation.wiring.upkeep.ahead()) == {generation_of(installation, 1)}


def test_a_store_that_is_off_holds_the_deletion_open_until_it_is_on_and_through(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    StoreRecords(installation.client).set(installation.store_id, on=False)
    delete(installation)
    assert close_deleted(installation.wiring) == 0
    assert keys_of(installation, 1) != set()
    StoreRecords(installation.client).set(installation.store_id, on=True)
    installation.wiring.directory.fresh()
    wait_until(lambda: installation.wiring.stores_of(installation.environment_id))
    drain_all(installation, 1)
    assert close_deleted(installation.wiring) == 1
    assert refs(installation.store, "ann") == set()


def test_a_deletion_that_was_never_made_is_not_waited_for(installation: Installation) -> None:
    installation.accept(add=("ann",))
    segment = generation_of(installation, 1)
    wiring = installation.wiring
    wiring.closings.add(segment, wiring.upkeep.server_ms() + 60_000)
    close_deleted(wiring)
    assert [ending.segment for ending in wiring.closings.endings()] == [segment]  # it may still come
    installation.client.zadd("segsync:closing", {keyspace.log_name(segment): wiring.upkeep.server_ms() - 1})
    close_deleted(wiring)
    assert wiring.closings.endings() == []
    assert read_segments(installation.client, installation.environment_id, [KEY]) != []


def test_dead_letters_of_a_deleted_segment_are_listed_and_expire_as_ever(redis_client: redis.Redis) -> None:
    installation = Installation(redis_client, dead_retention_seconds=0)
    installation.accept(add=("ann",))
    installation.accept_body(b"no JSON")
    drain_all(installation, 1)
    delete(installation)
    drain_all(installation, 1)
    assert close_deleted(installation.wiring) == 1
    [batch] = Batches(installation.wiring).newest_first(BatchFilter())
    assert batch.waits
    assert f"{keyspace.prefix(generation_of(installation, 1))}:log" not in keys_of(installation, 1)
    assert expire_dead(installation.wiring) == 1
    close_deleted(installation.wiring)
    assert keys_of(installation, 1) == set()
    assert installation.wiring.closings.endings() == []
