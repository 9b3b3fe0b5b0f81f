"""What the sweeper, the heartbeat and the trimmer ask of the log, on fakeredis and on the real server."""

from __future__ import annotations

import time

import pytest
import redis
from log_builders import ENVIRONMENT, SEGMENT, STORE, append, batch, bodies, commit_snapshot, drain_all, take

from worker.errors import Unavailable
from worker.log import keyspace
from worker.log.batch import Batch
from worker.log.lease import Behind, DrainLog, Lease
from worker.log.upkeep import SegmentStatus, Upkeep
from worker.model import SegmentId


def status(client: redis.Redis, *stores: str) -> SegmentStatus:
    [found] = Upkeep(client).statuses(ENVIRONMENT, [SEGMENT.segment_key], stores or (STORE,))
    return found


def test_segments_that_do_not_exist_have_no_status(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    found = Upkeep(redis_client).statuses(ENVIRONMENT, ["nothing", SEGMENT.segment_key], [STORE])
    assert [entry.segment for entry in found] == [SEGMENT]


def test_a_store_without_a_cursor_is_behind_by_the_whole_log(redis_client: redis.Redis) -> None:
    append(redis_client, batch(), batch())
    drain_all(redis_client)
    stores = status(redis_client, STORE, "new").stores
    assert (stores[STORE].batches_behind, stores["new"].batches_behind) == (0, 2)
    assert (stores[STORE].ahead, stores["new"].ahead) == (False, True)


def test_the_oldest_unapplied_batch_is_the_one_after_the_cursor(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    drain_all(redis_client)
    before = Upkeep(redis_client).server_ms()
    append(redis_client, batch(), batch())
    oldest = status(redis_client).stores[STORE].oldest_ms
    assert oldest is not None
    assert before <= oldest <= Upkeep(redis_client).server_ms()


def test_what_an_open_drain_wrote_counts_as_unapplied_until_its_mark_is_gone(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    lease = take(redis_client)
    lease.release(clean=False)
    successor = DrainLog(redis_client).take(SEGMENT, STORE, connection="c2", waived=[lease.token])
    assert isinstance(successor, Lease)
    successor.advance(successor.read(most_bytes=1000, most_entries=10)[-1], 0)
    successor.release(clean=True)
    assert status(redis_client).stores[STORE].ahead is False
    assert status(redis_client).stores[STORE].oldest_ms is not None
    Upkeep(redis_client).settle(SEGMENT, STORE, lease.token)
    drain_all(redis_client)
    assert status(redis_client).stores[STORE].oldest_ms is None


def test_expiring_a_lease_leaves_an_orphaned_mark_and_makes_a_wake_up_due(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    lease = take(redis_client)
    assert Upkeep(redis_client).expire(SEGMENT, STORE, lease.token, "1") is True
    assert [mark.token for mark in status(redis_client).stores[STORE].orphans] == [lease.token]


def test_a_log_leaves_the_index_only_with_the_ticket_it_was_seen_with(redis_client: redis.Redis) -> None:
    upkeep = Upkeep(redis_client)
    append(redis_client, batch())
    [old] = upkeep.ahead().values()
    drain_all(redis_client)
    append(redis_client, batch())
    [new] = upkeep.ahead().values()
    upkeep.remove_from_index((SEGMENT, old))
    assert upkeep.ahead() == {SEGMENT: new}
    upkeep.remove_from_index((SEGMENT, new))
    assert upkeep.ahead() == {}


def test_appending_goes_on_in_order_after_everything_was_compacted(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1"))
    drain_all(redis_client)
    commit_snapshot(redis_client)
    append(redis_client, batch(b"2"))
    assert status(redis_client).stores[STORE].batches_behind == 1
    assert bodies(take(redis_client)) == [b"2"]


def test_a_store_that_comes_after_a_compaction_is_behind_and_reads_over_no_gap(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1"))
    drain_all(redis_client)
    compacted_ms = Upkeep(redis_client).server_ms()
    commit_snapshot(redis_client)
    append(redis_client, batch(b"2", stores=(STORE, "late")))
    lease = take(redis_client, store="late")
    with pytest.raises(Behind):
        lease.read(most_bytes=1000, most_entries=10)
    oldest = status(redis_client, "late").stores["late"].oldest_ms
    assert oldest is not None
    assert oldest <= compacted_ms
    assert bodies(take(redis_client)) == [b"2"]


def test_an_unusable_segment_is_passed_over_and_told_of_at_the_end(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    redis_client.set(keyspace.base(ENVIRONMENT, "broken") + ":segment", "no hash")
    statuses = Upkeep(redis_client).statuses(ENVIRONMENT, ["broken", SEGMENT.segment_key], [STORE])
    assert next(statuses).segment == SEGMENT
    with pytest.raises(Unavailable):
        next(statuses)


def shared(batch_id: str) -> Batch:
    return batch(b"whole body", batch_id=batch_id, keys=("rudderstack-a", "rudderstack-b"))


def test_a_shared_payload_goes_with_the_last_entry_that_refers_to_it(redis_client: redis.Redis) -> None:
    append(redis_client, shared("b1"))
    upkeep = Upkeep(redis_client)
    for key, left in (("rudderstack-a", 1), ("rudderstack-b", 0)):
        segment = SegmentId(ENVIRONMENT, key, 1)
        drain_all(redis_client, segment=segment)
        commit_snapshot(redis_client, segment=segment)
        upkeep.release_payloads(segment)
        assert redis_client.exists(keyspace.payload("b1")) == left


def test_a_cut_request_keeps_only_the_references_that_were_appended(redis_client: redis.Redis) -> None:
    append(redis_client, shared("b1"))
    long_ago = int((time.time() - 3600) * 1000)
    redis_client.zadd(keyspace.PAYLOADS, {"b1": long_ago})
    never_appended = keyspace.log_name(SegmentId(ENVIRONMENT, "rudderstack-c", 1))
    redis_client.sadd(f"{keyspace.payload('b1')}:logs", never_appended)
    assert Upkeep(redis_client).drop_cut_payloads() == 1
    assert redis_client.scard(f"{keyspace.payload('b1')}:logs") == 2
    assert redis_client.zcard(keyspace.PAYLOADS) == 0


def test_a_request_cut_before_its_first_append_leaves_nothing_behind(redis_client: redis.Redis) -> None:
    redis_client.zadd(keyspace.PAYLOADS, {"b1": int((time.time() - 3600) * 1000)})
    redis_client.sadd(f"{keyspace.payload('b1')}:logs", keyspace.log_name(SEGMENT))
    redis_client.hset(keyspace.payload("b1"), mapping={"codec": b"", "body": b"{}"})
    Upkeep(redis_client).drop_cut_payloads()
    assert redis_client.keys("*payload*") == []


def test_a_request_still_in_progress_is_left_alone(redis_client: redis.Redis) -> None:
    redis_client.zadd(keyspace.PAYLOADS, {"b1": int(time.time() * 1000)})
    assert Upkeep(redis_client).drop_cut_payloads() == 0
    assert redis_client.zcard(keyspace.PAYLOADS) == 1
