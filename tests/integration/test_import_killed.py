"""A replace of 200,000 keys whose drains are killed again and again, and a store that is away while it passes."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from made_builders import append_laid_down, change_by_hand, lay_down
from servers import DURABLE, ValkeyServer
from sync_builders import Installation

from worker.log import keyspace
from worker.log.imports import ImportChunks
from worker.model import RedisStoreConfiguration, SegmentId, StoreRecord
from worker.records.stores import StoreRecords
from worker.settings import Settings
from worker.stores.layout import context_hashes
from worker.sync.accounts import count_over
from worker.sync.audit import Audit
from worker.sync.drain import drain
from worker.wiring import Wiring

BATCHES = 100
BEFORE = [f"{number:06}-was-there-before" for number in range(BATCHES * 1000)]
IMPORTED = [f"{number:06}-was-there-before" for number in range(50_000, 250_000)]
AFTER = ("000001-was-there-before", "somebody-new")
EXCLUDED = ("000002-was-there-before", "200000-was-there-before")
KILLS = 10
SOON = 4
# A drain may have come to an end before it is killed.
MOST_ROUNDS = 60
# Of a worker that folds and writes this import; all of its keys and their hashes would take more than 60 MiB.
MOST_GROWTH_BYTES = 48 * 1024**2

_fork: Any = multiprocessing.get_context("fork")


class World:
    def __init__(self, state: ValkeyServer, content: ValkeyServer) -> None:
        self.url = state.url
        self.client = state.client(socket_timeout=30)
        place = RedisStoreConfiguration(host=content.host, port=content.port)
        self.made = Installation(self.client, real_store=place, **self._settings())
        other = StoreRecords(self.client).add(
            self.made.environment_id, "two", place.model_copy(update={"prefix": "two"})
        )
        self.stores: list[StoreRecord] = [self.made.made.store, other]
        self.made.wiring.directory.fresh(0)

    def _settings(self) -> dict[str, Any]:
        return {"state_url": self.url, "durability": "fsync"}

    @property
    def segment(self) -> SegmentId:
        return self.made.segment()

    def drain(self, record: StoreRecord) -> int:
        """One drain in a process of its own that nobody kills; returns by how many bytes that has grown."""
        receiver, sender = _fork.Pipe(duplex=False)

        def work() -> None:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            done = drain(Wiring(Settings(**self._settings())), self.segment, record.store_id, budget_seconds=120)
            sender.send((done.outcome, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024))

        process = _fork.Process(target=work)
        process.start()
        process.join(120)
        outcome, grown = receiver.recv()
        assert outcome in {"applied", "idle"}, outcome
        return int(grown)

    def drain_and_kill(self, record: StoreRecord, after_seconds: float) -> bool:
        """``kill -9`` in the midst of it; returns whether it was still at work. What it left is settled."""
        began = _fork.Event()

        def work() -> None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            wiring = Wiring(Settings(**self._settings()))
            began.set()
            drain(wiring, self.segment, record.store_id, budget_seconds=120)
            os._exit(0)

        process = _fork.Process(target=work)
        process.start()
        assert began.wait(30)
        process.join(after_seconds)
        alive = bool(process.is_alive())
        process.kill()
        process.join(30)
        self._settle(record)
        return alive

    def _settle(self, record: StoreRecord) -> None:
        """As the sweeper does when its time has come."""
        upkeep = self.made.wiring.upkeep
        for status in upkeep.statuses(self.segment.environment_id, [self.segment.segment_key], [record.store_id]):
            store = status.stores[record.store_id]
            if store.lease:
                upkeep.expire(self.segment, record.store_id, store.lease, store.beat)
            for mark in store.marks:
                upkeep.settle(self.segment, record.store_id, mark.token)

    def is_current(self, record: StoreRecord) -> bool:
        cursor = self.client.hget(f"{keyspace.prefix(self.segment)}:cursor:{record.store_id}", "position")
        return cursor == self.client.hget(f"{keyspace.prefix(self.segment)}:head", "last")

    def holds(self, record: StoreRecord) -> tuple[set[bytes], set[bytes]]:
        store = self.made.wiring.stores.get(record.store_id)
        assert store is not None
        included: set[bytes] = set()
        excluded: set[bytes] = set()
        for page in store.scan():
            included.update(hashed for hashed, refs, _ in page if self.segment.ref in refs)
            excluded.update(hashed for hashed, _, refs in page if self.segment.ref in refs)
        return included, excluded


def hashes(people: Iterable[str]) -> set[bytes]:
    return set(context_hashes(sorted(people)))


EXPECTED = (hashes({*IMPORTED, *AFTER}), hashes(EXCLUDED))


@pytest.fixture
def world(start_valkey: Callable[..., ValkeyServer]) -> World:
    world = World(start_valkey(DURABLE), start_valkey())
    for start in range(0, len(BEFORE), 1000):
        world.made.accept(add=tuple(BEFORE[start : start + 1000]))
    for store in world.stores:
        world.drain(store)
    change_by_hand(world.made, add_excluded=EXCLUDED)
    append_laid_down(world.made, lay_down(world.made, IMPORTED, chunk_keys=20_000))
    world.made.accept(add=AFTER)
    return world


def test_a_replace_whose_drains_are_killed_removes_exactly_those_who_are_not_in_it(world: World) -> None:
    seed = random.SystemRandom().randint(0, 10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    first, away = world.stores
    kills = 0
    for _ in range(MOST_ROUNDS):
        if kills == KILLS or world.is_current(first):
            break
        # Early at first, so that none comes to its end; then also late, while chunks are written.
        kills += world.drain_and_kill(first, chance.random() * (0.3 if kills < SOON else 1.5))
    assert kills >= SOON
    world.drain(first)
    assert world.holds(first) == EXPECTED
    assert world.holds(away) == (hashes(BEFORE), set())  # the log has passed it by
    assert world.client.xlen(f"{keyspace.prefix(world.segment)}:log") < BATCHES
    world.drain(away)
    assert world.holds(away) == EXPECTED
    for store in world.stores:
        found = Audit(world.made.wiring, store).run()
        assert (found.agrees, found.members, found.excluded, found.uncertain) == (True, *map(len, EXPECTED), [])
    account = count_over(world.made.wiring, [world.segment], [store.store_id for store in world.stores])
    assert account.balanced
    assert not cast("list[bytes]", world.client.keys("*:import:*"))


def test_an_import_is_folded_and_written_in_little_memory_and_where_it_lies_is_known(world: World) -> None:
    first = world.stores[0]
    grown = world.drain(first)
    print(f"{grown / 2**20:.0f} MiB")
    assert grown < MOST_GROWTH_BYTES
    [imported] = cast("dict[bytes, bytes]", world.client.hgetall(f"{keyspace.prefix(world.segment)}:imports"))
    position = ImportChunks(world.client).position(world.segment, imported.decode())
    assert position is not None
    assert world.holds(first) == EXPECTED
