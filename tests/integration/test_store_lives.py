"""Stores that were wiped, re-pointed, removed and added again, or are another's: noticed, and rebuilt two ways."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from launchdarkly_server import LaunchDarklyServer
from redis_cluster import RedisCluster
from servers import MotoServer, ValkeyServer, wait_until
from sync_builders import Installation

from worker.model import (
    DynamoDBStoreConfiguration,
    RedisStoreConfiguration,
    SegmentPatch,
    SegmentProfile,
    StoreConfiguration,
)
from worker.stores import SegmentStore, open_store
from worker.sync.drain import drain
from worker.sync.freshness import Heartbeat
from worker.sync.maintenance import Maintenance
from worker.wiring import Wiring

PEOPLE = ("ann", "bob", "cyd", "dan")


@dataclass
class Place:
    """Where stores of one kind can be, and how one of them loses everything.

    ``keeps_strays``: nobody can list who is in it, so that who was put in behind our back stays.
    """

    configurations: list[StoreConfiguration]  # two of them
    wipe: Callable[[], None]
    keeps_strays: bool = False


def at_redis(server: ValkeyServer) -> Place:
    client = server.client()

    def wipe() -> None:
        client.flushall()

    return Place([RedisStoreConfiguration.from_url(server.url, prefix) for prefix in ("one", "two")], wipe)


def at_dynamodb(moto: MotoServer) -> Place:
    table = f"lives-{uuid.uuid4().hex[:8]}"
    moto.create_table(table)

    def wipe() -> None:
        client: Any = moto.client()
        client.delete_table(TableName=table)
        client.close()
        moto.create_table(table)

    return Place(
        [
            DynamoDBStoreConfiguration(tableName=table, region=moto.region, endpoint=moto.url, prefix=prefix)
            for prefix in ("one", "two")
        ],
        wipe,
    )


def at_cluster(cluster: RedisCluster) -> Place:
    cluster.flush()
    return Place([RedisStoreConfiguration.from_url(cluster.url, prefix) for prefix in ("one", "two")], cluster.flush)


def at_one_primary_of(cluster: RedisCluster) -> Place:
    cluster.flush()
    configurations = [RedisStoreConfiguration.from_url(cluster.url, prefix) for prefix in ("one", "two")]
    return Place([*configurations], lambda: cluster.ask(cluster.primaries()[1], "FLUSHALL"))


def at_launchdarkly(servers: list[LaunchDarklyServer]) -> Place:
    def wipe() -> None:
        for key in list(servers[0].segments):
            servers[0].delete(key)

    return Place([server.configuration() for server in servers], wipe, keeps_strays=True)


@pytest.fixture(params=["redis", "dynamodb", "cluster", "primary of a cluster", "launchdarkly"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    wanted = request.getfixturevalue
    if request.param == "redis":
        yield at_redis(wanted("start_valkey")())
    elif request.param == "dynamodb":
        yield at_dynamodb(wanted("moto_server"))
    elif request.param == "launchdarkly":
        with LaunchDarklyServer() as one, LaunchDarklyServer() as other:
            yield at_launchdarkly([one, other])
    else:
        yield (at_cluster if request.param == "cluster" else at_one_primary_of)(wanted("redis_cluster"))


@dataclass
class World:
    """A whole installation with a real store, driven by hand: nothing moves but what a test says."""

    installation: Installation
    place: Place

    @property
    def store_id(self) -> str:
        [store] = self.installation.wiring.directory.fresh(0).stores
        return store.store_id

    @property
    def store(self) -> SegmentStore:
        found = self.installation.wiring.stores.get(self.store_id)
        assert found is not None
        return found

    @property
    def members(self) -> set[str]:
        ref = self.installation.segment().ref
        return {key for key in (*PEOPLE, "stranger") if ref in self.store.included(key)}

    @property
    def strangers(self) -> set[str]:
        """Who stays in though no log knows of them."""
        return {"stranger"} if self.place.keeps_strays else set()

    def drain(self) -> None:
        drain(self.installation.wiring, self.installation.segment(), self.store_id)

    def settle(self) -> None:
        """What scheduler and workers do within a minute or so, until the store is told that it is fresh."""
        wiring = self.installation.wiring

        def another() -> Wiring:
            return Wiring(wiring.settings, client=redis.Redis(connection_pool=self.installation.client.connection_pool))

        maintenance = Maintenance(wiring, another)

        def is_fresh() -> bool:
            Heartbeat(wiring).beat()
            self.drain()
            maintenance.run()
            Heartbeat(wiring).beat()
            fresh_ms = self.store.synchronized_on()
            notes = wiring.incarnations.notes(self.store_id)
            return fresh_ms is not None and not notes.strays_due and fresh_ms >= began_ms

        began_ms = wiring.upkeep.server_ms()
        wait_until(is_fresh, 60, "the store is told that it is fresh")

    def write_behind_our_back(self, configuration: StoreConfiguration, *, add: str, incarnation: str) -> None:
        """As another installation does that has the store for its own."""
        record = self.installation.wiring.directory.current.stores[0]
        other = open_store(record.model_copy(update={"configuration": configuration}))
        other.replace_sentinel(incarnation, self.installation.wiring.upkeep.server_ms())
        segment = self.installation.segment()
        with other.session() as session:
            session.prepare(lambda: SegmentProfile(segment, "user", "", fresh=True))
            session.write(SegmentPatch(segment.ref, [add], []), lambda: None)
        other.close()


@pytest.fixture
def world(real_redis: redis.Redis, place: Place) -> Iterator[World]:
    """Ann and bob are in, cyd was, dan never."""
    installation = Installation(real_redis, real_store=place.configurations[0])
    installation.accept(add=("ann", "bob", "cyd"))
    installation.accept(remove=("cyd",))
    made = World(installation, place)
    made.settle()
    assert made.members == {"ann", "bob"}
    yield made
    installation.wiring.stores.close()


def test_a_store_that_was_wiped_is_filled_again(world: World) -> None:
    world.place.wipe()
    world.settle()
    assert world.members == {"ann", "bob"}


def test_a_store_that_is_pointed_elsewhere_is_filled_there(world: World) -> None:
    world.installation.wiring.store_records.set(world.store_id, configuration=world.place.configurations[1])
    world.settle()
    assert world.members == {"ann", "bob"}


def test_a_store_that_is_pointed_at_anothers_content_loses_whom_no_log_knows(world: World) -> None:
    elsewhere = world.place.configurations[1]
    world.write_behind_our_back(elsewhere, add="stranger", incarnation="theirs")
    world.installation.wiring.store_records.set(world.store_id, configuration=elsewhere)
    world.settle()
    assert world.members == {"ann", "bob"} | world.strangers


def test_a_store_that_another_installation_took_over_is_rebuilt_both_ways(world: World) -> None:
    world.write_behind_our_back(world.place.configurations[0], add="stranger", incarnation="theirs")
    with world.store.session() as session:
        session.write(SegmentPatch(world.installation.segment().ref, [], ["bob"]), lambda: None)
    world.settle()
    assert world.members == {"ann", "bob"} | world.strangers


def test_a_store_that_was_removed_and_added_again_misses_nothing_of_the_time_between(world: World) -> None:
    records = world.installation.wiring.store_records
    records.remove(world.store_id)
    world.installation.wiring.directory.fresh(0)
    world.installation.accept(add=("dan",), remove=("ann",))
    records.add(world.installation.environment_id, "again", world.place.configurations[0])
    world.settle()
    assert world.members == {"bob", "dan"}
