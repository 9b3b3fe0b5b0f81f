"""A store that is made, moved, paused and removed over the API, while receiver, worker and scheduler run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from launchdarkly_api import IntegrationDeliveryConfigurationPost, PatchOperation, PersistentStoreIntegrationsBetaApi
from ldclient.integrations import DynamoDB, Redis
from management_api import ManagementApi, managed
from servers import VOLATILE, MotoServer, ValkeyServer, wait_until

from worker.manifest.examples import Change, example
from worker.stores.layout import context_hash

WHERE = ("default", "production", "redis")
REF = "hightouch-c1.g1"
# What is promised: that nothing more is written from then on can only be seen by waiting for it.
PROMISED_SECONDS = 5.0
# The same for what is to happen: a machine that others use as well gets some more.
PROMPT_SECONDS = 15.0


@contextmanager
def running(state: ValkeyServer, directory: Path) -> Iterator[ManagementApi]:
    with managed(state, directory) as api:
        api.deployment.start("scheduler")
        api.deployment.start("worker")
        yield api


@pytest.fixture
def state(start_valkey: Callable[..., ValkeyServer]) -> ValkeyServer:
    return start_valkey(VOLATILE)


def send(api: ManagementApi, *people: str) -> None:
    for body in example("hightouch", Change(api.environment_id, "c1", "C 1", list(people), [])):
        headers = {"Authorization": api.writer_token}
        answer = httpx2.post(f"{api.url}/api/v2/segment-targets/hightouch", json=body, headers=headers)
        assert answer.status_code == 204, answer.text


def who_is_in(state: ValkeyServer, prefix: str, *people: str) -> set[str]:
    """Those of them whom an SDK finds in the segment."""
    reader = Redis.new_big_segment_store(url=state.url, prefix=prefix)
    found = {person: reader.get_membership(context_hash(person)) for person in people}
    return {person for person, refs in found.items() if refs and refs.get(REF)}


def test_a_store_takes_effect_in_processes_that_run(state: ValkeyServer, tmp_path: Path) -> None:
    with running(state, tmp_path) as api:
        stores = PersistentStoreIntegrationsBetaApi(api.client(beta=True))

        def shown(store_id: str) -> Any:
            return stores.get_big_segment_store_integration(*WHERE, store_id)

        def patch(store_id: str, path: str, value: Any) -> Any:
            operation = PatchOperation(op="replace", path=path, value=value)
            return stores.patch_big_segment_store_integration(*WHERE, store_id, [operation])

        def prompt(prefix: str, *people: str) -> float:
            since = time.monotonic()
            wait_until(
                lambda: who_is_in(state, prefix, *people) == set(people), PROMPT_SECONDS, f"{people} in {prefix}"
            )
            return time.monotonic() - since

        send(api, "ann")
        prompt("launchdarkly", "ann")

        # Made: what there is already comes into it, and what is sent now.
        config = {"host": "127.0.0.1", "port": state.port, "prefix": "second"}
        post = IntegrationDeliveryConfigurationPost(config=config, on=True, name="second")
        store_id = stores.create_big_segment_store_integration(*WHERE, post).id
        prompt("second", "ann")
        send(api, "bob")
        prompt("second", "ann", "bob")
        wait_until(lambda: shown(store_id).status.available, 40, "available")
        status = shown(store_id).status
        assert status.potentially_stale is False
        assert status.last_sync is not None
        assert abs(status.last_sync - time.time() * 1000) < 60_000
        assert status.errors is None

        # Moved: the other place is filled as well, and the first is written no more.
        patch(store_id, "/config/prefix", "third")
        assert shown(store_id).status.available is False
        prompt("third", "ann", "bob")
        send(api, "cyd")
        prompt("third", "cyd")
        assert who_is_in(state, "second", "ann", "bob", "cyd") == {"ann", "bob"}
        wait_until(lambda: shown(store_id).status.available, 40, "available at the other place")

        # Off: nothing more is written from five seconds on, and SDKs may read what is old.
        assert patch(store_id, "/on", value=False).status.potentially_stale is True
        time.sleep(PROMISED_SECONDS)
        send(api, "dee")
        prompt("launchdarkly", "dee")
        api.deployment.wait_until_applied()
        assert who_is_in(state, "third", "dee") == set()

        # On again: it catches up from where it was.
        patch(store_id, "/on", value=True)
        prompt("third", "dee")

        # Removed: what lies in it stays, and nothing more comes.
        stores.delete_big_segment_store_integration(*WHERE, store_id)
        time.sleep(PROMISED_SECONDS)
        send(api, "eve")
        prompt("launchdarkly", "eve")
        api.deployment.wait_until_applied()
        assert who_is_in(state, "third", "ann", "bob", "cyd", "dee", "eve") == {"ann", "bob", "cyd", "dee"}


def test_a_store_that_cannot_be_reached_says_so_until_its_login_is_mended(
    state: ValkeyServer, start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    password = "a-password-of-ours"
    other = start_valkey(VOLATILE, password=password)
    with running(state, tmp_path) as api:
        stores = PersistentStoreIntegrationsBetaApi(api.client(beta=True))
        send(api, "ann")
        config = {"host": "127.0.0.1", "port": str(other.port), "password": "not-the-password-of-it"}
        post = IntegrationDeliveryConfigurationPost(config=config, on=True)
        made = stores.create_big_segment_store_integration(*WHERE, post)

        def status() -> Any:
            return stores.get_big_segment_store_integration(*WHERE, made.id).status

        wait_until(lambda: status().errors, 40, "an error")
        found = status()
        assert (found.available, found.potentially_stale) == (False, True)
        assert found.errors[0].status_code == 401
        assert "WRONGPASS" in found.errors[0].message
        assert found.last_error == found.errors[0].timestamp
        mend = PatchOperation(op="replace", path="/config/password", value=password)
        stores.patch_big_segment_store_integration(*WHERE, made.id, [mend])
        wait_until(lambda: status().available, 40, "available")
        assert status().errors[0].status_code == 401  # it has been, and stays known for a week
        logs = api.deployment.logs()
        assert "WRONGPASS" in logs
        assert password not in logs
        assert "not-the-password-of-it" not in logs


def test_a_table_with_our_own_credentials_is_filled(
    state: ValkeyServer, moto_server: MotoServer, dynamodb_table: str, tmp_path: Path
) -> None:
    reader = DynamoDB.new_big_segment_store(
        dynamodb_table, dynamodb_opts={"endpoint_url": moto_server.url, "region_name": moto_server.region}
    )
    with running(state, tmp_path) as api:
        stores = PersistentStoreIntegrationsBetaApi(api.client(beta=True))
        send(api, "ann")
        config = {"tableName": dynamodb_table, "region": moto_server.region, "roleArn": "", "endpoint": moto_server.url}
        post = IntegrationDeliveryConfigurationPost(config=config, on=True)
        made = stores.create_big_segment_store_integration("default", "production", "dynamodb", post)
        wait_until(lambda: reader.get_membership(context_hash("ann")), 40, "ann in the table")
        wait_until(
            lambda: stores.get_big_segment_store_integrations().items[-1].status.available, 40, "available in the list"
        )
        shown = stores.get_big_segment_store_integration("default", "production", "dynamodb", made.id)
        assert shown.config == made.config
        told = reader.get_metadata().last_up_to_date
        assert told is not None
        assert shown.status.last_sync is not None
        assert abs(told - shown.status.last_sync) < 60_000
