"""A segment is deleted while a store is away, and comes back: read as LaunchDarkly's SDK reads it, real processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx2
import redis
from deployment import Deployment, deployed
from launchdarkly_server import LaunchDarklyServer
from ldclient.integrations import Redis
from servers import VOLATILE, ValkeyServer, wait_until
from sync_builders import Installation

from worker.log import keyspace
from worker.log.append import Appends
from worker.manifest.examples import Change, example
from worker.model import StoreRecord
from worker.stores.launchdarkly import LaunchDarklyStore
from worker.stores.layout import context_hash
from worker.sync.deleting import close_deleted, delete_segment
from worker.sync.drain import drain

KEY = "hightouch-c1"
PEOPLE = ("ann", "bob", "cyd")


class Reader:
    """One store, read by the SDK's own reader."""

    def __init__(self, server: ValkeyServer) -> None:
        self._sdk: Any = Redis.new_big_segment_store(url=server.url)

    def members(self, generation: int) -> set[str]:
        found = {person: self._sdk.get_membership(context_hash(person)) for person in PEOPLE}
        return {person for person, refs in found.items() if refs and refs.get(f"{KEY}.g{generation}")}


def test_a_segment_deleted_while_a_store_is_away_leaves_it_later_and_comes_back_empty(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    state = start_valkey(VOLATILE)
    away = start_valkey({"save": "", "appendonly": "yes"})
    near_reader, away_reader = Reader(state), Reader(away)
    with deployed(state, tmp_path, workers=1, settings={"SEGSYNC_DURABILITY": "memory"}) as deployment:
        deployment.add_store("second", away.port)
        url = deployment.start_receiver()
        send(deployment, url, ["ann", "bob"], [])
        for reader in (near_reader, away_reader):
            wait_until(lambda reader=reader: reader.members(1) == {"ann", "bob"}, 30, "both stores have them")  # type: ignore[misc]
        away.stop()
        wiring = deployment.wiring()
        delete_segment(wiring, Appends(wiring.client), deployment.environment_id, KEY, by="a test")
        wait_until(lambda: not near_reader.members(1), 30, "the store that is there is emptied")
        send(deployment, url, ["bob", "cyd"], [])  # the partner does not know
        wait_until(lambda: near_reader.members(2) == {"bob", "cyd"}, 30, "the next generation")
        assert [ending.segment.generation for ending in wiring.closings.endings()] == [1]

        away.start()
        wait_until(lambda: away_reader.members(2) == {"bob", "cyd"}, 90, "the next generation in the other store")
        wait_until(lambda: not away_reader.members(1), 90, "the other store is emptied of the first")
        assert near_reader.members(1) == set()
        first = keyspace.base(deployment.environment_id, KEY) + ":g1:*"
        ten_minutes_pass(wiring.client)
        wait_until(lambda: not wiring.closings.endings(), 150, "the deleted generation closed")
        assert wiring.client.keys(first) == []
        send(deployment, url, ["ann"], ["bob"])
        for reader in (near_reader, away_reader):
            wait_until(lambda reader=reader: reader.members(2) == {"ann", "cyd"}, 60, "both stores follow")  # type: ignore[misc]
        wiring.close()


def ten_minutes_pass(client: redis.Redis) -> None:
    """What stores have answered will not be lost any more (rule 13)."""
    for key in cast("list[bytes]", client.keys("*:cursor:*")):
        client.hset(key, "advanced_ms", "0")


def send(deployment: Deployment, url: str, add: list[str], remove: list[str]) -> None:
    for body in example("hightouch", Change(deployment.environment_id, "c1", "C 1", add, remove)):
        answer = httpx2.post(
            f"{url}/api/v2/segment-targets/hightouch", json=body, headers={"Authorization": deployment.writer_token}
        )
        assert answer.status_code == 204, answer.text


class OnLaunchDarkly(Installation):
    """An installation whose store is the stand-in for LaunchDarkly itself."""

    def __init__(self, client: redis.Redis, server: LaunchDarklyServer) -> None:
        self._launchdarkly = LaunchDarklyStore(server.configuration(), answer_timeout_s=10)
        super().__init__(client)

    def _open(self, record: StoreRecord) -> LaunchDarklyStore:  # type: ignore[override]  # noqa: ARG002
        return self._launchdarkly

    def apply(self, *generations: int) -> None:
        for generation in generations:
            for _ in range(3):
                segment = self.segment()._replace(generation=generation)
                drain(self.wiring, segment, self.store_id, budget_seconds=60)


def test_in_launchdarkly_the_segment_itself_is_deleted_and_made_anew(real_redis: redis.Redis) -> None:
    with LaunchDarklyServer() as server:
        installation = OnLaunchDarkly(real_redis, server)
        wiring, key = installation.wiring, "rudderstack-beta"
        installation.accept(add=("ann", "bob"))
        installation.apply(1)
        assert server.members(key) == {"ann", "bob"}
        delete_segment(wiring, Appends(real_redis), installation.environment_id, key, by="a test")
        installation.apply(1)
        ten_minutes_pass(real_redis)
        assert close_deleted(wiring) == 1
        assert key not in server.segments
        installation.accept(add=("cyd",))
        installation.apply(2)
        assert server.members(key) == {"cyd"}
        # It comes back before the store is through the deletion: that one has the key by then.
        delete_segment(wiring, Appends(real_redis), installation.environment_id, key, by="a test")
        installation.accept(add=("dan",))
        installation.apply(3, 2)
        ten_minutes_pass(real_redis)
        assert close_deleted(wiring) == 1
        assert server.members(key) == {"dan"}
        wiring.stores.close()
