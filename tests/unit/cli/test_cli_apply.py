"""`segsync apply` on a real state server: a file in, records out, and nothing the second time."""

from __future__ import annotations

import json
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
from worker.records.secret_box import SecretBox, new_key

FILE = """
[projects.shop]
name = "The shop"

[projects.shop.environments.live]
name = "Live"
id = "65a1f0c0ffee65a1f0c0ffee"

[projects.shop.environments.live.stores.flags]
kind = "redis"
host = "flags.internal"
password = { env = "FLAGS_PASSWORD" }
tags = ["eu"]

[projects.shop.environments.live.stores.table]
kind = "dynamodb"
tableName = "flags"
region = "eu-west-1"
on = false

[projects.shop.environments.test]

[projects.shop.environments.test.stores.flags]
url = { file = "test-url" }

[tokens.amplitude]
role = "writer"
value = { file = "amplitude-token" }

[tokens.partner]
statements = [
    { effect = "allow", actions = ["updateIncluded"], resources = ["proj/shop:env/live:segment/*"] },
]
"""


@pytest.fixture
def place(start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory with the file and its secrets, beside an empty state server that commands find."""
    server = start_valkey()
    monkeypatch.setenv("SEGSYNC_STATE_URL", server.url)
    monkeypatch.setenv("SEGSYNC_SECRET_KEYS", new_key())
    monkeypatch.setenv("FLAGS_PASSWORD", "a-password-of-flags")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test-url").write_text("redis://:another-password@test.internal:6390/2\n")
    (tmp_path / "amplitude-token").write_text("a-token-of-amplitude\n")
    (tmp_path / "segsync.toml").write_text(FILE)
    return tmp_path


def run(place: Path, *options: str, text: str | None = None) -> str:
    if text is not None:
        (place / "segsync.toml").write_text(text)
    result = CliRunner().invoke(app, ["apply", "-f", str(place / "segsync.toml"), *options])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def fault(place: Path, text: str) -> str:
    (place / "segsync.toml").write_text(text)
    result = CliRunner().invoke(app, ["apply", "-f", str(place / "segsync.toml")])
    assert isinstance(result.exception, Misconfigured), (result.output, result.exception)
    return str(result.exception)


def directory() -> Directory:
    from worker.settings import load_settings
    from worker.state import open_state

    settings = load_settings()
    client = open_state(settings)
    try:
        return Records(client, SecretBox(settings.secrets())).directory()
    finally:
        client.close()


def test_everything_the_file_declares_is_made(place: Path) -> None:
    run(place)
    found = directory()
    assert {key: project.name for key, project in found.projects.items()} == {"shop": "The shop"}
    live, test = found.environment_by_key("shop", "live"), found.environment_by_key("shop", "test")
    assert live is not None
    assert test is not None
    assert (live.environment_id, live.name, test.name) == ("65a1f0c0ffee65a1f0c0ffee", "Live", "test")
    flags, table = found.stores_of(live.environment_id)
    assert (flags.name, flags.on, flags.tags, table.name, table.on) == ("flags", True, ("eu",), "table", False)
    assert flags.configuration.kind == "redis"
    assert flags.configuration.password.get_secret_value() == "a-password-of-flags"
    [of_test] = found.stores_of(test.environment_id)
    assert of_test.configuration.kind == "redis"
    assert (of_test.configuration.host, of_test.configuration.database) == ("test.internal", 2)
    amplitude = found.token("a-token-of-amplitude")
    assert amplitude is not None
    assert (amplitude.name, amplitude.role) == ("amplitude", "writer")


def test_applied_again_it_changes_nothing(place: Path) -> None:
    run(place)
    before = directory()
    assert "Nothing to do: 8 things as declared." in run(place)
    assert directory() == before


def test_a_dry_run_prints_the_plan_and_changes_nothing(place: Path) -> None:
    output = run(place, "--dry-run")
    assert output.splitlines() == [
        "+ project shop",
        "+ environment shop/live: id 65a1f0c0ffee65a1f0c0ffee",
        "+ store flags of shop/live: redis flags.internal:6379/0, prefix launchdarkly",
        "+ store table of shop/live: dynamodb table flags in eu-west-1, prefix (none); off",
        "+ environment shop/test",
        "+ store flags of shop/test: redis test.internal:6390/2, prefix launchdarkly",
        "+ token amplitude: writer",
        "+ token partner: allow updateIncluded on proj/shop:env/live:segment/*",
    ]
    assert directory().version == ""


def test_a_token_without_a_value_is_shown_once(place: Path) -> None:
    shown: dict[str, Any] = json.loads(run(place, "--json"))
    token = shown["tokens"]["partner"]
    assert directory().token(token) is not None
    assert list(shown["tokens"]) == ["partner"]
    again: dict[str, Any] = json.loads(run(place, "--json"))
    assert (again["tokens"], {step["action"] for step in again["steps"]}) == ({}, {"none"})


def test_what_differs_is_changed_and_told_without_secrets(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(place)
    monkeypatch.setenv("FLAGS_PASSWORD", "a-new-password")
    (place / "amplitude-token").write_text("a-new-token-of-amplitude")
    changed = FILE.replace('"Live"', '"Alive"').replace("on = false", "on = true").replace('["eu"]', '["eu", "us"]')
    output = run(place, text=changed)
    assert output.splitlines()[:5] == [
        "~ environment shop/live: name: Live -> Alive",
        "~ store flags of shop/live: password: another one; tags: eu -> eu, us",
        "~ store table of shop/live: on: no -> yes",
        "~ token amplitude: value: another one; the former one ends",
        "= 4 as declared already",
    ]
    assert "password" not in output.replace("password: another one", "")
    assert "a-new-token" not in output
    found = directory()
    flags = next(store for store in found.stores if store.tags == ("eu", "us"))
    assert flags.configuration.kind == "redis"
    assert flags.configuration.password.get_secret_value() == "a-new-password"
    assert found.token("a-token-of-amplitude") is None
    assert found.token("a-new-token-of-amplitude") is not None


def test_what_the_file_does_not_name_is_left_alone(place: Path) -> None:
    run(place)
    run(place, text='[projects.other]\nname = "Other"\n')
    found = directory()
    assert set(found.projects) == {"shop", "other"}
    assert len(found.stores) == 3
    assert len(found.tokens) == 2


def test_two_stores_at_one_place_are_refused_before_anything_is_done(place: Path) -> None:
    told = fault(place, FILE.replace('url = { file = "test-url" }', 'host = "flags.internal"'))
    assert "store flags of shop/test is at the place of store flags of shop/live" in told
    assert directory().version == ""


def test_an_id_or_a_kind_that_would_change_is_refused_before_anything_is_done(place: Path) -> None:
    run(place)
    before = directory()
    told = fault(place, FILE.replace("65a1f0c0ffee65a1f0c0ffee", "another-id").replace("The shop", "Shop"))
    assert "an id cannot be changed" in told
    told = fault(place, FILE.replace('kind = "dynamodb"\ntableName = "flags"\nregion = "eu-west-1"', 'host = "x"'))
    assert "another kind is another store" in told
    assert directory() == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("projects = 3", "projects: "),
        ("[projects.shop.environments.live.stores.a]\nhost = 3", "projects.shop.environments.live.stores.a.host: "),
        ("[projects.shop.environments.live.stores.a]\npassword = 'plain'", "a secret does not belong in this file"),
        ("[projects.a.environments.b.stores.c]\npassword = { env = 'NOT_SET' }", "the variable NOT_SET is not set"),
        ("[projects.a.environments.b.stores.c]\npassword = { file = 'none' }", "cannot read"),
        (
            "[projects.a.environments.b.stores.c]\nurl = { env = 'FLAGS_PASSWORD' }",
            "projects.a.environments.b.stores.c: ",
        ),
        ("[projects.a.environments.b.stores.c]\npasword = { env = 'FLAGS_PASSWORD' }", "stores.c.pasword: "),
        ("[tokens.a]", "either a role or statements"),
        ("[tokens.a]\nrole = 'owner'", "tokens.a.role: "),
        ("[tokens.a]\nrole = 'reader'\nvalue = { env = 'SHORT' }", "the value of token a"),
        ("[projects.'a b']", "the key of project 'a b'"),
        ("[projects", "is no TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_no_value(
    place: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.setenv("SHORT", "too-short")
    found = fault(place, text)
    assert told in found
    assert "a-password-of-flags" not in found
    assert "too-short" not in found
    assert directory().version == ""


def test_a_kind_of_store_may_be_left_out_where_it_is_redis(place: Path) -> None:
    run(place, text="[projects.a.environments.b.stores.c]\nhost = 'flags'\n")
    [store] = directory().stores
    assert store.configuration.kind == "redis"


def test_a_store_that_needs_a_secret_is_not_made_without_a_key(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGSYNC_SECRET_KEYS")
    assert "SEGSYNC_SECRET_KEYS" in fault(place, FILE)
    assert directory().version == ""


def test_a_token_that_another_has_is_refused(place: Path) -> None:
    run(place)
    told = fault(place, '[tokens.other]\nrole = "reader"\nvalue = { file = "amplitude-token" }')
    assert "another token's already: amplitude" in told


def test_the_example_of_the_documents_can_be_applied(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[3] / "deploy" / "api.md"
    example = page.read_text().partition("```toml\n")[2].partition("```")[0]
    monkeypatch.setenv("FLAGS_REDIS_PASSWORD", "a-password-of-flags")
    assert "+ token amplitude" in run(place, text=example.replace("/run/secrets/amplitude", "amplitude-token"))
    [partner] = directory().tokens.values()
    assert partner.inline_role
