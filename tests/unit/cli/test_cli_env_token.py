"""`segsync env` and `segsync token` on a real state server."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import ValkeyServer
from typer.testing import CliRunner

from worker.cli.app import app
from worker.errors import Misconfigured
from worker.records.directory import Directory
from worker.records.records import Records
from worker.records.rights import may

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def place(start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty state server that commands find."""
    monkeypatch.setenv("SEGSYNC_STATE_URL", start_valkey().url)
    monkeypatch.chdir(tmp_path)


def run(command: str, **options: Any) -> str:
    result = CliRunner().invoke(app, shlex.split(command), **options)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def fault(command: str) -> str:
    result = CliRunner().invoke(app, shlex.split(command))
    assert isinstance(result.exception, Misconfigured), (result.output, result.exception)
    return str(result.exception)


def directory() -> Directory:
    from worker.settings import load_settings
    from worker.state import open_state

    client = open_state(load_settings())
    try:
        return Records(client).directory()
    finally:
        client.close()


def test_an_environment_is_made_with_its_project_listed_and_removed_with_it() -> None:
    assert "made, with id my-id" in run("env add shop/live --name Live --id my-id")
    made = json.loads(run("env add shop/test --json"))
    assert (made["projectKey"], made["key"], made["name"]) == ("shop", "test", "test")
    listed = {each["key"]: each["id"] for each in json.loads(run("env list --json"))}
    assert listed == {"live": "my-id", "test": made["id"]}
    assert "shop/live" in run("env list")
    run("env remove shop/test --yes")
    assert set(directory().projects) == {"shop"}
    run("env remove my-id --yes")
    assert directory().projects == {}
    assert "There are no environments" in run("env list")


def test_a_removal_is_not_done_unasked() -> None:
    run("env add shop/live")
    assert "say --yes" in fault("env remove live")
    assert len(directory().environments) == 1


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("env add live", "default/production"),
        ("env add shop/live", "has an environment live already"),
        ("env add shop/other --id my-id", "there is an environment with id my-id already"),
        ("env add 'shop/a b'", "an environment's key"),
    ],
)
def test_an_environment_that_cannot_be_is_refused(command: str, told: str) -> None:
    run("env add shop/live --id my-id")
    assert told in fault(command)


def test_a_token_is_printed_once_and_listed_without_itself() -> None:
    token = run("token add ops --role admin").strip()
    found = directory().token(token)
    assert found is not None
    assert (found.name, found.role) == ("ops", "admin")
    [listed] = json.loads(run("token list --json"))
    assert (listed["id"], listed["hint"], listed["lastUsedMs"]) == (found.id, token[-4:], None)
    assert token not in run("token list") + json.dumps(listed)


def test_a_partner_s_token_may_write_to_its_environment_alone() -> None:
    run("env add shop/live")
    run("env add shop/test")
    text = run("token add amplitude --environment shop/live").strip()
    token = directory().token(text)
    assert token is not None
    for key, allowed in (("live", True), ("test", False)):
        resource = directory().resource("shop", key, "beta")
        assert may(token, "updateIncluded", resource) is allowed
        assert may(token, "createSegment", resource) is allowed
        assert not may(token, "deleteSegment", resource)
    assert "there is no environment 'shop/none'" in fault("token add amplitude --environment shop/none")


def test_statements_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "statements.json"
    path.write_text('[{"effect": "allow", "actions": ["*"], "resources": ["proj/*:env/live:segment/beta-*"]}]')
    text = run(f"token add beta --statements {path}").strip()
    token = directory().token(text)
    assert token is not None
    assert may(token, "deleteSegment", directory().resource("shop", "live", "beta-1"))
    path.write_text('[{"effect": "allow", "actions": ["*"], "resources": ["acct/*"]}]')
    assert "statement 0" in fault(f"token add beta --statements {path}")


def test_a_token_of_ones_own_is_read_from_standard_input() -> None:
    assert run("token add mine --role reader --from-stdin", input="a-token-of-my-own\n").strip() == "a-token-of-my-own"
    assert directory().token("a-token-of-my-own") is not None


def test_a_token_is_revoked_by_id_or_by_a_name_that_it_alone_has() -> None:
    run("token add twin --role reader")
    run("token add twin --role reader")
    assert "2 tokens are called 'twin'" in fault("token remove twin")
    first, _ = json.loads(run("token list --json"))
    run(f"token remove {first['id']}")
    run("token remove twin")
    assert directory().tokens == {}


@pytest.mark.parametrize("options", ["", "--role admin --environment shop/live", "--role owner"])
def test_a_token_without_one_clear_right_is_refused(options: str) -> None:
    assert "--role" in fault(f"token add nobody {options}")
    assert directory().tokens == {}
