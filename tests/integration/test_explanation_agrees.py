"""What `explain` tells of a payload is what a receiver does with it: status, body, and the segments that come to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from servers import ValkeyServer
from starlette.testclient import TestClient

from worker.errors import InvalidBatch
from worker.manifest.catalog import load_catalog
from worker.manifest.golden import Golden, golden_files, read_golden
from worker.manifest.manifest import BrokenManifest, Manifest
from worker.model import RedisStoreConfiguration
from worker.receiver.app import create_receiver
from worker.receiver.explanation import explain
from worker.records.records import Records
from worker.records.segment_keys import SegmentKeys
from worker.settings import Settings

CATALOG = load_catalog()
GOLDEN = [(key, file) for key in sorted(CATALOG) for file in golden_files(key).files]
BASE_URL = "http://testserver/"
MAX_BODY = 4096

Post = Callable[..., tuple[int, Any]]


@pytest.fixture
def post(real_redis: redis.Redis, valkey: ValkeyServer) -> Post:
    """Send one body to a fresh receiver that knows the body's environment; returns the status and the body's value."""

    def send(
        key: str, body: bytes, environment_id: str | None = None, manifests: Path | None = None
    ) -> tuple[int, Any]:
        store = RedisStoreConfiguration(host=valkey.host, port=valkey.port)
        made = Records(real_redis).bootstrap(environment_id=environment_id, store_configuration=store)
        settings = Settings(state_url=valkey.url, max_body_bytes=MAX_BODY, durability="memory", manifests=manifests)
        headers = {"Authorization": str(made.writer_token)}
        with TestClient(create_receiver(settings), headers=headers, raise_server_exceptions=False) as client:
            answer = client.post(f"/api/v2/segment-targets/{key}", content=body)
        return answer.status_code, msgspec.json.decode(answer.content) if answer.content else None

    return send


def explained(manifest: Manifest | BrokenManifest, body: bytes) -> Any:
    outcome = explain(manifest, body, max_body_bytes=MAX_BODY, base_url=BASE_URL)
    return msgspec.json.decode(msgspec.json.encode(outcome))


def environment_of(manifest: Manifest, body: bytes) -> str | None:
    try:
        return manifest.decoder.decode(body).environment_id
    except InvalidBatch as error:
        return error.environment_id


@pytest.mark.parametrize(("key", "file"), GOLDEN, ids=[f"{key}/{file.stem}" for key, file in GOLDEN])
def test_a_golden_payload_is_answered_as_explained(key: str, file: Path, post: Post, real_redis: redis.Redis) -> None:
    golden, manifest = read_golden(file.read_bytes()), CATALOG[key]
    assert isinstance(golden, Golden)
    assert isinstance(manifest, Manifest)
    environment_id = environment_of(manifest, golden.body)
    told = explained(manifest, golden.body)

    status, body = post(key, golden.body, environment_id)

    assert {"status": status, "body": body} == told["response"]
    segments = [segment["segmentKey"] for segment in told.get("segments", [])]
    assert sorted(SegmentKeys(real_redis).registered(environment_id or "")) == sorted(segments)


BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "no UTF-8": b'{"a":"\xff"}',
    "nested too deep": b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
    "no environment": b"{}",
    "just too large": b" " * (MAX_BODY + 1),
}


@pytest.mark.parametrize("key", ["amplitude", "heap-inbound"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_nobody_can_take_is_answered_as_explained(key: str, body: bytes, post: Post) -> None:
    status, answer = post(key, body)

    assert {"status": status, "body": answer} == explained(CATALOG[key], body)["response"]


@pytest.mark.parametrize("body", [b"{}", BODIES["just too large"]], ids=["small", "too large"])
def test_a_broken_manifest_is_answered_as_explained(tmp_path: Path, post: Post, body: bytes) -> None:
    (tmp_path / "mine.json").write_text("{}")

    status, answer = post("mine", body, manifests=tmp_path)

    assert {"status": status, "body": answer} == explained(load_catalog(tmp_path)["mine"], body)["response"]
