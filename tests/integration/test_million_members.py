"""A segment of a million members: what it takes in the state server, and that a store filled from it is the same."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

import msgspec
import redis
from servers import VOLATILE, ValkeyServer

from worker.log import keyspace
from worker.log.append import Appends
from worker.log.batch import Batch, Target
from worker.log.parsers import parser_entry
from worker.manifest.catalog import load_catalog
from worker.manifest.manifest import Manifest
from worker.model import Cohort, RedisStoreConfiguration, SegmentId
from worker.records.stores import StoreRecords
from worker.settings import Settings
from worker.stores.layout import context_hash
from worker.sync.compact import compact
from worker.sync.drain import drain
from worker.wiring import Wiring

MEMBERS = 1_000_000
BATCH = 1_000
CHANGED_LATER = 20  # batches that remove who was added before, and as many that add others in their place


def test_a_million_members_take_a_few_tens_of_bytes_each_and_fill_a_new_store(
    start_valkey: Callable[..., ValkeyServer],
) -> None:
    state, stores = start_valkey(VOLATILE), start_valkey(VOLATILE)
    fill = Fill(state.client(), stores)
    first = fill.wiring.stores_of(fill.environment_id)[0].store_id
    people = identities(MEMBERS + CHANGED_LATER * BATCH)
    with timed("append"):
        fill.send([(part, []) for part in portions(people[:MEMBERS])])
        fill.send([([], part) for part in portions(people[: CHANGED_LATER * BATCH // 2])])
        fill.send([(part, []) for part in portions(people[MEMBERS : MEMBERS + CHANGED_LATER * BATCH // 2])])
    with timed("drain"):
        fill.drain(first)
    whole = fill.memory("log")
    with timed("compact"):
        done = compact(fill.wiring, fill.segment, force=True)
    assert (done.outcome, done.members) == ("folded", MEMBERS)
    # The tail: what came since.
    leave = people[CHANGED_LATER * BATCH // 2 : CHANGED_LATER * BATCH]
    fill.send([([], part) for part in portions(leave)])
    fill.send([(part, []) for part in portions(people[-len(leave) :])])
    fill.drain(first)

    snapshot, tail = fill.memory(f"snapshot:{fill.head('snapshot')}"), fill.memory("log")
    print(f"\n{MEMBERS:,} members from {done.entries:,} batches, in {done.passes} passes; bytes per member:")
    print(f"  as batches {whole / MEMBERS:.1f}, as snapshot {done.snapshot_bytes / MEMBERS:.1f}")
    print(f"  in the server's memory {snapshot / MEMBERS:.1f}; its tail of {2 * len(leave):,} {tail / MEMBERS:.1f}")
    assert (snapshot + tail) / MEMBERS < 30

    second = fill.add_store(stores)
    with timed("fill another store"):
        fill.drain(second)
    expected = {context_hash(person) for person in people[CHANGED_LATER * BATCH :]}
    for database in (1, 2):
        with redis.Redis(host=stores.host, port=stores.port, db=database) as client:
            assert included(client, fill.segment) == expected


class Fill:
    """One segment, filled through appends and drained in this process."""

    def __init__(self, client: redis.Redis, stores: ValkeyServer) -> None:
        self.client = client
        settings = Settings(retention_seconds=0, durability="memory")
        self.wiring = Wiring(settings, client=client)
        manifest = load_catalog()["rudderstack"]
        assert isinstance(manifest, Manifest)
        self.manifest = manifest
        self.environment_id = self.wiring.records.bootstrap(
            environment_id=None, store_configuration=place(stores, 1)
        ).environment_id
        [self.key] = self.wiring.segment_keys.allot(self.environment_id, "rudderstack", ["million"])
        self.segment = SegmentId(self.environment_id, self.key, 1)
        self._sent = 0

    def send(self, changes: Sequence[tuple[Sequence[str], Sequence[str]]]) -> None:
        """Append one batch per pair of those to add and those to remove."""
        for start in range(0, len(changes), 50):
            outcomes = Appends(self.client).append([self._batch(*each) for each in changes[start : start + 50]])
            assert not any(isinstance(outcome, Exception) for outcome in outcomes), outcomes

    def _batch(self, add: Sequence[str], remove: Sequence[str]) -> Batch:
        self._sent += 1
        people = {"add": [{"id": key} for key in add], "remove": [{"id": key} for key in remove]}
        facts = {"environmentId": self.environment_id, "cohortId": "million", "cohortName": "M", "contextKind": "user"}
        return Batch(
            batch_id=f"batch-{self._sent}",
            environment_id=self.environment_id,
            context_kind="user",
            integration_key="rudderstack",
            parser_digest=self.manifest.parser.digest,
            body=msgspec.json.encode({**facts, "listData": people}),
            targets=[Target(self.key, Cohort("million"))],
            store_ids=[],
            not_after_ms=10**15,
            prerequisites=[parser_entry(self.manifest.parser.digest, self.manifest.parser.text)],
        )

    def add_store(self, stores: ValkeyServer) -> str:
        """One more store; found by a process of its own, as it were."""
        added = StoreRecords(self.client).add(self.environment_id, "second", place(stores, 2))
        self.wiring = Wiring(self.wiring.settings, client=self.client)
        return added.store_id

    def drain(self, store_id: str) -> None:
        done = drain(self.wiring, self.segment, store_id, budget_seconds=600)
        assert done.outcome == "applied", done

    def memory(self, name: str) -> int:
        return cast("int", self.client.memory_usage(f"{keyspace.prefix(self.segment)}:{name}", samples=0))

    def head(self, name: str) -> str:
        return cast("bytes", self.client.hget(f"{keyspace.prefix(self.segment)}:head", name)).decode()


def place(stores: ValkeyServer, database: int) -> RedisStoreConfiguration:
    return RedisStoreConfiguration(host=stores.host, port=stores.port, database=database)


def identities(count: int) -> list[str]:
    """UUIDs of version 4, the same in every run."""
    chance = random.Random(4)
    return [str(UUID(int=chance.getrandbits(128), version=4)) for _ in range(count)]


def portions(people: Sequence[str]) -> Iterator[Sequence[str]]:
    return (people[start : start + BATCH] for start in range(0, len(people), BATCH))


def included(client: redis.Redis, segment: SegmentId) -> set[str]:
    """The hashes of all contexts that the store includes in the segment, which is its only one."""
    prefix = "launchdarkly:big_segment_include:"
    keys = [key.decode() for key in cast("Any", client.scan_iter(f"{prefix}*", count=10_000))]
    assert client.smembers(keys[0]) == {segment.ref.encode()}
    return {key.removeprefix(prefix) for key in keys}


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.1f} s")
