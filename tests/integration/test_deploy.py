"""Every command of the Dockerfile, the compose file and the Procfile, started for real on a real server."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
import yaml
from launcher import Launcher, Started
from secret_keys import KEY, VARIABLE
from servers import DURABLE, ValkeyServer, free_port, server_binary, wait_until

from worker.stores.layout import context_hash, redis_include_key, redis_synchronized_on_key

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
SECRETS = {
    VARIABLE: KEY,
    "SEGSYNC_REDIS_PASSWORD": "state-password",
    "SEGSYNC_WRITER_TOKEN": "writer-token-of-the-test",
    "SEGSYNC_ADMIN_TOKEN": "admin-token-of-the-test",
}
START_SECONDS = 60.0


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    launcher.stop_all()


def answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=2).status_code == 200
    except httpx2.TransportError:
        return False


def is_fresh(client: redis.Redis) -> bool:
    return bool(client.exists(redis_synchronized_on_key("launchdarkly")))


def is_member(client: redis.Redis, context_key: str) -> bool:
    return client.smembers(redis_include_key("launchdarkly", context_hash(context_key))) == {"rudderstack-deployed.g1"}


def send(port: int, token: str, environment_id: str, context_key: str) -> int:
    return httpx2.post(
        f"http://127.0.0.1:{port}/api/v2/segment-targets/rudderstack",
        headers={"Authorization": token},
        json={
            "environmentId": environment_id,
            "cohortId": "deployed",
            "cohortName": "Deployed",
            "contextKind": "user",
            "listData": {"add": [{"id": context_key}], "remove": []},
        },
        timeout=10,
    ).status_code


def dockerfile() -> tuple[list[str], list[str], dict[str, str]]:
    """Entry point, command and environment of the image."""
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    lists = {word: json.loads(found) for word, found in re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", text, re.MULTILINE)}
    pairs = (pair.split("=", 1) for line in re.findall(r"^ENV (.*)$", text, re.MULTILINE) for pair in line.split())
    return lists["ENTRYPOINT"], lists["CMD"], dict(pairs)


def filled_in(text: str, values: dict[str, str]) -> str:
    """A compose value with its variables put in; every one must be required, so that none is forgotten silently."""

    def value(match: re.Match[str]) -> str:
        assert match[2] == ":?", f"{match[0]} is not required"
        return values[match[1]]

    return re.sub(r"\$\{(\w+)(.*?)\}", value, text)


def service_environment(name: str) -> dict[str, str]:
    _, _, image = dockerfile()
    given = {key: filled_in(str(value), SECRETS) for key, value in COMPOSE["services"][name]["environment"].items()}
    return image | given


def replicas(name: str) -> int:
    return int(COMPOSE["services"][name].get("deploy", {}).get("replicas", 1))


class Composed:
    """The compose file on this machine: its hosts are 127.0.0.1, its ports are free ones."""

    def __init__(self, launch: Launcher, state: ValkeyServer) -> None:
        self._launch = launch
        self._state = state
        self._entry, _, _ = dockerfile()

    def redis(self) -> Started:
        """The state server, by the command of the file, on a port and in a directory of our own."""
        program, *options = [filled_in(part, SECRETS) for part in COMPOSE["services"]["redis"]["command"]]
        assert program == "redis-server"
        where = ["--port", str(self._state.port), "--dir", str(self._state.directory)]
        return self._launch([str(server_binary()), *options, *where], {})

    def __call__(self, name: str, **more: str) -> Started:
        """One container of a service that runs our image."""
        environment = service_environment(name)
        url = environment["SEGSYNC_STATE_URL"].replace("@redis:6379/", f"@127.0.0.1:{self._state.port}/")
        assert url == self._state.url
        here = {"SEGSYNC_STATE_URL": url, "SEGSYNC_HOST": "127.0.0.1"}
        return self._launch([*self._entry, *COMPOSE["services"][name]["command"]], environment | here | more)


def test_every_service_of_the_compose_file_starts_and_they_do_the_job(launch: Launcher, tmp_path: Path) -> None:
    # Never started as such: it knows the URL, and how to ask.
    state = ValkeyServer(tmp_path, password=SECRETS["SEGSYNC_REDIS_PASSWORD"])
    run, client = Composed(launch, state), state.client(decode_responses=True)
    wait_until(partial(answers_ping, client, run.redis()))
    assert {name: client.config_get(name)[name] for name in DURABLE} == DURABLE

    said = run("init").result(START_SECONDS)
    facts = json.loads(said)
    assert not [secret for secret in SECRETS.values() if secret in said]

    ports = [free_port() for _ in range(replicas("receiver"))]
    receivers = [run("receiver", SEGSYNC_PORT=str(port)) for port in ports]
    workers = [run("worker", SEGSYNC_CONCURRENCY="1") for _ in range(replicas("worker"))]
    schedulers = [run("scheduler") for _ in range(replicas("scheduler"))]
    assert (len(receivers), len(workers), len(schedulers)) == (2, 3, 1)

    for started in (*receivers, *workers, *schedulers):
        wait_until(partial(started.says, "listening on" if started in receivers else "ready."), START_SECONDS)
    wait_until(partial(is_fresh, client), START_SECONDS)
    for port in ports:
        check_health(port)
        key = f"ann-{port}"
        assert send(port, SECRETS["SEGSYNC_WRITER_TOKEN"], facts["environment_id"], key) == 204
        wait_until(partial(is_member, client, key))

    assert json.loads(run("init").result(START_SECONDS)) == facts  # it may run at every `up`
    client.close()


def check_health(port: int) -> None:
    """Run the receiver's health check, as the container engine does."""
    kind, program, *arguments = COMPOSE["services"]["receiver"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    subprocess.run([sys.executable, *(part.replace(":8080", f":{port}") for part in arguments)], check=True)


def answers_ping(client: redis.Redis, server: Started) -> bool:
    assert server.says("")
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_every_line_of_the_procfile_starts_and_they_do_the_job(
    launch: Launcher, start_valkey: Callable[..., ValkeyServer]
) -> None:
    state = start_valkey(DURABLE)
    client = state.client(decode_responses=True)
    environment = {"SEGSYNC_STATE_URL": state.url, "SEGSYNC_CONCURRENCY": "1"}
    facts = json.loads(launch(["segsync", "init"], environment).result(START_SECONDS))
    port = free_port()

    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert list(lines) == ["receiver", "worker", "scheduler"]
    for line in lines.values():
        launch(["sh", "-c", f"exec {line}"], environment | {"PORT": str(port)})

    wait_until(partial(answers, f"http://127.0.0.1:{port}/readyz"), START_SECONDS)
    wait_until(partial(is_fresh, client), START_SECONDS)
    assert send(port, facts["writer_token"], facts["environment_id"], "ann") == 204
    wait_until(partial(is_member, client, "ann"), START_SECONDS)
    client.close()


def test_the_image_serves_when_it_is_told_nothing(launch: Launcher, start_valkey: Callable[..., ValkeyServer]) -> None:
    state, port = start_valkey(DURABLE), free_port()
    entry, command, environment = dockerfile()
    environment |= {"SEGSYNC_STATE_URL": state.url, "SEGSYNC_PORT": str(port)}

    launch([*entry, *command], environment)

    wait_until(partial(answers, f"http://127.0.0.1:{port}/healthz"), START_SECONDS)


def test_the_image_is_built_from_what_the_build_context_holds() -> None:
    ignored, *kept = (ROOT / ".dockerignore").read_text().split()
    assert ignored == "*"
    held = {line.removeprefix("!") for line in kept if line.startswith("!")}

    assert {"LICENSE", "README.md", "manifests", "pyproject.toml", "requirements.txt", "tests/golden", "worker"} == held
    for service in COMPOSE["services"].values():
        build = service.get("build", {})
        assert build.get("context", "..") == ".."
        assert (ROOT / build.get("dockerfile", "deploy/Dockerfile")).exists()


def test_nothing_in_deploy_holds_a_secret() -> None:
    text = (ROOT / "deploy" / "compose.yaml").read_text() + (ROOT / "deploy" / "Dockerfile").read_text()

    for line in text.splitlines():
        if re.search(r"PASSWORD|TOKEN", line) and not line.lstrip().startswith("#"):
            assert re.search(r"\$\{\w+:\?\}", line), shlex.quote(line)
