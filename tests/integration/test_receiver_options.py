"""Options of environments, over HTTP: the policy for members that cannot be read, and aliases of environment ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from servers import ValkeyServer, wait_until
from starlette.testclient import TestClient

from worker.log.entry import unpack_slice
from worker.log.lease import DrainLog, Lease
from worker.log.rejected import RejectedMembers, read_rejected
from worker.model import MemberPolicy, RedisStoreConfiguration, SegmentId
from worker.receiver import app
from worker.records.environment_options import EnvironmentOptions
from worker.records.records import Records
from worker.settings import Settings

ENVIRONMENT = "env-1"
KEY = "segment-audiences"
PATH = f"/api/v2/segment-targets/{KEY}"


@dataclass
class Receiving:
    http: TestClient
    redis: redis.Redis
    store_id: str

    @property
    def options(self) -> EnvironmentOptions:
        return EnvironmentOptions(self.redis)

    def rejected(self, segment_key: str = f"{KEY}-c") -> list[RejectedMembers]:
        return read_rejected(self.redis, [SegmentId(ENVIRONMENT, segment_key, 1)], 10)

    def members(self, segment_key: str = f"{KEY}-c") -> list[dict[str, bool]]:
        """What a drain reads, entry by entry; bodies are left out."""
        lease = DrainLog(self.redis).take(SegmentId(ENVIRONMENT, segment_key, 1), self.store_id, connection="c")
        assert isinstance(lease, Lease)
        entries = lease.read(most_bytes=1 << 20, most_entries=100)
        return [unpack_slice(entry.content()) for entry in entries if entry.kind == "slice"]

    def set_policy(self, policy: MemberPolicy, integration: str = KEY) -> None:
        self.options.set_policy(ENVIRONMENT, integration, policy)
        broken = payload({"value": True})
        wanted = 204 if policy == "skip" else 400
        path = f"/api/v2/segment-targets/{integration}"
        wait_until(lambda: self.http.post(path, json=broken).status_code == wanted, 5, "the policy in effect")


@pytest.fixture
def receiving(real_redis: redis.Redis, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiving]:
    monkeypatch.setattr(app, "REFRESH_SECONDS", 0.1)
    made = Records(real_redis).bootstrap(
        environment_id=ENVIRONMENT, store_configuration=RedisStoreConfiguration(host=valkey.host, port=valkey.port)
    )
    settings = Settings(state_url=valkey.url, durability="memory")
    headers = {"Authorization": str(made.writer_token)}
    with TestClient(app.create_receiver(settings), headers=headers, raise_server_exceptions=False) as http:
        yield Receiving(http, real_redis, made.store.store_id)


def payload(*members: dict[str, Any], environment_id: Any = ENVIRONMENT, **changes: Any) -> dict[str, Any]:
    """A body whose members are filled up; the first always says the cohort."""
    cohort = {"cohortId": "c", "cohortName": "C"}
    return {"environmentId": environment_id, "batch": [cohort | member for member in members], **changes}


def test_by_default_a_member_that_cannot_be_read_refuses_the_payload(receiving: Receiving) -> None:
    answer = receiving.http.post(PATH, json=payload({"userId": "ann", "value": True}, {"value": True}))

    assert (answer.status_code, answer.json()["message"]) == (400, "/batch/1/userId is missing")
    assert receiving.rejected() == []


def test_with_skip_the_others_are_taken_and_the_batch_says_who_is_not(receiving: Receiving) -> None:
    receiving.set_policy("skip")

    members = (
        {"userId": "ann", "value": True},
        {"value": True},
        {"userId": "bob", "value": "no"},
        {"userId": 7, "value": False},
    )
    answer = receiving.http.post(PATH, json=payload(*members))

    assert (answer.status_code, answer.content) == (204, b"")
    latest = receiving.rejected()[0]
    assert latest.rejected.count == 2
    assert latest.rejected.listed == [("/batch/1/userId", "member_id"), ("/batch/2/value", "membership")]
    assert receiving.members()[-1] == {"ann": True, "7": False}


def test_with_skip_a_payload_of_which_no_member_can_be_read_succeeds_and_changes_nobody(receiving: Receiving) -> None:
    receiving.set_policy("skip")

    answer = receiving.http.post(PATH, json=payload(*[{"value": True}] * 250))

    assert answer.status_code == 204
    latest = receiving.rejected()[0].rejected
    assert (latest.count, len(latest.listed), latest.listed[99].pointer) == (250, 100, "/batch/99/userId")
    assert receiving.members()[-1] == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"batch": 5}, "/batch/0/cohortId is missing"),
        ({"contextKind": "multi"}, "/contextKind must be at most 256 letters"),
        ({"batch": [{"userId": "ann", "value": True}]}, "/batch/0/cohortId is missing"),
        ({"environmentId": None}, "/environmentId must be"),
    ],
)
def test_with_skip_faults_of_the_payload_itself_are_still_400(
    receiving: Receiving, body: dict[str, Any], message: str
) -> None:
    receiving.set_policy("skip")

    answer = receiving.http.post(PATH, json=payload({"value": True}) | body)

    assert answer.status_code == 400
    assert answer.json()["message"].startswith(message)


def test_the_policy_is_of_one_integration(receiving: Receiving) -> None:
    receiving.set_policy("skip")

    other = receiving.http.post("/api/v2/segment-targets/amplitude", json=payload({"value": True}))

    assert other.status_code == 400


def test_the_policy_can_be_taken_back(receiving: Receiving) -> None:
    receiving.set_policy("skip")
    receiving.set_policy("reject")

    assert receiving.http.post(PATH, json=payload({"value": True})).status_code == 400


def test_with_skip_a_payload_of_several_cohorts_lists_its_rejected_members_once(receiving: Receiving) -> None:
    receiving.set_policy("skip")

    members = (
        {"userId": "ann", "value": True},
        {"cohortId": "d", "value": True},
        {"userId": "bob", "cohortId": "d", "value": True},
    )
    assert receiving.http.post(PATH, json=payload(*members)).status_code == 204

    assert receiving.rejected()[0].rejected.listed == [("/batch/1/userId", "member_id")]
    assert receiving.rejected(f"{KEY}-d") == []
    assert receiving.members(f"{KEY}-d") == [{"bob": True}]


def test_a_payload_may_carry_an_alias_of_its_environment(receiving: Receiving) -> None:
    body = payload({"userId": "ann", "value": True}, environment_id=3187)
    assert receiving.http.post(PATH, json=body).status_code == 403

    receiving.options.add_alias("3187", ENVIRONMENT)

    wait_until(lambda: receiving.http.post(PATH, json=body).status_code == 204, 5, "the alias in effect")
    assert receiving.redis.hkeys(f"segsync:{{{ENVIRONMENT}}}:segments") == [f"{KEY}-c".encode()]
    assert receiving.http.get("/sdk/goals/3187").status_code == 200


def test_the_policy_holds_for_payloads_that_carry_an_alias(receiving: Receiving) -> None:
    receiving.options.add_alias("3187", ENVIRONMENT)
    receiving.set_policy("skip")

    body = payload({"userId": "ann", "value": True}, {"value": True}, environment_id="3187")

    assert receiving.http.post(PATH, json=body).status_code == 204
    assert receiving.rejected()[0].rejected.count == 1


def test_what_is_logged_of_rejected_members_names_places_and_nobody(
    receiving: Receiving, capsys: pytest.CaptureFixture[str]
) -> None:
    receiving.set_policy("skip")

    receiving.http.post(PATH, json=payload({"userId": "ann@example.com", "value": "ann@example.com"}))

    logged = capsys.readouterr()
    assert "batch.members_rejected" in logged.out + logged.err
    assert "ann@example.com" not in json.dumps([logged.out, logged.err])
