"""Reading what a log no longer has, on fakeredis and on the real server."""

from __future__ import annotations

import pytest
import redis
from log_builders import ENVIRONMENT, SEGMENT, STORE, append, batch, commit_snapshot, drain_all, last

from worker.log import snapshots
from worker.log.dead import DeadLetter
from worker.log.entry import compress, pack_fields, pack_slice
from worker.log.late import insert_entry
from worker.log.position import before, order
from worker.log.snapshot import members
from worker.log.snapshots import SnapshotReplaced, Snapshots, snapshot_key
from worker.model import SegmentId


def compacted(client: redis.Redis, *people: str) -> tuple[str, str]:
    """A log of which everything is in a snapshot; its position, and the snapshot's token."""
    append(client, batch(), batch())
    drain_all(client)
    return last(client), commit_snapshot(client, *people)


def insert(client: redis.Redis, position: str, person: str) -> str:
    fields = pack_fields(
        integration_key="rudderstack",
        parser_digest="d1",
        policy="reject",
        kind="slice",
        content=compress(pack_slice({person: True})),
    )
    told = insert_entry(client, SEGMENT, position, batch_id=position, fields=fields, store_ids=[STORE], of_dead=False)
    assert isinstance(told, list)
    return position


def test_what_was_never_compacted_has_no_base(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    assert Snapshots(redis_client).base(SEGMENT) is None
    assert Snapshots(redis_client).base(SegmentId(ENVIRONMENT, "nothing", 1)) is None


def test_a_base_says_up_to_where_it_goes_and_what_the_log_had_taken_by_then(redis_client: redis.Redis) -> None:
    position, token = compacted(redis_client, "ann", "bob")
    append(redis_client, batch())
    base = Snapshots(redis_client).base(SEGMENT)
    assert base is not None
    assert (base.token, base.position, base.floor, base.batches_total, base.whole) == (token, position, "0-0", 2, True)
    assert base.bytes_total > 0
    assert [members(base.chunk(number)) for number in range(base.chunks)] == [(["ann", "bob"], [])]


def test_a_snapshot_that_was_replaced_is_not_read_on(redis_client: redis.Redis) -> None:
    _, token = compacted(redis_client, "ann")
    base = Snapshots(redis_client).base(SEGMENT)
    commit_snapshot(redis_client, "ann", "bob", follows=token)
    assert base is not None
    with pytest.raises(SnapshotReplaced):
        base.chunk(0)


def test_live_entries_below_the_snapshot_come_with_it_in_order_and_dead_ones_do_not(redis_client: redis.Redis) -> None:
    position, _ = compacted(redis_client)
    ms = int(position.partition("-")[0])
    places = [f"{ms - 1}-{10**12 + number}" for number in (9, 10, 100)]
    for place in reversed(places):
        insert(redis_client, place, place)
    insert(redis_client, f"{ms}-{10**12}", "above")
    dead = f"segsync:{{{ENVIRONMENT}/{SEGMENT.segment_key}}}:g1:dead"
    redis_client.hset(dead, places[1], DeadLetter("dead", "malformed", "").encode())
    base = Snapshots(redis_client).base(SEGMENT)
    assert base is not None
    assert [entry.entry_id for entry in base.late] == [places[0], places[2]]
    assert base.late[0].content() == pack_slice({places[0]: True})
    after = Snapshots(redis_client).base(SEGMENT, after=places[0])
    assert after is not None
    assert [entry.entry_id for entry in after.late] == [places[2]]


def test_many_entries_come_page_by_page_and_as_many_as_asked_for(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "PAGE_BYTES", 50)
    position, _ = compacted(redis_client)
    places = [f"{int(position.partition('-')[0]) - 9 + number}-{10**12}" for number in range(7)]
    for place in places:
        insert(redis_client, place, place)
    base = Snapshots(redis_client).base(SEGMENT)
    assert base is not None
    assert ([entry.entry_id for entry in base.late], base.position, base.whole) == (places, position, True)
    read: list[str] = []
    while not read or order(read[-1]) < order(places[-1]):
        part = Snapshots(redis_client).base(SEGMENT, after=read[-1] if read else "0-0", most_bytes=60)
        assert part is not None
        read += [entry.entry_id for entry in part.late]
        assert part.position == (position if read[-1] == places[-1] else read[-1])
        assert part.whole == (read[-1] == places[-1])
    assert read == places


def test_a_compaction_between_two_pages_starts_the_reading_over(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    position, token = compacted(redis_client)
    places = [f"{int(position.partition('-')[0]) - 9 + number}-{10**12}" for number in range(3)]
    for place in places:
        insert(redis_client, place, place)
    drain_base(redis_client, position)
    monkeypatch.setattr(snapshots, "PAGE_BYTES", 1)
    real, calls = Snapshots._call, []

    def call(self: Snapshots, *arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            commit_snapshot(redis_client, *places[:2], follows=token, late=dict.fromkeys(places[:2], "d1"))
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Snapshots, "_call", call)
    base = Snapshots(redis_client).base(SEGMENT)
    assert base is not None
    assert base.token != token
    assert [entry.entry_id for entry in base.late] == places[2:]
    assert members(base.chunk(0))[0] == places[:2]


def drain_base(client: redis.Redis, position: str) -> None:
    """A store that has applied everything, also what lies below the snapshot."""
    client.hset(f"segsync:{{{ENVIRONMENT}/{SEGMENT.segment_key}}}:g1:cursor:{STORE}", "position", position)


def test_a_cursor_just_before_an_entry_asks_for_it(redis_client: redis.Redis) -> None:
    position, _ = compacted(redis_client)
    place = insert(redis_client, f"{int(position.partition('-')[0]) - 1}-{10**12}", "ann")
    base = Snapshots(redis_client).base(SEGMENT, after=before(place))
    assert base is not None
    assert [entry.entry_id for entry in base.late] == [place]


def test_a_chunk_number_that_is_not_there_is_not_mistaken_for_one(redis_client: redis.Redis) -> None:
    compacted(redis_client)
    with pytest.raises(SnapshotReplaced):
        Snapshots(redis_client).chunk(SEGMENT, "nothing", 0)
    assert snapshot_key(SEGMENT, "t").endswith(":g1:snapshot:t")
