"""The command line: its errors, its help, its small parts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import worker.cli.app
from worker.cli import log_files, main
from worker.cli.console import printable
from worker.cli.listener import listen, url_of
from worker.cli.signals import Signals, Stopped
from worker.errors import Misconfigured, SegsyncError, Unavailable
from worker.model import RedisStoreConfiguration
from worker.settings import load_settings


@pytest.mark.parametrize("error", [Misconfigured("no such thing"), Unavailable("no such thing", dependency="state")])
def test_what_a_person_can_put_right_is_one_line_and_exit_code_1(
    error: SegsyncError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app() -> None:
        raise error

    monkeypatch.setattr(worker.cli.app, "app", app)
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 1
    assert capsys.readouterr().err == "segsync: no such thing\n"


def test_help_imports_nothing_heavy() -> None:
    heavy = (
        "{'boto3', 'celery', 'cryptography', 'httpx2', 'ldclient', 'pydantic', 'redis', 're2', 'starlette', 'uvicorn'}"
    )
    code = f"import sys, worker.cli.app; print({heavy} & set(sys.modules))"

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_the_version_is_the_distributions() -> None:
    answer = subprocess.check_output([sys.executable, "-m", "worker", "--version"], text=True)

    assert answer.startswith("segsync 0.")


def test_a_port_in_use_is_one_line_that_names_the_fix() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Misconfigured, match=f"^port {port} on 127.0.0.1 is in use; choose another one with --port"):
            listen("127.0.0.1", port)


def test_listening_is_patient_when_asked() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    before = time.monotonic()
    with pytest.raises(Misconfigured):
        listen("127.0.0.1", port, patience=0.2)
    assert time.monotonic() - before >= 0.2
    taken.close()

    with listen("127.0.0.1", port, patience=0.2) as listener:
        assert listener.getsockname()[1] == port


def test_an_unknown_host_is_one_line() -> None:
    with pytest.raises(Misconfigured, match=r"^no address for the host 'no\.such\.host\.invalid'"):
        listen("no.such.host.invalid", 0)


def test_a_receiver_that_listens_everywhere_is_reached_over_loopback() -> None:
    with listen("0.0.0.0", 0) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_signal_is_noted_and_wakes_the_waiting() -> None:
    with Signals() as signals:
        signals.check()
        os.kill(os.getpid(), signal.SIGTERM)
        before = time.monotonic()
        signals.wait(10)
        assert time.monotonic() - before < 5
        with pytest.raises(Stopped):
            signals.check()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_end_of_a_child_wakes_the_waiting() -> None:
    with Signals() as signals:
        child = subprocess.Popen(["true"])
        before = time.monotonic()
        signals.wait(10)
        assert time.monotonic() - before < 5
        signals.check()
        child.wait()


def test_a_log_is_bounded_while_its_child_writes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "LIMIT_BYTES", 10)
    path = tmp_path / "worker.log"
    with log_files.open_log(path) as log:
        log.write(b"0123456789\n")
        log.flush()
        log_files.bound(path)
        log.write(b"more\n")

    assert path.read_text() == "more\n"
    assert (tmp_path / "worker.log.1").read_text() == "0123456789\n"


def test_the_last_lines_of_a_log_skip_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_text("first\nsecond\n\nthird\n\n")

    assert log_files.last_lines(path, 2) == ["second", "third"]
    assert log_files.last_lines(tmp_path / "none", 2) == []


def test_a_redis_url_is_read_as_a_configuration_and_written_back() -> None:
    made = RedisStoreConfiguration.from_url("rediss://me:p%40ss@store.example:6380/2")

    told = made.model_dump(exclude_defaults=True)
    assert told | {"password": made.password.get_secret_value()} == {
        "host": "store.example",
        "port": 6380,
        "username": "me",
        "password": "p@ss",
        "tlsEnabled": True,
        "database": 2,
    }
    assert made.url.get_secret_value() == "rediss://me:p%40ss@store.example:6380/2"
    assert "p@ss" not in f"{made} {made!r}"


WRONG_URLS = ["http://:secret@host", "redis://:secret@host:x", "redis://:secret@host/x", "redis://:se/cret@host", "foo"]


@pytest.mark.parametrize("url", WRONG_URLS)
@pytest.mark.parametrize("name", ["SEGSYNC_STATE_URL", "SEGSYNC_BROKER_URL"])
def test_a_wrong_url_among_the_settings_is_one_line_that_names_it_and_keeps_its_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(Misconfigured) as error:
        load_settings()

    assert name in str(error.value)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSYNC_MANIFESTS", "")
    monkeypatch.setenv("SEGSYNC_PORT", "")
    assert load_settings().manifests is None
    assert load_settings().port == 8080


def test_what_a_partner_writes_into_a_name_is_shown_and_not_obeyed() -> None:
    assert printable("Name\nwith \x1b[31mred ünïcode") == "Name�with �[31mred ünïcode"


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_wrong_store_url_is_one_line_without_the_url(url: str) -> None:
    with pytest.raises(ValueError) as error:
        RedisStoreConfiguration.from_url(url)

    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["redis+cluster://a,b", "redis+sentinel://a/primary", "unix:///run/redis.sock"])
def test_the_state_server_is_one_server_that_every_process_reaches(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SEGSYNC_STATE_URL", url)
    with pytest.raises(Misconfigured, match="must read redis://"):
        load_settings()
