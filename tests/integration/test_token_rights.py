"""What tokens may send where, over HTTP: roles, statements, revocation; what is refused leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
import redis
from servers import ValkeyServer, wait_until
from starlette.testclient import TestClient

from worker.model import RedisStoreConfiguration
from worker.receiver import app
from worker.records.directory import Statement
from worker.records.projects import ProjectRecords
from worker.records.records import Records
from worker.records.segment_keys import SegmentKeys
from worker.records.tokens import TokenRecords
from worker.settings import Settings

PATH = "/api/v2/segment-targets/rudderstack"
PRODUCTION = "env-production"
STAGING = "env-staging"
BOTH = ("createSegment", "updateIncluded")


@dataclass
class Receiving:
    http: TestClient
    redis: redis.Redis
    admin: str

    @property
    def tokens(self) -> TokenRecords:
        return TokenRecords(self.redis)

    def token(self, *statements: Statement) -> str:
        """A token with these statements, which the receiver knows."""
        _, plain = self.tokens.add("partner", inline_role=statements)
        wait_until(lambda: self._versions(plain) == 200, 5, "the token is known")
        return plain

    def _versions(self, token: str) -> int:
        return int(self.http.get("/api/v2/versions", headers={"Authorization": token}).status_code)

    def send(self, token: str, cohort: str = "c1", environment_id: str = PRODUCTION, **changes: Any) -> int:
        body = {
            "environmentId": environment_id,
            "cohortId": cohort,
            "cohortName": cohort,
            "contextKind": "user",
            "listData": {"add": [{"id": "ann"}], "remove": []},
        }
        return int(self.http.post(PATH, json=body | changes, headers={"Authorization": token}).status_code)

    def traces(self) -> list[bytes]:
        """Everything that tells of segments: registries, logs, payloads."""
        keys = cast("list[bytes]", self.redis.keys("segsync:*"))
        return sorted(key for key in keys if b"{" in key)


@pytest.fixture
def receiving(real_redis: redis.Redis, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiving]:
    monkeypatch.setattr(app, "REFRESH_SECONDS", 0.1)
    store = RedisStoreConfiguration(host=valkey.host, port=valkey.port)
    made = Records(real_redis).bootstrap(environment_id=PRODUCTION, store_configuration=store)
    ProjectRecords(real_redis).add_environment("default", "staging", "Staging", environment_id=STAGING, tags=["qa"])
    with TestClient(app.create_receiver(Settings(state_url=valkey.url, durability="memory"))) as http:
        yield Receiving(http, real_redis, str(made.admin_token))


def allow(*resources: str, actions: tuple[str, ...] = BOTH) -> Statement:
    return Statement(effect="allow", actions=actions, resources=resources)


def deny(*resources: str, actions: tuple[str, ...] = ("*",)) -> Statement:
    return Statement(effect="deny", actions=actions, resources=resources)


def test_a_partners_token_can_be_limited_to_one_environment(receiving: Receiving) -> None:
    partner = receiving.token(allow("proj/default:env/staging:segment/*"))
    before = receiving.traces()

    assert receiving.send(partner) == 403
    assert receiving.traces() == before
    assert receiving.send(partner, environment_id=STAGING) == 204


def test_a_refusal_for_the_environment_comes_before_what_else_is_wrong(receiving: Receiving) -> None:
    partner = receiving.token(allow("proj/default:env/staging:segment/*"))
    assert receiving.send(partner, contextKind="multi") == 403
    assert receiving.send(partner, environment_id=STAGING, contextKind="multi") == 400


def test_an_environment_may_be_named_by_its_tag(receiving: Receiving) -> None:
    partner = receiving.token(allow("proj/*:env/*;qa:segment/*"))
    assert (receiving.send(partner), receiving.send(partner, environment_id=STAGING)) == (403, 204)


def test_who_may_not_create_writes_to_segments_that_there_are_alone(receiving: Receiving) -> None:
    partner = receiving.token(allow("proj/default:env/*:segment/*", actions=("updateIncluded",)))
    before = receiving.traces()

    assert receiving.send(partner, "new") == 403
    assert receiving.traces() == before
    assert SegmentKeys(receiving.redis).registered(PRODUCTION) == []

    assert receiving.send(receiving.admin, "new") == 204
    assert receiving.send(partner, "new") == 204


def test_a_key_that_is_allotted_and_has_no_segment_yet_is_new_too(receiving: Receiving) -> None:
    SegmentKeys(receiving.redis).allot(PRODUCTION, "rudderstack", ["c1"])
    partner = receiving.token(allow("proj/default:env/*:segment/*", actions=("updateIncluded",)))
    assert receiving.send(partner) == 403


def test_one_cohort_that_it_may_not_write_to_refuses_the_payload_whole(receiving: Receiving) -> None:
    partner = receiving.token(allow("proj/*:env/*:segment/*"), deny("proj/*:env/*:segment/segment-audiences-b"))
    body = {
        "environmentId": PRODUCTION,
        "batch": [
            {"userId": "ann", "value": True, "cohortId": "a", "cohortName": "A"},
            {"userId": "bob", "value": True, "cohortId": "b", "cohortName": "B"},
        ],
    }
    before = receiving.traces()
    path = "/api/v2/segment-targets/segment-audiences"
    answer = receiving.http.post(path, json=body, headers={"Authorization": partner})

    assert answer.status_code == 403
    assert receiving.traces() == before


def test_a_key_that_another_cohort_has_is_not_written_to_by_whoever_may_not(receiving: Receiving) -> None:
    # The key of its name is taken, so the cohort would get one with a hash, which the statement does not name.
    hashes = receiving.redis
    hashes.hset(f"segsync:{{{PRODUCTION}}}:segments", "rudderstack-c1", "another\x1fcohort")
    partner = receiving.token(allow("proj/*:env/*:segment/rudderstack-c1"))
    before = receiving.traces()

    assert receiving.send(partner) == 403
    assert receiving.traces() == before


def test_a_denial_beats_what_is_allowed(receiving: Receiving) -> None:
    partner = receiving.token(allow("proj/*:env/*:segment/*"), deny("proj/*:env/production:segment/*"))
    assert (receiving.send(partner), receiving.send(partner, environment_id=STAGING)) == (403, 204)


def test_a_removed_token_is_refused_within_seconds(receiving: Receiving) -> None:
    partner = receiving.token(allow("proj/*:env/*:segment/*"))
    assert receiving.send(partner) == 204
    [found] = [each for each in Records(receiving.redis).directory().tokens.values() if each.name == "partner"]
    receiving.tokens.remove(found.id)
    wait_until(lambda: receiving.send(partner) == 401, 5, "the token is refused")


def test_a_tokens_use_is_told_and_changes_no_version(receiving: Receiving) -> None:
    partner = receiving.token(allow("proj/*:env/*:segment/*"))
    version = Records(receiving.redis).version()
    assert receiving.send(partner) == 204

    [used] = [each for each in Records(receiving.redis).directory().tokens.values() if each.name == "partner"]
    wait_until(lambda: used.id in receiving.tokens.last_used(), 5, "its use is told")
    assert Records(receiving.redis).version() == version


def test_an_environment_that_is_removed_is_answered_403(receiving: Receiving) -> None:
    assert receiving.send(receiving.admin, environment_id=STAGING) == 204
    ProjectRecords(receiving.redis).remove_environment("default", "staging")
    wait_until(lambda: receiving.send(receiving.admin, environment_id=STAGING) == 403, 5, "it is refused")
    assert receiving.send(receiving.admin) == 204
