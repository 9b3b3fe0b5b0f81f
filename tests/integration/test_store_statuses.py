"""A store that a person must put right says so in one sentence; put right, it goes on without a restart, and whole."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from aws_gate import Gate
from certificates import Authority
from servers import VOLATILE, MotoServer, ValkeyServer
from sync_builders import Installation
from tls_server import TlsServer

from worker.cli.store_facts import read_facts
from worker.model import DynamoDBStoreConfiguration, RedisStoreConfiguration, StoreConfiguration
from worker.stores.dynamodb.table import create_table
from worker.sync.drain import drain

ROLE = "arn:aws:iam::222222222222:role/segsync"


@dataclass
class Trouble:
    """A store as it was set up, what is said of it, and what a person then does."""

    configuration: StoreConfiguration
    told: str
    mend: Callable[[Installation], object]


def corrected(configuration: StoreConfiguration) -> Callable[[Installation], object]:
    """The person corrects the store's record."""
    return lambda installation: installation.wiring.store_records.set(
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


def unknown_authority(server: TlsServer) -> Trouble:
    untrusted = RedisStoreConfiguration(host="127.0.0.1", port=server.port, tlsEnabled=True)
    trusted = untrusted.model_copy(update={"tlsCaFile": str(server.authority.file)})
    return Trouble(untrusted, "its certificate is not accepted", corrected(trusted))


def expired_session(gate: Gate, table: str) -> Trouble:
    """A role's session that ends before its time, as when the role's trust is taken back for a while."""
    configuration = DynamoDBStoreConfiguration(
        tableName=table, region=MotoServer.region, endpoint=gate.url, roleArn=ROLE, externalId="agreed"
    )
    gate.refuses_all = True

    def mend(installation: Installation) -> None:
        gate.refuses_all = False

    return Trouble(configuration, "the credentials have expired", mend)


@pytest.fixture(
    params=["wrong password", "no password", "unknown authority", "missing table", "wrong keys", "expired session"]
)
def trouble(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    wanted = request.getfixturevalue
    match request.param:
        case "wrong password":
            yield wrong_password(wanted("start_valkey"))
        case "no password":
            yield no_password(wanted("start_valkey"))
        case "unknown authority":
            authority = Authority(tmp_path / "authority")
            server = TlsServer(tmp_path / "server", authority, authority.issue("server"), tls_auth_clients="no")
            yield unknown_authority(server)
            server.plain.stop()
        case "missing table":
            yield missing_table(wanted("moto_server"))
        case "wrong keys":
            yield wrong_keys(wanted("moto_server"))
        case _:
            with Gate(wanted("moto_server")) as gate:
                monkeypatch.setenv("AWS_ENDPOINT_URL_STS", gate.url)
                yield expired_session(gate, wanted("dynamodb_table"))


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
