"""A DynamoDB store whose credentials end: renewed in time where that can be, and taken up anew where they were not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

import pytest
from servers import MotoServer

from worker.errors import Unavailable
from worker.model import DynamoDBStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.dynamodb import DynamoDBStore

REF = "beta-users.g1"
ROLE = "arn:aws:iam::222222222222:role/segsync"
_ASSUMED: Final = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>
<Expiration>{expiration}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""
_DENIED: Final = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
_EXPIRED: Final = '{"__type": "com.amazon.coral.service#ExpiredTokenException", "message": "expired"}'


class Gate:
    """Stands in for STS, and before moto for DynamoDB, which it lets in whose session has not expired.

    Attributes:
        lifetime: of the next sessions.
        external_id: what a role is lent for.
        keys: the access keys that DynamoDB was asked with, in order.
        expired: those that it refuses.
    """

    def __init__(self, moto: MotoServer) -> None:
        self.lifetime = timedelta(hours=1)
        self.external_id = "agreed"
        self.keys: list[str] = []
        self.expired: set[str] = set()
        self._assumed = 0
        target = urlsplit(moto.url)
        self._target = (target.hostname or "", target.port or 80)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def expire(self) -> None:
        """End every session that was used so far."""
        self.expired.update(self.keys)

    def _assume(self, body: bytes) -> tuple[int, bytes]:
        if parse_qs(body.decode()).get("ExternalId") != [self.external_id]:
            return 403, _DENIED.encode()
        self._assumed += 1
        expiration = (datetime.now(UTC) + self.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 200, _ASSUMED.format(key=f"ASIA{self._assumed:016}", expiration=expiration).encode()

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if b"Action=AssumeRole" in body:
            return self._assume(body)
        found = re.search(r"Credential=(\w+)/", headers["Authorization"])
        assert found is not None
        self.keys.append(found[1])
        if found[1] in self.expired:
            return 400, _EXPIRED.encode()
        connection = HTTPConnection(*self._target, timeout=30)
        try:
            # One account for all: whose key it is does not matter to moto's tables then.
            connection.request(
                "POST",
                path,
                body,
                headers
                | {"Authorization": re.sub(r"Credential=\w+/", "Credential=testing/", headers["Authorization"])},
            )
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = gate._answer(self.path, dict(self.headers), body)
                self.send_response(status)
                self.send_header(
                    "Content-Type", "text/xml" if answer.startswith(b"<") else "application/x-amz-json-1.0"
                )
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
                pass

        return Handler


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
