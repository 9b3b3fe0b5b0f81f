"""The management API of receivers that run: projects, environments, tokens; whose rights, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from management_api import ManagementApi, managed
from servers import ValkeyServer, wait_until

BODY = {"environmentId": "mirrored-id", "batch": [{"userId": "ann", "value": True, "cohortId": "c", "cohortName": "C"}]}
WEBHOOK = "/segment-targets/segment-audiences"


@pytest.fixture(scope="module")
def api(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagementApi]:
    with managed(valkey, tmp_path_factory.mktemp("management")) as running:
        yield running


def make_token(api: ManagementApi, **wanted: Any) -> dict[str, Any]:
    made: dict[str, Any] = api.request("POST", "/tokens", 201, json=wanted)
    return made


def project(key: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "name": key.title(), **more}


def environment(key: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "name": key.title(), "color": "417505", **more}


def test_an_environment_of_launchdarklys_is_mirrored_by_its_client_side_id(api: ManagementApi) -> None:
    api.request("POST", "/projects", 201, json=project("mirror"))
    made = api.request("POST", "/projects/mirror/environments", 201, json=environment("live", _id="mirrored-id"))
    assert made["_id"] == "mirrored-id"
    # With the writer's token that partners have: payloads that carry the id are taken from now on.
    headers = {"Authorization": api.writer_token}
    wait_until(lambda: api.http.post(f"/api/v2{WEBHOOK}", json=BODY, headers=headers).status_code == 204, 5)
    api.request("POST", "/projects/mirror/environments", 409, json=environment("other", _id="mirrored-id"))
    api.request("DELETE", "/projects/mirror", 204)
    wait_until(lambda: api.http.post(f"/api/v2{WEBHOOK}", json=BODY, headers=headers).status_code == 403, 5)


def test_a_project_is_made_with_all_its_environments_or_not_at_all(api: ManagementApi) -> None:
    taken = environment("two", _id=api.environment_id)
    api.request("POST", "/projects", 409, json=project("whole", environments=[environment("one"), taken]))
    api.request("GET", "/projects/whole", 404)
    twice = [environment("one"), environment("one")]
    api.request("POST", "/projects", 409, json=project("whole", environments=twice))
    api.request("GET", "/projects/whole", 404)


def test_pages_lead_from_one_to_the_next_and_end(api: ManagementApi) -> None:
    names = [f"e-{number}" for number in range(5)]
    api.request("POST", "/projects", 201, json=project("paged", environments=[environment(name) for name in names]))
    found: list[str] = []
    path = "/projects/paged/environments?limit=2"
    while path:
        page = api.request("GET", path, 200)
        assert page["totalCount"] == 5
        found += [each["key"] for each in page["items"]]
        path = page["_links"].get("next", {}).get("href", "").removeprefix("/api/v2")
    assert found == names
    assert api.request("GET", "/projects/paged/environments?offset=99", 200)["items"] == []


def test_links_lead_to_what_they_say(api: ManagementApi) -> None:
    listed = api.request("GET", "/projects?expand=environments", 200)
    made = make_token(api, role="reader", name="linked")
    hrefs = [link["href"] for link in listed["_links"].values()]
    for each in listed["items"]:
        hrefs += [link["href"] for link in each["_links"].values()]
        for inner in each["environments"]["items"]:
            hrefs += [link["href"] for link in inner["_links"].values()]
    hrefs += [link["href"] for link in made["_links"].values()]
    for href in hrefs:
        api.request("GET", href.removeprefix("/api/v2"), 200)


def test_a_token_is_known_to_its_maker_alone_and_to_nothing_that_is_kept(
    api: ManagementApi, valkey: ValkeyServer
) -> None:
    made = make_token(api, role="writer", name="kept nowhere")
    plain = made["token"]
    api.request("GET", "/projects", 200, token=plain)
    answers = [api.request("GET", f"/tokens/{made['_id']}", 200), api.request("GET", "/tokens", 200)]
    assert plain not in str(answers)
    assert plain not in api.deployment.logs()
    with valkey.client(decode_responses=False) as client:
        for key in client.scan_iter(count=1000):
            assert plain.encode() not in (client.dump(key) or b"") + key


def test_a_token_made_or_removed_here_is_so_at_every_receiver(api: ManagementApi) -> None:
    url = api.deployment.start_receiver()
    made = make_token(api, role="writer")
    headers = {"Authorization": made["token"]}
    with httpx2.Client(base_url=url, headers=headers, timeout=30) as other:
        assert other.get("/api/v2/projects").status_code == 200
        wait_until(lambda: other.get("/api/v2/versions").status_code == 200, 5, "the token at the other's webhook")
        api.request("DELETE", f"/tokens/{made['_id']}", 204)
        assert other.get("/api/v2/projects").status_code == 401
        wait_until(lambda: other.get("/api/v2/versions").status_code == 401, 5, "its removal there")
    api.request("DELETE", f"/tokens/{made['_id']}", 404)


def test_a_token_may_see_itself_and_no_other(api: ManagementApi) -> None:
    one, another = make_token(api, role="reader"), make_token(api, role="writer")
    assert api.request("GET", f"/tokens/{one['_id']}", 200, token=one["token"])["role"] == "reader"
    for path in (f"/tokens/{another['_id']}", "/tokens", "/tokens/000000000000000000000000"):
        api.request("GET", path, 403, token=one["token"])
    api.request("DELETE", f"/tokens/{one['_id']}", 403, token=one["token"])
    api.request("POST", "/tokens", 403, token=another["token"], json={"role": "admin"})


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"role": "owner"},
        {"role": "reader", "inlineRole": [{"effect": "allow", "actions": ["*"], "resources": ["proj/*"]}]},
        {"inlineRole": []},
        {"inlineRole": [{"effect": "allow", "actions": ["*"]}]},
        {"inlineRole": [{"effect": "permit", "actions": ["*"], "resources": ["proj/*"]}]},
        {"inlineRole": [{"effect": "allow", "actions": ["*"], "resources": ["acct"]}]},
        {"customRoleIds": ["a-role"]},
        {"role": "reader", "expiry": 1},
    ],
)
def test_a_token_whose_rights_are_not_clear_is_not_made(api: ManagementApi, wanted: dict[str, Any]) -> None:
    before = api.request("GET", "/tokens", 200)["totalCount"]
    api.request("POST", "/tokens", 400, json=wanted)
    assert api.request("GET", "/tokens", 200)["totalCount"] == before


def test_a_token_of_one_environment_sees_and_changes_no_other(api: ManagementApi) -> None:
    environments = [environment("theirs"), environment("ours")]
    api.request("POST", "/projects", 201, json=project("shared", environments=environments))
    statement = {"effect": "allow", "actions": ["*"], "resources": ["proj/shared:env/theirs:segment/*"]}
    token = make_token(api, inlineRole=[statement])["token"]
    assert [each["key"] for each in api.request("GET", "/projects", 200, token=token)["items"]] == ["shared"]
    seen = api.request("GET", "/projects/shared/environments", 200, token=token)
    assert ([each["key"] for each in seen["items"]], seen["totalCount"]) == (["theirs"], 1)
    before = api.request("GET", "/projects?expand=environments", 200)
    for method, path, body in (
        ("GET", "/projects/shared/environments/ours", None),
        ("GET", "/projects/default", None),
        ("GET", "/projects/default/environments/production", None),
        ("GET", "/projects/nothing", None),
        ("GET", "/batches", None),
        ("POST", "/batches/replay", {"all": True, "preview": False}),
        ("POST", "/projects", project("mine")),
        ("POST", "/projects/shared/environments", environment("mine")),
        ("DELETE", "/projects/shared/environments/theirs", None),
        ("DELETE", "/projects/shared", None),
        ("POST", "/tokens", {"role": "reader"}),
        ("GET", "/tokens", None),
    ):
        api.request(method, path, 403, token=token, json=body)
    assert api.request("GET", "/projects?expand=environments", 200) == before


def test_the_document_is_for_everybody(api: ManagementApi) -> None:
    document = api.http.get("/api/v2/openapi.json").json()
    assert document["components"]["securitySchemes"]["ApiKey"] == {
        "type": "apiKey", "in": "header", "name": "Authorization", "description": "An access token",
    }  # fmt: skip
    operations = [each for path in document["paths"].values() for each in path.values()]
    identifiers = [each["operationId"] for each in operations]
    assert len(identifiers) == len(set(identifiers))
    assert {"/api/v2/batches", "/api/v2/versions", "/api/v2/projects"} <= document["paths"].keys()
    assert not [each for each in operations if "422" in each["responses"] and "HTTPValidationError" in str(each)]
