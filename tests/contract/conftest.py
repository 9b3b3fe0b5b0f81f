"""A store under test, in a place that is empty: one server of each kind, one client of each for the whole file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster_proxy import ClusterProxy
from redis_cluster import RedisCluster
from servers import DynamoDBServer, FakeRedisServer, ValkeyServer

from contract.store_subjects import ALL, PREFIXES, Subject, Subjects, on_cluster, on_dynamodb, on_redis
from worker.stores.memory import MemoryStore


@pytest.fixture(params=ALL)
def subject(request: pytest.FixtureRequest) -> Subject:
    """The store of a parameter, ``server-prefix``, in a place that is empty."""
    kind, _, prefix = request.param.partition("-")
    if kind == "memory":
        return Subject(MemoryStore(), 2_000)
    subjects: Subjects = request.getfixturevalue(f"{kind}_subjects")
    return subjects(PREFIXES[kind][prefix])


@pytest.fixture(scope="module")
def fakeredis_subjects(fake_redis_server: FakeRedisServer) -> Iterator[Subjects]:
    yield from on_redis("fakeredis", fake_redis_server)


@pytest.fixture(scope="module")
def redis_subjects(redis_standalone: ValkeyServer) -> Iterator[Subjects]:
    yield from on_redis("redis", redis_standalone)


@pytest.fixture(scope="module")
def valkey_subjects(valkey: ValkeyServer) -> Iterator[Subjects]:
    yield from on_redis("valkey", valkey)


@pytest.fixture(scope="module")
def cluster_subjects(redis_cluster: RedisCluster, cluster_proxy: ClusterProxy) -> Iterator[Subjects]:
    yield from on_cluster(redis_cluster, cluster_proxy)


@pytest.fixture(scope="module")
def moto_subjects(moto_server: DynamoDBServer) -> Iterator[Subjects]:
    yield from on_dynamodb("moto", moto_server)


@pytest.fixture(scope="module")
def strict_subjects(strict_dynamodb: DynamoDBServer) -> Iterator[Subjects]:
    yield from on_dynamodb("strict", strict_dynamodb)


@pytest.fixture(scope="module")
def transact_subjects(transactional_dynamodb: DynamoDBServer) -> Iterator[Subjects]:
    """The write mode ``transact``."""
    yield from on_dynamodb("transact", transactional_dynamodb)
