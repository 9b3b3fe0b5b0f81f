"""A DynamoDB store whose credentials end: renewed in time where that can be, and taken up anew where they were not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from aws_gate import Gate
from servers import MotoServer

from worker.errors import Unavailable
from worker.model import DynamoDBStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.dynamodb import DynamoDBStore

REF = "beta-users.g1"
ROLE = "arn:aws:iam::222222222222:role/segsync"


@pytest.fixture
def gate(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    with Gate(moto_server) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", gate.url)
        yield gate


def store_at(gate: Gate, table: str, **more: str) -> DynamoDBStore:
    return DynamoDBStore(
        DynamoDBStoreConfiguration.model_validate(
            {"tableName": table, "region": MotoServer.region, "endpoint": gate.url} | more
        )
    )


def add(store: DynamoDBStore, *members: str) -> WriteCounts:
    with store.session() as session:
        return session.write(SegmentPatch(REF, list(members), []), lambda: None)


def test_a_role_is_assumed_once_for_as_long_as_its_session_lasts(gate: Gate, dynamodb_table: str) -> None:
    store = store_at(gate, dynamodb_table, roleArn=ROLE, externalId="agreed")
    for member in ("ann", "bob", "eve"):
        assert add(store, member) == WriteCounts(1, 0)
    assert len(set(gate.keys)) == 1
    store.close()


def test_a_session_that_is_about_to_expire_is_renewed_before_it_does(gate: Gate, dynamodb_table: str) -> None:
    gate.lifetime = timedelta(minutes=5)  # by then botocore does not sign with it any more
    store = store_at(gate, dynamodb_table, roleArn=ROLE, externalId="agreed")
    assert add(store, "ann") == WriteCounts(1, 0)
    before = set(gate.keys)
    gate.expire()
    gate.lifetime = timedelta(hours=1)
    assert add(store, "bob") == WriteCounts(1, 0)  # without anybody noticing
    assert not before & {gate.keys[-1]}
    store.close()


def test_a_session_that_expired_all_the_same_is_told_and_the_role_assumed_anew(gate: Gate, dynamodb_table: str) -> None:
    store = store_at(gate, dynamodb_table, roleArn=ROLE, externalId="agreed")
    add(store, "ann")
    with store.session() as session:
        gate.expire()
        with pytest.raises(Unavailable, match="the credentials have expired") as raised:
            session.write(SegmentPatch(REF, ["bob"], []), lambda: None)
    assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False)
    # The next drain, over the same store: nothing is lost, nobody restarts anything.
    assert add(store, "bob", "eve") == WriteCounts(2, 0)
    assert store.included("ann") == store.included("bob") == {REF}
    store.close()


@pytest.mark.parametrize("use", ["included", "check", "session"])
def test_whatever_meets_the_expired_session_is_the_last_to(gate: Gate, dynamodb_table: str, use: str) -> None:
    store = store_at(gate, dynamodb_table, roleArn=ROLE, externalId="agreed")
    add(store, "ann")
    gate.expire()
    if use == "check":
        assert ["the credentials have expired" in fault for fault in store.check()] == [True]
    else:
        with pytest.raises(Unavailable, match="expired"):
            _ = store.included("ann") if use == "included" else add(store, "bob")
    assert store.included("ann") == {REF}
    assert store.check() == []
    store.close()


def test_a_role_that_is_not_lent_is_told_as_such_and_used_once_it_is(gate: Gate, dynamodb_table: str) -> None:
    store = store_at(gate, dynamodb_table, roleArn=ROLE, externalId="another")
    with pytest.raises(Unavailable, match="the role cannot be assumed; see its trust policy and the external id"):
        add(store, "ann")
    gate.external_id = "another"
    assert add(store, "ann") == WriteCounts(1, 0)
    store.close()


def test_ambient_credentials_that_expired_are_taken_up_anew_from_where_they_lie(
    gate: Gate, dynamodb_table: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    store = store_at(gate, dynamodb_table)
    with pytest.raises(Unavailable, match="AWS credentials"):
        add(store, "ann")

    def lay(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\naws_session_token = t\n")

    lay("ASIAFIRST")
    assert add(store, "ann") == WriteCounts(1, 0)
    gate.expire()
    with pytest.raises(Unavailable, match="expired"):
        add(store, "bob")
    lay("ASIASECOND")
    assert add(store, "bob") == WriteCounts(1, 0)
    assert gate.keys[-1] == "ASIASECOND"
    store.close()
