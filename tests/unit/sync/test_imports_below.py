"""What is replayed at a place before a replace: it has been decided, also about those whom the log had never known."""

from __future__ import annotations

import pytest
import redis
from compact_world import NOTHING_MEANWHILE, World

from worker.log.compaction import Bounds, Folded
from worker.log.merging import Imported, merge
from worker.log.names import excluded_name
from worker.log.position import START, ms_of
from worker.log.snapshot import Changes, reset_of
from worker.sync.truth import decisions_about


@pytest.fixture
def world(redis_client: redis.Redis) -> World:
    return World(redis_client, stores=2)


def first_chunk(world: World) -> bytes:
    base = world.wiring.snapshots.base(world.segment)
    assert base is not None
    return base.chunk(0)


def check(world: World) -> None:
    world.drain_all()
    assert world.truth() == world.expected()
    assert list(world.stores.values()) == [world.expected()] * 2


def test_a_dead_batch_that_is_replayed_brings_nobody_back_whom_a_replace_took_out(world: World) -> None:
    world.accept("a")
    dead = world.accept("xyb")
    world.drain(kill=dead)
    world.accept_import("b")
    world.drain_all()
    assert world.replay(dead) == "inserted"
    check(world)
    assert world.expected() == {"b"}
    world.compact(floor_ms=0)  # the replayed batch is in the snapshot now
    check(world)


def test_a_body_that_is_replayed_before_a_replace_that_still_waits_is_undone_by_it(world: World) -> None:
    position = world.accept("a")
    world.drain_all()
    world.accept_import("b")
    assert world.insert(f"{ms_of(position)}-{10**12}", {"x": True, "b": False}) == "inserted"
    check(world)
    assert world.expected() == {"b"}


def test_what_a_replace_decided_is_told_while_something_lies_beside_the_log_before_it(world: World) -> None:
    position = world.accept("a")
    world.drain_all()
    world.accept_import("b")
    world.drain_all()
    reset = reset_of(first_chunk(world))
    for number in range(2):
        assert world.insert(f"{ms_of(position)}-{10**12 + number}", {"x": True}) == "inserted"
    assert decisions_about(world.wiring, world.segment, {"x", "y"}) == {"x": (False, reset), "y": (False, reset)}
    world.accept_import("c")
    check(world)


def test_a_replay_while_a_replace_is_folded_is_undone_by_it(world: World) -> None:
    position = world.accept("a")
    world.drain_all()
    world.accept_import("b")

    def replay() -> None:
        assert world.insert(f"{ms_of(position)}-{10**12}", {"x": True}) == "inserted"

    world.folding = (1, replay, False)
    world.drain()
    assert world.folding == NOTHING_MEANWHILE
    check(world)
    assert world.expected() == {"b"}


def test_a_merge_leaves_what_is_replayed_before_it_as_it_is(world: World) -> None:
    position = world.accept("a")
    world.drain_all()
    world.accept_import("b", replace=False)
    world.drain_all()
    assert world.insert(f"{ms_of(position)}-{10**12}", {"x": True, "b": False}) == "inserted"
    check(world)
    assert world.expected() == {"a", "b", "x"}


def test_a_replay_after_a_replace_decides(world: World) -> None:
    world.accept("a")
    position = world.accept_import("b")
    world.drain_all()
    assert world.insert(f"{ms_of(position)}-{10**12}", {"x": True, "b": False}) == "inserted"
    check(world)
    assert world.expected() == {"x"}


def test_of_those_whom_nobody_knows_a_replace_has_decided_for_previews_too(world: World) -> None:
    world.accept("a")
    position = world.accept_import("b")
    world.exclude("c")
    world.drain_all()
    asked = {"a", "b", "x", excluded_name("c"), excluded_name("x")}
    known = decisions_about(world.wiring, world.segment, asked)
    assert known.pop(excluded_name("c"))[0]
    assert known == {"a": (False, position), "b": (True, position), "x": (False, position)}


def test_the_reset_is_forgotten_when_nothing_before_it_can_come_any_more(world: World) -> None:
    world.accept("a")
    position = world.accept_import("b")
    world.drain_all()
    assert (reset_of(first_chunk(world)), first_chunk(world)[:1]) == (position, b"\x02")
    world.accept("c")
    world.drain_all()
    world.compact(floor_ms=ms_of(world.head("last")), now_ms=world.now_ms() + 10)
    assert (reset_of(first_chunk(world)), first_chunk(world)[:1]) == ("", b"\x01")
    assert world.insert(f"{ms_of(position) - 1}-{10**12}", {"x": True}) == "below"
    check(world)


def test_no_import_is_folded_past_what_no_store_has_applied(world: World) -> None:
    world.accept("a")
    world.drain_all()
    world.accept("c")
    position = world.accept_import("b")
    bounds = Bounds(horizon_ms=10**13, limit_ms=0, store_ids=tuple(world.stores), none_holds=True)

    def offer() -> str:
        changes = Changes()
        changes.add("1-0", {"a": True, "c": True})
        draft = world.wiring.compaction.draft(world.segment)
        for chunk in merge([], changes, START, Imported(position, iter([["b"]]), ("included",))):
            draft.add(chunk)
        folded = Folded(follows="", position=position, floor=START, entries=3, passed=(), late={})
        return world.wiring.compaction.commit(draft, folded, bounds, ())

    assert offer() == "in use"
    world.drain(entries=1)
    assert offer() == "committed"
    check(world)
    assert world.expected() == {"b"}


def test_a_compaction_leaves_an_import_that_waits_to_the_drain_that_comes_to_it(world: World) -> None:
    world.accept("a")
    world.drain_all()
    world.accept_import("b")
    done = world.compact(now_ms=world.now_ms() + 10)
    assert (done.outcome, done.entries) == ("folded", 1)
    assert len(world.positions()) == 1
    check(world)


def test_a_store_that_misses_more_than_the_import_is_as_old_as_what_it_has(world: World) -> None:
    world.accept("a")
    world.drain_all()
    first, second = world.stores
    has = world.cursor(second)
    world.accept_import("b")
    world.drain(first)
    world.drain(first)
    assert oldest_ms(world, second) > ms_of(has)
    world.accept("c")
    world.drain(first)
    assert world.compact(early=True, now_ms=world.now_ms() + 10).outcome == "folded"
    assert oldest_ms(world, second) == ms_of(has)
    check(world)


def test_a_compaction_of_nothing_that_comes_after_an_import_makes_nobody_older(world: World) -> None:
    world.accept("ab")
    world.accept(remove="b")
    world.drain_all()
    first, second = world.stores
    position = world.accept_import("c")
    world.drain(first)
    world.drain(first)
    # It forgets who had left, and the log ends where it did.
    assert world.compact(floor_ms=ms_of(world.cursor(second)) - 1, now_ms=world.now_ms() + 10).outcome == "folded"
    assert oldest_ms(world, second) == ms_of(position)
    check(world)


def test_a_store_that_misses_nothing_but_an_import_does_not_lag_however_long_nothing_came(world: World) -> None:
    world.accept("a")
    world.drain_all()
    first, second = world.stores
    position = world.accept_import("b")
    world.drain(first)

    def holding(limit_ms: int) -> list[str]:
        bounds = Bounds(horizon_ms=10**13, limit_ms=limit_ms, store_ids=tuple(world.stores))
        found = world.wiring.compaction.look_at(world.segment, bounds)
        assert found is not None
        return list(found.holding)

    assert holding(ms_of(position)) == [first, second]
    assert holding(ms_of(position) + 1) == []
    check(world)


def oldest_ms(world: World, store_id: str) -> int:
    segment = world.segment
    [status] = world.wiring.upkeep.statuses(segment.environment_id, [segment.segment_key], [store_id])
    found = status.stores[store_id].oldest_ms
    assert found is not None
    return found
