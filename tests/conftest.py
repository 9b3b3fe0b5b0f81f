"""Shared fixtures: real Valkey, Redis and cluster servers, fakeredis, and three emulators of DynamoDB."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from cluster_proxy import ClusterProxy
from dynamodb_local import Dynalite, DynamoDBLocal, start_strict
from redis_cluster import RedisCluster
from secret_keys import KEY, VARIABLE
from servers import VOLATILE, FakeRedisServer, Missing, MotoServer, ValkeyServer, redis_binary, skip_or_fail


def pytest_configure() -> None:
    """Let whatever a test starts keep secrets; tests about keys choose their own."""
    os.environ.setdefault(VARIABLE, KEY)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One real server for the whole run, without persistence. Never kill or freeze it: see ``start_valkey``."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One server of Redis' own for the whole run; who uses it empties it first."""
    server = ValkeyServer(tmp_path_factory.mktemp("redis"), binary=redis_binary()).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """One cluster of six nodes for the whole run; who uses it empties it first. Never kill or freeze a node of it."""
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster_proxy(redis_cluster: RedisCluster) -> Iterator[ClusterProxy]:
    """What reads the cluster for a client that speaks to one server."""
    with ClusterProxy(redis_cluster) as proxy:
        yield proxy


@pytest.fixture
def start_valkey(tmp_path: Path) -> Iterator[Callable[..., ValkeyServer]]:
    """Start servers of the test's own: ``start_valkey(DURABLE, password=…)``; all are stopped after the test."""
    servers: list[ValkeyServer] = []

    def start(settings: Any = VOLATILE, **options: Any) -> ValkeyServer:
        servers.append(ValkeyServer(tmp_path / f"valkey-{len(servers)}", settings, **options))
        return servers[-1].start()

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def real_redis(valkey: ValkeyServer) -> Iterator[redis.Redis]:
    """A client of the real server, on an emptied database; replies are bytes."""
    client = valkey.client(decode_responses=False, socket_timeout=10)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def fake_redis() -> Iterator[redis.Redis]:
    """A client of a fakeredis of its own, with Lua; replies are bytes."""
    import fakeredis

    client: redis.Redis = fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=False)
    yield client
    client.close()


@pytest.fixture(scope="session")
def fake_redis_server() -> Iterator[FakeRedisServer]:
    """One fakeredis on a TCP port for the whole run; who uses it empties it first."""
    server = FakeRedisServer()
    yield server
    server.stop()


@pytest.fixture(params=["fake", "real"])
def redis_client(request: pytest.FixtureRequest) -> redis.Redis:
    """The same test on fakeredis and on the real server."""
    client: redis.Redis = request.getfixturevalue(f"{request.param}_redis")
    return client


@pytest.fixture(scope="session")
def aws_credentials() -> Iterator[None]:
    """Credentials that satisfy boto3 and reach nothing real."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "testing")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        environment.delenv("AWS_PROFILE", raising=False)
        yield


@pytest.fixture(scope="session")
def moto_server(aws_credentials: None) -> Iterator[MotoServer]:
    """Moto's server for the whole run."""
    server = MotoServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def strict_dynamodb(aws_credentials: None) -> Iterator[DynamoDBLocal | Dynalite]:
    """DynamoDB Local, else dynalite, for the whole run; who uses it makes a table of its own."""
    try:
        server = start_strict()
    except Missing as missing:
        skip_or_fail(str(missing))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def transactional_dynamodb(
    strict_dynamodb: DynamoDBLocal | Dynalite, request: pytest.FixtureRequest
) -> DynamoDBLocal | MotoServer:
    """DynamoDB Local, else moto's server: dynalite has no transactions. Who uses it makes a table of its own."""
    if isinstance(strict_dynamodb, DynamoDBLocal):
        return strict_dynamodb
    moto: MotoServer = request.getfixturevalue("moto_server")
    return moto


@pytest.fixture(scope="session")
def dynalite(aws_credentials: None) -> Iterator[Dynalite]:
    """Dynalite for the whole run: it counts capacity best; who uses it makes a table of its own."""
    try:
        server = Dynalite()
    except Missing as missing:
        skip_or_fail(str(missing))
    yield server
    server.stop()


@pytest.fixture
def dynamodb_table(moto_server: MotoServer) -> str:
    """The name of a fresh table on moto's server."""
    name = f"segsync-{uuid.uuid4().hex[:12]}"
    moto_server.create_table(name)
    return name
