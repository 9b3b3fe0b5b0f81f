"""``/api/v2/integration-capabilities/big-segment-store`` over HTTP, in this process, on a real state server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from servers import ValkeyServer
from starlette.testclient import TestClient
from structlog.testing import capture_logs
from sync_builders import Installation

from worker.asgi import create_service
from worker.errors import Unavailable
from worker.model import (
    DynamoDBStoreConfiguration,
    LaunchDarklyStoreConfiguration,
    RedisStoreConfiguration,
    StoreConfiguration,
    StoreRecord,
)
from worker.records.store_errors import StoreErrors
from worker.records.store_health import StoreHealths
from worker.settings import Settings

BASE = "/api/v2/integration-capabilities/big-segment-store"
KEY = "c2Vnc3luYy10ZXN0cy1zZWdzeW5jLXRlc3RzLXNlZ3M="
SECRET = "supersecret123"
REDIS = {"host": "redis.internal", "port": "6379", "username": "default", "password": SECRET, "tlsEnabled": True}
TABLE = {"tableName": "t", "region": "us-east-1", "roleArn": "arn:aws:iam::123456789012:role/r"}


@dataclass
class Api:
    """The API as an administrator sees it; what it ever answered is kept."""

    http: TestClient
    installation: Installation
    seen: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, expected: int, body: Any = None, **options: Any) -> Any:
        answer = (
            self.http.request(method, path, json=body, **options)
            if body is not None
            else self.http.request(method, path, **options)
        )
        self.seen.append(answer.text)
        assert answer.status_code == expected, f"{method} {path}: {answer.status_code} {answer.text}"
        found = answer.json() if answer.content else None
        if expected >= 400:
            assert found is not None
            assert found.keys() == {"code", "message", "id"}
        return found

    def create(self, config: Any = REDIS, *, kind: str = "redis", expected: int = 201, **body: Any) -> Any:
        return self.ask("POST", f"{BASE}/default/production/{kind}", expected, {"config": config, **body})

    def patch(self, made: Any, *operations: Any, expected: int = 200) -> Any:
        return self.ask("PATCH", made["_links"]["self"]["href"], expected, list(operations))

    def get(self, made: Any, expected: int = 200) -> Any:
        return self.ask("GET", made["_links"]["self"]["href"], expected)

    def listed(self) -> list[Any]:
        items: list[Any] = self.ask("GET", BASE, 200)["items"]
        return items

    def record(self, made: Any) -> StoreRecord:
        found = self.installation.wiring.directory.fresh(0).store(made["_id"])
        assert found is not None
        return found

    def password(self, made: Any) -> str:
        configuration = self.record(made).configuration
        assert isinstance(configuration, RedisStoreConfiguration)
        return configuration.password.get_secret_value()

    def add(self, name: str, configuration: StoreConfiguration) -> StoreRecord:
        """A store that a command adds."""
        return self.installation.wiring.store_records.add(self.installation.environment_id, name, configuration)


@pytest.fixture
def api(real_redis: redis.Redis, valkey: ValkeyServer) -> Iterator[Api]:
    settings: dict[str, Any] = {"secret_keys": KEY, "api_rate_limit": 0, "api_route_rate_limit": 0}
    installation = Installation(real_redis, **settings)
    service = create_service(Settings(state_url=valkey.url, durability="memory", **settings))
    headers = {"Authorization": str(installation.made.admin_token), "LD-API-Version": "beta"}
    with capture_logs() as logs, TestClient(service, headers=headers, raise_server_exceptions=False) as http:
        started = Api(http, installation)
        yield started
    assert SECRET not in "".join(started.seen)
    assert SECRET not in str(logs)


def test_an_integration_has_the_documented_form(api: Api) -> None:
    made = api.create(name="Prod Redis", on=True, tags=["prod"])
    links = {
        "self": f"{BASE}/default/production/redis/{made['_id']}",
        "parent": BASE,
        "project": "/api/v2/projects/default",
        "environment": "/api/v2/projects/default/environments/production",
    }
    assert made == {
        "_links": {relation: {"href": href, "type": "application/json"} for relation, href in links.items()},
        "_id": made["_id"],
        "integrationKey": "redis",
        "projectKey": "default",
        "environmentKey": "production",
        "config": {**REDIS, "password": "sup********123", "prefix": "launchdarkly", "database": 0},
        "on": True,
        "tags": ["prod"],
        "name": "Prod Redis",
        "version": 1,
        "_status": {"available": False, "potentiallyStale": True},
    }
    assert len(made["_id"]) == 24
    assert api.get(made) == made
    assert made in api.listed()
    assert api.password(made) == SECRET


def test_what_is_not_said_is_off_unnamed_and_untagged(api: Api) -> None:
    made = api.create(TABLE, kind="dynamodb", unknown="is ignored")
    assert (made["on"], made["name"], made["tags"]) == (False, "", [])


def test_a_table_is_told_whole_with_an_external_id_that_was_made(api: Api) -> None:
    made = api.create(TABLE, kind="dynamodb")
    assert len(made["config"].pop("externalId")) == 36
    assert made["config"] == {**TABLE, "prefix": ""}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "/config"),
        ({"config": None}, "/config"),
        ({"config": []}, "/config"),
        ({"config": {}}, "/config/host"),
        ({"config": {**REDIS, "port": 0}}, "/config/port"),
        ({"config": {**REDIS, "pasword": "x"}}, "/config/pasword"),
        ({"config": REDIS, "on": "yes"}, "/on"),
        ({"config": REDIS, "on": 1}, "/on"),
        ({"config": REDIS, "name": 7}, "/name"),
        ({"config": REDIS, "name": "x" * 65}, "/name"),
        ({"config": REDIS, "name": " x"}, "name"),
        ({"config": REDIS, "tags": "x"}, "/tags"),
        ({"config": REDIS, "tags": ["a b"]}, "/tags/0"),
        ({"config": {**REDIS, "password": "sup********123"}}, "/config/password"),
        ([], ""),
        ("x", ""),
    ],
)
def test_a_body_that_is_wrong_is_400_with_its_place_and_makes_nothing(api: Api, body: Any, said: str) -> None:
    before = len(api.listed())
    refusal = api.ask("POST", f"{BASE}/default/production/redis", 400, body)
    assert refusal["code"] == "invalid_request"
    assert said in refusal["message"]
    assert len(api.listed()) == before


@pytest.mark.parametrize("content", [b"", b"{", b"nul", b'{"config": NaN}', b"\xff", b"[" * 10_000])
def test_what_is_no_json_is_400(api: Api, content: bytes) -> None:
    made = api.create()
    headers = {"Content-Type": "application/json"}
    api.ask("POST", f"{BASE}/default/production/redis", 400, content=content, headers=headers)
    api.ask("PATCH", made["_links"]["self"]["href"], 400, content=content, headers=headers)


def test_without_a_token_or_with_another_one_it_is_401(api: Api) -> None:
    made = api.create()
    for headers in ({"Authorization": ""}, {"Authorization": "not-a-token"}):
        for method, path in (
            ("GET", BASE),
            ("POST", f"{BASE}/default/production/redis"),
            ("GET", made["_links"]["self"]["href"]),
            ("PATCH", made["_links"]["self"]["href"]),
            ("DELETE", made["_links"]["self"]["href"]),
        ):
            assert api.ask(method, path, 401, headers=headers)["code"] == "unauthorized"


def test_a_writer_may_read_and_change_nothing(api: Api) -> None:
    made = api.create()
    headers, path = {"Authorization": str(api.installation.made.writer_token)}, made["_links"]["self"]["href"]
    assert api.ask("GET", path, 200, headers=headers) == made
    assert made in api.ask("GET", BASE, 200, headers=headers)["items"]
    patch = [{"op": "replace", "path": "/on", "value": True}]
    for method, where, body in (
        ("POST", f"{BASE}/default/production/redis", {"config": {**REDIS, "prefix": "other"}}),
        ("PATCH", path, patch),
        ("DELETE", path, None),
    ):
        assert api.ask(method, where, 403, body, headers=headers)["code"] == "forbidden"
    assert api.get(made) == made


@pytest.mark.parametrize(
    ("version", "status"), [(None, 403), ("20240415", 403), ("beta", 200), ("20240415, beta", 200)]
)
def test_these_routes_alone_want_to_be_asked_for_beta(api: Api, version: str | None, status: int) -> None:
    api.http.headers.pop("LD-API-Version")
    headers = {} if version is None else {"LD-API-Version": version}
    api.ask("GET", BASE, status, headers=headers)
    api.ask("GET", "/api/v2/projects", 200, headers=headers)


def test_what_there_is_not_is_404(api: Api) -> None:
    made = api.create()
    store_id = made["_id"]
    for path in (
        f"default/production/redis/{'0' * 24}",
        f"default/production/dynamodb/{store_id}",
        f"default/production/memcached/{store_id}",
        f"default/test/redis/{store_id}",
        f"other/production/redis/{store_id}",
        "default/production/redis/x%2Fy",
    ):
        for method, body in (("GET", None), ("PATCH", []), ("DELETE", None)):
            assert api.ask(method, f"{BASE}/{path}", 404, body)["code"] == "not_found"
    for path in ("default/test/redis", "other/production/redis", "default/production/memcached"):
        api.ask("POST", f"{BASE}/{path}", 404, {"config": REDIS})
    assert api.get(made) == made


def test_a_store_of_launchdarkly_itself_is_never_seen(api: Api) -> None:
    configuration = LaunchDarklyStoreConfiguration.model_validate(
        {"projectKey": "p", "environmentKey": "e", "accessToken": "api-1"}
    )
    store_id = api.add("federal", configuration).store_id
    assert store_id not in {item["_id"] for item in api.listed()}
    for kind in ("launchdarkly", "redis"):
        api.ask("GET", f"{BASE}/default/production/{kind}/{store_id}", 404)
        api.ask("DELETE", f"{BASE}/default/production/{kind}/{store_id}", 404)
    api.ask("POST", f"{BASE}/default/production/launchdarkly", 404, {"config": {}})


def test_what_a_command_made_is_listed_and_can_be_patched_without_loss(api: Api) -> None:
    made = [
        api.add("sentinels", RedisStoreConfiguration.from_url("rediss+sentinel://:pw@h:1,i:2/main/3", "p")),
        api.add("socket", RedisStoreConfiguration.from_url("unix:///s?db=2")),
        api.add("table", DynamoDBStoreConfiguration(tableName="t", region="moon-1", writeMode="transact")),
    ]
    listed = {item["_id"]: item for item in api.listed()}
    for record in made:
        item = listed[record.store_id]
        changed = api.patch(
            item,
            {"op": "replace", "path": "/config", "value": item["config"]},
            {"op": "replace", "path": "/name", "value": f"{record.name} of ours"},
        )
        assert changed["config"] == item["config"]
        assert api.record(item).configuration == record.configuration


def test_each_patch_that_changes_something_makes_a_version(api: Api) -> None:
    made = api.create()
    changed = api.patch(
        made,
        {"op": "test", "path": "/version", "value": 1},
        {"op": "replace", "path": "/on", "value": True},
        {"op": "add", "path": "/tags/-", "value": "a"},
        {"op": "copy", "from": "/tags/0", "path": "/name"},
        {"op": "add", "path": "/config/database", "value": 5},
        {"op": "remove", "path": "/config/username"},
        {"op": "move", "from": "/config/host", "path": "/config/host"},
    )
    config = {**made["config"], "database": 5, "username": ""}
    assert changed == {**made, "on": True, "tags": ["a"], "name": "a", "config": config, "version": 2}
    assert api.get(made) == changed
    assert api.password(made) == SECRET


def test_a_patch_that_changes_nothing_keeps_the_version(api: Api) -> None:
    made = api.create(name="x", tags=["a"])
    for operations in (
        [],
        [{"op": "replace", "path": "/name", "value": "x"}],
        [{"op": "replace", "path": "/config", "value": made["config"]}],
        [{"op": "replace", "path": "/config/port", "value": 6379}],
        [{"op": "replace", "path": "/config/password", "value": SECRET}],
        [{"op": "add", "path": "/tags/-", "value": "a"}],
    ):
        assert api.patch(made, *operations) == made


def test_what_is_removed_of_name_and_tags_is_empty(api: Api) -> None:
    made = api.create(name="x", tags=["a"])
    changed = api.patch(made, {"op": "remove", "path": "/name"}, {"op": "remove", "path": "/tags"})
    assert (changed["name"], changed["tags"]) == ("", [])


@pytest.mark.parametrize(
    ("operation", "status", "code"),
    [
        ({"op": "replace", "path": "/version", "value": 9}, 400, "invalid_request"),
        ({"op": "replace", "path": "/_id", "value": "x"}, 400, "invalid_request"),
        ({"op": "add", "path": "/_status/available", "value": True}, 400, "invalid_request"),
        ({"op": "replace", "path": "/projectKey", "value": "x"}, 400, "invalid_request"),
        ({"op": "zip", "path": "/name"}, 400, "invalid_request"),
        ({"op": "add", "path": "/name"}, 400, "invalid_request"),
        ({"op": "replace", "path": "/name", "value": None}, 400, "invalid_request"),
        ({"op": "replace", "path": "/on", "value": "true"}, 400, "invalid_request"),
        ({"op": "remove", "path": "/on"}, 400, "invalid_request"),
        ({"op": "remove", "path": "/config"}, 400, "invalid_request"),
        ({"op": "remove", "path": "/config/host"}, 400, "invalid_request"),
        ({"op": "replace", "path": "/tags", "value": {}}, 400, "invalid_request"),
        ({"op": "replace", "path": "/tags", "value": ["a b"]}, 400, "invalid_request"),
        ({"op": "replace", "path": "/config/port", "value": "x"}, 400, "invalid_request"),
        ({"op": "add", "path": "/config/pasword", "value": "x"}, 400, "invalid_request"),
        ({"op": "replace", "path": "/config/password", "value": "abc********xyz"}, 400, "invalid_request"),
        ({"op": "test", "path": "/version", "value": 7}, 409, "optimistic_locking_error"),
        ({"op": "test", "path": "/nothing", "value": 7}, 409, "optimistic_locking_error"),
        ({"op": "remove", "path": "/config/nothing"}, 422, "patch_failed"),
        ({"op": "replace", "path": "/nothing", "value": 1}, 422, "patch_failed"),
        ({"op": "move", "from": "/config", "path": "/config/host"}, 422, "patch_failed"),
    ],
)
def test_a_patch_that_is_refused_changes_nothing(api: Api, operation: Any, status: int, code: str) -> None:
    made = api.create()
    refusal = api.patch(made, {"op": "replace", "path": "/on", "value": True}, operation, expected=status)
    assert refusal["code"] == code
    assert api.get(made) == made


def test_a_body_that_nobody_knows_of_is_no_patch(api: Api) -> None:
    made = api.create()
    path = made["_links"]["self"]["href"]
    bodies: list[Any] = [{"patch": []}, {"comment": "x", "instructions": []}, "x", 7]
    for body in bodies:
        api.ask("PATCH", path, 400, body)


def test_a_member_that_nobody_knows_is_not_added(api: Api) -> None:
    made = api.create()
    api.patch(made, {"op": "add", "path": "/colour", "value": "red"}, expected=400)


def test_a_mask_that_is_sent_back_keeps_the_secret(api: Api) -> None:
    made = api.create()
    changed = api.patch(made, {"op": "replace", "path": "/config", "value": {**made["config"], "host": "other"}})
    assert changed["config"]["host"] == "other"
    assert api.password(made) == SECRET


def test_another_secret_takes_the_place_of_the_former(api: Api) -> None:
    made = api.create()
    changed = api.patch(made, {"op": "replace", "path": "/config/password", "value": "a-new-secret-of-ours"})
    assert changed["config"]["password"] == "a-n********urs"
    assert api.password(made) == "a-new-secret-of-ours"


def test_a_test_tells_nothing_of_a_secret(api: Api) -> None:
    made = api.create()
    path = "/config/password"
    right = api.patch(made, {"op": "test", "path": path, "value": SECRET}, expected=409)
    wrong = api.patch(made, {"op": "test", "path": path, "value": "wrong"}, expected=409)
    assert right["message"] == wrong["message"]
    api.patch(made, {"op": "test", "path": path, "value": "sup********123"})


@pytest.mark.parametrize("kind", ["copy", "move"])
@pytest.mark.parametrize("to", ["/name", "/config/username", "/config/prefix"])
def test_a_secret_that_is_copied_elsewhere_is_its_mask(api: Api, kind: str, to: str) -> None:
    made = api.create()
    api.patch(made, {"op": kind, "from": "/config/password", "path": to})
    record = api.record(made)
    assert SECRET not in record.name
    assert isinstance(record.configuration, RedisStoreConfiguration)
    assert SECRET not in record.configuration.username + record.configuration.prefix
    assert api.password(made) == (SECRET if kind == "copy" else "")


def test_a_place_that_is_taken_is_409_and_the_answer_names_no_secret(api: Api) -> None:
    made = api.create()
    assert api.create(REDIS, expected=409)["code"] == "optimistic_locking_error"
    other = api.create({**REDIS, "prefix": "other"})
    refusal = api.patch(other, {"op": "replace", "path": "/config/prefix", "value": "launchdarkly"}, expected=409)
    assert "choose another prefix" in refusal["message"]
    assert [item["_id"] for item in api.listed()][-2:] == [made["_id"], other["_id"]]
    assert api.get(other) == other


def test_a_name_that_is_taken_is_409_and_none_is_never_taken(api: Api) -> None:
    api.create(name="one")
    api.create({**REDIS, "prefix": "b"}, name="one", expected=409)
    api.create({**REDIS, "prefix": "b"})
    api.create({**REDIS, "prefix": "c"})


def test_what_is_deleted_is_gone_and_its_place_is_free(api: Api) -> None:
    made = api.create()
    assert api.ask("DELETE", made["_links"]["self"]["href"], 204) is None
    api.get(made, 404)
    api.patch(made, expected=404)
    api.ask("DELETE", made["_links"]["self"]["href"], 404)
    assert made["_id"] not in {item["_id"] for item in api.listed()}
    api.create()


def test_a_status_is_what_the_heartbeat_saw(api: Api) -> None:
    made = api.create(on=True)
    record, now_ms = api.record(made), api.installation.wiring.upkeep.server_ms()
    healths, errors = StoreHealths(api.installation.client), StoreErrors(api.installation.client)
    healths.note_looks([(record, now_ms)])
    healths.note_told(record, now_ms)
    errors.note(record.store_id, Unavailable("it answered WRONGPASS", dependency="store", answered="WRONGPASS"))
    status = api.get(made)["_status"]
    [error] = status["errors"]
    assert error == {"statusCode": 401, "message": "it answered WRONGPASS", "timestamp": status["lastError"]}
    del status["errors"], status["lastError"]
    assert status == {"available": True, "potentiallyStale": False, "lastSync": now_ms}


def test_secrets_do_not_lie_in_the_state_server_in_plain_text(api: Api) -> None:
    made = api.create()
    kept = str(api.installation.client.hget("segsync:stores", made["_id"]))
    assert made["_id"] in kept
    assert SECRET not in kept


def test_a_thousand_stores_are_listed(api: Api) -> None:
    template = api.record(api.create())
    records = {
        f"{number:024x}": json.dumps(
            template.model_dump(mode="json")
            | {"store_id": f"{number:024x}"}
            | {"configuration": {"kind": "redis", "prefix": f"p{number}"}}
        )
        for number in range(1000)
    }
    api.installation.client.hset("segsync:stores", mapping=records)  # type: ignore[arg-type]
    api.installation.client.set("segsync:records", "changed")
    assert len(api.listed()) == 1002


def test_a_secret_is_refused_where_nothing_can_encrypt_it(real_redis: redis.Redis, valkey: ValkeyServer) -> None:
    installation = Installation(real_redis)
    headers = {"Authorization": str(installation.made.admin_token), "LD-API-Version": "beta"}
    service = create_service(Settings(state_url=valkey.url, durability="memory", secret_keys=""))
    with TestClient(service, headers=headers, raise_server_exceptions=False) as http:
        api = Api(http, installation)
        assert "SEGSYNC_SECRET_KEYS" in api.create(REDIS, expected=400)["message"]
        made = api.create({"host": "h"})
        api.patch(made, {"op": "replace", "path": "/config/password", "value": SECRET}, expected=400)
        assert api.get(made) == made
    assert SECRET not in "".join(api.seen)


def test_a_store_whose_secret_nobody_can_open_is_listed_and_can_be_given_another(
    real_redis: redis.Redis, valkey: ValkeyServer
) -> None:
    installation = Installation(real_redis, secret_keys=KEY)
    configuration = RedisStoreConfiguration.model_validate({"host": "h", "password": SECRET})
    record = installation.wiring.store_records.add(installation.environment_id, "one", configuration)
    headers = {"Authorization": str(installation.made.admin_token), "LD-API-Version": "beta"}
    other_key = f"A{KEY[1:]}"
    service = create_service(Settings(state_url=valkey.url, durability="memory", secret_keys=other_key))
    with TestClient(service, headers=headers, raise_server_exceptions=False) as http:
        api = Api(http, installation)
        [found] = [item for item in api.listed() if item["_id"] == record.store_id]
        assert found["config"]["password"] == "********"
        renamed = api.patch(found, {"op": "replace", "path": "/name", "value": "two"})
        assert renamed["config"] == found["config"]
        assert api.record(found).configuration == configuration
        api.patch(found, {"op": "replace", "path": "/config/password", "value": "another-secret-of-ours"})
        assert api.get(found)["config"]["password"] == "ano********urs"
    assert "fernet" not in "".join(api.seen)
