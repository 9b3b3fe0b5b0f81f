"""The DynamoDB store against servers that hang, throttle and refuse, and as another account's role."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from servers import MotoServer

from worker.errors import Unavailable
from worker.model import DynamoDBStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.dynamodb import DynamoDBStore
from worker.stores.dynamodb import reads as dynamodb_reads
from worker.stores.dynamodb.metadata import DynamoDBMetadata
from worker.stores.layout import context_hash, context_hashes
from worker.stores.segment_store import Sentinel

REF = "beta-users.g1"
THEIR_ACCOUNT = "222222222222"


@pytest.fixture
def silent_endpoint() -> Iterator[str]:
    """An address that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def store(moto_server: MotoServer, dynamodb_table: str) -> Iterator[DynamoDBStore]:
    store = DynamoDBStore(configuration(moto_server, dynamodb_table))
    yield store
    store.close()


def configuration(moto: MotoServer, table: str, **more: str) -> DynamoDBStoreConfiguration:
    return DynamoDBStoreConfiguration.model_validate(
        {"tableName": table, "region": moto.region, "endpoint": moto.url} | more
    )


def add(store: DynamoDBStore, *members: str) -> WriteCounts:
    with store.session() as session:
        return session.write(SegmentPatch(REF, list(members), []), lambda: None)


def test_an_endpoint_that_falls_silent_makes_a_write_fail_in_time_with_an_unknown_fate(
    moto_server: MotoServer, silent_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DynamoDBMetadata, "read_sentinel", lambda _: None)  # it is silent only from then on
    store = DynamoDBStore(configuration(moto_server, "any", endpoint=silent_endpoint), answer_timeout_s=0.3)
    started = time.monotonic()
    strays = context_hashes([f"user-{number}" for number in range(100)])
    with store.session() as session, pytest.raises(Unavailable, match="no answer in time") as raised:
        session.remove_hashes(REF, strays, lambda: None)
    # One timeout, not seven of them: after the first fault nothing more is sent.
    assert time.monotonic() - started < 2
    assert raised.value.fate_unknown
    store.close()


def test_reading_from_a_silent_endpoint_leaves_nothing_that_could_land(
    moto_server: MotoServer, silent_endpoint: str
) -> None:
    store = DynamoDBStore(configuration(moto_server, "any", endpoint=silent_endpoint), answer_timeout_s=0.3)
    with pytest.raises(Unavailable) as raised:
        store.included("ann")
    assert not raised.value.fate_unknown
    store.close()


def test_a_table_that_does_not_exist_is_told_with_its_name_and_no_key(moto_server: MotoServer) -> None:
    store = DynamoDBStore(configuration(moto_server, "no-such-table"))
    with pytest.raises(Unavailable, match=r"no-such-table in us-east-1: .*there is no such table") as raised:
        add(store, "zoe-77")
    assert not raised.value.fate_unknown
    assert context_hash("zoe-77") not in str(raised.value)
    store.close()


def test_it_cannot_fence_and_says_so_in_advance(store: DynamoDBStore) -> None:
    with store.session() as session:
        assert session.connection is None
    assert not store.fence("anything")


def test_setting_freshness_keeps_what_others_store_beside_it(
    store: DynamoDBStore, moto_server: MotoServer, dynamodb_table: str
) -> None:
    client = moto_server.client()
    key = {"namespace": {"S": "big_segments_metadata"}, "key": {"S": "big_segments_metadata"}}
    client.put_item(TableName=dynamodb_table, Item=key | {"lastVersion": {"S": "cursor-of-a-relay"}})
    store.set_synchronized_on(17, store.claim("ours", 1))
    item = client.get_item(TableName=dynamodb_table, Key=key)["Item"]
    assert item["lastVersion"] == {"S": "cursor-of-a-relay"}
    assert item["synchronizedOn"] == {"N": "17"}
    client.close()


def test_excluded_members_stay_excluded(store: DynamoDBStore, moto_server: MotoServer, dynamodb_table: str) -> None:
    client = moto_server.client()
    key = {"namespace": {"S": "big_segments_user"}, "key": {"S": context_hash("ann")}}
    client.put_item(TableName=dynamodb_table, Item=key | {"excluded": {"SS": ["theirs.g1"]}})
    assert add(store, "ann") == WriteCounts(1, 0)
    with store.session() as session:
        assert session.write(SegmentPatch(REF, [], ["ann"]), lambda: None) == WriteCounts(0, 1)
    assert client.get_item(TableName=dynamodb_table, Key=key)["Item"]["excluded"] == {"SS": ["theirs.g1"]}
    client.close()


def test_a_role_writes_into_the_account_it_belongs_to(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_server.url)
    role = f"arn:aws:iam::{THEIR_ACCOUNT}:role/segsync"
    store = DynamoDBStore(configuration(moto_server, "theirs", roleArn=role, externalId="agreed"))
    sts = moto_server.client("sts")
    theirs = sts.assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    sts.close()
    moto_server.create_table(
        "theirs",
        aws_access_key_id=theirs["AccessKeyId"],
        aws_secret_access_key=theirs["SecretAccessKey"],
        aws_session_token=theirs["SessionToken"],
    )
    assert add(store, "ann") == WriteCounts(1, 0)
    assert store.included("ann") == {REF}
    store.close()

    without_role = DynamoDBStore(configuration(moto_server, "theirs"))
    with pytest.raises(Unavailable, match="no such table"):
        without_role.included("ann")
    without_role.close()


def test_a_process_without_credentials_is_told_what_it_lacks(
    moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    for more in ({}, {"roleArn": f"arn:aws:iam::{THEIR_ACCOUNT}:role/segsync"}):
        store = DynamoDBStore(configuration(moto_server, "any", **more))
        with pytest.raises(Unavailable, match="AWS credentials") as raised:
            add(store, "ann")
        assert not raised.value.fate_unknown
        store.close()


def test_a_forked_child_makes_a_client_of_its_own(store: DynamoDBStore) -> None:
    add(store, "ann")
    parents = store._client
    child = os.fork()
    if child == 0:
        try:
            own = store._open_client() is not parents
            os._exit(0 if own else 1)
        except BaseException:  # noqa: BLE001 - a child of pytest must never return
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store._client is parents


# --- faults, and the check that names them


def make_table(moto: MotoServer, name: str, partition: tuple[str, str], sort: tuple[str, str] | None) -> None:
    keys = [partition, *([sort] if sort else [])]
    client = moto.client()
    client.create_table(
        TableName=name,
        KeySchema=[
            {"AttributeName": attribute, "KeyType": role}
            for (attribute, _), role in zip(keys, ("HASH", "RANGE"), strict=False)
        ],
        AttributeDefinitions=[{"AttributeName": attribute, "AttributeType": kind} for attribute, kind in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    client.close()


NAMESPACE, KEY = ("namespace", "S"), ("key", "S")
OTHER_KEYS: dict[str, tuple[Any, Any]] = {
    "no sort key": (NAMESPACE, None),
    "other names": (("id", "S"), ("version", "S")),
    "other order": (KEY, NAMESPACE),
    "a number": (NAMESPACE, ("key", "N")),
}


@pytest.mark.parametrize("order", OTHER_KEYS)
def test_a_table_with_other_keys_needs_a_person(moto_server: MotoServer, order: str) -> None:
    name = f"other-keys-{uuid.uuid4().hex[:8]}"
    make_table(moto_server, name, *OTHER_KEYS[order])
    store = DynamoDBStore(configuration(moto_server, name))
    [fault] = store.check()
    assert "partition key namespace and the sort key key, both strings" in fault
    # The key of one item is found in whatever order it is told; a scan asks for a partition.
    with pytest.raises(Unavailable, match="must be the strings namespace and key") as raised:
        _ = list(store.scan()) if order == "other order" else add(store, "ann")
    assert raised.value.fault == "configuration"
    store.close()


def test_a_table_that_is_missing_needs_a_person_and_the_check_says_so(moto_server: MotoServer) -> None:
    store = DynamoDBStore(configuration(moto_server, "no-such-table"))
    [fault] = store.check()
    assert "there is no such table" in fault
    with pytest.raises(Unavailable) as raised:
        add(store, "ann")
    assert raised.value.fault == "configuration"
    store.close()


def test_one_spoilt_item_is_no_trouble_of_the_store_nor_of_others(
    store: DynamoDBStore, moto_server: MotoServer, dynamodb_table: str
) -> None:
    client = moto_server.client()
    item = {"namespace": {"S": "big_segments_user"}, "key": {"S": context_hash("ann")}}
    client.put_item(TableName=dynamodb_table, Item=item | {"included": {"S": "no set"}})
    counts = add(store, "ann", "bob")
    assert (counts.added, counts.removed, counts.exact) == (1, 0, True)
    [refused] = counts.refused
    assert refused.context_hash == context_hash("ann")
    assert "no string set" in refused.reason
    assert list(store.scan()) == [[(context_hash("bob").encode(), {REF}, set())]]
    client.close()


class Refusing:
    """A client whose named operations are refused."""

    def __init__(self, client: Any, *operations: str) -> None:
        self._client = client
        self._refused = operations

    def __getattr__(self, name: str) -> Any:
        if name not in self._refused:
            return getattr(self._client, name)

        def refuse(**_: Any) -> None:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "arn:aws:iam::secret"}}, name)

        return refuse


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (("get_item",), "GetItem: it answered AccessDeniedException"),
        (("update_item",), "UpdateItem: it answered AccessDeniedException"),
        (("batch_get_item", "query"), "BatchGetItem, Query: it answered AccessDeniedException"),
        (("delete_item",), "DeleteItem: it answered AccessDeniedException"),
    ],
)
def test_a_check_names_what_is_not_permitted(store: DynamoDBStore, refused: tuple[str, ...], told: str) -> None:
    store._client = Refusing(store._open_client(), *refused)  # type: ignore[assignment]
    [fault] = store.check()
    assert told in fault
    assert "secret" not in fault


def test_a_check_needs_no_permission_of_its_own(store: DynamoDBStore) -> None:
    store._client = Refusing(store._open_client(), "describe_table")  # type: ignore[assignment]
    assert store.check() == []


def test_a_check_writes_nothing(store: DynamoDBStore, moto_server: MotoServer, dynamodb_table: str) -> None:
    client = moto_server.client()
    assert store.check() == []
    assert client.scan(TableName=dynamodb_table)["Items"] == []
    store.set_synchronized_on(17, store.claim("probe", 1))
    before = client.scan(TableName=dynamodb_table)["Items"]
    assert store.check() == []
    assert client.scan(TableName=dynamodb_table)["Items"] == before
    client.close()


@pytest.mark.parametrize(
    ("status", "well"), [("ACTIVE", True), ("UPDATING", True), ("CREATING", False), ("DELETING", False)]
)
def test_a_check_tells_of_a_table_that_is_not_in_service(
    store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch, status: str, well: bool
) -> None:
    client = store._open_client()
    describe: Any = client.describe_table

    def in_that_state(**arguments: Any) -> Any:
        told = describe(**arguments)
        told["Table"]["TableStatus"] = status
        return told

    monkeypatch.setattr(client, "describe_table", in_that_state)
    assert [status in fault for fault in store.check()] == ([] if well else [True])


# --- sentinel


def test_the_sentinel_and_what_others_store_beside_it_keep_out_of_each_others_way(
    store: DynamoDBStore, moto_server: MotoServer, dynamodb_table: str
) -> None:
    client = moto_server.client()
    key = {"namespace": {"S": "big_segments_metadata"}, "key": {"S": "big_segments_metadata"}}
    client.put_item(TableName=dynamodb_table, Item=key | {"lastVersion": {"S": "cursor"}, "synchronizedOn": {"N": "5"}})
    assert store.claim("ours", 1) == Sentinel("ours", 1)
    store.replace_sentinel("new", 2)
    assert client.get_item(TableName=dynamodb_table, Key=key)["Item"] == key | {
        "lastVersion": {"S": "cursor"},
        "synchronizedOn": {"N": "5"},
        "segsyncIncarnation": {"S": "new"},
        "segsyncBeat": {"N": "2"},
    }
    client.close()


def test_a_sentinel_whose_beat_was_taken_away_gets_one_again(
    store: DynamoDBStore, moto_server: MotoServer, dynamodb_table: str
) -> None:
    client = moto_server.client()
    key = {"namespace": {"S": "big_segments_metadata"}, "key": {"S": "big_segments_metadata"}}
    client.put_item(TableName=dynamodb_table, Item=key | {"segsyncIncarnation": {"S": "ours"}})
    assert store.sentinel() == Sentinel("ours", 0)
    assert store.set_synchronized_on(17, Sentinel("ours", 2))
    assert store.sentinel() == Sentinel("ours", 2)
    client.close()


# --- bulk reads


def test_a_scan_goes_on_where_a_page_ended(store: DynamoDBStore, moto_server: MotoServer, dynamodb_table: str) -> None:
    members = [f"user-{number}" for number in range(10)]
    add(store, *members)
    client = store._open_client()
    for member in members[::2]:  # as older versions did: their items stay, with nothing in them
        client.update_item(
            TableName=dynamodb_table,
            Key={"namespace": {"S": "big_segments_user"}, "key": {"S": context_hash(member)}},
            UpdateExpression="REMOVE included",
        )
    pages = list(dynamodb_reads.read_pages(client, configuration(moto_server, dynamodb_table), items=3))
    assert len(pages) == 4
    assert {hashed for page in pages for hashed, _, _ in page} == set(context_hashes(members[1::2]))
    assert all((refs, excluded) == ({REF}, set()) for page in pages for _, refs, excluded in page)


def test_items_that_are_no_contexts_are_passed_over(
    store: DynamoDBStore, moto_server: MotoServer, dynamodb_table: str
) -> None:
    client = moto_server.client()
    partition = {"namespace": {"S": "big_segments_user"}}
    client.put_item(TableName=dynamodb_table, Item=partition | {"key": {"S": "no hash"}, "included": {"SS": [REF]}})
    client.put_item(
        TableName=dynamodb_table, Item=partition | {"key": {"S": "no hash, too"}, "excluded": {"SS": [REF]}}
    )
    client.put_item(TableName=dynamodb_table, Item=partition | {"key": {"S": context_hash("eve")}})
    assert not store.holds_members()
    add(store, "ann")
    assert list(store.scan()) == [[(context_hash("ann").encode(), {REF}, set())]]
    assert store.includes(REF, context_hashes(["eve", "ann"])) == [False, True]
    client.close()


class Throttled:
    """A client whose table answers one key of each BatchGetItem, for a number of requests, or for ever."""

    def __init__(self, client: Any, requests: int | None) -> None:
        self.requests = 0
        self._client = client
        self._throttled = requests

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def batch_get_item(self, RequestItems: Any) -> Any:  # noqa: N803 - boto3's word
        self.requests += 1
        if self._throttled is not None and self.requests > self._throttled:
            return self._client.batch_get_item(RequestItems=RequestItems)
        [(table, asked)] = RequestItems.items()
        first, *rest = asked["Keys"]
        answer = self._client.batch_get_item(RequestItems={table: asked | {"Keys": [first]}})
        return answer | {"UnprocessedKeys": {table: asked | {"Keys": rest}} if rest else {}}


def test_what_a_throttled_table_left_out_is_asked_for_again(
    store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamodb_reads, "_PAUSES_S", (0.0, 0.0, 0.0))
    add(store, "ann", "bob", "eve")
    throttled = Throttled(store._open_client(), 2)
    store._client = throttled  # type: ignore[assignment]
    asked = context_hashes(["ann", "nobody", "bob", "eve"])
    assert store.includes(REF, asked) == [True, False, True, True]
    assert throttled.requests == 3


def test_a_table_that_stays_throttled_is_not_asked_for_ever(
    store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamodb_reads, "_PAUSES_S", (0.0, 0.0, 0.0))
    throttled = Throttled(store._open_client(), None)
    store._client = throttled  # type: ignore[assignment]
    with pytest.raises(Unavailable, match="throttled") as raised:
        store.includes(REF, context_hashes([f"user-{number}" for number in range(100)]))
    assert (raised.value.fault, raised.value.fate_unknown) == ("transient", False)
    assert throttled.requests == 4
