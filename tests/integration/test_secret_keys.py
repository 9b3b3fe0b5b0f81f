"""Keys of secrets in real processes: what lies where, what is told when none fits, and a change of keys."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from deployment import deployed, send
from secret_keys import KEY, VARIABLE
from servers import ValkeyServer, wait_until
from up_process import UpProcess

from worker.records.secret_box import new_key
from worker.stores.layout import context_hash, redis_include_key

PATH = "/api/v2/segment-targets/rudderstack"
PASSWORD = "pa55word-of-a-store"
TOKEN = "api-t0ken-of-launchdarkly"


def dumped(server: ValkeyServer) -> str:
    """Everything that a server holds, as text."""
    client = server.client(decode_responses=False)
    readers: dict[Any, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    with client:
        return repr([(key, readers[client.type(key)](key)) for key in client.scan_iter(count=1000)])


def payload(environment_id: str, member: str) -> bytes:
    return json.dumps(
        {
            "environmentId": environment_id,
            "cohortId": "keys",
            "cohortName": "Keys",
            "contextKind": "user",
            "listData": {"add": [{"id": member}], "remove": []},
        }
    ).encode()


def test_a_dump_and_the_logs_hold_no_secret_and_a_wrong_key_stops_that_store_alone(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    state, store = start_valkey(), start_valkey(password=PASSWORD)

    def has(member: str) -> Callable[[], bool]:
        key = redis_include_key("launchdarkly", context_hash(member))
        return lambda: store.client().sismember(key, "rudderstack-keys.g1") == 1

    with deployed(state, tmp_path, workers=1) as deployment:
        deployment.command("store", "add", "second", "--redis-url", store.url)
        deployment.command(
            "store", "add", "third", "--off", "--launchdarkly-project", "p", "--launchdarkly-environment", "e",
            "--access-token", TOKEN,
        )  # fmt: skip
        url = deployment.start_receiver()
        with httpx2.Client(headers={"Authorization": deployment.writer_token}) as http:

            def accept(member: str) -> None:
                send(http, [url], PATH, payload(deployment.environment_id, member))

            accept("ann")
            wait_until(has("ann"), 30, "the second store has ann")
            assert "fernet:" in dumped(state)

            # Every writer gets another key, and no longer this one.
            deployment.environment[VARIABLE] = new_key()
            for process in list(deployment.processes)[:2]:
                deployment.kill(process)
            deployment.start("scheduler")
            deployment.start("worker")
            accept("bob")
            first = state.client()
            in_first = redis_include_key("launchdarkly", context_hash("bob"))
            wait_until(lambda: first.exists(in_first), 30, "the first store has bob")
            told = deployment.command("store", "list", "--json")
            second = next(each for each in json.loads(told) if each["name"] == "second")
            assert (second["state"], "SEGSYNC_SECRET_KEYS" in second["reason"]) == ("locked", True)
            assert "locked: none of the keys" in deployment.command("store", "list").replace("\n", " ")
            assert not has("bob")()

            # The old one behind the new one: it goes on, from where it was.
            deployment.environment[VARIABLE] += f",{KEY}"
            for process in deployment.processes[-2:]:
                deployment.kill(process)
            deployment.start("scheduler")
            deployment.start("worker")
            wait_until(has("bob"), 60, "the second store has bob")

            assert json.loads(deployment.command("keys", "rotate", "--json")) == {"stores": 2, "locked": []}
            deployment.environment[VARIABLE] = deployment.environment[VARIABLE].partition(",")[0]
            assert "locked" not in deployment.command("store", "list")

        kept = dumped(state) + deployment.logs() + told
        assert not [secret for secret in (PASSWORD, TOKEN, deployment.writer_token) if secret in kept]


def test_without_a_key_a_secret_is_refused_in_one_line(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    state = start_valkey(password=PASSWORD)
    environment = {
        "SEGSYNC_STATE_URL": state.url,
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "worker", "init"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("segsync: ")
    assert done.stderr.count("\n") == 1
    assert "`segsync keys new`" in done.stderr
    assert PASSWORD not in done.stderr
    assert state.client().exists("segsync:stores") == 0


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., UpProcess]]:
    started: list[UpProcess] = []

    def start() -> UpProcess:
        started.append(UpProcess(tmp_path / "data"))
        return started[-1]

    yield start
    for process in started:
        process.clean_up()


def test_up_has_a_key_of_its_own_which_its_commands_find(
    up: Callable[[], UpProcess], tmp_path: Path, start_valkey: Callable[..., ValkeyServer]
) -> None:
    first, store = up(), start_valkey(password=PASSWORD)
    facts = first.ready()
    key_file = tmp_path / "data" / "secret_keys"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    former = key_file.read_text()

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "worker", *arguments, "--data-dir", str(tmp_path / "data")],
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    command("store", "add", "second", "--redis-url", store.url)
    wait_until(
        lambda: json.loads(command("store", "show", "second", "--json"))["state"] == "current", 30, "it is written"
    )
    assert json.loads(command("keys", "rotate", "--json")) == {"stores": 2, "locked": []}
    assert json.loads(first.connection_file.read_text()) == facts
    assert former.strip() not in first.connection_file.read_text()
    assert first.end() == 0

    # A new key before the old one, as a person changes it; and then the old one leaves.
    key_file.write_text(f"{new_key()}\n{former}")
    second = up()
    second.ready()
    assert json.loads(command("keys", "rotate", "--json")) == {"stores": 2, "locked": []}
    assert second.end() == 0
    key_file.write_text(key_file.read_text().split()[0])
    up().ready()
    assert "locked" not in command("store", "list")
