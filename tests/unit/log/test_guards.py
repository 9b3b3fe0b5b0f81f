"""Conditions of the scripts that no other test would miss: each of these fails without its own (`make mutants`)."""

from __future__ import annotations

import pytest
import redis
from log_builders import (
    ENVIRONMENT,
    SEGMENT,
    STORE,
    append,
    batch,
    bodies,
    commit_snapshot,
    drain_all,
    last,
    offer_snapshot,
    take,
)
from msgspec.structs import replace

from worker.errors import LeaseLost, Unavailable
from worker.log import keyspace
from worker.log.accounts import note_members
from worker.log.append import Appends
from worker.log.dead import DeadLetter
from worker.log.entry import Entry, compress, pack_fields, pack_slice
from worker.log.late import insert_entry, void_cursor
from worker.log.lease import DrainLog, Lease
from worker.log.position import START, ms_of
from worker.log.snapshots import Snapshots
from worker.log.upkeep import StoreStatus, Upkeep
from worker.model import SegmentId

LETTER = DeadLetter("dead", "malformed", "it is no JSON").encode()
BASE = keyspace.base(ENVIRONMENT, SEGMENT.segment_key)


def key(name: str) -> str:
    return f"{keyspace.prefix(SEGMENT)}:{name}"


def status(client: redis.Redis) -> StoreStatus:
    [found] = Upkeep(client).statuses(ENVIRONMENT, [SEGMENT.segment_key], [STORE])
    return found.stores[STORE]


def insert(
    client: redis.Redis, position: str, *, of_dead: bool = False, batch_id: str = "", segment: SegmentId = SEGMENT
) -> str:
    """What comes of a replay at a position."""
    fields = pack_fields(
        integration_key="rudderstack",
        parser_digest="d1",
        policy="reject",
        kind="slice",
        content=compress(pack_slice({position: True})),
    )
    told = insert_entry(
        client,
        segment,
        position,
        batch_id=batch_id or f"batch-at-{position}",
        fields=fields,
        store_ids=[STORE],
        of_dead=of_dead,
    )
    return told if isinstance(told, str) else "inserted"


def entries(client: redis.Redis, position: str = START) -> list[Entry]:
    return DrainLog(client).read(SEGMENT, position, most_bytes=1 << 20, most_entries=100)


def members_exact(client: redis.Redis) -> bool:
    return client.hget(f"{BASE}:segment", "members_exact") == b"1"


def even_idle(client: redis.Redis) -> Lease:
    """The lease, though nothing waits."""
    lease = DrainLog(client).take(SEGMENT, STORE, connection="c", even_idle=True)
    assert isinstance(lease, Lease)
    return lease


def test_entries_beside_the_stream_are_read_by_number_within_a_millisecond(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    ms = ms_of(last(redis_client)) - 1
    places = [f"{ms}-{number}" for number in (9, 10, 11, 100)]
    for place in places:
        assert insert(redis_client, place) == "inserted"
    assert [entry.entry_id for entry in entries(redis_client)] == [*places, last(redis_client)]


def test_a_segment_key_that_is_another_integrations_is_not_appended_to(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1"))
    [outcome] = Appends(redis_client).append([replace(batch(b"2"), integration_key="another")])
    assert isinstance(outcome, Unavailable)
    assert bodies(take(redis_client)) == [b"1"]


def test_a_segment_that_was_deleted_begins_another_generation(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1"))
    take(redis_client).release(clean=True)  # something of it may be in the store
    redis_client.hdel(f"{BASE}:segment", "context_kind", "integration_key", "cohort_id")
    [[wake_up]] = append(redis_client, batch(b"2"))
    assert wake_up.segment.generation == 2
    assert bodies(take(redis_client)) == [b"1"]
    assert bodies(take(redis_client, segment=wake_up.segment)) == [b"2"]


def test_an_append_that_is_repeated_while_a_drain_holds_the_lease_makes_no_wake_up_due(
    redis_client: redis.Redis,
) -> None:
    append(redis_client, batch(batch_id="b1"))
    take(redis_client)
    assert append(redis_client, batch(batch_id="b1")) == [[]]


def test_an_append_comes_after_what_was_replayed_whatever_the_clock_says(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    later = f"{ms_of(last(redis_client)) + 1_000_000}-5"
    insert(redis_client, later)
    append(redis_client, batch(), batch())
    found = [entry.entry_id for entry in entries(redis_client, later)]
    assert len(found) == 2
    assert found[-1] == last(redis_client)


def test_a_shared_payload_is_appended_with_what_it_presupposes(redis_client: redis.Redis) -> None:
    shared = batch(keys=("rudderstack-a", "rudderstack-b"))
    append(redis_client, replace(shared, prerequisites=[("registry", "a", "new")]))
    assert redis_client.hgetall("registry") == {b"a": b"new"}


def test_a_shared_payload_stays_while_the_stream_has_an_entry_of_it(redis_client: redis.Redis) -> None:
    append(redis_client, batch(batch_id="b1", keys=("rudderstack-a", "rudderstack-b")))
    for name in ("rudderstack-a", "rudderstack-b"):
        assert Upkeep(redis_client).release_payloads(SegmentId(ENVIRONMENT, name, 1)) == 0
    assert redis_client.exists(keyspace.payload("b1"))


def test_a_cursor_moves_forwards_only(redis_client: redis.Redis) -> None:
    append(redis_client, batch(), batch())
    lease = take(redis_client)
    first, second = lease.read(most_bytes=1000, most_entries=10)
    lease.advance(second, 0)
    for behind in (first, second):
        with pytest.raises(Unavailable, match="BEHIND"):
            lease.advance(behind, 0)
    assert status(redis_client).position == second.entry_id


def test_who_lost_the_lease_in_the_midst_of_a_snapshot_is_told(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    lease = take(redis_client)
    Upkeep(redis_client).expire(SEGMENT, STORE, lease.token, "1")
    with pytest.raises(LeaseLost):
        lease.advance_base("snapshot", 1, 0)
    assert lease.base == ("", 0)


def test_a_store_that_stops_telling_its_process_goes_back_nowhere(redis_client: redis.Redis) -> None:
    log = DrainLog(redis_client)
    append(redis_client, batch())
    for process in ("one", "", "one"):
        lease = log.take(SEGMENT, STORE, connection="c", process=process)
        assert isinstance(lease, Lease)
        assert len(lease.read(most_bytes=1000, most_entries=10)) == 1, process
        lease.advance(lease.read(most_bytes=1000, most_entries=10)[-1], 0)
        lease.release(clean=True)
        append(redis_client, batch())
    other = log.take(SEGMENT, STORE, connection="c", process="two")
    assert isinstance(other, Lease)
    assert len(other.read(most_bytes=1000, most_entries=10)) == 4


def test_a_cursor_stands_where_it_is_while_nobody_knows_the_stores_life(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    lease = DrainLog(redis_client).take(SEGMENT, STORE, connection="c", incarnation="life")
    assert isinstance(lease, Lease)
    lease.advance(lease.read(most_bytes=1000, most_entries=10)[-1], 0)
    lease.release(clean=True)
    assert status(redis_client).position == last(redis_client)
    redis_client.hset(keyspace.INCARNATIONS, STORE, "life")
    assert status(redis_client).position == last(redis_client)
    redis_client.hset(keyspace.INCARNATIONS, STORE, "another")
    assert status(redis_client).position == START


def test_what_was_replayed_holds_freshness_as_of_its_own_time(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    drain_all(redis_client)
    ms = ms_of(last(redis_client))
    insert(redis_client, f"{ms - 5}-0")
    redis_client.hset(key("cursor:" + STORE), "position", f"{ms - 7}-0")
    assert status(redis_client).oldest_ms == ms - 5
    redis_client.hset(key("cursor:" + STORE), "position", f"{ms - 5}-0")
    insert(redis_client, f"{ms + 5}-0")
    redis_client.hset(key("cursor:" + STORE), "position", f"{ms - 5}-0")
    assert status(redis_client).oldest_ms == ms
    redis_client.hset(key("cursor:" + STORE), "position", last(redis_client))
    append(redis_client, batch())
    assert status(redis_client).oldest_ms == ms_of(last(redis_client))
    redis_client.hset(key("cursor:" + STORE), "position", f"{ms}-{10**15}")
    assert status(redis_client).oldest_ms == ms + 5


def test_a_rebuild_makes_the_count_of_members_approximate(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    drain_all(redis_client)
    assert members_exact(redis_client)
    void_cursor(redis_client, SEGMENT, STORE)
    assert not members_exact(redis_client)


def test_nothing_is_replayed_into_a_generation_that_is_gone(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    place = last(redis_client)
    other = SEGMENT._replace(generation=2)
    assert insert(redis_client, f"{ms_of(place)}-{10**12}", segment=other) == "gone"
    redis_client.hdel(f"{BASE}:segment", "context_kind", "integration_key", "cohort_id")
    assert insert(redis_client, f"{ms_of(place)}-{10**12}") == "gone"
    assert not redis_client.exists(key("late"))


def test_what_a_person_decided_about_does_not_come_to_life(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    place = last(redis_client)
    assert insert(redis_client, place, of_dead=True) == "not dead"
    redis_client.hset(key("dead"), place, LETTER.replace(b'"dead"', b'"discarded"'))
    assert insert(redis_client, place, of_dead=True) == "not dead"
    redis_client.hset(key("dead"), place, LETTER)
    assert insert(redis_client, place, of_dead=True) == "inserted"


def test_what_comes_to_life_has_killed_nobody_yet(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    lease = take(redis_client)
    [entry] = lease.read(most_bytes=1000, most_entries=10)
    lease.bury(entry, DeadLetter("dead", "crashed", ""))
    assert [lease.count_crash(entry), lease.count_crash(entry)] == [1, 2]  # by another store's drain
    insert(redis_client, entry.entry_id, of_dead=True)
    assert lease.count_crash(entry) == 1


def test_a_replay_makes_the_count_of_members_approximate(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    drain_all(redis_client)
    assert members_exact(redis_client)
    insert(redis_client, f"{ms_of(last(redis_client))}-{10**12}")
    assert not members_exact(redis_client)


def test_a_cursor_that_goes_back_for_a_replay_has_the_totals_of_there(redis_client: redis.Redis) -> None:
    append(redis_client, batch(), batch(), batch())
    drain_all(redis_client)
    insert(redis_client, f"{ms_of(entries(redis_client)[0].entry_id)}-{10**12}")
    found = entries(redis_client)
    place = next(number for number, entry in enumerate(found) if entry.batch_id.startswith("batch-at-"))
    before, late = found[place - 1], found[place]
    assert (late.batches_total, late.bytes_total) == (before.batches_total, before.bytes_total)
    totals = [str(total).encode() for total in (before.batches_total, before.bytes_total)]
    assert redis_client.hmget(key(f"cursor:{STORE}"), "batches", "bytes") == totals


def test_a_floor_is_never_above_its_snapshot_whoever_holds_the_log(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    drain_all(redis_client)
    above = f"{ms_of(last(redis_client)) + 1}-0"
    assert offer_snapshot(redis_client, floor=above, holding=())[1] == "floor"
    assert commit_snapshot(redis_client, holding=())


def test_a_count_is_exact_where_everything_is_in_the_snapshot_and_in_every_store(redis_client: redis.Redis) -> None:
    assert counted_by_a_compaction(redis_client)


def test_a_count_is_not_exact_while_somebody_is_at_work(redis_client: redis.Redis) -> None:
    assert not counted_by_a_compaction(redis_client, marks=True)


def test_a_count_is_not_exact_while_a_store_is_behind(redis_client: redis.Redis) -> None:
    assert not counted_by_a_compaction(redis_client, stores=(STORE, "another"))


def test_a_count_is_not_exact_while_something_waits_beside_the_stream(redis_client: redis.Redis) -> None:
    assert not counted_by_a_compaction(redis_client, beside=True)


def counted_by_a_compaction(
    client: redis.Redis, *, marks: bool = False, stores: tuple[str, ...] = (STORE,), beside: bool = False
) -> bool:
    append(client, batch())
    drain_all(client)
    if marks:
        client.hset(key(f"open:{STORE}"), "somebody", f"{last(client)} 1 1 connection")
    if beside:
        insert(client, f"{ms_of(last(client)) - 1}-0")
        client.hset(key(f"cursor:{STORE}"), "position", last(client))
    client.hset(f"{BASE}:segment", "members_exact", "0")
    commit_snapshot(client, "ann", stores=stores, holding=(STORE,))
    assert Snapshots(client).base(SEGMENT) is not None
    return members_exact(client)


def test_who_lost_the_lease_counts_nobody(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    drain_all(redis_client)
    lease = even_idle(redis_client)
    assert note_members(redis_client, lease, 7, 0)
    Upkeep(redis_client).expire(SEGMENT, STORE, lease.token, "1")
    assert not note_members(redis_client, lease, 8, 0)
    assert redis_client.hget(f"{BASE}:segment", "members") == b"7"


def test_who_lost_the_lease_buries_nothing_and_is_told(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    lease = take(redis_client)
    [entry] = lease.read(most_bytes=1000, most_entries=10)
    Upkeep(redis_client).expire(SEGMENT, STORE, lease.token, "1")
    with pytest.raises(LeaseLost):
        lease.bury(entry, DeadLetter("dead", "malformed", ""))
    assert not redis_client.exists(key("dead"))


def test_a_count_is_approximate_once_a_drain_was_settled(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    drain_all(redis_client)
    redis_client.hset(key(f"open:{STORE}"), "dead", f"{START} 0 0 connection")
    assert members_exact(redis_client)
    Upkeep(redis_client).settle(SEGMENT, STORE, "dead")
    assert not members_exact(redis_client)


def test_what_was_replayed_is_behind_for_a_store_that_lacks_it(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    drain_all(redis_client)
    ms = ms_of(last(redis_client))
    for place in (f"{ms + 5}-0", f"{ms + 6}-0"):
        insert(redis_client, place)
    assert status(redis_client).batches_behind == 2


def test_a_store_below_the_snapshot_is_as_fresh_as_its_cursor(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    drain_all(redis_client)
    commit_snapshot(redis_client)
    ms = ms_of(last(redis_client))
    redis_client.hset(key(f"cursor:{STORE}"), "position", f"{ms - 3}-0")
    append(redis_client, batch())
    assert status(redis_client).oldest_ms == ms - 3


def test_how_far_any_store_has_come_never_goes_back(redis_client: redis.Redis) -> None:
    append(redis_client, batch(stores=("a", "b")), batch(stores=("a", "b")))
    drain_all(redis_client, store="a")
    lease = take(redis_client, store="b")
    first, second = lease.read(most_bytes=1000, most_entries=10)
    lease.advance(first, 0)
    assert Snapshots(redis_client).bounds(SEGMENT)[2] == second.entry_id
