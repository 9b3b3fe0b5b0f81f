"""``/api/v2/projects`` over HTTP, in this process, on a real state server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from servers import ValkeyServer
from starlette.testclient import TestClient
from sync_builders import Installation

from worker.asgi import create_service
from worker.settings import Settings


@pytest.fixture
def client(real_redis: redis.Redis, valkey: ValkeyServer) -> Iterator[TestClient]:
    settings = Settings(state_url=valkey.url, durability="memory")
    headers = {"Authorization": str(Installation(real_redis).made.admin_token)}
    with TestClient(create_service(settings), headers=headers, raise_server_exceptions=False) as started:
        yield started


def test_the_project_that_is_there_from_the_start_is_listed(client: TestClient) -> None:
    answer = client.get("/api/v2/projects")
    assert answer.status_code == 200
    assert [project["key"] for project in answer.json()["items"]] == ["default"]
