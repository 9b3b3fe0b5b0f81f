"""The DynamoDB store against servers that hang, throttle and refuse, and as another account's role."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest
from servers import MotoServer

from worker.errors import Unavailable
from worker.model import DynamoDBStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.dynamodb import DynamoDBStore
from worker.stores.dynamodb_metadata import DynamoDBMetadata
from worker.stores.layout import context_hash

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
    with pytest.raises(Unavailable, match="no answer in time") as raised:
        add(store, *(f"user-{number}" for number in range(100)))
    # One timeout, not thirteen of them: after the first fault nothing more is sent.
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
