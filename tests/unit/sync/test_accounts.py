"""Accepted = applied + pending + dead + discarded + expired, whatever happens meanwhile; what is lost is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
import redis
from compact_world import World
from test_compact_in_any_order import MEANWHILE, WEIGHTS, AnyOrder

from worker.log import accounts as log_accounts
from worker.log.dead_letters import DeadEntry
from worker.log.position import order
from worker.model import SegmentId
from worker.sync import accounts
from worker.sync.accounts import Account, Share, count_over
from worker.sync.expire import expire_dead


@pytest.fixture
def world(redis_client: redis.Redis) -> World:
    return World(redis_client, stores=2)


def count(world: World) -> Account:
    return count_over(world.wiring, [world.segment], list(world.stores))


def discard(world: World, position: str) -> None:
    [letter] = [found[3] for found in world.wiring.compaction.read_dead([world.segment]) if found[1] == position]
    entry = DeadEntry(world.segment, position, letter)
    assert world.wiring.dead_letters.decide(entry, "discarded", by="a test", why="", now_ms=world.now_ms())
    del world.dead[position]


def test_what_was_accepted_is_applied_or_pending_per_store(world: World) -> None:
    first, second = world.stores
    for person in "abc":
        world.accept(person)
    world.drain(first)
    world.drain(second, entries=1)
    found = count(world)
    assert (found.accepted, found.lost) == (3, 0)
    assert found.stores == {first: Share(3, 0), second: Share(1, 2)}


def test_dead_discarded_and_replayed_batches_are_counted_as_what_they_are(world: World) -> None:
    for _ in range(3):
        world.drain(kill=world.accept("z"))
    first, second, third = sorted(world.dead, key=order)
    discard(world, first)
    world.replay(second)
    assert world.insert(f"{order(third)[0]}-{10**12}", {"x": True}) == "inserted"
    found = count(world)
    assert (found.accepted, found.dead, found.discarded, found.lost) == (4, 1, 1, 0)
    assert found.stores[world.first] == Share(0, 2)


def test_what_lies_in_a_snapshot_is_applied_to_a_store_that_has_read_it_and_pends_for_one_that_starts_over(
    world: World,
) -> None:
    first, second = world.stores
    for person in "abc":
        world.accept(person)
    world.drain_all()
    world.compact()
    world.client.delete(world.key(f"cursor:{second}"))
    found = count(world)
    assert (found.lost, found.stores) == (0, {first: Share(3, 0), second: Share(0, 3)})


def test_dead_letters_that_had_their_time_stay_counted(redis_client: redis.Redis) -> None:
    world = World(redis_client, dead_retention_seconds=0)
    for _ in range(2):
        world.drain(kill=world.accept("z"))
    discard(world, min(world.dead, key=order))
    world.drain_all()
    while world.client.hlen(world.key("dead")):
        world.compact()
        assert count(world).balanced
        expire_dead(world.wiring)
    found = count(world)
    assert (found.accepted, found.dead, found.discarded, found.expired, found.lost) == (2, 0, 1, 1, 0)


def lose_a_batch(world: World) -> None:
    world.client.xdel(world.key("log"), world.positions()[1])


def lose_the_last_batch(world: World) -> None:
    world.client.xdel(world.key("log"), world.positions()[-1])


def lose_a_body_beside_the_stream(world: World) -> None:
    world.client.delete(world.key(f"late:{world.beside()[0]}"))


def lose_an_entry_beside_the_stream(world: World) -> None:
    world.client.zrem(world.key("late"), *world.beside())


def lose_the_snapshot(world: World) -> None:
    world.client.delete(world.key(f"snapshot:{world.head('snapshot')}"))


LOSSES = [
    lose_a_batch,
    lose_the_last_batch,
    lose_a_body_beside_the_stream,
    lose_an_entry_beside_the_stream,
    lose_the_snapshot,
]


@pytest.mark.parametrize("lose", LOSSES)
def test_what_is_lost_is_found(world: World, lose: Callable[[World], None]) -> None:
    world.drain(kill=world.accept("z"))
    world.accept("a")
    world.drain_all()
    world.compact()
    for person in "bcd":
        world.accept(person)
    assert len(world.beside()) == 1
    assert count(world).balanced
    lose(world)
    assert not count(world).balanced


def test_a_dead_letter_whose_batch_is_gone_is_found(world: World) -> None:
    world.drain(kill=world.accept("z"))
    world.client.xtrim(world.key("log"), 0)
    assert "1 dead letters without their batch" in " ".join(count(world).problems)


def test_a_log_that_is_compacted_while_it_is_counted_is_counted_anew(world: World) -> None:
    for person in "abcdef":
        world.accept(person)
    world.drain_all()
    walked: list[str] = []

    def walk(client: redis.Redis, segment: SegmentId, position: str) -> Iterator[tuple[str, int]]:
        for entry_id, ordinal in log_accounts.walk(client, segment, position):
            if not walked:
                assert world.compact().outcome == "folded"
            walked.append(entry_id)
            yield entry_id, ordinal

    with patch.object(accounts, "walk", walk), patch.object(log_accounts, "_PAGE", 2):
        found = count(world)
    assert (len(walked), found.balanced, found.accepted) == (2, True, 6)


class Bookkeeping(AnyOrder):
    """Counts over after every step, while other steps are done in the midst of it."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.interrupted = 0

    def _discard(self) -> None:
        position = self._some(self.world.dead)
        if position:
            discard(self.world, position)
            self._note("discarded")

    def _replay(self) -> None:
        position = self._some(self.world.dead)
        if position and self.world.replay(position) == "inserted":
            self._note("replayed")

    def check(self) -> None:
        world = self.world
        before = {"dead": len(world.dead), "live": len(world.model)}
        with patch.object(accounts, "walk", self._walk), patch.object(log_accounts, "_PAGE", 2):
            found = count(world)
        assert found.problems == []
        assert found.lost == 0
        if not self.interrupted:
            assert found.dead == before["dead"]
        for share in found.stores.values():
            assert min(share.applied, share.pending) >= 0
            everything = share.applied + share.pending + found.dead + found.discarded + found.expired
            assert found.accepted == everything
        self.interrupted = 0

    def _walk(self, client: redis.Redis, segment: SegmentId, position: str) -> Iterator[tuple[str, int]]:
        for found in log_accounts.walk(client, segment, position):
            if self.chance.random() < 0.1 and self.interrupted < 3:
                self.interrupted += 1
                self.step({**MEANWHILE, "discard": 2})
            yield found


@pytest.mark.parametrize("seed", range(12))
def test_the_books_balance_after_every_step_and_in_the_midst_of_others(seed: int) -> None:
    run: Any = Bookkeeping(seed)
    try:
        for _ in range(60):
            run.step({**WEIGHTS, "discard": 3})
            run.check()
    except BaseException:
        print(f"seed {seed}:", "; ".join(run.happened))
        raise
