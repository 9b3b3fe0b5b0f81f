"""The data directory of `segsync up`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from worker.cli.connection import find_service
from worker.cli.data_directory import DataDirectory, check_not_held
from worker.errors import Misconfigured

FACTS = {
    "url": "http://127.0.0.1:8080",
    "project_key": "default",
    "environment_key": "production",
    "environment_id": "0123456789abcdef01234567",
    "writer_token": "w",
    "admin_token": "a",
    "state_url": "redis://:s3cret@127.0.0.1:20000/0",
    "store": {"kind": "redis", "url": "redis://:s3cret@127.0.0.1:20000/0", "prefix": "launchdarkly"},
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SEGSYNC_STATE_URL", raising=False)
    monkeypatch.chdir(tmp_path)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_credentials_are_chosen_once_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    with DataDirectory.lock(tmp_path / "data") as directory:
        first = directory.credentials()
    with DataDirectory.lock(tmp_path / "data") as directory:
        second = directory.credentials()

    assert first == second
    assert re.fullmatch(r"[0-9a-f]{24}", first.environment_id)
    assert mode(tmp_path / "data" / "credentials.json") == 0o600
    assert mode(tmp_path / "data") == 0o700
    assert first.writer_token not in repr(first)


def test_damaged_credentials_are_one_line_and_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text('{"environment_id": 1}')
    with DataDirectory.lock(tmp_path) as directory, pytest.raises(Misconfigured, match=r"credentials.json is damaged"):
        directory.credentials()
    assert (tmp_path / "credentials.json").read_text() == '{"environment_id": 1}'


def test_two_cannot_hold_one_directory(tmp_path: Path) -> None:
    held = r"^another `segsync up` already runs on .*--data-dir$"
    with DataDirectory.lock(tmp_path / "data"):
        with pytest.raises(Misconfigured, match=held), DataDirectory.lock(tmp_path / "data"):
            pass
        with pytest.raises(Misconfigured, match=held):
            check_not_held(tmp_path / "data")
    check_not_held(tmp_path / "data")
    with DataDirectory.lock(tmp_path / "data"):
        pass


def test_asking_whether_a_directory_is_held_creates_nothing(tmp_path: Path) -> None:
    check_not_held(tmp_path / "data")

    assert not (tmp_path / "data").exists()


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")

    with (
        pytest.raises(
            Misconfigured, match=r"^cannot write to the data directory .*; choose another one with --data-dir$"
        ),
        DataDirectory.lock(tmp_path / "data"),
    ):
        pass


def test_a_connection_file_left_by_a_killed_up_is_removed_at_start(tmp_path: Path) -> None:
    (tmp_path / "connection.json").write_text("{}")

    with DataDirectory.lock(tmp_path):
        assert not (tmp_path / "connection.json").exists()


def test_commands_find_the_service_by_its_data_directory(tmp_path: Path) -> None:
    with DataDirectory.lock(tmp_path / "data") as directory:
        directory.write_connection(FACTS)

        service = find_service(tmp_path / "data")

    assert json.loads((tmp_path / "data" / "connection.json").read_text()) == FACTS
    assert mode(tmp_path / "data" / "connection.json") == 0o600
    assert service.url == FACTS["url"]
    assert service.settings.state_url.get_secret_value() == FACTS["state_url"]
    assert service.writer_token == "w"
    assert service.store == FACTS["store"]
    assert "s3cret" not in repr(service)


def test_commands_look_in_dot_segsync_unless_told_otherwise(tmp_path: Path) -> None:
    with DataDirectory.lock(Path(".segsync")) as directory:
        directory.write_connection(FACTS)
        assert find_service(None).environment_id == FACTS["environment_id"]


def test_what_a_killed_up_left_behind_is_no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSYNC_STATE_URL", "redis://state:6379/0")
    with DataDirectory.lock(Path(".segsync")) as directory:
        directory.write_connection(FACTS)

    assert find_service(None).settings.state_url.get_secret_value() == "redis://state:6379/0"
    with pytest.raises(Misconfigured, match="no running"):
        find_service(Path(".segsync"))


def test_commands_find_the_service_by_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSYNC_STATE_URL", "redis://state:6379/0")

    service = find_service(None)

    assert service.settings.state_url.get_secret_value() == "redis://state:6379/0"
    assert service.url is None


def test_a_named_directory_without_a_service_is_not_replaced_by_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGSYNC_STATE_URL", "redis://state:6379/0")

    with pytest.raises(Misconfigured, match="no running `segsync up` in"):
        find_service(tmp_path / "data")


def test_without_a_service_the_error_names_both_ways_to_one() -> None:
    with pytest.raises(Misconfigured, match=r"--data-dir, or set SEGSYNC_STATE_URL$"):
        find_service(None)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"state_url": "redis://state", "unheard_of": 1}'])
def test_a_damaged_connection_file_is_one_line(tmp_path: Path, content: str) -> None:
    with DataDirectory.lock(tmp_path):
        (tmp_path / "connection.json").write_text(content)

        with pytest.raises(Misconfigured, match="is damaged"):
            find_service(tmp_path)
