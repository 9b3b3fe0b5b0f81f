"""Shared fixtures: a real Valkey server, fakeredis, both behind one name, and moto's DynamoDB."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from servers import VOLATILE, FakeRedisServer, MotoServer, ValkeyServer


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One real server for the whole run, without persistence. Never kill or freeze it: see ``start_valkey``."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.stop()


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
def moto_server() -> Iterator[MotoServer]:
    """Moto's server for the whole run, with credentials that satisfy boto3 and reach nothing real."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "testing")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        environment.delenv("AWS_PROFILE", raising=False)
        server = MotoServer()
        yield server
        server.stop()


@pytest.fixture
def dynamodb_table(moto_server: MotoServer) -> str:
    """The name of a fresh table on moto's server."""
    name = f"segsync-{uuid.uuid4().hex[:12]}"
    moto_server.create_table(name)
    return name
