"""The cluster and the proxy that other tests stand on: what an SDK reads through them, also after a kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster_proxy import ClusterProxy
from ldclient.integrations import Redis
from redis.crc import key_slot
from redis_cluster import RedisCluster
from servers import wait_until

from worker.stores.layout import context_hash, redis_include_key, redis_synchronized_on_key

PREFIX = "launchdarkly"
MEMBERS = [f"user-{number}" for number in range(30)]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def test_the_sdk_reads_through_one_port_what_lies_on_three_nodes_and_goes_on_when_one_is_killed(
    cluster: RedisCluster,
) -> None:
    assert len(cluster.primaries()) == 3
    with cluster.client() as client:
        client.set(redis_synchronized_on_key(PREFIX), 17)
        for member in MEMBERS:
            client.sadd(redis_include_key(PREFIX, context_hash(member)), "beta.g1")
    keys = [redis_include_key(PREFIX, context_hash(member)).encode() for member in MEMBERS]
    assert len({cluster.owner(key_slot(key)) for key in keys}) == 3
    with ClusterProxy(cluster) as proxy:
        sdk = Redis.new_big_segment_store(url=proxy.url, prefix=PREFIX)
        assert sdk.get_metadata().last_up_to_date == 17
        assert all(sdk.get_membership(context_hash(member)) == {"beta.g1": True} for member in MEMBERS)
        assert sdk.get_membership(context_hash("never-was")) is None
        wait_until(cluster.is_well)
        primary = cluster.primaries()[0]
        cluster.kill(primary)
        assert all(sdk.get_membership(context_hash(member)) == {"beta.g1": True} for member in MEMBERS)
        sdk.stop()  # type: ignore[no-untyped-call]
    assert cluster.role(cluster.replica_of(primary)) == "master"


def test_a_cluster_that_was_flushed_is_empty_and_one_that_was_stopped_has_no_process(cluster: RedisCluster) -> None:
    with cluster.client() as client:
        client.set("a", 1)
    cluster.flush()
    with cluster.client() as client:
        assert client.get("a") is None
    cluster.stop()
    cluster.stop()
    assert cluster.nodes == []
