"""Compactors that are killed, several at once, and their server with them: the log loses nothing by it."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import redis
from servers import DURABLE, ValkeyServer, wait_until

from worker.errors import Unavailable
from worker.log import keyspace
from worker.log.append import Appends
from worker.log.batch import Batch, Target
from worker.log.position import START
from worker.log.snapshot import decisions_after
from worker.model import Cohort, RedisStoreConfiguration, SegmentId
from worker.settings import Settings
from worker.sync.compact import compact
from worker.sync.members import read_members
from worker.wiring import Wiring

KILLS = 6
# A compactor may be done before it is killed: that is no kill, and the next round has its chance.
MOST_ROUNDS = 60
PEOPLE = [f"person-{number}" for number in range(30_000)]
_fork: Any = multiprocessing.get_context("fork")


def settings(server: ValkeyServer) -> Settings:
    return Settings(state_url=cast("Any", server.url), retention_seconds=0, durability="fsync")


def test_compactors_that_are_killed_at_any_time_lose_nothing(start_valkey: Callable[..., ValkeyServer]) -> None:
    server = start_valkey(DURABLE)
    seed = random.SystemRandom().randint(0, 10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    log = Log(server)
    kills = 0
    for number in range(MOST_ROUNDS):
        if kills == KILLS:
            break
        log.grow(chance)
        compactors = [Compactor(server, log.segment) for _ in range(2)]
        for compactor in compactors:
            compactor.began()
        time.sleep(chance.random() * 0.4)
        if number % 4 == 3:
            server.kill()
            server.start()
            kills += 1
        elif compactors[0].kill():
            kills += 1
        for compactor in compactors:
            compactor.join()
        log.check()
    assert kills == KILLS
    wiring = Wiring(settings(server))
    assert compact(wiring, log.segment, force=True).outcome in {"folded", "not due"}
    log.check()
    assert log.client.xlen(f"{keyspace.prefix(log.segment)}:log") == 0
    lives = {key: log.client.ttl(key) for key in cast("list[bytes]", log.client.keys("*:snapshot:*"))}
    assert sorted(lives.values()).count(-1) == 1
    assert all(life > 0 or life == -1 for life in lives.values())
    wiring.close()


class Log:
    """A log that grows, and whose only store has always applied it."""

    def __init__(self, server: ValkeyServer) -> None:
        self.client = server.client(socket_timeout=10)
        self.wiring = Wiring(settings(server), client=self.client)
        place = RedisStoreConfiguration(host="store-that-nobody-asks")
        made = self.wiring.records.bootstrap(environment_id=None, store_configuration=place)
        [key] = self.wiring.segment_keys.allot(made.environment_id, "rudderstack", ["c1"])
        self.segment = SegmentId(made.environment_id, key, 1)
        self._store_id = made.store.store_id
        self._members: set[str] = set()
        self._sent = 0

    def grow(self, chance: random.Random) -> None:
        batches = []
        for _ in range(30):
            said = {person: chance.random() < 0.7 for person in chance.sample(PEOPLE, 1_000)}
            self._members = (self._members | {key for key in said if said[key]}) - {k for k in said if not said[k]}
            self._sent += 1
            batches.append(self._batch(said))
        outcomes = Appends(self.client).append(batches)
        assert not any(isinstance(outcome, Exception) for outcome in outcomes), outcomes
        prefix = keyspace.prefix(self.segment)
        last = self.client.hget(f"{prefix}:head", "last")
        self.client.hset(f"{prefix}:cursor:{self._store_id}", "position", cast("bytes", last))

    def _batch(self, said: dict[str, bool]) -> Batch:
        # Two segments, so that the entries are slices: no requestParser is needed to read them.
        cohorts = [Cohort("c1", members=said), Cohort("c2")]
        return Batch(
            batch_id=f"batch-{self._sent}",
            environment_id=self.segment.environment_id,
            context_kind="user",
            integration_key="rudderstack",
            parser_digest="d1",
            body=b"{}",
            targets=[Target(self.segment.segment_key, cohorts[0]), Target("rudderstack-c2", cohorts[1])],
            store_ids=[],
            not_after_ms=10**15,
        )

    def check(self) -> None:
        """The snapshot and what came after it say who is in."""
        found: dict[str, bool] = {}
        base = wait_until(lambda: self.wiring.snapshots.base(self.segment) or "none")
        position = START
        if not isinstance(base, str):
            for number in range(base.chunks):
                found.update(dict.fromkeys(decisions_after(base.chunk(number), START)[0], True))
            position = base.position
        for entry in self.wiring.drain_log.read(self.segment, position, most_bytes=1 << 30, most_entries=10_000):
            found.update(read_members(self.wiring, entry))
        assert {key for key, include in found.items() if include} == self._members


class Compactor:
    """A process that compacts once."""

    def __init__(self, server: ValkeyServer, segment: SegmentId) -> None:
        self._began = _fork.Event()
        self._process = _fork.Process(target=self._run, args=(server, segment))
        self._process.start()

    def _run(self, server: ValkeyServer, segment: SegmentId) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._began.set()
        with suppress(Unavailable, redis.RedisError):
            compact(Wiring(settings(server)), segment, force=True)
        os._exit(0)

    def began(self) -> None:
        assert self._began.wait(10)

    def kill(self) -> bool:
        """``kill -9``; returns whether it was still at work."""
        alive = bool(self._process.is_alive())
        self._process.kill()
        return alive

    def join(self) -> None:
        self._process.join(30)
        assert self._process.exitcode is not None
