"""LaunchDarkly's own Python client, unmodified, over the life of both kinds of store, and every documented error."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from launchdarkly_api import IntegrationDeliveryConfigurationPost, PatchOperation, PersistentStoreIntegrationsBetaApi
from launchdarkly_api.exceptions import (
    ApiException,
    BadRequestException,
    ConflictException,
    ForbiddenException,
    NotFoundException,
    UnauthorizedException,
    UnprocessableEntityException,
)
from launchdarkly_api.models.big_segment_store_integration import BigSegmentStoreIntegration
from management_api import ManagementApi, managed
from servers import VOLATILE, ValkeyServer

SECRET = "supersecret123"
REDIS = {"host": "redis.internal", "port": "6379", "username": "default", "password": SECRET, "tlsEnabled": True}
TABLE = {"tableName": "big-segments", "region": "us-east-1", "roleArn": "arn:aws:iam::123456789012:role/big-segments"}
NOBODY = "0" * 24
WHERE = ("default", "production")


@pytest.fixture(scope="module")
def api(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManagementApi]:
    with managed(valkey, tmp_path_factory.mktemp("integrations")) as running:
        yield running


@pytest.fixture
def stores(api: ManagementApi) -> Iterator[PersistentStoreIntegrationsBetaApi]:
    """The client's own API of stores; what a test makes goes with it."""
    found = stores_of(api)
    yield found
    for item in found.get_big_segment_store_integrations().items:
        if item.config.get("host") != "127.0.0.1":  # the one that is there from the start
            found.delete_big_segment_store_integration(*WHERE, item.integration_key, item.id)


def stores_of(api: ManagementApi, token: str | None = None, *, beta: bool = True) -> PersistentStoreIntegrationsBetaApi:
    return PersistentStoreIntegrationsBetaApi(api.client(token, beta=beta))


def create(
    stores: PersistentStoreIntegrationsBetaApi, kind: str = "redis", config: Any = None, **fields: Any
) -> BigSegmentStoreIntegration:
    given = config or (REDIS if kind == "redis" else TABLE)
    post = IntegrationDeliveryConfigurationPost(config=given, **fields)
    made = stores.create_big_segment_store_integration(*WHERE, kind, post)
    assert made is not None  # the client gives None for any status but 201
    return made


def patch(stores: PersistentStoreIntegrationsBetaApi, made: Any, *operations: dict[str, Any]) -> Any:
    listed = [PatchOperation(**operation) for operation in operations]
    return stores.patch_big_segment_store_integration(*WHERE, made.integration_key, made.id, listed)


def told(error: ApiException) -> str:
    """The code, as the client's own model holds it: it does so only for statuses that LaunchDarkly documents."""
    assert error.data is not None
    body: dict[str, str] = error.data.to_dict()
    assert body["message"]
    return body["code"]


@pytest.mark.parametrize("kind", ["redis", "dynamodb"])
def test_a_store_lives_from_its_making_to_its_removal(stores: PersistentStoreIntegrationsBetaApi, kind: str) -> None:
    before = len(stores.get_big_segment_store_integrations().items)
    made = create(stores, kind, name="Prod", on=False, tags=["prod"])
    assert (made.integration_key, made.project_key, made.environment_key) == (kind, *WHERE)
    assert (made.name, made.on, made.tags, made.version) == ("Prod", False, ["prod"], 1)
    assert made.status.available is False
    assert made.status.last_sync is None
    assert made.links.var_self is not None
    shown = stores.get_big_segment_store_integration(*WHERE, kind, made.id)
    assert shown == made
    assert len(stores.get_big_segment_store_integrations().items) == before + 1
    changed = patch(
        stores,
        made,
        {"op": "test", "path": "/version", "value": 1},
        {"op": "replace", "path": "/name", "value": ""},
        {"op": "replace", "path": "/tags", "value": []},
        {"op": "add", "path": "/tags/-", "value": "eu"},
        {"op": "add", "path": "/config/prefix", "value": "other"},
    )
    assert (changed.name, changed.tags, changed.version, changed.config["prefix"]) == ("", ["eu"], 2, "other")
    assert stores.delete_big_segment_store_integration(*WHERE, kind, made.id) is None
    with pytest.raises(NotFoundException) as gone:
        stores.get_big_segment_store_integration(*WHERE, kind, made.id)
    assert told(gone.value) == "not_found"


def test_a_secret_is_masked_and_its_mask_keeps_it(stores: PersistentStoreIntegrationsBetaApi) -> None:
    made = create(stores)
    assert made.config["password"] == "sup********123"
    changed = patch(stores, made, {"op": "replace", "path": "/config", "value": {**made.config, "host": "other"}})
    assert changed.config == {**made.config, "host": "other"}
    assert SECRET not in json.dumps([changed.to_dict(), made.to_dict()])


def test_an_external_id_is_made_where_none_is_given(stores: PersistentStoreIntegrationsBetaApi) -> None:
    assert uuid.UUID(create(stores, "dynamodb").config["externalId"])
    given = {**TABLE, "tableName": "other", "externalId": "e1"}
    assert create(stores, "dynamodb", given).config == {**given, "prefix": ""}


def test_several_stores_of_a_kind_stand_side_by_side(stores: PersistentStoreIntegrationsBetaApi) -> None:
    made = [create(stores, config={**REDIS, "prefix": f"p{number}", "database": number}) for number in range(3)]
    listed = {item.id: item for item in stores.get_big_segment_store_integrations().items}
    assert [listed[each.id] for each in made] == made


def test_nulls_in_a_config_are_as_good_as_nothing(stores: PersistentStoreIntegrationsBetaApi) -> None:
    assert create(stores, config={"host": "h", "port": None, "password": None}).config["port"] == "6379"


def test_what_is_wrong_with_a_body_is_400(stores: PersistentStoreIntegrationsBetaApi) -> None:
    with pytest.raises(BadRequestException, match="/config/port") as refusal:
        create(stores, config={**REDIS, "port": "70000"})
    assert told(refusal.value) == "invalid_request"
    made = create(stores)
    with pytest.raises(BadRequestException, match="read-only") as refusal:
        patch(stores, made, {"op": "replace", "path": "/version", "value": 7})
    assert told(refusal.value) == "invalid_request"


def test_a_token_that_is_none_is_401(api: ManagementApi) -> None:
    strangers = stores_of(api, "api-00000000-0000-0000-0000-000000000000")
    for ask in (
        strangers.get_big_segment_store_integrations,
        lambda: create(strangers),
        lambda: strangers.get_big_segment_store_integration(*WHERE, "redis", NOBODY),
        lambda: strangers.patch_big_segment_store_integration(*WHERE, "redis", NOBODY, []),
        lambda: strangers.delete_big_segment_store_integration(*WHERE, "redis", NOBODY),
    ):
        with pytest.raises(UnauthorizedException) as refusal:
            ask()
        assert told(refusal.value) == "unauthorized"


def test_a_writer_reads_and_changes_nothing(api: ManagementApi, stores: PersistentStoreIntegrationsBetaApi) -> None:
    made, writer = create(stores), stores_of(api, api.writer_token)
    assert writer.get_big_segment_store_integration(*WHERE, "redis", made.id) == made
    assert made.id in {item.id for item in writer.get_big_segment_store_integrations().items}
    for change in (
        lambda: create(writer, config={**REDIS, "prefix": "other"}),
        lambda: patch(writer, made, {"op": "replace", "path": "/on", "value": True}),
        lambda: writer.delete_big_segment_store_integration(*WHERE, "redis", made.id),
    ):
        with pytest.raises(ForbiddenException) as refusal:
            change()
        assert told(refusal.value) == "forbidden"
    assert stores.get_big_segment_store_integration(*WHERE, "redis", made.id) == made


def test_who_does_not_ask_for_beta_is_told_so(api: ManagementApi) -> None:
    with pytest.raises(ForbiddenException, match="LD-API-Version: beta") as refusal:
        stores_of(api, beta=False).get_big_segment_store_integrations()
    assert told(refusal.value) == "forbidden"


def test_what_there_is_not_is_404(stores: PersistentStoreIntegrationsBetaApi) -> None:
    made = create(stores)
    post = IntegrationDeliveryConfigurationPost(config=REDIS)
    for ask in (
        lambda: stores.get_big_segment_store_integration(*WHERE, "redis", NOBODY),
        lambda: stores.get_big_segment_store_integration(*WHERE, "dynamodb", made.id),
        lambda: stores.get_big_segment_store_integration("default", "test", "redis", made.id),
        lambda: stores.get_big_segment_store_integration(*WHERE, "u/1", "r/2"),
        lambda: stores.patch_big_segment_store_integration(*WHERE, "redis", NOBODY, []),
        lambda: stores.delete_big_segment_store_integration(*WHERE, "redis", NOBODY),
        lambda: stores.create_big_segment_store_integration("nowhere", "production", "redis", post),
        lambda: stores.create_big_segment_store_integration(*WHERE, "launchdarkly", post),
    ):
        with pytest.raises(NotFoundException) as refusal:
            ask()
        assert told(refusal.value) == "not_found"


def test_a_place_that_is_taken_or_a_test_that_fails_is_409(stores: PersistentStoreIntegrationsBetaApi) -> None:
    made = create(stores)
    for ask in (
        lambda: create(stores),
        lambda: patch(stores, made, {"op": "test", "path": "/version", "value": 9}),
    ):
        with pytest.raises(ConflictException) as refusal:
            ask()
        assert told(refusal.value) == "optimistic_locking_error"
        assert SECRET not in str(refusal.value)


def test_a_place_of_another_environment_is_taken_too(
    api: ManagementApi, stores: PersistentStoreIntegrationsBetaApi
) -> None:
    api.request("POST", "/projects/default/environments", 201, json={"key": "test", "name": "Test", "color": "ABCDEF"})
    create(stores)
    post = IntegrationDeliveryConfigurationPost(config=REDIS)
    with pytest.raises(ConflictException, match="choose another prefix"):
        stores.create_big_segment_store_integration("default", "test", "redis", post)
    other = IntegrationDeliveryConfigurationPost(config={**REDIS, "prefix": "test"})
    made = stores.create_big_segment_store_integration("default", "test", "redis", other)
    stores.delete_big_segment_store_integration("default", "test", "redis", made.id)


def test_a_patch_that_cannot_be_applied_is_422(stores: PersistentStoreIntegrationsBetaApi) -> None:
    made = create(stores)
    with pytest.raises(UnprocessableEntityException) as refusal:
        patch(stores, made, {"op": "remove", "path": "/config/nothing"})
    assert json.loads(str(refusal.value.body))["code"] == "patch_failed"


def test_who_asks_too_often_is_429_until_the_time_that_is_told(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    with managed(start_valkey(VOLATILE), tmp_path, {"SEGSYNC_API_ROUTE_RATE_LIMIT": "2"}) as api:
        stores = stores_of(api)

        def ask_often() -> None:
            for _ in range(5):  # one window may end between them
                stores.get_big_segment_store_integrations()

        with pytest.raises(ApiException) as refusal:
            ask_often()
        error = refusal.value
        assert error.status == 429
        assert json.loads(str(error.body))["code"] == "rate_limited"
        assert error.headers is not None
        assert int(error.headers["X-Ratelimit-Reset"]) > 1_700_000_000_000


def test_the_gate_can_be_opened_for_clients_that_cannot_be_changed(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    with managed(start_valkey(VOLATILE), tmp_path, {"SEGSYNC_BETA_GATE": "0"}) as api:
        assert len(stores_of(api, beta=False).get_big_segment_store_integrations().items) == 1
