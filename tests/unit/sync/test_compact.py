"""Compaction: what leaves the log, what waits, and what is known afterwards; on fakeredis and on the real server."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import redis
from compact_world import LONG_S, World, letter
from structlog.testing import capture_logs

from worker.errors import Unavailable
from worker.log import keyspace, merging
from worker.log.append import Appends
from worker.log.batch import Batch, Target
from worker.log.compaction import Compaction
from worker.log.lease import Behind, DrainLog, Lease
from worker.log.position import START, ms_of, order
from worker.log.segments import read_segments
from worker.model import Cohort, SegmentId
from worker.settings import Settings
from worker.sync import compact as compact_module
from worker.sync.compact import compact, due
from worker.sync.expire import expire_dead


@pytest.fixture
def world(redis_client: redis.Redis) -> World:
    return World(redis_client)


def two_stores(client: redis.Redis, **settings: Any) -> tuple[World, str, str]:
    world = World(client, stores=2, **settings)
    first, second = world.stores
    return world, first, second


def test_applied_batches_leave_the_log_and_what_they_amount_to_stays(world: World) -> None:
    world.accept("abc")
    last = world.accept("d", "a")
    world.drain()
    assert world.compact().outcome == "folded"
    assert (world.positions(), world.head("trimmed"), world.head("folded")) == ([], last, "2")
    assert world.snapshot_members() == world.expected() == set("bcd")
    world.accept("a", "b")
    assert world.truth() == world.expected()


def test_appending_and_draining_go_on_after_everything_was_compacted(world: World) -> None:
    world.accept("ab")
    world.drain()
    world.compact()
    world.accept("c", "a")
    [status] = world.wiring.upkeep.statuses(world.segment.environment_id, [world.segment.segment_key], [world.first])
    assert status.stores[world.first].batches_behind == 1
    world.drain()
    assert world.stores[world.first] == set("bc")


def test_batches_younger_than_the_retention_stay(redis_client: redis.Redis) -> None:
    world = World(redis_client, retention_seconds=60)
    young = world.accept("a")
    world.drain()
    assert world.compact().outcome == "not due"
    assert world.compact(now_ms=ms_of(young) + 59_999).outcome == "not due"
    assert world.compact(now_ms=ms_of(young) + 60_000).outcome == "folded"


def test_what_a_store_has_not_applied_stays(redis_client: redis.Redis) -> None:
    world, first, second = two_stores(redis_client)
    applied = world.accept("a")
    world.drain(second)
    waits = world.accept("b")
    world.drain(first)
    world.compact()
    assert (world.head("trimmed"), world.positions()) == (applied, [waits])
    world.drain(second)
    world.compact()
    assert world.positions() == []


def test_what_an_open_drain_may_go_back_to_stays(world: World) -> None:
    world.accept("a")
    zombie = world.take()
    assert zombie is not None
    world.wiring.upkeep.expire(world.segment, world.first, zombie.token, "1")
    successor = DrainLog(world.client).take(world.segment, world.first, connection="c2", waived=[zombie.token])
    assert isinstance(successor, Lease)
    successor.advance(successor.read(most_bytes=1000, most_entries=10)[-1], 0)
    successor.release(clean=True)
    assert world.compact().outcome == "not due"
    zombie.rewind()
    assert [entry.entry_id for entry in world.take().read(most_bytes=1000, most_entries=9)] == world.positions()  # type: ignore[union-attr]


def test_a_store_that_lags_beyond_the_limit_holds_the_log_no_longer_and_reads_the_snapshot(
    redis_client: redis.Redis,
) -> None:
    world, first, second = two_stores(redis_client, lag_limit_seconds=60)
    oldest = world.accept("ab")
    world.drain(second)
    world.accept("c", "a")
    world.accept("", "c")
    world.drain(first)
    waits_since = ms_of(world.positions()[1])
    world.compact(now_ms=waits_since + 60_000)
    assert world.head("trimmed") == oldest
    world.compact(now_ms=waits_since + 60_001)
    assert world.positions() == []
    world.drain(second)
    assert world.stores[second] == world.expected() == {"b"}


def test_what_no_store_has_applied_stays_however_long_it_has_waited(redis_client: redis.Redis) -> None:
    world, _, _ = two_stores(redis_client, lag_limit_seconds=0)
    world.accept("a")
    assert world.compact(now_ms=world.now_ms() + LONG_S).outcome == "not due"


def test_while_memory_is_short_no_store_is_waited_for(redis_client: redis.Redis) -> None:
    world, first, second = two_stores(redis_client, retention_seconds=LONG_S)
    world.accept("ab")
    world.accept("c", "a")
    world.drain(first)
    waits = world.accept("d")
    assert world.compact().outcome == "not due"
    assert world.compact(early=True).outcome == "folded"
    assert world.positions() == [waits]
    world.drain(second)
    world.drain(second)
    assert world.stores[second] == world.expected() == set("bcd")


def test_a_drain_in_progress_notices_that_what_it_would_read_next_is_gone(redis_client: redis.Redis) -> None:
    world, first, second = two_stores(redis_client)
    world.accept("a")
    world.accept("b")
    slow = world.take(second)
    assert slow is not None
    [read] = slow.read(most_bytes=1000, most_entries=1)
    world.drain(first)
    world.compact(early=True)
    slow.advance(read, 0)
    with pytest.raises(Behind):
        slow.read(most_bytes=1000, most_entries=1)


def test_a_dead_batch_leaves_the_stream_and_can_still_be_replayed_at_its_own_place(world: World) -> None:
    """Ann: added by a batch that dies, removed by a later one; the batch is replayed after both were compacted."""
    accident = world.accept("ax")
    world.drain(kill=accident)
    world.accept("", "a")
    world.drain()
    world.compact()
    assert (world.positions(), world.beside()) == ([], [accident])
    assert world.replay(accident) == "inserted"
    assert order(world.cursor(world.first)) < order(accident)
    world.drain()
    assert world.stores[world.first] == world.truth() == {"x"}
    world.compact()
    assert (world.beside(), world.snapshot_members(), world.head("folded")) == ([], {"x"}, "2")


def test_a_batch_that_was_replayed_and_died_again_stays_replayable(world: World) -> None:
    accident = world.accept("a")
    world.drain(kill=accident)
    world.replay(accident, {"b": True})
    world.drain(kill=accident)
    world.compact()
    assert (world.positions(), world.beside()) == ([], [accident])
    world.replay(accident, {"c": True})
    world.drain()
    assert world.stores[world.first] == {"c"}


def test_a_discarded_batch_is_dropped_and_its_record_stays_for_its_time(world: World) -> None:
    accident = world.accept("a")
    world.drain(kill=accident)
    [found] = world.wiring.compaction.read_dead([world.segment])
    discarded = letter().encode().replace(b'"status":"dead"', b'"status":"discarded"')
    world.client.hset(world.key("dead"), found[1], discarded)
    world.compact()
    assert (world.positions(), world.beside()) == ([], [])
    assert world.client.hkeys(world.key("dead")) == [accident.encode()]


def test_members_who_left_are_known_until_nobody_may_ask_any_more(redis_client: redis.Redis) -> None:
    world = World(redis_client, dead_retention_seconds=60, rejected_retention_seconds=30)
    added = world.accept("ab")
    while world.now_ms() <= ms_of(added):
        pass  # what is replayed at the first one's place comes after all of its millisecond
    removed = world.accept("", "a")
    world.drain()
    world.compact()
    early = f"{ms_of(added)}-{10**12}"
    assert world.insert(early, {"a": True, "b": False, "c": True}) == "inserted"
    world.drain()
    assert world.stores[world.first] == {"c"}
    world.compact()
    assert (world.head("snapshot_members"), world.head("snapshot_removed")) == ("1", "2")
    after = world.accept("d")
    world.drain()
    world.compact(now_ms=ms_of(after) + 60_000)
    assert world.head("floor") == f"{ms_of(after)}-0"
    assert (world.head("snapshot_members"), world.head("snapshot_removed")) == ("2", "0")
    assert world.insert(removed + "1", {"a": True}) == "below"
    assert world.truth() == world.expected() == set("cd")


@pytest.mark.parametrize("longest", ["retention_seconds", "dead_retention_seconds", "rejected_retention_seconds"])
def test_the_floor_lies_before_the_longest_retention_and_never_goes_back(
    redis_client: redis.Redis, longest: str
) -> None:
    settings = {"retention_seconds": 10, "dead_retention_seconds": 20, "rejected_retention_seconds": 30}
    world = World(redis_client, **{**settings, longest: 60})
    old = world.accept("a")
    world.drain()
    assert world.compact(now_ms=ms_of(old) + 59_000).outcome == (
        "not due" if longest == "retention_seconds" else "folded"
    )
    assert ms_of(world.head("floor") or START) < ms_of(old)
    world.accept("b")
    world.drain()
    world.compact(now_ms=ms_of(old) + 60_000)
    assert ms_of(world.head("floor") or START) == ms_of(old)
    first = world.head("floor")
    world.wiring.settings = Settings(retention_seconds=0, dead_retention_seconds=LONG_S)
    world.accept("b")
    world.drain()
    assert world.compact().outcome == "folded"
    assert world.head("floor") == first


def test_the_floor_stays_below_what_may_come_back_to_life(redis_client: redis.Redis) -> None:
    world = World(redis_client, dead_retention_seconds=0)
    accident = world.accept("ax")
    world.drain(kill=accident)
    world.accept("", "a")
    world.drain()
    world.compact(now_ms=world.now_ms() + 5_000)
    assert world.head("floor") == f"{ms_of(accident) - 1}-0"
    world.replay(accident)
    assert order(world.cursor(world.first)) >= order(world.head("floor"))
    world.accept("b")
    world.drain()
    world.drain()
    # Folded by now, but it was there when the floor was chosen.
    world.compact(now_ms=world.now_ms() + 5_000)
    assert (world.head("floor"), world.truth()) == (f"{ms_of(accident) - 1}-0", {"b", "x"})


def test_a_store_that_went_back_keeps_the_floor_down_and_nothing_from_being_folded(redis_client: redis.Redis) -> None:
    world, first, second = two_stores(redis_client)
    accidents = []
    for person in "ab":
        accidents.append(world.accept(person))
        world.drain(first, kill=accidents[-1])
    world.accept("c")
    world.drain_all()
    world.compact()
    for accident in accidents:
        world.replay(accident)
        world.drain(first)
        assert world.compact(floor_ms=world.now_ms()).outcome == "folded"
    assert order(world.head("floor")) <= order(world.cursor(second)) < order(accidents[0])
    world.drain(second)
    assert world.stores[second] == set("abc")


def test_a_log_where_nothing_comes_any_more_forgets_once_who_left_it(redis_client: redis.Redis) -> None:
    world = World(redis_client, dead_retention_seconds=60)
    world.accept("abc")
    world.accept("", "ab")
    world.drain()
    world.compact()
    now_ms = world.now_ms() + 61_000
    with patch.object(compact_module, "_now", lambda _: (now_ms, False)):
        assert due(world.wiring) == [world.segment]
        assert compact(world.wiring, world.segment).outcome == "folded"
        assert due(world.wiring) == []
    assert world.head("floor") == f"{ms_of(world.head('trimmed'))}-0"
    assert world.truth() == {"c"}


def test_who_is_killed_before_the_commit_has_changed_nothing_and_leaves_nothing_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "CHUNK_MEMBERS", 1)
    world.accept("abc")
    world.drain()
    steps = 0
    while world.compact(at=steps, killed=True).outcome == "killed":
        assert (world.head("snapshot"), len(world.positions()), world.truth()) == ("", 1, set("abc"))
        steps += 1
    committed = world.key(f"snapshot:{world.head('snapshot')}")
    assert len(world.snapshot_keys()) >= 3, "some were killed between two chunks"
    assert world.client.ttl(committed) == -1
    assert all(0 < world.client.ttl(key) <= 3600 for key in world.snapshot_keys() if key != committed)
    assert world.truth() == set("abc")


def test_a_commit_whose_reply_is_lost_stands(world: World) -> None:
    world.accept("abc")
    world.drain()
    real = Compaction.commit

    def cut(self: Compaction, *arguments: Any) -> str:
        assert real(self, *arguments) == "committed"
        raise Unavailable("the reply was lost", dependency="state", fate_unknown=True)

    with patch.object(Compaction, "commit", cut), pytest.raises(Unavailable):
        world.compact()
    assert world.snapshot_keys() == [world.key(f"snapshot:{world.head('snapshot')}")]
    assert world.truth() == set("abc")


def test_chunks_that_are_gone_before_the_commit_are_no_snapshot(world: World) -> None:
    world.accept("abc")
    world.drain()
    real = Compaction.commit

    def late(self: Compaction, draft: Any, *arguments: Any) -> str:
        world.client.delete(world.key(f"snapshot:{draft.token}"))
        return real(self, draft, *arguments)

    with patch.object(Compaction, "commit", late):
        assert world.compact().outcome == "incomplete"
    assert (world.head("snapshot"), world.truth()) == ("", set("abc"))


@pytest.mark.parametrize("at", range(5))
def test_of_two_compactors_one_commits_and_the_other_leaves_nothing(world: World, at: int) -> None:
    world.accept("abc")
    world.drain()
    world.compact()
    world.accept("d", "a")
    world.drain()
    outcomes = []
    outcomes.append(world.compact(at=at, meanwhile=lambda: outcomes.append(world.compact().outcome)).outcome)
    assert outcomes.count("folded") >= 1
    assert world.snapshot_keys() == [world.key(f"snapshot:{world.head('snapshot')}")]
    assert (world.head("folded"), world.truth()) == ("2", set("bcd"))


def test_a_store_that_went_back_meanwhile_keeps_what_it_needs(world: World) -> None:
    world.accept("ab")
    lease = world.take()
    assert lease is not None
    entries = lease.read(most_bytes=1000, most_entries=10)

    def void() -> None:
        assert world.wiring.drain_log.call("void", world.segment, world.first) in (0, 1)

    lease.advance(entries[-1], 0)
    lease.release(clean=True)
    assert world.compact(at=2, meanwhile=void).outcome == "in use"
    assert len(world.positions()) == 1
    world.drain()
    assert world.stores[world.first] == set("ab")


def test_a_batch_that_is_replayed_meanwhile_stays_beside_the_snapshot(world: World) -> None:
    accident = world.accept("ax")
    world.drain(kill=accident)
    world.accept("", "a")
    world.drain()

    def replay() -> None:
        world.replay(accident)

    done = world.compact(at=2, meanwhile=replay)
    assert done.outcome == "in use"
    world.drain()
    assert world.stores[world.first] == world.truth() == {"x"}


def test_a_replayed_batch_that_died_and_was_replayed_otherwise_meanwhile_is_not_taken_for_the_first(
    world: World,
) -> None:
    accident = world.accept("a")
    world.drain(kill=accident)
    world.accept("b")
    world.drain()
    world.compact()
    world.replay(accident, {"x": True})
    world.drain()

    def replay_anew() -> None:
        world.client.hset(world.key("dead"), accident, letter().encode())
        world.dead[accident] = world.model.pop(accident)
        world.replay(accident, {"y": True})
        world.drain()

    assert world.compact(at=0, meanwhile=replay_anew).outcome == "changed"
    assert world.truth() == world.expected() == {"b", "y"}
    assert world.compact().outcome == "folded"
    assert world.truth() == world.expected() == {"b", "y"}


def test_a_batch_that_dies_after_it_was_read_is_not_in_the_snapshot(world: World) -> None:
    """By a bug, or by hand: a batch that a store has applied is not found dead any more."""
    accident = world.accept("a")
    world.accept("b")
    world.drain()

    def die() -> None:
        world.client.hset(world.key("dead"), accident, letter().encode())

    done = world.compact(at=2, meanwhile=die)
    assert done.outcome == "changed"
    assert world.truth() == {"b"}


def test_long_logs_are_folded_a_portion_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact_module, "PASS_MEMBERS", 3)
    monkeypatch.setattr(compact_module, "READ_ENTRIES", 2)
    for number in range(10):
        world.accept("abcdefghij"[number], "abcdefghij"[number - 5])
    world.drain()
    done = world.compact()
    assert (done.passes, done.entries, done.members) == (5, 10, 5)
    assert world.truth() == set("fghij")


def test_replayed_batches_below_the_snapshot_are_folded_a_portion_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    accidents = []
    for person in "abcdef":
        accidents.append(world.accept(person))
        world.drain(kill=accidents[-1])
    world.accept("", "c")
    world.drain()
    world.compact()
    for accident in accidents:
        world.replay(accident)
    world.drain()
    monkeypatch.setattr(compact_module, "PASS_MEMBERS", 2)
    monkeypatch.setattr(compact_module, "PASS_BYTES", 40)
    assert world.compact().passes > 1
    assert (world.beside(), world.truth()) == ([], set("abdef"))


def test_a_worker_that_is_told_to_stop_gives_up_the_portion_in_hand(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "CHUNK_MEMBERS", 1)
    world.accept("abc")
    world.drain()
    for steps in range(5):
        asked = iter([False] * steps + [True] * 9)
        done = compact(world.wiring, world.segment, force=True, stopping=lambda asked=asked: next(asked))  # type: ignore[misc]
        assert (done.outcome, world.snapshot_keys(), len(world.positions())) == ("stopped", [], 1)
    assert world.compact().outcome == "folded"


def test_what_cannot_be_read_any_more_stops_the_compaction_before_it(world: World) -> None:
    world.accept("a")
    world.installation.accept_body(b"{not json")
    unreadable = world.head("last")
    world.accept("b")
    lease = world.take()
    assert lease is not None
    lease.advance(lease.read(most_bytes=10_000, most_entries=10)[-1], 0)  # as if it had been readable then
    lease.release(clean=True)
    with capture_logs() as logs:
        assert world.compact().outcome == "blocked"
    assert [line["entry_id"] for line in logs if line["event"] == "compaction.blocked"] == [unreadable]
    assert (world.positions()[0], world.snapshot_members()) == (unreadable, {"a"})
    assert world.compact().outcome == "blocked"


def test_a_log_that_was_trimmed_without_a_snapshot_is_left_alone(world: World) -> None:
    world.accept("a")
    world.accept("b")
    world.drain()
    world.client.hset(world.key("head"), "trimmed", world.positions()[0])
    assert world.compact().outcome == "not whole"
    assert len(world.positions()) == 2


def test_a_segment_that_is_not_there_is_gone(world: World) -> None:
    assert compact(world.wiring, world.segment, force=True).outcome == "gone"
    world.accept("a")
    assert compact(world.wiring, world.segment._replace(generation=2), force=True).outcome == "gone"


def members_of(world: World) -> tuple[int, bool]:
    [found] = read_segments(world.client, world.segment.environment_id, [world.segment.segment_key])
    return found.members, found.members_exact


def test_members_are_counted_when_all_is_in_the_snapshot_and_in_every_store(redis_client: redis.Redis) -> None:
    world, first, second = two_stores(redis_client)
    world.accept("abc")
    world.drain(first)
    world.drain(second)
    world.client.hset(f"segsync:{{{'/'.join(world.segment[:2])}}}:segment", "members_exact", "0")
    world.compact()
    assert members_of(world) == (3, True)


@pytest.mark.parametrize("what", ["a batch waits", "a drain is open", "a replayed batch waits"])
def test_members_are_not_taken_for_exact_while_anything_is_on_its_way(redis_client: redis.Redis, what: str) -> None:
    world, first, second = two_stores(redis_client)
    world.accept("abc")
    accident = world.accept("x")
    world.drain(first, kill=accident)
    world.drain(second)
    world.client.hset(f"segsync:{{{'/'.join(world.segment[:2])}}}:segment", "members_exact", "0")
    if what == "a batch waits":
        world.accept("d")
    elif what == "a drain is open":
        world.accept("d")
        world.drain(first)
        world.take(second)
    else:
        world.replay(accident)
    world.compact(early=True)
    assert not members_of(world)[1]


def shared(world: World, batch_id: str) -> None:
    """A payload of two segments."""
    batch = Batch(
        batch_id=batch_id,
        environment_id=world.segment.environment_id,
        context_kind="user",
        integration_key="rudderstack",
        parser_digest=world.installation.manifest.parser.digest,
        body=b"the whole payload",
        targets=[Target(f"rudderstack-{cohort}", Cohort(cohort, members={"a": True})) for cohort in ("beta", "gamma")],
        store_ids=list(world.stores),
        not_after_ms=10**15,
    )
    [outcome] = Appends(world.client).append([batch])
    assert not isinstance(outcome, Exception)


def test_a_shared_payload_goes_with_the_last_entry_that_refers_to_it(world: World) -> None:
    shared(world, "b1")
    world.drain()
    world.compact()
    assert world.client.exists(keyspace.payload("b1")) == 1
    world.segment = SegmentId(world.segment.environment_id, "rudderstack-gamma", 1)
    world.drain()
    world.compact()
    assert world.client.exists(keyspace.payload("b1")) == 0
    assert world.client.keys("*payload*") == []


def test_a_shared_payload_stays_for_a_dead_entry_until_that_expires(world: World) -> None:
    shared(world, "b1")
    accident = world.head("last")
    lease = world.take()
    assert lease is not None
    [entry] = lease.read(most_bytes=1000, most_entries=10)
    lease.bury(entry, letter("b1"))
    lease.advance(entry, 0)
    lease.release(clean=True)
    world.accept("b")
    world.drain()
    world.compact()
    name = keyspace.log_name(world.segment)
    assert world.beside() == [accident]
    assert world.client.sismember(f"{keyspace.payload('b1')}:logs", name)
    assert expire_dead(world.wiring) == 1
    assert not world.client.sismember(f"{keyspace.payload('b1')}:logs", name)


def test_a_dead_letter_expires_after_its_retention_and_not_unseen(redis_client: redis.Redis) -> None:
    world = World(redis_client, dead_retention_seconds=60)
    old, young = world.accept("a"), world.accept("b")
    world.drain(kill=old)
    world.drain(kill=young)
    world.drain()
    young_letter = letter("young", died_ms=world.now_ms())
    world.client.hset(world.key("dead"), young, young_letter.encode())
    with capture_logs() as logs:
        assert (expire_dead(world.wiring), logs) == (0, []), "the stream still has it"
    for segment, entry_id, record, _ in list(world.wiring.compaction.read_dead([world.segment])):
        assert world.wiring.compaction.expire(segment, entry_id, record) is False
    assert world.client.hlen(world.key("dead")) == 2
    world.accept("c")
    world.drain()
    world.compact()
    with capture_logs() as logs:
        assert expire_dead(world.wiring) == 1
    [line] = [line for line in logs if line["event"] == "batch.expires"]
    assert (line["log_level"], line["entry_id"], line["reason"]) == ("warning", old, "malformed")
    assert (world.beside(), world.client.hkeys(world.key("dead"))) == ([young], [young.encode()])
    assert world.head("expired") == "1"


def test_what_was_discarded_is_forgotten_in_silence_after_the_same_time(redis_client: redis.Redis) -> None:
    world = World(redis_client, dead_retention_seconds=60)
    accident = world.accept("a")
    world.drain(kill=accident)
    world.accept("b")
    world.drain()
    world.compact()
    record = letter().encode().replace(b'"status":"dead"', b'"status":"discarded"')
    fresh = b'"decided_ms":%d' % world.now_ms()
    world.client.hset(world.key("dead"), accident, record.replace(b'"decided_ms":0', fresh))
    assert (expire_dead(world.wiring), world.client.hlen(world.key("dead"))) == (0, 1)
    world.client.hset(world.key("dead"), accident, record.replace(b'"decided_ms":0', b'"decided_ms":1'))
    with capture_logs() as logs:
        assert expire_dead(world.wiring) == 0
    assert (world.client.hlen(world.key("dead")), world.beside(), logs, world.head("expired")) == (0, [], [], "")


def test_a_dead_letter_that_is_replayed_at_that_moment_does_not_expire(world: World) -> None:
    accident = world.accept("a")
    world.drain(kill=accident)
    world.accept("b")
    world.drain()
    world.compact()
    [(segment, entry_id, record, _)] = list(world.wiring.compaction.read_dead([world.segment]))
    world.replay(accident)
    assert world.wiring.compaction.expire(segment, entry_id, record) is False
    world.drain()
    assert world.stores[world.first] == set("ab")


class At:
    """A time, as compaction sees it."""

    def __init__(self, now_ms: int, *, early: bool = False) -> None:
        self._patch = patch.object(compact_module, "_now", lambda _: (now_ms, early))

    def __enter__(self) -> None:
        self._patch.start()

    def __exit__(self, *_: object) -> None:
        self._patch.stop()


def due_at(world: World, now_ms: int, *, early: bool = False) -> bool:
    with At(now_ms, early=early):
        found = due(world.wiring)
        assert found in ([], [world.segment])
        assert early or bool(found) == (compact_is_worth_it(world, now_ms))
        return bool(found)


def compact_is_worth_it(world: World, now_ms: int) -> bool:
    with patch.object(compact_module, "_Pass", NoPass):
        return compact(world.wiring, world.segment).outcome == "begun"


class NoPass:
    def __init__(self, *_: object) -> None: ...

    def run(self, done: compact_module.Compacted) -> bool:
        done.outcome = "begun"
        return False


def test_a_first_snapshot_is_due_when_batches_have_outlived_their_retention(redis_client: redis.Redis) -> None:
    world = World(redis_client, retention_seconds=60)
    accepted_ms = ms_of(world.accept("a"))
    assert not due_at(world, accepted_ms + 60_000), "no store has applied it"
    world.drain()
    assert not due_at(world, accepted_ms + 59_999)
    assert due_at(world, accepted_ms + 60_000)


def test_further_ones_are_due_when_they_are_worth_it_or_overdue(redis_client: redis.Redis) -> None:
    world = World(redis_client, retention_seconds=3600)
    world.accept("abcdef")
    world.drain()
    world.compact(now_ms=world.now_ms() + 3_600_000)
    world.client.hset(world.key("head"), "snapshot_bytes", "1000")
    accepted_ms = ms_of(world.accept("g"))
    world.drain()
    assert not due_at(world, accepted_ms + 3_600_000)
    assert due_at(world, accepted_ms + 3_600_000, early=True)
    assert due_at(world, accepted_ms + 3_600_000 * 5 // 4 + 1)
    assert not due_at(world, accepted_ms + 3_600_000 * 5 // 4)
    world.client.hset(world.key("head"), "snapshot_bytes", "100000")
    assert not due_at(world, accepted_ms, early=True), "it would take more memory than it gives"
    world.client.hset(world.key("head"), "snapshot_bytes", "800")
    assert due_at(world, accepted_ms + 3_600_000)


def test_batches_replayed_below_the_snapshot_count_once_they_are_applied(redis_client: redis.Redis) -> None:
    world = World(redis_client)
    accident = world.accept("a")
    world.drain(kill=accident)
    world.accept("b")
    world.drain()
    world.compact()
    world.client.hset(world.key("head"), "snapshot_bytes", "8")
    assert not due_at(world, world.now_ms() + 1)
    world.replay(accident)
    assert not due_at(world, world.now_ms() + 1)
    world.drain()
    assert due_at(world, world.now_ms() + 1)


def test_those_with_the_most_to_fold_are_due_first_and_broken_ones_hold_up_nobody(world: World) -> None:
    for cohort_id, batches in (("small", 1), ("large", 3)):
        for _ in range(batches):
            world.installation.accept(cohort_id, add=("a", "b"))
        world.segment = world.installation.segment(cohort_id)
        world.drain()
    world.installation.accept("broken", add=("a",))
    broken = world.installation.segment("broken")
    world.client.set(f"{keyspace.base(*broken[:2])}:segment", "no hash")
    with At(world.now_ms() + 1):
        assert due(world.wiring) == [world.installation.segment("large"), world.installation.segment("small")]


def test_a_full_state_server_is_told_by_its_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.accept("a")
    world.drain()
    monkeypatch.setattr(world.wiring, "settings", Settings(retention_seconds=LONG_S))
    assert due(world.wiring) == []
    monkeypatch.setattr(compact_module, "memory_share", lambda _: 0.81)
    assert due(world.wiring) == [world.segment]
