"""What partners ask to test a connection, over HTTP: versions with a token, and whether an environment exists."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
import redis
from servers import ValkeyServer
from starlette.testclient import TestClient

from worker.model import RedisStoreConfiguration
from worker.receiver.app import create_receiver
from worker.records.records import Bootstrap, Records
from worker.settings import Settings

VERSIONS = [20160426, 20191212, 20210729, 20220603, 20240415]


@pytest.fixture
def made(real_redis: redis.Redis, valkey: ValkeyServer) -> Bootstrap:
    return Records(real_redis).bootstrap(
        environment_id=None, store_configuration=RedisStoreConfiguration(host=valkey.host, port=valkey.port)
    )


def started(valkey: ValkeyServer) -> TestClient:
    settings = Settings(state_url=valkey.url, durability="memory")
    return TestClient(create_receiver(settings), raise_server_exceptions=False)


@pytest.fixture
def client(made: Bootstrap, valkey: ValkeyServer) -> Iterator[TestClient]:
    with started(valkey) as running:
        yield running


def authorization(made: Bootstrap, **more: str) -> dict[str, str]:
    return {"Authorization": str(made.writer_token), **more}


def test_versions_have_launchdarkly_s_form(client: TestClient, made: Bootstrap) -> None:
    answer = client.get("/api/v2/versions", headers=authorization(made))

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {
        "validVersions": VERSIONS,
        "latestVersion": 20240415,
        "currentVersion": 20240415,
        "beta": False,
    }


@pytest.mark.parametrize(
    ("asked", "current", "beta"),
    [
        *((str(version), version, False) for version in VERSIONS),
        ("beta", 20240415, True),
        ("20991231", 20240415, False),
        ("newest", 20240415, False),
        ("", 20240415, False),
    ],
)
def test_the_current_version_is_the_one_asked_for_where_it_is_known(
    client: TestClient, made: Bootstrap, asked: str, current: int, beta: bool
) -> None:
    answer = client.get("/api/v2/versions", headers=authorization(made, **{"LD-API-Version": asked}))

    assert answer.status_code == 200
    assert (answer.json()["currentVersion"], answer.json()["beta"]) == (current, beta)


@pytest.mark.parametrize("scheme", ["bare", "Bearer", "Basic"])
def test_versions_take_the_token_in_every_form_that_payloads_take(
    client: TestClient, made: Bootstrap, scheme: str
) -> None:
    token = str(made.writer_token)
    basic = base64.b64encode(f"segsync:{token}".encode()).decode()
    header = {"bare": token, "Bearer": f"Bearer {token}", "Basic": f"Basic {basic}"}[scheme]

    assert client.get("/api/v2/versions", headers={"Authorization": header}).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "nonsense"}])
def test_versions_without_a_known_token_are_401(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.get("/api/v2/versions", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert [found.partition(" ")[0] for found in answer.headers.get_list("WWW-Authenticate")] == ["Basic", "Bearer"]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_environment_that_exists_is_found_without_a_token(client: TestClient, made: Bootstrap, method: str) -> None:
    answer = client.request(method, f"/sdk/goals/{made.environment_id}")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["content-length"] == "2"
    assert method == "HEAD" or answer.json() == []


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_environment_that_nobody_knows_is_404(client: TestClient, method: str) -> None:
    assert client.request(method, "/sdk/goals/elsewhere").status_code == 404


def test_the_404_has_the_usual_form(client: TestClient) -> None:
    assert client.get("/sdk/goals/elsewhere").json() == {"code": "not_found", "message": "Unknown client-side ID"}


@pytest.mark.usefixtures("real_redis")
@pytest.mark.parametrize("path", ["/api/v2/versions", "/sdk/goals/anything"])
def test_a_receiver_that_has_no_records_yet_does_not_call_the_partner_s_settings_wrong(
    valkey: ValkeyServer, path: str
) -> None:
    with started(valkey) as client:
        answer = client.get(path, headers={"Authorization": "whatever"})

    assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize("path", ["/api/v2/versions", "/sdk/goals/anything"])
def test_the_checks_change_nothing(client: TestClient, made: Bootstrap, path: str) -> None:
    answer = client.post(path, headers=authorization(made), json={})

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
