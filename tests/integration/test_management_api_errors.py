"""What cannot be done is said as LaunchDarkly says it, whatever is sent; and nothing is an error of ours."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from servers import ValkeyServer
from starlette.testclient import TestClient
from sync_builders import Installation

from worker.api import admission
from worker.asgi import create_service
from worker.settings import Settings

PROJECTS = "/api/v2/projects"


@pytest.fixture
def installation(real_redis: redis.Redis) -> Installation:
    return Installation(real_redis)


@pytest.fixture
def client(installation: Installation, valkey: ValkeyServer) -> Iterator[TestClient]:
    settings = Settings(state_url=valkey.url, durability="memory", api_rate_limit=0, api_route_rate_limit=0)
    headers = {"Authorization": str(installation.made.admin_token)}
    with TestClient(create_service(settings), headers=headers, raise_server_exceptions=False) as started:
        yield started


def refusal(answer: Any) -> tuple[int, str, str]:
    """Status, code and message of an error, whose body has nothing else but an id."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert set(body) == {"code", "message", "id"}
    uuid.UUID(body["id"])
    return answer.status_code, body["code"], body["message"]


@pytest.mark.parametrize("path", ["/api/v2/nothing", "/api/v2/projects/", "/api/v2/", "/api/v2/batches/a/b/c"])
def test_an_unknown_path_is_404(client: TestClient, path: str) -> None:
    assert refusal(client.get(path)) == (404, "not_found", "Invalid resource identifier")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", PROJECTS, "GET, POST"),
        ("PATCH", f"{PROJECTS}/default/environments/production", "DELETE, GET"),
        ("POST", "/api/v2/openapi.json", "GET"),
        ("OPTIONS", PROJECTS, "GET, POST"),
    ],
)
def test_another_method_is_405_with_those_that_there_are(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = client.request(method, path)
    assert refusal(answer) == (405, "method_not_allowed", "Method not allowed")
    assert set(allowed.split(", ")) <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("authorization", ["", "nobody", "Bearer", "Basic ???", "Bearer nobody"])
def test_without_a_token_that_is_known_it_is_401_whatever_the_body_is(client: TestClient, authorization: str) -> None:
    answer = client.post(PROJECTS, headers={"Authorization": authorization}, content=b"[[[[")
    assert refusal(answer)[:2] == (401, "unauthorized")
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b'{"key": }',
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"key": "\xff"}',
        b'{"key": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b'{"key": NaN}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"key": ' + b"9" * 10_000 + b"}",
        b'{"key": 1e999}',
        b'{"key": "k", "name": "n\\u0000"}',
        b'{"key": "k\\u0000", "name": "n"}',
        b'{"key": true, "name": "n"}',
        b'{"key": "k", "name": "n", "tags": "t"}',
        b'{"key": "k", "name": "n", "tags": [null]}',
        b'{"key": "k", "name": "n", "environments": {}}',
        b'{"key": "' + b"k" * 500 + b'", "name": "n"}',
        b'{"key": "k\\n", "name": "n"}',
    ],
)
def test_a_body_that_is_not_what_it_should_be_is_400_and_makes_nothing(
    client: TestClient, installation: Installation, body: bytes
) -> None:
    before = installation.wiring.records.version()
    answer = client.post(PROJECTS, content=body, headers={"Content-Type": "application/json"})
    assert refusal(answer)[:2] == (400, "invalid_request")
    assert installation.wiring.records.version() == before


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"name": 1}, "/name"),
        ({"tags": ["fine", "not fine"]}, "/tags/1"),
        ({"environments": [{"name": "n", "color": "fff"}]}, "/environments/0/key"),
        ({"environments": [{"key": "k", "name": "n", "color": "red"}]}, "/environments/0/color"),
        ({"environments": [{"key": "k", "name": "n", "_id": "a/b"}]}, "/environments/0/_id"),
    ],
)
def test_the_place_of_the_fault_is_named_by_a_pointer(
    client: TestClient, changes: dict[str, object], place: str
) -> None:
    status, _, message = refusal(client.post(PROJECTS, json={"key": "k", "name": "n", **changes}))
    assert status == 400
    assert f" {place}: " in message


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "é"]
)
def test_another_content_type_is_400(client: TestClient, content_type: str) -> None:
    answer = client.post(PROJECTS, content=b'{"key":"k","name":"n"}', headers={b"Content-Type": content_type.encode()})
    assert refusal(answer) == (400, "invalid_request", "Content-Type must be application/json")


def test_a_content_type_may_have_parameters_and_a_body_be_compressed(client: TestClient) -> None:
    body = gzip.compress(json.dumps({"key": "packed", "name": "Packed"}).encode())
    headers = {"Content-Type": "application/json; charset=utf-8", "Content-Encoding": "gzip"}
    assert client.post(PROJECTS, content=body, headers=headers).status_code == 201
    headers["Content-Encoding"] = "br"
    assert refusal(client.post(PROJECTS, content=body, headers=headers))[0] == 415


def test_a_body_beyond_the_cap_is_413(client: TestClient) -> None:
    body = b" " * (admission.LARGEST_BODY + 1)
    answer = client.post(PROJECTS, content=body, headers={"Content-Type": "application/json"})
    assert refusal(answer)[:2] == (413, "payload_too_large")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=many", "limit=1e3", "limit=" + "9" * 5000, "offset=-1", "limit=", "limit=5&limit=6",
     "limit=%00", "offset=99999999999", "expand=%ff"],
)  # fmt: skip
def test_a_query_that_cannot_be_is_400(client: TestClient, query: str) -> None:
    assert refusal(client.get(f"{PROJECTS}?{query}"))[:2] == (400, "invalid_request")


@pytest.mark.parametrize(("key", "status"), [("%ff", 400), ("%C3%28", 400), ("%zz", 404), ("%00", 404), ("%2e%2e", 404),
                                             ("a%2Fb", 404), ("%F0%9F%92%A9", 404), ("k" * 5000, 404)])  # fmt: skip
def test_an_address_that_is_none_is_400_and_of_nothing_404(client: TestClient, key: str, status: int) -> None:
    assert refusal(client.get(f"{PROJECTS}/{key}"))[0] == status


def test_unknown_fields_and_parameters_are_ignored(client: TestClient) -> None:
    assert (
        client.post(PROJECTS, json={"key": "k", "name": "n", "namingConvention": {"case": "kebabCase"}}).status_code
        == 201
    )
    assert client.get(f"{PROJECTS}?whatever=1&whatever=2").status_code == 200


def test_a_post_may_stand_for_another_method(client: TestClient) -> None:
    client.post(PROJECTS, json={"key": "gone", "name": "Gone"})
    assert client.post(f"{PROJECTS}/gone", headers={"X-HTTP-Method-Override": "delete"}).status_code == 204
    assert client.get(f"{PROJECTS}/gone").status_code == 404
    assert client.post(f"{PROJECTS}/default", headers={"X-HTTP-Method-Override": "GET"}).status_code == 405
    assert client.get(f"{PROJECTS}/default", headers={"X-HTTP-Method-Override": "DELETE"}).status_code == 200


def test_who_has_been_answered_sees_what_was_done_at_once(client: TestClient) -> None:
    for number in range(5):
        assert client.post(PROJECTS, json={"key": f"k-{number}", "name": "n"}).status_code == 201
        assert client.get(f"{PROJECTS}/k-{number}").status_code == 200


def test_with_too_many_requests_at_once_the_next_is_429(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.api.service.MOST_AT_ONCE", 0)
    answer = client.get(PROJECTS)
    assert refusal(answer)[:2] == (429, "rate_limited")
    assert "retry-after" in answer.headers


def test_while_the_state_server_is_away_it_is_503(start_valkey: Callable[..., ValkeyServer]) -> None:
    server = start_valkey()
    token = str(Installation(server.client(decode_responses=False)).made.admin_token)
    settings = Settings(state_url=server.url, durability="memory")
    headers = {"Authorization": token}
    with TestClient(create_service(settings), headers=headers, raise_server_exceptions=False) as client:
        assert client.get(PROJECTS).status_code == 200
        server.kill()
        answer = client.get(PROJECTS)
        assert refusal(answer)[:2] == (503, "service_unavailable")
        assert "retry-after" in answer.headers


def test_a_payload_passes_nothing_of_the_management_apis(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise AssertionError("a payload came this way")

    monkeypatch.setattr("worker.api.app.Spelled.__call__", broken)
    monkeypatch.setattr("fastapi.FastAPI.__call__", broken)
    assert client.post("/api/v2/segment-targets/segment-audiences", content=b"{}").status_code == 400
    assert client.get("/api/v2/segment-targets/segment-audiences").status_code == 405
    assert client.get("/elsewhere").status_code == 404


def test_an_error_of_ours_says_nothing_of_itself(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("worker.records.projects.ProjectRecords.add_project", broken)
    answer = client.post(PROJECTS, json={"key": "k", "name": "n"})
    assert refusal(answer) == (500, "internal_error", "An error of ours; send it again later")
    assert client.get(PROJECTS).status_code == 200
