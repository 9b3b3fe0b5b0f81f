"""Tables that are missing, wrong or not permitted: each is one sentence, and put right under a store that is open."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from servers import MotoServer

from worker.errors import Unavailable
from worker.model import DynamoDBStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.dynamodb import DynamoDBStore
from worker.stores.dynamodb import table as dynamodb_table
from worker.stores.dynamodb.table import create_table

REF = "beta-users.g1"


@pytest.fixture
def configuration(moto_server: MotoServer) -> DynamoDBStoreConfiguration:
    name = f"segsync-{uuid.uuid4().hex[:12]}"
    return DynamoDBStoreConfiguration(tableName=name, region=moto_server.region, endpoint=moto_server.url)


@pytest.fixture
def store(configuration: DynamoDBStoreConfiguration) -> Iterator[DynamoDBStore]:
    store = DynamoDBStore(configuration)
    yield store
    store.close()


@pytest.fixture
def client(moto_server: MotoServer) -> Iterator[Any]:
    client = moto_server.client()
    yield client
    client.close()


def make_other_table(client: Any, name: str) -> None:
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def add(store: DynamoDBStore, count: int) -> WriteCounts:
    with store.session() as session:
        return session.write(SegmentPatch(REF, [f"user-{number}" for number in range(count)], []), lambda: None)


def test_a_table_is_made_as_sdks_expect_it(configuration: DynamoDBStoreConfiguration, client: Any) -> None:
    assert create_table(configuration)
    table = client.describe_table(TableName=configuration.tableName)["Table"]
    assert table["KeySchema"] == [
        {"AttributeName": "namespace", "KeyType": "HASH"},
        {"AttributeName": "key", "KeyType": "RANGE"},
    ]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


def test_a_table_that_is_there_is_left_as_it_is(
    configuration: DynamoDBStoreConfiguration, store: DynamoDBStore
) -> None:
    create_table(configuration)
    add(store, 5)
    assert not create_table(configuration)
    assert add(store, 5) == WriteCounts(0, 0)


def test_a_table_with_other_keys_is_told_and_left_as_it_is(
    configuration: DynamoDBStoreConfiguration, client: Any
) -> None:
    make_other_table(client, configuration.tableName)
    with pytest.raises(Unavailable, match="partition key namespace and the sort key key") as raised:
        create_table(configuration)
    assert raised.value.fault == "configuration"
    assert client.describe_table(TableName=configuration.tableName)["Table"]["KeySchema"][0]["AttributeName"] == "id"


@pytest.mark.parametrize("members", [2, 20])
def test_a_store_whose_table_is_missing_says_so_and_works_once_it_is_made(
    configuration: DynamoDBStoreConfiguration, store: DynamoDBStore, members: int
) -> None:
    with pytest.raises(Unavailable, match="there is no such table; create it") as raised:
        add(store, members)
    assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False)
    create_table(configuration)
    assert store.check() == []
    assert add(store, members) == WriteCounts(members, 0)


@pytest.mark.parametrize("members", [2, 20])
def test_a_table_that_goes_during_a_drain_is_missing(
    configuration: DynamoDBStoreConfiguration, store: DynamoDBStore, client: Any, members: int
) -> None:
    create_table(configuration)
    with store.session() as session:
        client.delete_table(TableName=configuration.tableName)
        with pytest.raises(Unavailable, match="there is no such table") as raised:
            session.write(SegmentPatch(REF, [f"user-{number}" for number in range(members)], []), lambda: None)
    assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False)


@pytest.mark.parametrize("members", [2, 20])
def test_a_store_whose_table_has_other_keys_says_so_and_works_once_it_has_not(
    configuration: DynamoDBStoreConfiguration, store: DynamoDBStore, client: Any, members: int
) -> None:
    make_other_table(client, configuration.tableName)
    with pytest.raises(Unavailable, match="the table's keys must be the strings namespace and key") as raised:
        add(store, members)
    assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False)
    client.delete_table(TableName=configuration.tableName)
    create_table(configuration)
    assert add(store, members) == WriteCounts(members, 0)


def test_another_region_is_another_table(configuration: DynamoDBStoreConfiguration) -> None:
    create_table(configuration)
    elsewhere = DynamoDBStore(configuration.model_copy(update={"region": "eu-west-1"}))
    [fault] = elsewhere.check()
    assert "in eu-west-1: it answered ResourceNotFoundException: there is no such table" in fault
    assert "region" in fault
    elsewhere.close()


def test_what_is_no_region_at_all_is_told_as_such(configuration: DynamoDBStoreConfiguration) -> None:
    nowhere = DynamoDBStore(configuration.model_copy(update={"region": "eu west 1", "endpoint": None}))
    [fault] = nowhere.check()
    assert "its region is not the name of one" in fault
    nowhere.close()


class Refusing:
    """A client whose named operations are refused."""

    def __init__(self, client: Any, *operations: str) -> None:
        self._client = client
        self._refused = operations

    def __getattr__(self, name: str) -> Any:
        if name not in self._refused:
            return getattr(self._client, name)

        def refuse(**_: Any) -> None:
            operation = "".join(word.capitalize() for word in name.split("_"))
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, operation)

        return refuse


def test_the_check_of_a_store_with_transactions_tries_one_and_writes_nothing(
    configuration: DynamoDBStoreConfiguration, client: Any
) -> None:
    create_table(configuration)
    store = DynamoDBStore(configuration.model_copy(update={"writeMode": "transact"}))
    assert store.check() == []
    assert client.scan(TableName=configuration.tableName)["Items"] == []
    store._client = Refusing(store._open_client(), "transact_write_items")  # type: ignore[assignment]
    [fault] = store.check()
    assert "TransactWriteItems: it answered AccessDeniedException" in fault
    assert "UpdateItem and DeleteItem in transactions" in fault
    store.close()


def test_without_transactions_nobody_asks_for_them(
    configuration: DynamoDBStoreConfiguration, store: DynamoDBStore
) -> None:
    create_table(configuration)
    store._client = Refusing(store._open_client(), "transact_write_items")  # type: ignore[assignment]
    assert store.check() == []


def test_what_is_not_permitted_at_all_is_one_sentence(
    configuration: DynamoDBStoreConfiguration, store: DynamoDBStore
) -> None:
    create_table(configuration)
    everything = ("describe_table", "get_item", "update_item", "delete_item", "batch_get_item", "query")
    store._client = Refusing(store._open_client(), *everything)  # type: ignore[assignment]
    [fault] = store.check()
    assert "allow GetItem, BatchGetItem, Query, UpdateItem and DeleteItem on the table" in fault


# --- waiting for a table


@pytest.fixture
def on_client(monkeypatch: pytest.MonkeyPatch, client: Any) -> Callable[..., None]:
    """Have the table made through another client."""

    def use(other: Any) -> None:
        monkeypatch.setattr(dynamodb_table, "_POLL_S", 0.0)
        monkeypatch.setattr(dynamodb_table, "open_client", lambda *_: other)

    return use


class InState:
    """A client that tells of a table in one state after the other, the last of them for ever; None: there is none."""

    def __init__(self, client: Any, *states: str | None) -> None:
        self._client = client
        self._states = list(states)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def describe_table(self, **arguments: Any) -> Any:
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if state is None:
            return self._client.describe_table(TableName="no-such-table")
        told = self._client.describe_table(**arguments)
        told["Table"]["TableStatus"] = state
        return told


def test_a_table_is_waited_for_and_the_caller_told(
    configuration: DynamoDBStoreConfiguration, client: Any, on_client: Callable[..., None]
) -> None:
    on_client(InState(client, None, "CREATING", "CREATING", "ACTIVE"))
    told: list[str] = []
    assert create_table(configuration, on_wait=told.append)
    assert told == ["CREATING"] * 3


@pytest.mark.parametrize(
    ("state", "words"), [("CREATING", "it is not ready yet; try again"), ("DELETING", "it is being deleted")]
)
def test_a_table_is_not_waited_for_for_ever(
    configuration: DynamoDBStoreConfiguration, client: Any, on_client: Callable[..., None], state: str, words: str
) -> None:
    on_client(InState(client, state))
    with pytest.raises(Unavailable, match=words):
        create_table(configuration, wait_s=0.05)


def test_who_may_not_make_tables_is_told_what_to_allow(
    configuration: DynamoDBStoreConfiguration, client: Any, on_client: Callable[..., None]
) -> None:
    on_client(Refusing(client, "create_table"))
    with pytest.raises(Unavailable, match="allow CreateTable and DescribeTable") as raised:
        create_table(configuration)
    assert raised.value.fault == "configuration"
