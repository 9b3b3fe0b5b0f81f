"""A drain that reads what its log no longer has: a snapshot, chunk by chunk, and what was replayed below it."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import redis
from servers import wait_until
from sync_builders import FaultyStore, Installation

from worker.log import keyspace, merging
from worker.log.entry import compress, pack_fields, pack_slice
from worker.log.late import insert_entry, void_cursor
from worker.log.position import ms_of, order
from worker.log.segments import read_segments
from worker.log.snapshots import Snapshots
from worker.model import RedisStoreConfiguration, SegmentId, SegmentPatch, WriteCounts
from worker.records.brake import LEAST_JUDGED
from worker.records.stores import StoreRecords
from worker.stores.memory import MemorySession
from worker.sync import drain as drain_module
from worker.sync.compact import compact
from worker.sync.drain import Drained, drain

PEOPLE = ("ann", "bob", "cyd", "dan", "eve")


class World:
    """One segment, whose batches leave the log once one store has them, and a second store that may lag behind."""

    def __init__(self, client: redis.Redis, **settings: Any) -> None:
        forgetful = dict.fromkeys(
            ("retention_seconds", "dead_retention_seconds", "rejected_retention_seconds", "lag_limit_seconds"), 0
        )
        self.installation = Installation(client, **{**forgetful, **settings})
        self.wiring = self.installation.wiring
        self.segment = self.installation.segment()
        self.first = self.installation.store_id
        self.second = (
            StoreRecords(client)
            .add(self.segment.environment_id, "second", RedisStoreConfiguration(host="elsewhere"))
            .store_id
        )
        self.wiring.directory.fresh(0)

    def accept(self, *add: str, remove: tuple[str, ...] = ()) -> str:
        """A batch, in a millisecond of its own; returns its position."""
        self.installation.accept(add=add, remove=remove)
        position = self.installation.client.hget(f"{keyspace.prefix(self.segment)}:head", "last")
        assert isinstance(position, bytes)
        now = self.wiring.upkeep.server_ms()
        wait_until(lambda: self.wiring.upkeep.server_ms() > now, message="the clock to move")
        return position.decode()

    def drain(self, store_id: str = "", *, chunks: int = 1000) -> Drained:
        """Drain a store; at the most so many chunks of a snapshot."""
        turns = count()
        return drain(
            self.wiring,
            self.segment,
            store_id or self.first,
            clock=lambda: float(next(turns)),  # first when it begins, then after finding out that it is behind
            budget_seconds=1.5 + chunks - 1,
        )

    def compact(self) -> str:
        """Fold everything into the snapshot; returns its token."""
        self.drain()
        assert compact(self.wiring, self.segment, force=True).outcome == "folded"
        base = self.wiring.snapshots.base(self.segment)
        assert base is not None
        return base.token

    def insert(self, position: str, members: dict[str, bool]) -> None:
        """A replay at a position."""
        fields = pack_fields(
            integration_key="rudderstack",
            parser_digest="digest",
            policy="reject",
            kind="slice",
            content=compress(pack_slice(members)),
        )
        found = insert_entry(
            self.installation.client,
            self.segment,
            position,
            batch_id=f"at-{position}",
            fields=fields,
            store_ids=[self.first, self.second],
            of_dead=False,
        )
        assert isinstance(found, list), found

    def store(self, store_id: str = "") -> FaultyStore:
        found = self.wiring.stores.get(store_id or self.second)
        assert isinstance(found, FaultyStore)
        return found

    def members(self, store_id: str = "") -> set[str]:
        store = self.store(store_id)
        return {person for person in (*PEOPLE, "zoe") if self.segment.ref in store.included(person)}

    @property
    def strays_due(self) -> bool:
        """Whether the second store is to be compared."""
        return bool(self.wiring.incarnations.notes(self.second).strays_due)


@pytest.fixture
def world(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> World:
    """Snapshots have two members a chunk."""
    monkeypatch.setattr(merging, "CHUNK_MEMBERS", 2)
    return World(redis_client)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is written, patch by patch."""
    patches: list[list[str]] = []
    write = MemorySession.write

    def noted(session: MemorySession, patch: SegmentPatch, before_window: Any) -> WriteCounts:
        patches.append([*patch.add, *(f"-{key}" for key in patch.remove)])
        return write(session, patch, before_window)

    monkeypatch.setattr(MemorySession, "write", noted)
    return patches


def test_a_new_store_reads_the_snapshot_and_goes_on_where_it_stopped(world: World, written: list[list[str]]) -> None:
    world.accept(*PEOPLE)
    world.compact()
    world.accept(remove=("eve",))
    written.clear()
    assert world.drain(world.second, chunks=1).wake_up_due
    assert world.members() == {"ann", "bob"}
    while world.drain(world.second, chunks=1).outcome != "idle":
        pass
    assert [patch for patch in written if patch] == [["ann", "bob"], ["cyd", "dan"], ["eve"], ["-eve"]]
    assert not world.strays_due


def test_another_snapshot_is_begun_from_its_first_chunk(world: World) -> None:
    world.accept("bob", "cyd", "dan", "eve")
    world.compact()
    world.drain(world.second, chunks=1)
    world.accept("ann", remove=("dan",))
    world.compact()
    world.drain(world.second)
    assert world.members() == {"ann", "bob", "cyd", "eve"}


def test_a_snapshot_that_is_replaced_while_it_is_read_is_left_for_the_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.accept("bob", "cyd", "dan", "eve")
    world.compact()
    chunk, tokens = Snapshots.chunk, []

    def replaced_meanwhile(snapshots: Snapshots, segment: SegmentId, token: str, number: int) -> bytes:
        tokens.append(token)
        if len(tokens) == 2:
            monkeypatch.undo()
            world.accept("ann", remove=("dan",))
            world.compact()
        return chunk(snapshots, segment, token, number)

    monkeypatch.setattr(Snapshots, "chunk", replaced_meanwhile)
    assert world.drain(world.second).outcome == "applied"
    assert world.members() == {"ann", "bob", "cyd", "eve"}
    assert world.strays_due, "the second snapshot may say nothing of whom the first one had"


def test_a_store_that_was_given_two_snapshots_by_one_drain_is_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.accept("ann", "bob", "cyd", "dan")
    world.compact()
    chunk, tokens = Snapshots.chunk, []

    def replaced_meanwhile(snapshots: Snapshots, segment: SegmentId, token: str, number: int) -> bytes:
        tokens.append(token)
        if len(tokens) == 2:
            monkeypatch.undo()
            monkeypatch.setattr(merging, "CHUNK_MEMBERS", 2)
            world.accept(remove=("ann",))
            world.accept("eve", "zoe")
            world.compact()
        return chunk(snapshots, segment, token, number)

    monkeypatch.setattr(Snapshots, "chunk", replaced_meanwhile)
    assert world.drain(world.second, chunks=3).wake_up_due
    assert not world.strays_due
    world.drain(world.second)
    assert world.members() == {"ann", "bob", "cyd", "dan", "eve", "zoe"}
    assert world.strays_due


def test_a_store_that_is_half_filled_and_goes_on_with_another_snapshot_is_compared(world: World) -> None:
    world.accept("ann", "bob", "cyd", "dan")
    world.compact()
    world.drain(world.second, chunks=1)
    world.accept(remove=("ann",))
    world.compact()
    world.accept("zoe")
    world.compact()
    assert world.drain(world.second, chunks=1).wake_up_due
    assert not world.strays_due
    world.drain(world.second)
    assert world.members() == {"ann", "bob", "cyd", "dan", "zoe"}, "nobody remembers that ann left"
    assert world.strays_due


def test_a_store_that_was_last_here_before_the_floor_is_compared(world: World) -> None:
    world.accept("ann", "bob")
    world.drain(world.second)
    world.accept(remove=("ann",))
    world.accept("cyd")
    world.compact()
    world.drain(world.second)
    assert world.members() == {"ann", "bob", "cyd"}
    assert world.strays_due


def test_a_store_that_was_here_since_the_floor_is_not_compared(redis_client: redis.Redis) -> None:
    world = World(redis_client, dead_retention_seconds=3600)
    world.accept("ann", "bob")
    world.drain(world.second)
    world.accept("cyd", remove=("ann",))
    world.compact()
    world.drain(world.second)
    assert world.members() == {"bob", "cyd"}
    assert not world.strays_due


def test_a_replay_just_above_the_floor_has_no_store_compared(world: World) -> None:
    world.accept("ann", "bob")
    floor = world.accept("cyd")
    world.drain(world.second)
    world.compact()
    world.accept("dan")
    base = world.wiring.snapshots.base(world.segment)
    assert base is not None
    assert order(base.floor) == (ms_of(floor), 0)
    world.insert(f"{ms_of(floor)}-{10**12}", {"eve": True})
    world.drain(world.second)
    assert world.members() == {"ann", "bob", "cyd", "dan", "eve"}
    assert not world.strays_due


def test_what_was_replayed_below_a_snapshot_is_in_a_store_that_reads_it(redis_client: redis.Redis) -> None:
    world = World(redis_client, dead_retention_seconds=3600)
    first = world.accept("ann", "bob")
    world.accept(remove=("ann",))
    world.compact()
    world.insert(f"{ms_of(first)}-{10**12}", {"ann": True, "bob": False, "zoe": True})
    for store_id in (world.first, world.second):
        assert world.drain(store_id).outcome == "applied"
        assert world.members(store_id) == {"zoe"}, "the later decision stands, whoever comes first"


def test_replays_below_a_snapshot_are_read_a_portion_at_a_time(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "BASE_BYTES", 1)
    world = World(redis_client, dead_retention_seconds=3600)
    first = world.accept("ann")
    world.compact()
    for number, person in enumerate(("bob", "cyd", "dan")):
        world.insert(f"{ms_of(first)}-{10**12 + number}", {person: True})
    while world.drain(world.second, chunks=1).wake_up_due:
        pass
    assert world.members() == {"ann", "bob", "cyd", "dan"}


def test_a_log_that_was_trimmed_without_a_snapshot_is_read_over_no_gap(world: World) -> None:
    position = world.accept("ann")
    head = f"{keyspace.prefix(world.segment)}:head"
    world.installation.client.hset(head, "trimmed", position)
    world.accept("bob")
    assert world.drain(world.second).outcome == "behind"
    assert world.members() == set()
    [found] = world.wiring.upkeep.statuses(world.segment.environment_id, [world.segment.segment_key], [world.second])
    status = found.stores[world.second]
    assert (status.position, status.lease, status.marks) == ("0-0", "", ())


def test_members_are_counted_from_the_replies_of_one_store(world: World) -> None:
    world.accept("ann", "bob")
    world.drain(world.second)
    world.drain()
    world.accept("cyd")
    world.drain(world.second)
    world.drain()
    [segment] = read_segments(world.installation.client, world.segment.environment_id, [world.segment.segment_key])
    assert (segment.members, segment.members_exact) == (3, True)


def test_what_is_dead_says_nothing_to_any_store_though_it_could_be_read(world: World) -> None:
    world.accept("ann")
    dead = world.accept("eve", remove=("ann",))
    world.installation.client.hset(f"{keyspace.prefix(world.segment)}:dead", dead, '{"status":"discarded"}')
    world.accept("bob")
    for store_id in (world.first, world.second):
        world.drain(store_id)
        assert world.members(store_id) == {"ann", "bob"}


def test_a_store_that_is_begun_anew_by_command_is_compared(world: World) -> None:
    world.accept(*PEOPLE)
    world.compact()
    world.drain(world.second, chunks=1)
    void_cursor(world.installation.client, world.segment, world.second)
    world.drain(world.second)
    assert world.members() == set(PEOPLE)
    assert world.strays_due


def test_a_store_that_lost_everything_and_is_filled_from_nothing_is_not_compared(world: World) -> None:
    world.accept("ann", "bob", "cyd")
    world.drain(world.second)
    world.compact()
    world.store().wipe()
    world.accept("dan")
    world.drain(world.second, chunks=1)
    world.store().wipe()
    world.compact()
    world.drain(world.second)
    assert world.members() == {"ann", "bob", "cyd", "dan"}
    assert not world.strays_due


def test_a_store_that_was_away_since_its_first_batch_is_compared(world: World) -> None:
    world.accept("ann", "bob")
    world.drain(world.second)
    world.accept(remove=("ann",))
    world.accept("cyd")
    world.compact()
    world.store().process = "another"  # the trail of its cursor goes back to the start
    while world.drain(world.second, chunks=1).wake_up_due:
        pass
    assert world.members() == {"ann", "bob", "cyd"}
    assert world.strays_due


def test_a_brake_keeps_no_store_from_what_the_snapshot_has(world: World) -> None:
    world.accept(*PEOPLE)
    world.compact()
    brakes = world.wiring.brakes
    assert any(brakes.died(world.segment.environment_id, "rudderstack") for _ in range(LEAST_JUDGED))
    world.drain(world.second)
    assert world.members() == set(PEOPLE)
    assert brakes.engaged(world.segment.environment_id, "rudderstack")
