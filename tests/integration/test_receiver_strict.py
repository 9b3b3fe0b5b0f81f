"""`--strict`: roles that do not start, and receivers that accept nothing, on a state server that keeps too little."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from launcher import Launcher
from servers import DURABLE, VOLATILE, ValkeyServer, free_port, wait_until
from starlette.testclient import TestClient

from worker.model import RedisStoreConfiguration
from worker.receiver import app
from worker.records.records import Bootstrap, Records
from worker.settings import Settings

PATH = "/api/v2/segment-targets/rudderstack"
ROLES: dict[str, list[str]] = {"serve": ["--port", "0"], "worker": ["--concurrency", "1"], "scheduler": []}
BEGUN = {"serve": "listening on", "worker": "ready.", "scheduler": "ready."}


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launcher]:
    directory = tmp_path / "roles"
    directory.mkdir()
    launcher = Launcher(directory)
    yield launcher
    launcher.stop_all()


def bootstrap(state: ValkeyServer) -> Bootstrap:
    with state.client(decode_responses=False) as client:
        store = RedisStoreConfiguration(host=state.host, port=state.port)
        return Records(client).bootstrap(environment_id="env-1", store_configuration=store)


def send(http: Any, made: Bootstrap, base: str = "") -> int:
    body = {"environmentId": "env-1", "cohortId": "c", "cohortName": "C"}
    return int(http.post(base + PATH, json=body, headers={"Authorization": str(made.writer_token)}).status_code)


@pytest.mark.parametrize("role", ROLES)
def test_a_strict_role_does_not_start_and_says_every_promise_that_is_broken(
    start_valkey: Callable[..., ValkeyServer], launch: Launcher, role: str
) -> None:
    state = start_valkey({**VOLATILE, "maxmemory-policy": "allkeys-lru"})

    started = launch(["segsync", role, "--strict", *ROLES[role]], {"SEGSYNC_STATE_URL": state.url})

    assert started.process.wait(30) == 1
    said = started.output.read_text()
    assert "segsync: strict" in said
    for promise in ("maxmemory-policy allkeys-lru", "appendonly no", "appendfsync everysec"):
        assert f"`{promise}`" in said
    assert "Traceback" not in said


def test_a_variable_makes_a_role_strict_as_well(start_valkey: Callable[..., ValkeyServer], launch: Launcher) -> None:
    environment = {"SEGSYNC_STATE_URL": start_valkey().url, "SEGSYNC_STRICT": "1"}

    assert launch(["segsync", "worker"], environment).process.wait(30) == 1


def test_a_strict_role_does_not_start_where_nothing_can_be_verified(
    start_valkey: Callable[..., ValkeyServer], launch: Launcher
) -> None:
    state = start_valkey(DURABLE)
    with state.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")

    started = launch(["segsync", "scheduler", "--strict"], {"SEGSYNC_STATE_URL": state.url})

    assert started.process.wait(30) == 1
    assert "unverified" in started.output.read_text()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_is_not_strict_starts_and_says_what_is_broken(
    start_valkey: Callable[..., ValkeyServer], launch: Launcher, role: str
) -> None:
    environment = {"SEGSYNC_STATE_URL": start_valkey().url, "SEGSYNC_LOG_LEVEL": "debug"}

    started = launch(["segsync", role, *ROLES[role]], environment)

    wait_until(lambda: started.says("durability.broken") and started.says(BEGUN[role]), 30, "the role to run")
    assert started.says("`appendonly no`, but SEGSYNC_DURABILITY=fsync needs `yes`")


@pytest.mark.parametrize("role", ROLES)
def test_a_strict_role_starts_where_everything_is_kept(
    start_valkey: Callable[..., ValkeyServer], launch: Launcher, role: str
) -> None:
    environment = {"SEGSYNC_STATE_URL": start_valkey(DURABLE).url, "SEGSYNC_LOG_LEVEL": "debug"}

    started = launch(["segsync", role, "--strict", *ROLES[role]], environment)

    wait_until(lambda: started.says(BEGUN[role]), 30, "the role to run")


def test_a_strict_worker_waits_for_a_state_server_that_is_away_and_judges_it_then(
    start_valkey: Callable[..., ValkeyServer], launch: Launcher
) -> None:
    state = start_valkey()
    state.stop()
    started = launch(["segsync", "worker", "--strict"], {"SEGSYNC_STATE_URL": state.url})
    wait_until(lambda: started.says("state.away"), 30, "the worker to wait")

    state.start()

    assert started.process.wait(30) == 1
    assert "`appendonly no`" in started.output.read_text()


def test_a_strict_receiver_that_meets_its_server_later_accepts_nothing_until_it_keeps_enough(
    start_valkey: Callable[..., ValkeyServer], launch: Launcher
) -> None:
    state = start_valkey(VOLATILE)
    made = bootstrap(state)
    with state.client() as client:
        client.config_set("appendonly", "yes")  # so that the records survive
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    state.stop()
    state.settings = {**DURABLE, "appendfsync": "everysec"}
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    started = launch(["segsync", "serve", "--strict", "--port", str(port)], {"SEGSYNC_STATE_URL": state.url})
    wait_until(lambda: started.says("listening on"), 30, "the receiver")
    assert httpx2.get(f"{url}/readyz").status_code == 503

    state.start()

    def judged() -> bool:
        answer = httpx2.get(f"{url}/readyz")
        assert answer.status_code == 503
        return "appendfsync everysec" in "".join(answer.json()["problems"])

    wait_until(judged, 30, "the receiver to judge the server")
    assert send(httpx2, made, url) == 503
    with state.client() as client:
        assert client.keys("*:log") == []
        client.config_set("appendfsync", "always")
    wait_until(lambda: httpx2.get(f"{url}/readyz").status_code == 200, 30, "the receiver to be ready")
    assert send(httpx2, made, url) == 204


def test_a_strict_receiver_accepts_nothing_on_a_server_that_came_back_with_less(
    start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "REFRESH_SECONDS", 3600)  # only what the request itself meets can tell
    state = start_valkey(DURABLE)
    made = bootstrap(state)
    with TestClient(app.create_receiver(Settings(state_url=state.url, strict=True))) as http:
        assert send(http, made) == 204
        state.settings["appendfsync"] = "everysec"
        state.restart()
        assert send(http, made) == 503
        assert http.get("/readyz").status_code == 503
        state.settings["appendfsync"] = "always"
        state.restart()
        assert send(http, made) == 204
        assert http.get("/readyz").status_code == 200


def test_a_receiver_notices_a_setting_that_is_changed_while_it_runs(
    start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "REFRESH_SECONDS", 0.05)
    state = start_valkey(DURABLE)
    made = bootstrap(state)
    with TestClient(app.create_receiver(Settings(state_url=state.url, strict=True))) as http, state.client() as client:
        assert send(http, made) == 204
        client.config_set("maxmemory-policy", "allkeys-lru")
        wait_until(lambda: send(http, made) == 503, message="a 503")
        client.config_set("maxmemory-policy", "noeviction")
        wait_until(lambda: send(http, made) == 204, message="a 204")


def test_a_receiver_that_promises_no_more_than_memory_says_once_what_that_risks(
    start_valkey: Callable[..., ValkeyServer], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "REFRESH_SECONDS", 0.05)
    state = start_valkey()
    made = bootstrap(state)
    with TestClient(app.create_receiver(Settings(state_url=state.url, durability="memory", strict=True))) as http:
        assert send(http, made) == 204
        assert http.get("/readyz").json()["broken_promises"] == []

    said = capsys.readouterr()
    assert (said.out + said.err).count("durability.risk") == 1


def test_help_says_what_strict_means() -> None:
    for role in ROLES:
        said = subprocess.check_output([sys.executable, "-m", "worker", role, "--help"], text=True)
        assert "--strict" in said
