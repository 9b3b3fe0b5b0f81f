"""Deleting segments: everybody leaves every store, and the key comes back as the next generation, empty."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import cast

import pytest
import redis
from replay_builders import die, isolated, publish, reject
from servers import wait_until
from sync_builders import FaultyStore, Installation

from worker.errors import NotFound
from worker.incarnation import ROLLED_BACK_MS
from worker.log import append as append_module
from worker.log import append_call, keyspace
from worker.log.append import Appends
from worker.log.batch import Batch, Target
from worker.log.changes import ManualChange, append_change
from worker.log.lease import Lease
from worker.log.payloads import logs_of_payload
from worker.log.round_trips import Command, through
from worker.log.segments import read_segments
from worker.model import Cohort, RedisStoreConfiguration, SegmentId, SegmentPatch
from worker.records.stores import StoreRecords
from worker.records.tables import FORGOTTEN
from worker.sync.audit import Audit
from worker.sync.batches import Batches, BatchFilter
from worker.sync.deleting import close_deleted, delete_segment
from worker.sync.drain import drain
from worker.sync.expire import expire_dead
from worker.sync.forget import forget_removed
from worker.sync.freshness import Heartbeat
from worker.sync.isolation import IsolatedParser
from worker.sync.maintenance import Maintenance
from worker.sync.planned import Replay
from worker.sync.replay import Replayer
from worker.sync.replay_plan import Planner, group_batches
from worker.sync.sweep import Sweeper
from worker.sync.taking import take_lease
from worker.wiring import Wiring

KEY = "rudderstack-beta"
__all__ = ["isolated"]  # a fixture


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


def plan(installation: Installation, isolated: IsolatedParser) -> list[Replay]:
    found = Batches(installation.wiring).newest_first(BatchFilter())
    return Planner(installation.wiring, isolated).plan(group_batches(found))


def close(installation: Installation) -> int:
    """Ten minutes after whatever was applied last."""
    for key in cast("list[bytes]", installation.client.keys("*:cursor:*")):
        if installation.client.hexists(key, "advanced_ms"):
            installation.client.hincrby(key, "advanced_ms", -600_001)
    return close_deleted(installation.wiring)


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


def test_a_store_that_never_had_anything_of_a_deleted_segment_writes_nothing(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    delete(installation)
    place = RedisStoreConfiguration(host="another-in-memory")
    added = StoreRecords(installation.client).add(installation.environment_id, "second", place).store_id
    wait_until(lambda: installation.wiring.stores.get(added))
    assert drain(installation.wiring, generation_of(installation, 1), added).outcome == "idle"
    drain_all(installation, 1)
    assert close(installation) == 1


def test_what_no_store_has_applied_goes_with_the_segment(installation: Installation) -> None:
    installation.accept(add=("ann",))
    delete(installation)
    drain_all(installation, 1)
    assert refs(installation.store, "ann") == set()


def test_of_a_closed_generation_nothing_is_left_but_its_number(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    delete(installation)
    assert close(installation) == 0
    drain_all(installation, 1)
    assert close(installation) == 1
    assert keys_of(installation, 1) == set()
    assert installation.wiring.closings.endings() == []
    assert installation.client.hget(f"{segment_base(installation)}:segment", "generation") == b"1"


def test_a_generation_is_closed_only_when_no_store_can_lose_that_it_is_empty(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    delete(installation)
    drain_all(installation, 1)
    assert close_deleted(installation.wiring) == 0
    # It fails over to a replica that had not heard of the removal yet.
    with installation.store.session() as session:
        session.write(SegmentPatch(f"{KEY}.g1", ["ann"], []), lambda: None)
    installation.store.process = "another"
    Heartbeat(installation.wiring).beat()
    assert close(installation) == 0
    drain_all(installation, 1)
    assert refs(installation.store, "ann") == set()
    assert close(installation) == 1


def test_a_late_hint_for_a_closed_generation_makes_nothing_of_it_again(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    delete(installation)
    drain_all(installation, 1)
    close(installation)
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
    close(installation)
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
    assert close(installation) == 0
    assert keys_of(installation, 1) != set()
    StoreRecords(installation.client).set(installation.store_id, on=True)
    installation.wiring.directory.fresh()
    wait_until(lambda: installation.wiring.stores_of(installation.environment_id))
    drain_all(installation, 1)
    assert close(installation) == 1
    assert refs(installation.store, "ann") == set()


def test_a_store_that_is_removed_holds_no_deletion_open_and_is_forgotten_in_it(installation: Installation) -> None:
    place = RedisStoreConfiguration(host="another-in-memory")
    records = StoreRecords(installation.client)
    added = records.add(installation.environment_id, "second", place).store_id
    wait_until(lambda: installation.wiring.stores.get(added))
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    delete(installation)
    installation.accept(add=("ann",))
    drain(installation.wiring, generation_of(installation, 1), installation.store_id)
    assert close(installation) == 0
    records.remove(added)
    wait_until(lambda: len(installation.wiring.stores_of(installation.environment_id)) == 1)
    installation.client.hincrby(f"{segment_base(installation)}:segment", "generation", 10**9)  # as `segments map` may
    installation.client.zadd(FORGOTTEN, {added: 0})
    forget_removed(installation.wiring)
    assert not any(added in key for key in keys_of(installation, 1))
    assert close(installation) == 1


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
    assert close(installation) == 1
    [batch] = Batches(installation.wiring).newest_first(BatchFilter())
    assert batch.waits
    assert f"{keyspace.prefix(generation_of(installation, 1))}:log" not in keys_of(installation, 1)
    assert expire_dead(installation.wiring) == 1
    close(installation)
    assert keys_of(installation, 1) == set()
    assert installation.wiring.closings.endings() == []


def test_what_a_store_holds_of_a_closed_generation_is_a_stray(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    delete(installation)
    drain_all(installation, 1)
    close(installation)
    installation.accept(add=("ann",))
    drain_all(installation, 2)
    # As a store does that comes back from a backup.
    with installation.store.session() as session:
        session.write(SegmentPatch(f"{KEY}.g1", ["ann", "bob"], [], ["cyd"], []), lambda: None)
        session.write(SegmentPatch("another-system.g1", ["ann"], []), lambda: None)
    record = installation.wiring.stores_of(installation.environment_id)[0]
    found = Audit(installation.wiring, record).run()
    assert (found.strays, found.missing) == (3, 0)
    Audit(installation.wiring, record, repair=True).run()
    assert refs(installation.store, "ann") == {f"{KEY}.g2", "another-system.g1"}
    assert Audit(installation.wiring, record).run().agrees


def another_wiring(installation: Installation) -> Wiring:
    """For another thread; its stores are the same ones. What it closes, it closes for itself alone."""
    client = redis.Redis(connection_pool=installation.client.connection_pool)
    return Wiring(installation.wiring.settings, client=client, opener=lambda _: installation.store)


@pytest.mark.parametrize("may_be_closed", [False, True])
def test_a_store_that_comes_back_from_a_backup_loses_what_is_being_deleted(
    installation: Installation, may_be_closed: bool
) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    Heartbeat(installation.wiring).beat()
    delete(installation)
    beat_ms = installation.wiring.incarnations.notes(installation.store_id).beat_ms
    held = installation.store.sentinel()
    assert held is not None
    installation.store.replace_sentinel(held.incarnation, beat_ms - ROLLED_BACK_MS - 1)
    Heartbeat(installation.wiring).beat()  # notices
    assert installation.wiring.incarnations.notes(installation.store_id).strays_due
    maintenance = Maintenance(installation.wiring, lambda: another_wiring(installation))
    maintenance.run()
    compared = [thread for thread in threading.enumerate() if thread.name == "audit"]
    for thread in compared:
        thread.join()
    assert installation.wiring.incarnations.notes(installation.store_id).strays_due, "it is not through the deletion"
    drain_all(installation, 1)
    assert refs(installation.store, "ann") == set()
    with installation.store.session() as session:  # and whom nobody remembers
        session.write(SegmentPatch(f"{KEY}.g1", ["eve"], []), lambda: None)
    record = installation.wiring.stores_of(installation.environment_id)[0]
    if may_be_closed:
        close(installation)
    assert Audit(installation.wiring, record).run().strays == 1
    maintenance.run()
    wait_until(lambda: not installation.wiring.incarnations.notes(installation.store_id).strays_due)
    assert refs(installation.store, "eve") == set()


def test_what_a_drain_at_work_writes_to_a_wiped_store_leaves_it_with_the_deletion(installation: Installation) -> None:
    installation.accept(add=("ann",))
    [record] = installation.wiring.stores_of(installation.environment_id)
    segment = generation_of(installation, 1)
    with installation.store.session() as session:
        lease = take_lease(installation.wiring, segment, record, installation.store, session)
        assert isinstance(lease, Lease)
        entries = lease.read(most_bytes=1 << 20, most_entries=10)
        delete(installation)
        installation.store.wipe()
        Heartbeat(installation.wiring).beat()  # a new life begins, with nobody in it
        session.write(SegmentPatch(segment.ref, ["ann"], []), lease.renew)
        lease.advance(entries[0], 1)
        lease.release(clean=True)
    drain_all(installation, 1)
    assert refs(installation.store, "ann") == set()


def test_a_deletion_that_is_under_way_is_no_difference(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    delete(installation)
    record = installation.wiring.stores_of(installation.environment_id)[0]
    assert Audit(installation.wiring, record).run().agrees
    drain_all(installation, 1)
    assert Audit(installation.wiring, record).run().agrees


def test_a_deletion_that_is_tried_again_while_the_first_is_given_up_stays_listed(installation: Installation) -> None:
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    wiring = installation.wiring
    wiring.closings.add(generation_of(installation, 1), wiring.upkeep.server_ms() - 1)  # one that never came
    [given_up] = wiring.closings.endings()
    delete(installation)
    wiring.closings.remove(given_up)  # by who had looked before
    assert [ending.segment for ending in wiring.closings.endings()] == [generation_of(installation, 1)]
    drain_all(installation, 1)
    assert close(installation) == 1


@pytest.mark.parametrize("comes_back", [False, True])
def test_what_was_refused_before_the_deletion_does_not_come_back_after_it(
    installation: Installation, isolated: IsolatedParser, comes_back: bool
) -> None:
    publish(installation, installation.manifest.parser)
    installation.accept(add=("ann",))
    drain_all(installation, 1)
    reject(installation, installation.body(add=("bob",)))
    delete(installation)
    if comes_back:
        installation.accept(add=("cyd",))
        drain_all(installation, 1, 2)
    [planned] = plan(installation, isolated)
    assert [target.skipped for target in planned.targets] == ["the segment was deleted after it was accepted"]
    planned.targets[0].skipped = None  # as if it were deleted between plan and replay
    assert Replayer(installation.wiring, "test").replay(planned).inserted == []
    drain_all(installation, 1, 2)
    assert refs(installation.store, "bob") == set()


def test_a_dead_letter_of_a_deleted_segment_says_why_it_cannot_be_replayed(
    installation: Installation, isolated: IsolatedParser
) -> None:
    publish(installation, installation.manifest.parser)
    installation.accept(add=("ann",))
    die(installation, add=("bob",))
    delete(installation)
    installation.accept(add=("cyd",))
    drain_all(installation, 1, 2)
    [planned] = plan(installation, isolated)
    assert [target.skipped for target in planned.targets] == ["generation 1 of the segment is deleted"]


def test_a_shared_payload_of_a_deleted_segment_is_let_go(installation: Installation) -> None:
    keys = installation.wiring.segment_keys.allot(installation.environment_id, "rudderstack", ["beta", "gamma"])
    targets = [
        Target(key, Cohort(cohort, members={"ann": True})) for key, cohort in zip(keys, ("beta", "gamma"), strict=True)
    ]
    batch = Batch("shared", installation.environment_id, "user", "rudderstack", "d", b"{}", targets, [], 10**15)
    Appends(installation.client).append([batch])
    drain_all(installation, 1)
    delete(installation)
    drain_all(installation, 1)
    close(installation)
    names = {segment.segment_key for segment in logs_of_payload(installation.client, "shared")}
    assert names == {"rudderstack-gamma"}


def test_a_payload_that_finds_a_segment_deleted_since_it_was_claimed_is_kept_for_the_next_generation(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.accept(add=("ann",))
    claims = append_call.claims_of

    def deleted_after(batch: Batch, create: str) -> list[Command]:
        if create == "1":
            through(installation.client, append_module._asked(claims(batch, "1")))
            delete(installation)
        return claims(batch, "0")

    monkeypatch.setattr(append_module, "claims_of", deleted_after)
    keys = installation.wiring.segment_keys.allot(installation.environment_id, "rudderstack", ["beta", "gamma"])
    targets = [
        Target(key, Cohort(cohort, members={"bob": True})) for key, cohort in zip(keys, ("beta", "gamma"), strict=True)
    ]
    batch = Batch("shared", installation.environment_id, "user", "rudderstack", "d", b"{}", targets, [], 10**15)
    assert not isinstance(Appends(installation.client).append([batch])[0], Exception)
    assert logs_of_payload(installation.client, "shared") == {
        generation_of(installation, 2),
        SegmentId(installation.environment_id, "rudderstack-gamma", 1),
    }
    drain_all(installation, 1, 2)
    assert refs(installation.store, "bob") >= {f"{KEY}.g2"}
    assert refs(installation.store, "ann") == set()


def test_payloads_that_race_with_deletions_come_before_them_or_after_and_are_never_lost(
    real_redis: redis.Redis,
) -> None:
    installation = Installation(real_redis)
    people = [f"person-{number}" for number in range(400)]
    over = threading.Event()
    installation.accept(add=("first",))

    def drain_all_the_time() -> None:
        while not over.is_set():
            for segment in list(installation.wiring.upkeep.ahead()):
                drain(installation.wiring, segment, installation.store_id)
            close(installation)

    def delete_now_and_then() -> int:
        deletions = 0
        while not over.is_set():
            with suppress(NotFound):  # nobody has come since the last time
                delete(installation)
                deletions += 1
            over.wait(0.01)
        return deletions

    with ThreadPoolExecutor(3) as pool:
        draining, deleting = [pool.submit(drain_all_the_time) for _ in range(2)], pool.submit(delete_now_and_then)
        for person in people:
            installation.accept(add=(person,))
        over.set()
        deletions = deleting.result(30)
        for each in draining:
            each.result(30)
    last, alive = installation.wiring.closings.present(generation_of(installation, 1))
    assert last == deletions + alive
    drain_all(installation, *range(1, last + 1))
    found = [refs(installation.store, person) for person in people]
    there = [of for of in found if of]
    # Each is in the last generation or in none; those who are in it are the last that came.
    assert there == [{f"{KEY}.g{last}"}] * len(there)
    assert found[len(found) - len(there) :] == there
    assert bool(there) == alive
    assert deletions > 2
