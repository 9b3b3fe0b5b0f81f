"""`segsync alias`, `segsync policy` and `segsync rejected-members`, on a real state server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import redis
from servers import ValkeyServer, wait_until
from typer.testing import CliRunner, Result

from worker.cli.app import app
from worker.errors import Misconfigured
from worker.log.append import Appends
from worker.log.batch import Batch, Target
from worker.model import Cohort, RedisStoreConfiguration, RejectedMember, Rejections
from worker.records.directory import Directory
from worker.records.records import Records

ENVIRONMENT = "env-1"


@dataclass
class Installation:
    client: redis.Redis

    def run(self, *arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result

    @property
    def directory(self) -> Directory:
        return Records(self.client).directory()


@pytest.fixture
def installation(
    start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> Installation:
    server = start_valkey()
    client = server.client()
    Records(client).bootstrap(
        environment_id=ENVIRONMENT, store_configuration=RedisStoreConfiguration.from_url(server.url)
    )
    monkeypatch.setenv("SEGSYNC_STATE_URL", server.url)
    monkeypatch.chdir(str(tmp_path))
    return Installation(client)


def test_an_alias_is_added_listed_and_removed(installation: Installation) -> None:
    installation.run("alias", "add", "3187")
    assert installation.run("alias", "list").output == "3187  default/production\n"
    assert installation.directory.aliases == {"3187": ENVIRONMENT}

    installation.run("alias", "remove", "3187")
    assert installation.run("alias", "list").output == "There are no aliases.\n"


@pytest.mark.parametrize("name", [ENVIRONMENT, "production", "default/production"])
def test_an_environment_is_named_by_its_id_its_key_or_both_keys(installation: Installation, name: str) -> None:
    installation.run("alias", "add", "3187", "--environment", name)

    assert installation.directory.aliases == {"3187": ENVIRONMENT}


def test_an_environment_that_is_not_there_is_told_with_those_that_are(installation: Installation) -> None:
    with pytest.raises(Misconfigured, match="default/production"):
        installation.run("alias", "add", "3187", "--environment", "staging")


def test_a_policy_is_set_listed_and_taken_back(installation: Installation) -> None:
    installation.run("policy", "skip", "segment-audiences")
    assert installation.run("policy", "list").output == "default/production  segment-audiences  skip\n"

    installation.run("policy", "reject", "segment-audiences")
    assert installation.run("policy", "list").output == "Every integration's policy is the default, reject.\n"


def test_a_policy_for_an_integration_without_a_manifest_here_is_set_and_doubted(installation: Installation) -> None:
    assert "no manifest 'segment-audience'" in installation.run("policy", "skip", "segment-audience").stderr
    assert installation.directory.policy(ENVIRONMENT, "segment-audience") == "skip"


def left_out(number: int, count: int, *pointers: str) -> Batch:
    return Batch(
        batch_id=f"batch-{number}",
        environment_id=ENVIRONMENT,
        context_kind="user",
        integration_key="acme",
        parser_digest="d",
        body=b"{}",
        targets=[Target(f"acme-{number}", Cohort(str(number)))],
        store_ids=[],
        not_after_ms=10**15,
        policy="skip",
        rejected=Rejections(count, [RejectedMember(pointer, "member_id") for pointer in pointers]),
    )


def wait_for_the_next_millisecond(client: redis.Redis) -> None:
    seconds, micros = client.time()
    wait_until(lambda: client.time() > (seconds, micros + 1000))


def test_rejected_members_are_listed_over_all_segments_latest_first(installation: Installation) -> None:
    assert installation.run("rejected-members").output == "No members were left out of any batch in the log.\n"
    for batch in (left_out(1, 1, "/batch/17/userId"), left_out(2, 150, "/batch/0"), left_out(3, 1, "/batch/2")):
        Appends(installation.client).append([batch])
        wait_for_the_next_millisecond(installation.client)

    found = json.loads(installation.run("rejected-members", "--json").output)
    assert [item["batchId"] for item in found] == ["batch-3", "batch-2", "batch-1"]
    assert {key: found[2][key] for key in ("integrationKey", "segmentKey", "rejectedCount", "rejected")} == {
        "integrationKey": "acme",
        "segmentKey": "acme-1",
        "rejectedCount": 1,
        "rejected": [{"pointer": "/batch/17/userId", "reason": "member_id"}],
    }
    assert [
        item["batchId"] for item in json.loads(installation.run("rejected-members", "--limit", "1", "--json").output)
    ] == ["batch-3"]
    text = installation.run("rejected-members", "--segment", "acme-2").output
    assert "150 members left out" in text
    assert "and 149 more" in text
    assert "batch-3" not in text
