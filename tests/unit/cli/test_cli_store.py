"""`segsync store`, on a real state server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from secret_keys import BOX
from servers import ValkeyServer, free_port
from typer.testing import CliRunner, Result

from worker.cli.app import app
from worker.errors import Misconfigured, Unavailable
from worker.log.append import Appends
from worker.log.batch import Batch, Target
from worker.log.refused_members import RefusedMembers
from worker.model import (
    Cohort,
    DynamoDBStoreConfiguration,
    LaunchDarklyStoreConfiguration,
    RedisStoreConfiguration,
    RefusedMember,
    SegmentId,
    StoreRecord,
)
from worker.records.circuit import Circuits
from worker.records.directory import Environment
from worker.records.records import Records
from worker.records.stores import StoreRecords
from worker.records.tables import ENVIRONMENTS, FORGOTTEN, write_record
from worker.stores.layout import context_hash

ENVIRONMENT = "env-1"


@dataclass
class Installation:
    server: ValkeyServer
    client: redis.Redis

    def run(self, *arguments: str, stdin: str | None = None, code: int = 0) -> Result:
        """Run `segsync store …`."""
        result = CliRunner().invoke(app, ["store", *arguments], input=stdin)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    @property
    def stores(self) -> dict[str, StoreRecord]:
        return {store.name: store for store in Records(self.client, BOX).directory().stores}

    def add_environment(self, environment_id: str, key: str) -> None:
        made = Environment(environment_id=environment_id, environment_key=key, project_key="default", name=key)
        write_record(self.client, ENVIRONMENTS, environment_id, made.model_dump_json())


def note(client: redis.Redis, store: StoreRecord, **notes: int) -> None:
    """Note of a store what its heartbeats and drains would."""
    client.hset(f"segsync:store:{{{store.store_id}}}", mapping={name: str(value) for name, value in notes.items()})


@pytest.fixture
def installation(
    start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> Installation:
    """An environment with one Redis store, "redis", which is the state server, and has been reached before."""
    server = start_valkey()
    client = server.client()
    Records(client, BOX).bootstrap(
        environment_id=ENVIRONMENT, store_configuration=RedisStoreConfiguration.from_url(server.url)
    )
    note(client, Records(client, BOX).directory().stores[0], beat_ms=1)
    monkeypatch.setenv("SEGSYNC_STATE_URL", server.url)
    monkeypatch.delenv("SEGSYNC_STORE_URL", raising=False)
    monkeypatch.chdir(str(tmp_path))
    return Installation(server, client)


def test_a_redis_store_is_added_and_says_what_happens_next(installation: Installation) -> None:
    said = installation.run("add", "second", "--redis-url", "redis://other:6380/2", "--prefix", "p").output

    added = installation.stores["second"]
    assert added.configuration == RedisStoreConfiguration(host="other", port=6380, database=2, prefix="p")
    assert (added.environment_id, added.on, added.rebuild_when_wiped) == (ENVIRONMENT, True, True)
    assert f"added to default/production, with id {added.store_id}" in said
    assert "fills itself from snapshots and logs" in said


def test_a_dynamodb_store_is_added_with_a_role_of_another_account(installation: Installation) -> None:
    role = "arn:aws:iam::123456789012:role/segsync"
    installation.run(
        *("add", "table", "--dynamodb-table", "flags", "--dynamodb-region", "eu-west-1", "--role-arn", role),
        *("--external-id", "e1", "--dynamodb-endpoint", "http://localhost:8000", "--prefix", "p"),
        *("--off", "--no-rebuild-when-wiped"),
    )

    added = installation.stores["table"]
    assert added.configuration == DynamoDBStoreConfiguration(
        tableName="flags",
        region="eu-west-1",
        roleArn=role,
        externalId="e1",
        endpoint="http://localhost:8000",
        prefix="p",
    )
    assert (added.on, added.rebuild_when_wiped) == (False, False)


def test_a_store_that_is_added_off_says_how_it_is_switched_on(installation: Installation) -> None:
    assert (
        "segsync store on second" in installation.run("add", "second", "--redis-url", "redis://other", "--off").output
    )


def test_a_password_comes_over_stdin_and_is_never_printed(installation: Installation) -> None:
    url = "redis://:s3cret@other:6379/0\n"
    told = [
        installation.run("add", "second", "--redis-url", "-", stdin=url).output,
        installation.run("list").output,
        installation.run("show", "second").output,
        *(json.dumps(installation.json(*command)) for command in (("list",), ("show", "second"), ("off", "second"))),
    ]

    configuration = installation.stores["second"].configuration
    assert isinstance(configuration, RedisStoreConfiguration)
    assert configuration.password.get_secret_value() == "s3cret"
    assert "s3cret" not in "".join(told)
    assert "**********" in told[2]


def test_a_password_on_the_command_line_is_taken_and_warned_of(installation: Installation) -> None:
    result = installation.run("add", "second", "--redis-url", "redis://:s3cret@other")

    assert "--redis-url -" in result.stderr
    assert "s3cret" not in result.output


def test_the_url_may_be_in_the_environment_without_a_warning(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGSYNC_STORE_URL", "redis://:s3cret@other")
    assert installation.run("add", "second").stderr == ""
    installation.run("add", "table", "--dynamodb-table", "flags", "--dynamodb-region", "r")

    kinds = {name: store.configuration.kind for name, store in installation.stores.items()}
    assert kinds == {"redis": "redis", "second": "redis", "table": "dynamodb"}


def test_a_cluster_a_primary_that_sentinels_know_and_a_socket_are_redis_stores(installation: Installation) -> None:
    installation.run("add", "cluster", "--redis-url", "rediss+cluster://a,b:7000?ssl_ca_certs=/etc/ca.pem")
    installation.run("add", "watched", "--redis-url", "redis+sentinel://s1,s2:26380/primary/3")
    installation.run("add", "socket", "--redis-url", "unix:///run/redis.sock?db=2")

    found = {name: store.configuration for name, store in installation.stores.items()}
    assert found["cluster"] == RedisStoreConfiguration(
        mode="cluster", host="a", nodes=("b:7000",), tlsEnabled=True, tlsCaFile="/etc/ca.pem"
    )
    assert found["watched"] == RedisStoreConfiguration(
        mode="sentinel", host="s1", port=26379, nodes=("s2:26380",), service="primary", database=3
    )
    assert found["socket"] == RedisStoreConfiguration(unixSocket="/run/redis.sock", database=2)
    table = installation.run("list").output
    assert "redis cluster a:6379,b:7000, prefix launchdarkly" in table
    assert "redis primary of sentinels s1:26379,s2:26380/3, prefix launchdarkly" in table
    assert "redis /run/redis.sock, database 2, prefix launchdarkly" in table


def test_an_environment_of_launchdarkly_is_added_and_its_token_is_never_printed(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = ("--launchdarkly-project", "default", "--launchdarkly-environment", "production")
    told = [
        installation.run("add", "eu", *added, "--access-token", "-", stdin="api-s3cret\n").output,
        installation.run("set", "eu", "--access-token", "-", stdin="api-t0psecret\n").output,
        installation.run("show", "eu").output,
        json.dumps(installation.json("list")),
    ]

    assert installation.stores["eu"].configuration == LaunchDarklyStoreConfiguration(
        projectKey="default", environmentKey="production", accessToken=SecretStr("api-t0psecret")
    )
    assert "secret" not in "".join(told).replace("segsync", "")
    monkeypatch.setenv("SEGSYNC_LAUNCHDARKLY_TOKEN", "api-other")
    monkeypatch.setenv("SEGSYNC_STORE_URL", "redis://first")
    installation.run("add", "us", *added, "--launchdarkly-uri", "https://app.launchdarkly.us/")
    assert str(installation.stores["us"].configuration) == (
        "launchdarkly default/production at https://app.launchdarkly.us"
    )
    installation.run("add", "table", "--dynamodb-table", "flags", "--dynamodb-region", "r")
    assert installation.stores["table"].configuration.kind == "dynamodb"


def test_how_a_table_is_written_can_be_changed(installation: Installation) -> None:
    installation.run("add", "table", "--dynamodb-table", "flags", "--dynamodb-region", "r", "--prefix", "p")
    installation.run("set", "table", "--write-mode", "transact")

    changed = installation.stores["table"]
    assert changed.configuration == DynamoDBStoreConfiguration(
        tableName="flags", region="r", prefix="p", writeMode="transact"
    )
    assert changed.version == 2


def test_an_external_id_that_the_api_made_without_a_role_outlives_another_change(installation: Installation) -> None:
    table = DynamoDBStoreConfiguration(tableName="flags", region="r", externalId="made")
    StoreRecords(installation.client, BOX).add(ENVIRONMENT, "table", table)
    installation.run("set", "table", "--write-mode", "transact")
    assert installation.stores["table"].configuration == table.model_copy(update={"writeMode": "transact"})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--write-mode", "transact"], "--write-mode: that is for a DynamoDB store"),
        (["--access-token", "x"], "--access-token: that is for a LaunchDarkly store"),
        ([], "nothing to change"),
    ],
)
def test_what_is_no_option_of_a_stores_kind_does_not_change_it(
    installation: Installation, options: list[str], problem: str
) -> None:
    with pytest.raises(Misconfigured, match=problem):
        installation.run("set", "redis", *options)

    assert installation.stores["redis"].version == 1


def test_members_whom_a_store_refuses_are_listed_by_their_hashes(installation: Installation) -> None:
    store_id, segment = installation.stores["redis"].store_id, SegmentId(ENVIRONMENT, "beta", 1)
    assert "refuses nobody" in installation.run("refused", "redis").output
    hashed = context_hash("ann")
    RefusedMembers(redis.Redis.from_url(installation.server.url)).note(
        store_id, segment, [RefusedMember(hashed, "its key holds another type")]
    )

    said = installation.run("refused", "redis").output
    assert f"{hashed}  beta.g1: its key holds another type" in said
    [told] = installation.json("refused", "redis")
    assert (told["segmentKey"], told["contextHash"]) == ("beta", hashed)
    assert "1 member; see `segsync store refused`" in installation.run("show", "redis").output
    assert installation.json("show", "redis")["refusedMembers"] == 1


def test_a_store_that_is_no_table_needs_none(installation: Installation) -> None:
    with pytest.raises(Misconfigured, match="redis is no DynamoDB store"):
        installation.run("create-table", "redis")


WRONG_OPTIONS = [
    pytest.param([], "which store", id="none"),
    pytest.param(["--redis-url", "redis://a", "--dynamodb-table", "t"], "which store", id="two"),
    pytest.param(["--redis-url", "redis://a", "--role-arn", "x"], "for a table", id="role of a Redis"),
    pytest.param(["--redis-url", "http://:secret@a"], "the store's URL must read redis://", id="URL"),
    pytest.param(["--redis-url", "-"], "the store's URL must read redis://", id="empty stdin"),
    pytest.param(["--dynamodb-table", "t"], "needs --dynamodb-region", id="region"),
    pytest.param(
        ["--dynamodb-table", "t", "--dynamodb-region", "r", "--external-id", "e"], "--role-arn", id="external id"
    ),
    pytest.param(
        ["--dynamodb-table", "t", "--dynamodb-region", "r", "--role-arn", "role/x"], "must read arn:", id="role"
    ),
    pytest.param(
        ["--dynamodb-table", "t", "--dynamodb-region", "r", "--dynamodb-endpoint", "localhost:8000"],
        "must read http://host",
        id="endpoint",
    ),
]


LAUNCHDARKLY = ["--launchdarkly-project", "p"]
WRONG_OPTIONS += [
    pytest.param(LAUNCHDARKLY, "needs --launchdarkly-environment", id="LaunchDarkly's environment"),
    pytest.param([*LAUNCHDARKLY, "--launchdarkly-environment", "e"], "needs --access-token", id="token"),
    pytest.param(
        [*LAUNCHDARKLY, "--launchdarkly-environment", "e", "--access-token", "a secret"], "without blanks", id="blank"
    ),
    pytest.param(
        [*LAUNCHDARKLY, "--launchdarkly-environment", "e", "--access-token", "x", "--launchdarkly-uri", "app.eu"],
        "--launchdarkly-uri must read https://",
        id="LaunchDarkly's address",
    ),
    pytest.param(["--redis-url", "redis://a", "--access-token", "x"], "--launchdarkly-project", id="token of a Redis"),
    pytest.param(
        ["--dynamodb-table", "t", "--dynamodb-region", "r", "--write-mode", "fast"], "update or transact", id="mode"
    ),
    pytest.param(["--redis-url", "redis+cluster://:secret@a/3"], "one database only", id="database of a cluster"),
    pytest.param(["--redis-url", "redis://:secret@a?ssl_ca_certs=/x"], "certificates are for TLS", id="TLS"),
]


@pytest.mark.parametrize(("options", "problem"), WRONG_OPTIONS)
def test_options_that_name_no_store_are_told_in_one_line(
    installation: Installation, options: list[str], problem: str
) -> None:
    with pytest.raises(Misconfigured, match=problem) as refusal:
        installation.run("add", "second", *options, stdin="")

    assert "secret" not in str(refusal.value)
    assert list(installation.stores) == ["redis"]


def test_a_place_that_is_taken_is_refused(installation: Installation) -> None:
    with pytest.raises(Misconfigured, match="store redis of environment env-1 is at that place already"):
        installation.run("add", "second", "--redis-url", installation.server.url)


def test_stores_are_listed_by_age_with_what_they_are_at(installation: Installation) -> None:
    installation.run("add", "second", "--redis-url", "redis://other", "--off")

    first, second = installation.json("list")
    assert [store["name"] for store in (first, second)] == ["redis", "second"]
    assert (first["state"], second["state"]) == ("current", "off")
    assert first["lag"] == {"batches": 0, "seconds": 0, "segmentKey": None, "segmentsBehind": 0}
    table = installation.run("list").output
    assert installation.stores["second"].store_id in table
    assert "redis other:6379/0, prefix launchdarkly" in table


def test_without_a_store_the_list_says_how_to_add_one(installation: Installation) -> None:
    installation.run("remove", "redis", "--yes")

    assert "segsync store add" in installation.run("list").output
    assert installation.json("list") == []


def test_stores_of_all_environments_are_listed_or_of_one(installation: Installation) -> None:
    installation.add_environment("env-2", "staging")
    installation.run("add", "second", "--redis-url", "redis://other", "--environment", "staging")

    assert [store["environment"] for store in installation.json("list")] == ["default/production", "default/staging"]
    assert [store["name"] for store in installation.json("list", "--environment", "staging")] == ["second"]
    assert "default/staging" in installation.run("list").output


def test_a_store_is_named_by_its_id_or_by_its_name_in_an_environment(installation: Installation) -> None:
    installation.add_environment("env-2", "staging")
    added = installation.json("add", "redis", "--redis-url", "redis://other", "--environment", "staging")

    assert installation.json("show", added["id"])["environmentId"] == "env-2"
    assert installation.json("show", "redis", "--environment", "staging")["id"] == added["id"]
    assert installation.json("show", "redis", "--environment", "production")["environmentId"] == "env-1"
    with pytest.raises(Misconfigured, match="which environment"):
        installation.run("show", "redis")
    with pytest.raises(Misconfigured, match="default/production has no store"):
        installation.run("show", added["id"], "--environment", "production")


def test_a_store_that_is_not_there_is_told_with_those_that_are(installation: Installation) -> None:
    with pytest.raises(Misconfigured, match="has no store 'second'; there are: redis"):
        installation.run("show", "second")


def test_a_store_is_switched_off_and_on(installation: Installation) -> None:
    assert "is off" in installation.run("off", "redis").output
    assert not installation.stores["redis"].on
    assert installation.json("show", "redis")["state"] == "off"

    assert "catches up" in installation.run("on", "redis").output
    assert installation.stores["redis"].on


def test_a_store_is_renamed_moved_and_kept_from_being_rebuilt(installation: Installation) -> None:
    installation.run("set", "redis", "--rename", "primary", "--no-rebuild-when-wiped")
    installation.run("set", "primary", "--redis-url", "-", stdin="redis://:n3w@elsewhere\n")

    changed = installation.stores["primary"]
    assert not changed.rebuild_when_wiped
    assert str(changed.configuration) == "redis elsewhere:6379/0, prefix launchdarkly"
    assert changed.version == 3
    with pytest.raises(Misconfigured, match="nothing to change"):
        installation.run("set", "primary")


def test_a_new_login_leaves_the_prefix_as_it_is(installation: Installation) -> None:
    installation.run("add", "second", "--redis-url", "redis://other", "--prefix", "p")
    installation.run("set", "second", "--redis-url", "-", stdin="redis://:n3w@other\n")

    assert str(installation.stores["second"].configuration) == "redis other:6379/0, prefix p"


def test_a_table_has_no_redis_url(installation: Installation) -> None:
    installation.run("add", "table", "--dynamodb-table", "flags", "--dynamodb-region", "r")

    with pytest.raises(Misconfigured, match="no Redis store"):
        installation.run("set", "table", "--redis-url", "redis://a")


def test_removing_must_be_said_twice_where_nobody_can_be_asked(installation: Installation) -> None:
    with pytest.raises(Misconfigured, match="--yes"):
        installation.run("remove", "redis")
    assert list(installation.stores) == ["redis"]

    result = installation.run("remove", "redis", "--yes")
    assert "What lies in it stays" in result.stdout
    assert "no store now" in result.stderr
    assert installation.stores == {}
    assert installation.client.zcard(FORGOTTEN) == 1


@pytest.mark.parametrize(("answer", "left"), [("n\n", ["redis"]), ("y\n", [])])
def test_a_person_is_asked_before_a_store_is_removed(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, answer: str, left: list[str]
) -> None:
    monkeypatch.setattr("worker.cli.store_changes._can_be_asked", lambda: True)
    result = installation.run("remove", "redis", stdin=answer, code=1 if left else 0)

    assert "its content stays in it" in result.stderr
    assert list(installation.stores) == left


def test_a_store_that_is_well_is_ok_and_tried_again_at_once(installation: Installation) -> None:
    store_id = installation.stores["redis"].store_id
    Circuits(installation.client).failed(store_id, Unavailable("it was away", dependency="store"))
    assert installation.json("show", "redis")["state"] == "away"

    assert installation.run("check", "redis").output == "ok\n"
    assert installation.json("show", "redis")["state"] == "current"
    assert installation.json("check", "redis") == {"id": store_id, "name": "redis", "ok": True, "findings": []}


def test_a_store_that_is_not_well_says_so_and_stays_away(installation: Installation) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    store_id = installation.json("add", "second", "--redis-url", url)["id"]
    Circuits(installation.client).failed(store_id, Unavailable("it was away", dependency="store"))

    assert "cannot be reached" in installation.run("check", "second", code=1).output
    found = installation.json("check", "second", code=1)
    assert (found["ok"], len(found["findings"])) == (False, 1)
    assert installation.json("show", "second")["state"] == "away"


def test_a_store_that_is_away_says_why_since_when_and_when_it_is_tried_again(installation: Installation) -> None:
    circuits = Circuits(installation.client, chance=lambda: 1.0)
    circuits.failed(
        installation.stores["redis"].store_id,
        Unavailable("it wants a password", dependency="store", fault="configuration"),
    )

    [listed] = installation.json("list")
    assert (listed["state"], listed["reason"]) == ("away", "it wants a password")
    assert (listed["circuit"]["open"], listed["circuit"]["fault"]) == (True, "configuration")
    assert listed["circuit"]["retryAtMs"] > listed["circuit"]["sinceMs"]
    assert "away: it wants a password" in installation.run("list").output
    shown = installation.run("show", "redis").output
    for line in ("away since", "tried again", "1, the last: configuration"):
        assert line in shown


def accept(installation: Installation, segment_key: str, batches: int) -> None:
    """Append so many batches to a segment, for a store that nobody drains into."""
    for number in range(batches):
        batch = Batch(
            batch_id=f"{segment_key}-{number}",
            environment_id=ENVIRONMENT,
            context_kind="user",
            integration_key="acme",
            parser_digest="d",
            body=b"{}",
            targets=[Target(segment_key, Cohort(segment_key))],
            store_ids=[],
            not_after_ms=10**15,
        )
        [outcome] = Appends(installation.client).append([batch])
        assert outcome == []


def test_the_lag_is_that_of_the_segment_that_is_furthest_behind(installation: Installation) -> None:
    accept(installation, "acme-1", 1)
    accept(installation, "acme-2", 3)
    accept(installation, "acme-3", 2)

    [listed] = installation.json("list")
    assert {**listed["lag"], "seconds": None} == {
        "batches": 3,
        "seconds": None,
        "segmentKey": "acme-2",
        "segmentsBehind": 3,
    }
    assert 0 <= listed["lag"]["seconds"] < 60
    assert "3 batches, " in installation.run("list").output
    assert "furthest in acme-2, 3 in all" in installation.run("show", "redis").output


def test_a_store_that_follows_a_steady_flow_is_current_until_something_waits_for_long(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(installation, "acme-1", 1)
    monkeypatch.setattr("worker.cli.store_facts._MOMENT_SECONDS", 60.0)
    assert installation.json("show", "redis")["state"] == "current"

    monkeypatch.setattr("worker.cli.store_facts._MOMENT_SECONDS", 0.0)
    assert installation.json("show", "redis")["state"] == "catching up"


def test_a_store_that_nobody_has_reached_yet_is_new(installation: Installation) -> None:
    assert installation.json("add", "second", "--redis-url", "redis://other")["state"] == "new"


def test_a_store_that_was_wiped_says_what_to_do_unless_that_is_done_by_itself(installation: Installation) -> None:
    store_id = installation.stores["redis"].store_id
    note(installation.client, installation.stores["redis"], wiped_ms=1_700_000_000_000)
    assert installation.json("show", "redis")["state"] == "catching up"

    installation.run("set", "redis", "--no-rebuild-when-wiped")
    shown = installation.json("show", "redis")
    assert (shown["state"], shown["wipedMs"]) == ("wiped", 1_700_000_000_000)
    assert f"segsync rebuild --store {store_id}" in installation.run("list").output
    assert "noticed 2023-11-14 22:13:20 UTC" in installation.run("show", "redis").output
