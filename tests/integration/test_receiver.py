"""The receiver over HTTP, in this process, on a real state server: statuses, order of checks, encodings, answers."""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import redis
import zstandard
from servers import ValkeyServer, wait_until
from starlette.testclient import TestClient

from worker.log import keyspace
from worker.manifest.decoder import Decoder
from worker.manifest.response.template import ResponseFacts
from worker.model import Payload, RedisStoreConfiguration
from worker.receiver import parsing, webhook
from worker.receiver.app import create_receiver
from worker.receiver.facts import refused_facts
from worker.receiver.refusals import Refused
from worker.records.records import Bootstrap, Records
from worker.settings import Settings

PATH = "/api/v2/segment-targets/rudderstack"
MAX_BODY = 20_000


@pytest.fixture
def made(real_redis: redis.Redis, valkey: ValkeyServer) -> Bootstrap:
    return Records(real_redis).bootstrap(
        environment_id=None, store_configuration=RedisStoreConfiguration(host=valkey.host, port=valkey.port)
    )


@pytest.fixture
def client(made: Bootstrap, valkey: ValkeyServer) -> Iterator[TestClient]:
    settings = Settings(state_url=valkey.url, max_body_bytes=MAX_BODY, durability="memory")
    headers = {"Authorization": str(made.writer_token)}
    with TestClient(create_receiver(settings), headers=headers, raise_server_exceptions=False) as started:
        yield started


def payload(made: Bootstrap, **changes: Any) -> dict[str, Any]:
    members = {"add": [{"id": "ann"}], "remove": [{"id": "bob"}]}
    return {
        "environmentId": made.environment_id,
        "cohortId": "c1",
        "cohortName": "C 1",
        "contextKind": "user",
        "listData": members,
        **changes,
    }


def log_length(client: redis.Redis, made: Bootstrap, key: str = "rudderstack-c1") -> int:
    return int(client.xlen(keyspace.base(made.environment_id, key) + ":g1:log"))


def everything_stored(client: redis.Redis) -> list[Any]:
    return sorted(key for key in client.keys("segsync:*") if b":log" in key or b":segment" in key)


def test_a_good_payload_is_answered_204_and_is_in_the_log(
    client: TestClient, made: Bootstrap, real_redis: redis.Redis
) -> None:
    answer = client.post(PATH, json=payload(made))
    assert (answer.status_code, answer.content) == (204, b"")
    assert log_length(real_redis, made) == 1


def test_the_singular_path_is_the_same_endpoint(client: TestClient, made: Bootstrap) -> None:
    assert client.post("/api/v2/segment-target/rudderstack", json=payload(made)).status_code == 204


def test_a_wake_up_is_sent_for_it(client: TestClient, made: Bootstrap, real_redis: redis.Redis) -> None:
    client.post(PATH, json=payload(made))
    wait_until(lambda: real_redis.llen("segsync:celery:segsync.drain") == 1, message="one wake-up")
    client.post(PATH, json=payload(made))
    assert real_redis.llen("segsync:celery:segsync.drain") == 1


@pytest.mark.parametrize("authorization", ["", "nonsense", "Bearer nonsense"])
def test_an_unknown_token_is_401(client: TestClient, made: Bootstrap, authorization: str) -> None:
    answer = client.post(PATH, json=payload(made), headers={"Authorization": authorization})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_a_bearer_token_is_accepted(client: TestClient, made: Bootstrap) -> None:
    answer = client.post(PATH, json=payload(made), headers={"Authorization": f"Bearer {made.writer_token}"})
    assert answer.status_code == 204


def test_an_unknown_integration_is_404(client: TestClient, made: Bootstrap) -> None:
    answer = client.post("/api/v2/segment-targets/nobody", json=payload(made))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_the_token_is_checked_before_the_integration_and_the_body(client: TestClient) -> None:
    answer = client.post("/api/v2/segment-targets/nobody", content=b"junk", headers={"Authorization": "x"})
    assert answer.status_code == 401


def test_an_unknown_environment_is_403_even_when_the_rest_is_wrong_too(client: TestClient, made: Bootstrap) -> None:
    answer = client.post(PATH, json=payload(made, environmentId="elsewhere", contextKind="multi"))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_a_missing_environment_id_is_400(client: TestClient, made: Bootstrap) -> None:
    answer = client.post(PATH, json=payload(made, environmentId=None))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "/environmentId" in answer.json()["message"]


def test_a_bad_member_is_400_names_its_pointer_and_stores_nothing(
    client: TestClient, made: Bootstrap, real_redis: redis.Redis
) -> None:
    before = everything_stored(real_redis)
    members = {"add": [{"id": "ann"}, {"id": None}], "remove": []}
    answer = client.post(PATH, json=payload(made, listData=members))
    assert answer.status_code == 400
    assert "/listData/add/1/id" in answer.json()["message"]
    assert everything_stored(real_redis) == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 10_000, b'{"a":NaN}'])
def test_a_malformed_body_is_400_and_never_500(client: TestClient, body: bytes) -> None:
    assert client.post(PATH, content=body).status_code == 400


def test_another_context_kind_for_the_segment_is_400(client: TestClient, made: Bootstrap) -> None:
    assert client.post(PATH, json=payload(made)).status_code == 204
    assert client.post(PATH, json=payload(made, contextKind="device")).status_code == 400


def test_a_body_of_exactly_the_cap_is_taken_and_one_byte_more_is_413(client: TestClient, made: Bootstrap) -> None:
    body = msgspec.json.encode(payload(made))
    assert client.post(PATH, content=body + b" " * (MAX_BODY - len(body))).status_code == 204
    assert client.post(PATH, content=body + b" " * (MAX_BODY + 1 - len(body))).status_code == 413


def test_a_body_without_a_declared_length_is_capped_too(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_BODY // 1000 + 1):
            yield b" " * 1000

    assert client.post(PATH, content=chunks()).status_code == 413


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize("encoding", ENCODERS)
def test_an_encoded_body_is_decoded(client: TestClient, made: Bootstrap, encoding: str) -> None:
    body = ENCODERS[encoding](msgspec.json.encode(payload(made)))
    assert client.post(PATH, content=body, headers={"Content-Encoding": encoding}).status_code == 204


def test_raw_deflate_and_gzip_of_several_members_are_decoded(client: TestClient, made: Bootstrap) -> None:
    body = msgspec.json.encode(payload(made))
    parts = gzip.compress(body[:10]) + gzip.compress(body[10:])
    assert client.post(PATH, content=parts, headers={"Content-Encoding": "gzip"}).status_code == 204
    assert client.post(PATH, content=raw_deflate(body), headers={"Content-Encoding": "deflate"}).status_code == 204


@pytest.mark.parametrize("encoding", ENCODERS)
def test_a_bomb_is_413(client: TestClient, encoding: str) -> None:
    body = ENCODERS[encoding](b" " * 50_000_000)
    answer = client.post(PATH, content=body[:MAX_BODY], headers={"Content-Encoding": encoding})
    assert answer.status_code == 413


@pytest.mark.parametrize("encoding", ENCODERS)
def test_a_body_that_is_not_what_its_encoding_says_is_400(client: TestClient, made: Bootstrap, encoding: str) -> None:
    body = msgspec.json.encode(payload(made))
    for wrong in (body, ENCODERS[encoding](body)[:-5], b""):
        assert client.post(PATH, content=wrong, headers={"Content-Encoding": encoding}).status_code == 400


def test_an_encoding_that_nobody_knows_is_415(client: TestClient, made: Bootstrap) -> None:
    assert client.post(PATH, json=payload(made), headers={"Content-Encoding": "br"}).status_code == 415


def test_another_method_is_405_with_a_json_body(client: TestClient) -> None:
    answer = client.get(PATH)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


def test_a_manifest_with_an_answer_of_its_own_is_answered_200_with_it(client: TestClient, made: Bootstrap) -> None:
    heap = {
        "parameters": {"environment_id": made.environment_id},
        "heap": {"data": {"segment": {"id": 7, "name": 'The "best"'}, "add": [{"id": "ann"}]}},
    }
    answer = client.post("/api/v2/segment-targets/heap-inbound", json=heap)
    assert answer.status_code == 200
    assert answer.json()["segmentId"] == "heap-inbound-7"
    assert answer.json()["status"] == "success"


def test_a_manifest_with_an_answer_of_its_own_templates_its_errors_too(client: TestClient, made: Bootstrap) -> None:
    heap = {"parameters": {"environment_id": made.environment_id}, "heap": {"data": {"segment": {"id": 7}}}}
    answer = client.post("/api/v2/segment-targets/heap-inbound", json=heap)
    assert answer.status_code == 400
    assert answer.json()["status"] == "failure"
    assert answer.json()["error"]["code"] == 400


def test_a_payload_of_several_cohorts_reaches_every_log(
    client: TestClient, made: Bootstrap, real_redis: redis.Redis
) -> None:
    members = [
        {"userId": f"u{number}", "cohortId": f"c{number % 3}", "cohortName": "C", "value": True} for number in range(6)
    ]
    body = {"environmentId": made.environment_id, "batch": members}
    assert client.post("/api/v2/segment-targets/amplitude", json=body).status_code == 204
    assert [log_length(real_redis, made, f"amplitude-c{number}") for number in range(3)] == [1, 1, 1]


def test_requests_at_the_same_time_are_all_answered_and_all_in_the_log(
    client: TestClient, made: Bootstrap, real_redis: redis.Redis
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.post(PATH, json=payload(made)).status_code, range(100)))
    assert answers == [204] * 100
    assert log_length(real_redis, made) == 100


def test_too_many_payloads_at_once_are_429_with_both_headers_that_say_when_to_come_again(
    client: TestClient, made: Bootstrap, real_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "MOST_HELD_BYTES", 10)
    answer = client.post(PATH, json=payload(made))
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert int(answer.headers["Retry-After"]) > 0
    assert int(answer.headers["X-Ratelimit-Reset"]) > time.time() * 1000
    assert log_length(real_redis, made) == 0
    monkeypatch.undo()
    assert client.post(PATH, json=payload(made)).status_code == 204


def test_who_is_asked_to_come_again_does_not_wait_for_a_rendered_answer(
    client: TestClient, made: Bootstrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "MOST_HELD_BYTES", 10)
    monkeypatch.setattr(webhook, "SLOW_BODY_BYTES", 100)
    rendered: list[bytes] = []

    def facts(body: bytes, refused: Refused) -> ResponseFacts:
        rendered.append(body)
        return refused_facts(body, refused)

    monkeypatch.setattr(webhook, "refused_facts", facts)
    body = {"action": "members", "parameters": {"mixpanel_project_id": made.environment_id, "members": ["x" * 200]}}

    answer = client.post("/api/v2/segment-targets/mixpanel", json=body)

    assert (answer.status_code, answer.json()["status"]) == (429, "failure")
    assert rendered == [b""]


def test_a_body_that_takes_long_holds_up_no_other(
    client: TestClient, made: Bootstrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsing, "LARGE_BODY_BYTES", 1)
    monkeypatch.setattr(parsing, "SLOW_BODY_BYTES", 1)
    reading, go_on = threading.Event(), threading.Event()
    decode_exactly = Decoder.decode_exactly

    def slowly(self: Decoder, *arguments: Any, **options: Any) -> Payload:
        reading.set()
        assert go_on.wait(20)
        return decode_exactly(self, *arguments, **options)

    monkeypatch.setattr(Decoder, "decode_exactly", slowly)
    bad = payload(made, listData={"add": [{}]})
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(client.post, PATH, json=bad)
        assert reading.wait(20)
        assert client.post(PATH, json=payload(made)).status_code == 204
        assert not slow.done()
        go_on.set()
        assert slow.result().status_code == 400


def test_a_payload_that_was_answered_is_no_longer_counted_as_held(
    client: TestClient, made: Bootstrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "MOST_HELD_BYTES", 300)
    bad = payload(made, contextKind="multi")
    assert [client.post(PATH, json=body).status_code for body in (payload(made), bad) * 3] == [204, 400] * 3


def test_a_receiver_is_healthy_and_ready_and_says_what_it_promises(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["durability"] == "memory"


def test_a_receiver_that_promises_more_than_the_server_keeps_says_so(valkey: ValkeyServer, made: Bootstrap) -> None:
    settings = Settings(state_url=valkey.url, durability="fsync")
    with TestClient(create_receiver(settings)) as started:
        [problem] = [found for found in started.get("/readyz").json()["broken_promises"] if "appendonly" in found]
    assert "needs `yes`" in problem


def test_a_broken_manifest_is_named_and_answers_503_while_others_work(
    valkey: ValkeyServer, made: Bootstrap, tmp_path: Any
) -> None:
    (tmp_path / "mine.json").write_text('{"capabilities": {"syncedSegment": {"requestParser": {}}}}')
    settings = Settings(state_url=valkey.url, manifests=tmp_path)
    with TestClient(create_receiver(settings), headers={"Authorization": str(made.writer_token)}) as started:
        assert started.post("/api/v2/segment-targets/mine", json={}).status_code == 503
        assert started.post(PATH, json=payload(made)).status_code == 204
        assert "mine" in started.get("/readyz").json()["broken_manifests"]
