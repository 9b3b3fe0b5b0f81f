"""Asking who is in a segment while the environment's store is away, or hangs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from management_api import ManagementApi, managed
from servers import ValkeyServer

G = "/segments/default/elsewhere"
BETA = {"LD-API-Version": "beta"}
# What a person waits for an answer that says what is wrong.
PATIENCE_SECONDS = 15.0


@pytest.fixture
def api(valkey: ValkeyServer, tmp_path: Path) -> Iterator[ManagementApi]:
    with managed(valkey, tmp_path) as running:
        running.request("POST", "/projects/default/environments", 201, json={"key": "elsewhere", "name": "E"})
        running.request("POST", G, 201, json={"key": "s", "name": "S"})
        yield running


def test_a_store_that_hangs_is_named_within_seconds_and_holds_nobody_else_up(api: ManagementApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        config = {"host": "127.0.0.1", "port": str(hanging.getsockname()[1])}
        path = "/integration-capabilities/big-segment-store/default/elsewhere/redis"
        api.request("POST", path, 201, headers=BETA, json={"config": config, "on": True})

        def ask(_: int) -> tuple[float, httpx2.Response]:
            began = time.monotonic()
            answer = api.http.get(f"/api/v2{G}/s/contexts/ann", headers={"Authorization": api.admin_token})
            return time.monotonic() - began, answer

        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(ask, range(12)))
    for seconds, answer in found:
        assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
        assert "store" in answer.json()["message"].partition(";")[0]
        assert "state server is away" not in answer.json()["message"]
        assert answer.headers["Retry-After"]
        assert seconds < PATIENCE_SECONDS
    api.request("GET", f"{G}/s", 200)
