"""Answers that a manifest templates, over HTTP: Mixpanel's, and what a partner gets when a template cannot render."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from servers import ValkeyServer
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from worker.log import keyspace
from worker.manifest.catalog import bundled_directory
from worker.manifest.examples import Change, example
from worker.model import RedisStoreConfiguration
from worker.receiver.app import create_receiver
from worker.records.records import Bootstrap, Records
from worker.settings import Settings

MIXPANEL = "/api/v2/segment-targets/mixpanel"
UNRENDERABLE = "/api/v2/segment-targets/unrenderable"


@pytest.fixture
def made(real_redis: redis.Redis, valkey: ValkeyServer) -> Bootstrap:
    return Records(real_redis).bootstrap(
        environment_id=None, store_configuration=RedisStoreConfiguration(host=valkey.host, port=valkey.port)
    )


@pytest.fixture
def client(made: Bootstrap, valkey: ValkeyServer, tmp_path: Path) -> Iterator[TestClient]:
    manifest = json.loads((bundled_directory() / "mixpanel.json").read_text())
    manifest["capabilities"]["syncedSegment"]["jsonResponseBody"] = '{"action": {{requestBody.action}}}'
    (tmp_path / "unrenderable.json").write_text(json.dumps(manifest))
    settings = Settings(state_url=valkey.url, durability="memory", manifests=tmp_path)
    # Mixpanel knows Basic authentication only.
    basic = base64.b64encode(f"mixpanel:{made.writer_token}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    with TestClient(create_receiver(settings), headers=headers, raise_server_exceptions=False) as started:
        yield started


def body(made: Bootstrap, *, add: tuple[str, ...] = ("ann",), remove: tuple[str, ...] = ()) -> dict[str, Any]:
    return example("mixpanel", Change(str(made.environment_id), "1478097", "Power users", list(add), list(remove)))[0]


def log_length(client: redis.Redis, made: Bootstrap, key: str) -> int:
    return int(client.xlen(keyspace.base(made.environment_id, key) + ":g1:log"))


@pytest.mark.parametrize("action", ["members", "add_members", "remove_members"])
def test_mixpanel_is_told_its_action_and_of_success(client: TestClient, made: Bootstrap, action: str) -> None:
    answer = client.post(MIXPANEL, json=body(made) | {"action": action})

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"action": action, "status": "success"}


def test_an_empty_difference_is_a_success_for_mixpanel(client: TestClient, made: Bootstrap) -> None:
    answer = client.post(MIXPANEL, json=body(made, add=()))

    assert (answer.status_code, answer.json()["status"]) == (200, "success")


def test_mixpanel_is_told_its_action_and_of_failure(client: TestClient, made: Bootstrap) -> None:
    payload = body(made)
    payload["parameters"]["members"].append({"email": "cyd@example.com"})

    answer = client.post(MIXPANEL, json=payload)

    assert answer.status_code == 400
    told = answer.json()
    assert (told["action"], told["status"], told["error"]["code"]) == ("add_members", "failure", 400)
    assert "/parameters/members/1/mixpanel_distinct_id" in told["error"]["message"]


@pytest.mark.parametrize(
    ("content", "status"), [(b"", 400), (b"{", 400), (b'{"action":"\\ud800"}', 400), (b"[" * 10_000, 400)]
)
def test_a_body_that_cannot_be_read_fails_in_mixpanel_s_form_too(
    client: TestClient, content: bytes, status: int
) -> None:
    answer = client.post(MIXPANEL, content=content)

    assert answer.status_code == status
    assert (answer.json()["action"], answer.json()["status"]) == ("", "failure")


def test_an_unknown_project_id_fails_in_mixpanel_s_form(client: TestClient, made: Bootstrap) -> None:
    payload = body(made)
    payload["parameters"]["mixpanel_project_id"] = "2195193"

    answer = client.post(MIXPANEL, json=payload)

    assert (answer.status_code, answer.json()["status"], answer.json()["error"]["code"]) == (403, "failure", 403)


@pytest.mark.parametrize("action", ['add"members', "add\\members\n", "é\u2028😀", "", "{{statusCode}}"])
def test_whatever_the_action_is_the_answer_is_json_and_echoes_it(
    client: TestClient, made: Bootstrap, action: str
) -> None:
    assert client.post(MIXPANEL, json=body(made) | {"action": action}).json()["action"] == action


def test_a_payload_is_accepted_though_its_answer_cannot_render_and_the_log_says_why(
    client: TestClient, made: Bootstrap, real_redis: redis.Redis
) -> None:
    with capture_logs() as logs:
        answer = client.post(UNRENDERABLE, json=body(made))

    assert (answer.status_code, answer.content) == (204, b"")
    assert log_length(real_redis, made, "unrenderable-1478097") == 1
    (line,) = [line for line in logs if line["event"] == "answer.not_json"]
    assert (line["integration"], line["status"]) == ("unrenderable", 200)
    assert "at character 12, between '{\"action\": ' and '…}'" in line["problem"]
    assert "add_members" not in str(logs)


def test_a_refusal_that_cannot_render_has_the_usual_form(client: TestClient, made: Bootstrap) -> None:
    payload = body(made)
    del payload["parameters"]["mixpanel_cohort_id"]

    with capture_logs() as logs:
        answer = client.post(UNRENDERABLE, json=payload)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "/parameters/mixpanel_cohort_id" in answer.json()["message"]
    assert [line["status"] for line in logs if line["event"] == "answer.not_json"] == [400]
