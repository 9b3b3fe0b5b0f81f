"""What a snapshot's commit refuses, step by step, on fakeredis and on the real server."""

from __future__ import annotations

import pytest
import redis
from log_builders import SEGMENT, STORE, append, batch, commit_snapshot, drain_all, last, offer_snapshot, take

from worker.log import keyspace
from worker.log.compaction import Compaction
from worker.log.dead import DeadLetter
from worker.log.lease import DrainLog, Lease
from worker.log.position import START, before, ms_of
from worker.log.snapshots import Snapshots
from worker.log.upkeep import Upkeep

LETTER = DeadLetter("dead", "malformed", "it is no JSON").encode()


def key(name: str) -> str:
    return f"{keyspace.prefix(SEGMENT)}:{name}"


@pytest.fixture
def client(redis_client: redis.Redis) -> redis.Redis:
    """A log of two batches, both applied."""
    append(redis_client, batch(), batch())
    drain_all(redis_client)
    return redis_client


def refused(client: redis.Redis, *people: str, **options: object) -> str:
    """Why a snapshot was refused; nothing has changed."""
    head, entries = client.hgetall(key("head")), client.xlen(key("log"))
    _, verdict = offer_snapshot(client, *people, **options)  # type: ignore[arg-type]
    assert (client.hgetall(key("head")), client.xlen(key("log"))) == (head, entries)
    return verdict


def test_a_snapshot_is_refused_when_another_came_first(client: redis.Redis) -> None:
    token = commit_snapshot(client, "ann")
    assert refused(client, "bob") == "replaced"
    assert refused(client, "bob", follows="other") == "replaced"
    assert commit_snapshot(client, "bob", follows=token)


def test_a_snapshot_is_refused_below_the_one_before_it(client: redis.Redis) -> None:
    token = commit_snapshot(client)
    assert refused(client, follows=token, upto=before(last(client))) == "replaced"


def test_a_snapshot_of_a_log_that_is_not_there_is_refused(redis_client: redis.Redis) -> None:
    assert offer_snapshot(redis_client, upto="5-0")[1] == "replaced"
    assert not redis_client.exists(key("head"))


def test_a_snapshot_of_a_log_that_was_trimmed_without_one_is_refused(client: redis.Redis) -> None:
    client.hset(key("head"), "trimmed", before(last(client)))
    assert refused(client) == "replaced"


@pytest.mark.parametrize("holding", [True, False], ids=["of a store that holds the log", "of the only store"])
def test_a_snapshot_is_refused_beyond_a_cursor(client: redis.Redis, holding: bool) -> None:
    append(client, batch())
    assert refused(client, holding=(STORE,) if holding else ()) == "in use"


def test_a_snapshot_is_refused_beyond_where_an_open_drain_began(client: redis.Redis) -> None:
    append(client, batch())
    zombie = take(client)
    Upkeep(client).expire(SEGMENT, STORE, zombie.token, "1")
    successor = DrainLog(client).take(SEGMENT, STORE, connection="c2", waived=[zombie.token])
    assert isinstance(successor, Lease)
    successor.advance(successor.read(most_bytes=1000, most_entries=10)[-1], 0)
    successor.release(clean=True)
    assert refused(client) == "in use"
    assert offer_snapshot(client, holding=())[1] == "committed"


def test_a_replayed_entry_that_died_again_is_in_no_snapshot(client: redis.Redis) -> None:
    token = commit_snapshot(client)
    place = f"{ms_of(last(client)) - 1}-0"
    client.hset(key(f"late:{place}"), "m", "digest")
    client.zadd(key("late"), {place: ms_of(place)})
    client.hset(key("dead"), place, LETTER)
    assert refused(client, follows=token, late={place: "digest"}) == "changed"
    client.hdel(key("dead"), place)
    assert refused(client, follows=token, late={place: "another"}) == "changed"
    assert commit_snapshot(client, follows=token, late={place: "digest"})
    assert client.keys("*late*") == []


def test_a_replayed_entry_that_no_store_has_applied_is_in_no_snapshot(client: redis.Redis) -> None:
    token = commit_snapshot(client)
    place = f"{ms_of(last(client)) - 1}-0"
    client.hset(key(f"late:{place}"), "m", "digest")
    client.zadd(key("late"), {place: ms_of(place)})
    client.hset(key(f"cursor:{STORE}"), "position", before(place))
    assert refused(client, follows=token, late={place: "digest"}) == "in use"


def test_a_floor_never_goes_down_nor_above_its_snapshot_nor_above_a_cursor(client: redis.Redis) -> None:
    position = last(client)
    assert refused(client, floor=f"{ms_of(position) + 1}-0") == "floor"
    token = commit_snapshot(client, floor=before(position))
    assert refused(client, follows=token, floor=START) == "floor"
    client.hset(key(f"cursor:{STORE}"), "position", START)
    assert refused(client, follows=token, floor=position) == "floor"


@pytest.mark.parametrize("what", ["dead", "replayed"])
def test_a_floor_stays_below_what_may_come_back_to_life(client: redis.Redis, what: str) -> None:
    token, position = commit_snapshot(client), last(client)
    place = f"{ms_of(position) - 1}-5"
    client.hset(key(f"late:{place}"), "m", "digest")
    client.zadd(key("late"), {place: ms_of(place)})
    if what == "dead":
        client.hset(key("dead"), place, LETTER)
    assert refused(client, follows=token, floor=position) == "floor"
    assert refused(client, follows=token, floor=f"{ms_of(place)}-6") == "floor"
    token = commit_snapshot(client, follows=token, floor=place)
    client.hset(key("dead"), place, LETTER.replace(b'"dead"', b'"discarded"'))
    assert commit_snapshot(client, follows=token, floor=position)


def test_a_dead_entry_that_lies_beside_the_stream_already_stays_as_it_is_there(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"as accepted"))
    position = last(redis_client)
    drain_all(redis_client)
    redis_client.hset(key(f"late:{position}"), "p", "as replayed")
    redis_client.zadd(key("late"), {position: ms_of(position)})
    redis_client.hset(key("dead"), position, LETTER)
    commit_snapshot(redis_client, passed=(position,))
    assert redis_client.hget(key(f"late:{position}"), "p") == b"as replayed"


def test_a_log_without_entries_left_knows_what_it_has_taken(client: redis.Redis) -> None:
    totals = client.hmget(key("head"), "batches", "bytes")
    commit_snapshot(client)
    assert client.hmget(key("head"), "trimmed_batches", "trimmed_bytes") == totals
    base = Snapshots(client).base(SEGMENT)
    assert base is not None
    assert [str(base.batches_total).encode(), str(base.bytes_total).encode()] == totals


def test_a_snapshot_that_is_committed_can_be_abandoned_no_more(client: redis.Redis) -> None:
    draft = Compaction(client).draft(SEGMENT)
    draft.token = commit_snapshot(client, "ann")
    draft.abandon()
    assert client.exists(key(f"snapshot:{draft.token}")) == 1
