"""A store that a person must put right says so in one sentence; put right, it goes on without a restart, and whole."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from servers import VOLATILE, MotoServer, ValkeyServer
from sync_builders import Installation

from worker.cli.store_facts import read_facts
from worker.model import DynamoDBStoreConfiguration, RedisStoreConfiguration, StoreConfiguration
from worker.records.stores import StoreRecords
from worker.stores.dynamodb_table import create_table
from worker.sync.drain import drain


@dataclass
class Trouble:
    """A store as it was set up, what is said of it, and what a person then does."""

    configuration: StoreConfiguration
    told: str
    mend: Callable[[Installation], object]


def corrected(configuration: StoreConfiguration) -> Callable[[Installation], object]:
    """The person corrects the store's record."""
    return lambda installation: StoreRecords(installation.client).set(
        installation.store_id, configuration=configuration
    )


def wrong_password(start_valkey: Callable[..., ValkeyServer]) -> Trouble:
    server = start_valkey(VOLATILE, password="right")
    right = RedisStoreConfiguration.from_url(server.url)
    wrong = RedisStoreConfiguration.from_url(server.url.replace("right", "wrong"))
    return Trouble(wrong, "WRONGPASS: it refuses the username or password", corrected(right))


def no_password(start_valkey: Callable[..., ValkeyServer]) -> Trouble:
    server = start_valkey(VOLATILE, password="right")
    right = RedisStoreConfiguration.from_url(server.url)
    none = RedisStoreConfiguration(host=server.host, port=server.port)

    def mend(installation: Installation) -> None:
        client = server.client()
        client.config_set("requirepass", "")
        client.close()

    assert right != none
    return Trouble(none, "NOAUTH: it wants a password", mend)


def missing_table(moto: MotoServer) -> Trouble:
    table = DynamoDBStoreConfiguration(
        tableName=f"statuses-{uuid.uuid4().hex[:8]}", region=moto.region, endpoint=moto.url
    )
    return Trouble(table, "there is no such table", lambda _: create_table(table))


def wrong_keys(moto: MotoServer) -> Trouble:
    table = DynamoDBStoreConfiguration(
        tableName=f"statuses-{uuid.uuid4().hex[:8]}", region=moto.region, endpoint=moto.url
    )
    client: Any = moto.client()
    client.create_table(
        TableName=table.tableName,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )

    def mend(installation: Installation) -> None:
        client.delete_table(TableName=table.tableName)
        client.close()
        create_table(table)

    return Trouble(table, "the table's keys must be the strings namespace and key", mend)


@pytest.fixture(params=["wrong password", "no password", "missing table", "wrong keys"])
def trouble(request: pytest.FixtureRequest) -> Trouble:
    if request.param in {"wrong password", "no password"}:
        make = wrong_password if request.param == "wrong password" else no_password
        return make(request.getfixturevalue("start_valkey"))
    moto = request.getfixturevalue("moto_server")
    return missing_table(moto) if request.param == "missing table" else wrong_keys(moto)


def apply(installation: Installation) -> str:
    return drain(installation.wiring, installation.segment(), installation.store_id).outcome


def test_it_says_what_is_wrong_and_goes_on_when_that_is_put_right(real_redis: redis.Redis, trouble: Trouble) -> None:
    installation = Installation(real_redis, real_store=trouble.configuration)
    wiring = installation.wiring
    installation.accept(add=("ann", "bob"))
    installation.accept(remove=("bob",))
    assert apply(installation) == "away"
    installation.accept(add=("cyd",))

    [facts] = read_facts(wiring, wiring.directory.fresh(0).stores)
    assert trouble.told in facts.state
    assert facts.circuit.fault == "configuration"
    assert facts.lag.batches == 3
    trouble.mend(installation)
    wiring.directory.fresh(0)
    wiring.circuits.reset(installation.store_id)  # as `segsync store check` does; else it is tried within ten minutes

    assert apply(installation) == "applied"
    store = wiring.stores.get(installation.store_id)
    assert store is not None
    ref = installation.segment().ref
    assert [key for key in ("ann", "bob", "cyd") if ref in store.included(key)] == ["ann", "cyd"]
    [facts] = read_facts(wiring, wiring.directory.fresh(0).stores)
    assert (facts.circuit.open, facts.lag.batches) == (False, 0)
    wiring.stores.close()
