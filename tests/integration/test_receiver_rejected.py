"""Bodies that are answered 400 are kept first, for their senders drop them; nothing else is; nobody waits for it."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from unittest.mock import Mock

import httpx2
import msgspec
import pytest
from servers import ValkeyServer, wait_until
from starlette.testclient import TestClient

from worker.errors import Unavailable
from worker.log.position import order
from worker.log.rejected_batch import Refusal
from worker.log.rejected_bodies import RejectedBodies
from worker.model import RedisStoreConfiguration
from worker.receiver import app, keeping
from worker.receiver.app import create_receiver
from worker.records.environment_options import EnvironmentOptions
from worker.records.records import Records
from worker.records.tables import TOKENS
from worker.settings import Settings

ENVIRONMENT = "env-1"
PATH = "/api/v2/segment-targets/rudderstack"
AUDIENCES = "/api/v2/segment-targets/segment-audiences"
Start = Callable[..., "Receiving"]


def payload(**changes: Any) -> dict[str, Any]:
    members = {"add": [{"id": "ann"}], "remove": [{"id": "bob"}]}
    return {
        "environmentId": ENVIRONMENT,
        "cohortId": "c",
        "cohortName": "C",
        "contextKind": "user",
        "listData": members,
        **changes,
    }


BAD = payload(listData={"add": [{"id": "ann"}, {}]})


@dataclass
class Receiving:
    http: TestClient
    bodies: RejectedBodies
    server: ValkeyServer

    def send(self, body: Any, path: str = PATH, **headers: str) -> httpx2.Response:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.http.post(path, content=content, headers=headers)


@pytest.fixture
def start(start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a receiver with these settings."""
    monkeypatch.setattr(app, "REFRESH_SECONDS", 0.05)
    started: list[TestClient] = []

    def receive(**settings: Any) -> Receiving:
        server = start_valkey()
        client = server.client(decode_responses=False)
        store = RedisStoreConfiguration(host=server.host, port=server.port)
        made = Records(client).bootstrap(environment_id=ENVIRONMENT, store_configuration=store)
        receiver = create_receiver(Settings(state_url=server.url, durability="memory", **settings))
        http = TestClient(receiver, headers={"Authorization": str(made.writer_token)}, raise_server_exceptions=False)
        started.append(http)
        return Receiving(http.__enter__(), RejectedBodies(client), server)

    yield receive
    for http in started:
        http.__exit__(None, None, None)


@pytest.fixture
def receiving(start: Start) -> Receiving:
    return start()


def test_a_body_that_is_answered_400_is_kept_with_all_that_its_sender_was_told(receiving: Receiving) -> None:
    answer = receiving.send(BAD)

    assert answer.status_code == 400
    [listed] = receiving.bodies.list()
    kept = receiving.bodies.read(listed.batch_id)
    assert kept is not None
    assert json.loads(kept.body()) == BAD
    assert (kept.reason, kept.pointer) == ("member_id", "/listData/add/1/id")
    assert kept.message == answer.json()["message"]
    assert (kept.integration_key, kept.environment_id, kept.policy) == ("rudderstack", ENVIRONMENT, "reject")
    assert len(kept.parser_digest) == 64
    assert kept.token_name
    assert kept.length == len(kept.body())


def test_the_answer_says_nothing_of_it_and_the_log_says_under_which_id(
    receiving: Receiving, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = receiving.send(BAD)

    assert answer.json() == {"code": "invalid_request", "message": "/listData/add/1/id is missing"}
    [kept] = receiving.bodies.list()
    said = capsys.readouterr()
    [line] = [line for line in (said.out + said.err).splitlines() if "batch.refused" in line]
    assert kept.batch_id in line


@pytest.mark.parametrize(
    ("body", "reason", "environment_id"),
    [
        (b"{", "malformed", ""),
        (b"[1]", "malformed", ""),
        (b"\xff\xfe", "malformed", ""),
        (payload(environmentId=None), "environment", ""),
        (payload(contextKind="multi"), "context_kind", ENVIRONMENT),
        (payload(cohortId=None), "cohort", ENVIRONMENT),
        (payload(listData={"add": 7}), "members", ENVIRONMENT),
        (payload(listData={"add": [7]}), "member", ENVIRONMENT),
    ],
)
def test_every_fault_of_a_body_keeps_it(receiving: Receiving, body: Any, reason: str, environment_id: str) -> None:
    assert receiving.send(body).status_code == 400

    [kept] = receiving.bodies.list()
    assert (kept.reason, kept.environment_id) == (reason, environment_id)


def test_a_context_kind_that_only_the_append_refuses_keeps_the_body(receiving: Receiving) -> None:
    assert receiving.send(payload()).status_code == 204

    assert receiving.send(payload(contextKind="device")).status_code == 400

    [kept] = receiving.bodies.list()
    assert (kept.reason, kept.environment_id) == ("context_kind", ENVIRONMENT)


def test_a_body_for_an_alias_is_kept_for_the_environment_that_it_means(receiving: Receiving) -> None:
    with receiving.server.client() as client:
        EnvironmentOptions(client).add_alias("3187", ENVIRONMENT)
    wait_until(lambda: receiving.send(payload(environmentId="3187")).status_code == 204, message="the alias")

    receiving.send({**BAD, "environmentId": "3187"})

    assert [kept.environment_id for kept in receiving.bodies.list()] == [ENVIRONMENT]


def test_the_policy_under_which_a_body_was_refused_is_kept_with_it(receiving: Receiving) -> None:
    with receiving.server.client() as client:
        EnvironmentOptions(client).set_policy(ENVIRONMENT, "segment-audiences", "skip")
    body = {"environmentId": ENVIRONMENT, "batch": [{"cohortId": "c", "cohortName": "C", "value": True}]}
    wait_until(lambda: receiving.send(body, AUDIENCES).status_code == 204, message="the policy")

    assert receiving.send(body | {"contextKind": "multi"}, AUDIENCES).status_code == 400

    assert receiving.bodies.list()[0].policy == "skip"


def test_an_encoded_body_is_kept_decoded(receiving: Receiving) -> None:
    body = gzip.compress(msgspec.json.encode(BAD))

    assert receiving.send(body, **{"Content-Encoding": "gzip"}).status_code == 400

    kept = receiving.bodies.read(receiving.bodies.list()[0].batch_id)
    assert kept is not None
    assert json.loads(kept.body()) == BAD


def test_its_position_lies_between_what_was_accepted_before_and_after(receiving: Receiving) -> None:
    for _ in range(3):
        assert receiving.send(payload()).status_code == 204
        assert receiving.send(BAD).status_code == 400
    assert receiving.send(payload()).status_code == 204

    with receiving.server.client(decode_responses=True) as client:
        entries: Any = client.xrange(f"segsync:{{{ENVIRONMENT}/rudderstack-c}}:g1:log")
    accepted = [(entry_id, "accepted") for entry_id, _ in entries]
    kept = [(batch.position, "kept") for batch in receiving.bodies.list()]
    history = sorted(accepted + kept, key=lambda item: order(item[0]))
    assert [what for _, what in history] == ["accepted", "kept"] * 3 + ["accepted"]


def reader_token(receiving: Receiving) -> str:
    """The token of the fixture, with the right to write taken away, as soon as the receiver knows."""
    with receiving.server.client(decode_responses=True) as client:
        for field, text in client.hgetall(TOKENS).items():
            client.hset(TOKENS, field, json.dumps(json.loads(text) | {"role": "reader"}))
        client.set("segsync:records", "another version")
    return receiving.http.headers["Authorization"]


def test_what_is_not_the_body_s_fault_or_comes_from_nobody_is_not_kept(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiving = start(max_body_bytes=2000)
    statuses = [
        receiving.send(BAD, Authorization="nonsense").status_code,
        receiving.send({**BAD, "environmentId": "elsewhere"}).status_code,
        receiving.send(BAD, "/api/v2/segment-targets/nobody").status_code,
        receiving.send(b"{" * 3000).status_code,
        receiving.send(BAD, **{"Content-Encoding": "br"}).status_code,
    ]
    monkeypatch.setattr("worker.receiver.webhook.MOST_HELD_BYTES", 1)
    statuses.append(receiving.send(BAD).status_code)
    monkeypatch.undo()

    assert statuses == [401, 403, 404, 413, 415, 429]
    assert receiving.bodies.totals().kept == 0


@pytest.mark.parametrize("body", [b"", b" \n\t "])
def test_an_empty_body_is_not_kept(receiving: Receiving, body: bytes) -> None:
    assert receiving.send(body).status_code == 400
    assert receiving.bodies.totals().kept == 0


def test_a_body_that_is_not_what_its_encoding_says_is_not_kept(receiving: Receiving) -> None:
    assert receiving.send(b"junk", **{"Content-Encoding": "gzip"}).status_code == 400
    assert receiving.bodies.totals().kept == 0


def test_a_body_of_a_token_that_may_not_write_is_not_kept(receiving: Receiving) -> None:
    reader_token(receiving)
    wait_until(lambda: receiving.send(payload()).status_code == 403, message="the token's new role")
    before = receiving.bodies.totals().kept

    assert receiving.send(b"{").status_code == 400
    assert receiving.bodies.totals().kept == before


def test_a_quota_of_zero_keeps_nothing(start: Start) -> None:
    receiving = start(rejected_bytes=0)

    assert receiving.send(BAD).status_code == 400

    assert receiving.bodies.totals().kept == 0


def test_the_quota_of_the_settings_is_kept(start: Start) -> None:
    receiving = start(rejected_bytes=10_000)
    for _ in range(30):
        receiving.send(BAD)

    totals = receiving.bodies.totals()
    assert totals.kept == 30
    assert totals.bytes <= 10_000
    assert totals.dropped + totals.waiting == 30
    assert totals.dropped > 0


def answered_in_time(receiving: Receiving, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    answer = receiving.send(BAD)
    took = time.monotonic() - started
    assert (answer.status_code, answer.json()["message"]) == (400, "/listData/add/1/id is missing")
    assert took < keeping.KEEP_WITHIN_SECONDS + 1.0
    said = capsys.readouterr()
    assert "rejected.not_kept" in said.out + said.err


def test_while_the_state_server_is_gone_the_answer_is_400_all_the_same(
    receiving: Receiving, capsys: pytest.CaptureFixture[str]
) -> None:
    receiving.server.kill()
    answered_in_time(receiving, capsys)


def test_while_the_state_server_hangs_the_answer_comes_in_time_and_nothing_is_kept_later(
    receiving: Receiving, capsys: pytest.CaptureFixture[str]
) -> None:
    receiving.send(BAD)
    receiving.server.freeze()
    answered_in_time(receiving, capsys)
    receiving.server.thaw()
    wait_until(lambda: receiving.send(payload()).status_code == 204, message="a 204")
    assert receiving.bodies.totals().kept == 1


@pytest.mark.parametrize(("setting", "value"), [("maxmemory", 1), ("min-replicas-to-write", 1)])
def test_while_the_state_server_refuses_writes_the_answer_is_400_all_the_same(
    receiving: Receiving, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, setting: str, value: int
) -> None:
    monkeypatch.setattr("worker.receiver.state_server.FULL", float("inf"))
    with receiving.server.client() as client:
        client.config_set(setting, value)
        answered_in_time(receiving, capsys)
        client.config_set(setting, 0)
    assert receiving.send(BAD).status_code == 400
    assert receiving.bodies.totals().kept == 1


def test_bodies_that_come_together_are_all_kept(receiving: Receiving) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: receiving.send(BAD).status_code, range(200)))

    assert answers == [400] * 200
    assert receiving.bodies.totals().kept == 200


class Held:
    """Holds up the thread that keeps, until told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        keep = RejectedBodies.keep

        def slowly(bodies: RejectedBodies, refusals: list[Refusal], **options: int) -> list[str | None]:
            self.begun.set()
            assert self.go_on.wait(20)
            if error is not None:
                raise error
            return keep(bodies, refusals, **options)

        monkeypatch.setattr(RejectedBodies, "keep", slowly)


def test_good_payloads_do_not_wait_for_bodies_that_are_being_kept(
    receiving: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    with ThreadPoolExecutor() as pool:
        bad = pool.submit(receiving.send, BAD)
        assert held.begun.wait(20)
        started = time.monotonic()
        assert receiving.send(payload()).status_code == 204
        assert time.monotonic() - started < keeping.KEEP_WITHIN_SECONDS / 2
        assert bad.result().status_code == 400
        held.go_on.set()


def test_what_waits_to_be_kept_is_bounded(
    receiving: Receiving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = Held(monkeypatch)
    size = len(msgspec.json.encode(BAD))
    monkeypatch.setattr(keeping, "MOST_WAITING_BYTES", 3 * size)
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(receiving.send, BAD) for _ in range(20)]
        assert held.begun.wait(20)
        assert [answer.result().status_code for answer in answers] == [400] * 20
        held.go_on.set()
    said = capsys.readouterr()
    assert (said.out + said.err).count("too many at once") == 17
    wait_until(lambda: receiving.send(BAD).status_code == 400 and receiving.bodies.totals().kept > 0)


def test_one_body_may_wait_whatever_its_size(receiving: Receiving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MOST_WAITING_BYTES", 1)
    for _ in range(3):
        assert receiving.send(BAD).status_code == 400
    assert receiving.bodies.totals().kept == 3


def test_a_stream_of_refused_bodies_is_kept_at_a_bounded_pace(
    receiving: Receiving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = len(msgspec.json.encode(BAD))
    monkeypatch.setattr(keeping, "MOST_BYTES_AT_ONCE", 5 * size)
    monkeypatch.setattr(keeping, "MOST_BYTES_A_SECOND", 0)
    for _ in range(20):
        assert receiving.send(BAD).status_code == 400
    assert receiving.bodies.totals().kept == 5
    said = capsys.readouterr()
    assert (said.out + said.err).count("too many of late") == 15
    monkeypatch.setattr(keeping, "MOST_BYTES_A_SECOND", 100 * size)
    wait_until(lambda: receiving.send(BAD).status_code == 400 and receiving.bodies.totals().kept > 5)


@pytest.mark.parametrize("error", [ValueError("a bug"), Unavailable("gone", dependency="state")])
def test_whatever_fails_while_one_is_kept_the_answer_is_400_and_the_next_one_is_kept(
    receiving: Receiving, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with monkeypatch.context() as broken:
        Held(broken, error).go_on.set()
        assert receiving.send(BAD).status_code == 400
    assert receiving.send(BAD).status_code == 400
    assert receiving.bodies.totals().kept == 1


def test_a_refused_body_that_is_answered_by_a_template_is_kept_and_its_answer_is_the_template_s(
    receiving: Receiving,
) -> None:
    heap = {"parameters": {"environment_id": ENVIRONMENT}, "heap": {"data": {"segment": {"id": 7}}}}

    answer = receiving.send(heap, "/api/v2/segment-targets/heap-inbound")

    assert (answer.status_code, answer.json()["status"]) == (400, "failure")
    [kept] = receiving.bodies.list()
    assert kept.integration_key == "heap-inbound"


def test_nothing_of_a_body_is_logged(receiving: Receiving, capsys: pytest.CaptureFixture[str]) -> None:
    receiving.send(payload(listData={"add": [{"id": "ann@example.com"}, {}]}))
    receiving.server.kill()
    receiving.send(payload(listData={"add": [{"id": "ann@example.com"}, {}]}))

    said = capsys.readouterr()
    assert "rejected.not_kept" in said.out + said.err
    assert "ann@example.com" not in said.out + said.err


def test_a_receiver_that_knows_the_server_to_be_nearly_full_does_not_ask_it(
    receiving: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = Mock(return_value=[None])
    monkeypatch.setattr(RejectedBodies, "keep", keep)
    monkeypatch.setattr("worker.receiver.webhook.Webhook._check_room", lambda *_: None)
    with receiving.server.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 1000)
        wait_until(lambda: receiving.http.get("/readyz").status_code == 503, message="nearly full")
        assert receiving.send(BAD).status_code == 400
        client.config_set("maxmemory", 0)
    keep.assert_not_called()
