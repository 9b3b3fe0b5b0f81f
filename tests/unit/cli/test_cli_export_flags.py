"""`segsync export-flags` on a real state server; what it writes is read by LaunchDarkly's SDK."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ldclient import Context
from ldclient.client import LDClient
from ldclient.config import BigSegmentsConfig, Config
from ldclient.integrations import Files, Redis
from servers import ValkeyServer
from sync_builders import Installation
from typer.testing import CliRunner

from worker.cli.app import app
from worker.model import RedisStoreConfiguration
from worker.sync.drain import drain


@pytest.fixture
def server(start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ValkeyServer:
    """A state server and store in one; commands find it."""
    server = start_valkey()
    monkeypatch.setenv("SEGSYNC_STATE_URL", server.url)
    monkeypatch.chdir(tmp_path)
    return server


@pytest.fixture
def installation(server: ValkeyServer) -> Iterator[Installation]:
    """With one segment, which ann is in and bob is not."""
    client = server.client(decode_responses=False)
    made = Installation(client, real_store=RedisStoreConfiguration.from_url(server.url))
    made.accept(add=("ann", "bob"))
    made.accept(remove=("bob",))
    assert drain(made.wiring, made.segment(), made.store_id).outcome == "applied"
    yield made
    made.wiring.close()


def run(arguments: str) -> str:
    result = CliRunner().invoke(app, ["export-flags", *shlex.split(arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def exported(arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(arguments))
    return found


def test_an_sdk_with_the_exported_file_finds_the_members_in_the_store(
    installation: Installation, server: ValkeyServer, tmp_path: Path
) -> None:
    path = tmp_path / "flags.json"
    assert run(f"--with-flags --out {path}") == f"{path}: 1 segments, 1 flags\n"
    client = LDClient(
        Config(
            "sdk-key-of-nobody",
            update_processor_class=Files.new_data_source(paths=[str(path)]),
            send_events=False,
            big_segments=BigSegmentsConfig(store=Redis.new_big_segment_store(url=server.url, prefix="launchdarkly")),
        )
    )
    try:
        key = installation.segment().segment_key
        assert client.variation(key, Context.create("ann"), None) is True
        assert client.variation(key, Context.create("bob"), None) is False
    finally:
        client.close()  # type: ignore[no-untyped-call]


def test_segments_are_exported_alone_for_flags_of_ones_own(installation: Installation) -> None:
    found = exported("")
    assert found["flags"] == {}
    segment = found["segments"][installation.segment().segment_key]
    assert (segment["unbounded"], segment["generation"], segment["unboundedContextKind"]) == (True, 1, "user")


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left_beside_it(
    installation: Installation, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    before = set(tmp_path.iterdir())
    result = CliRunner().invoke(app, ["export-flags", "--out", str(tmp_path / "taken")])
    assert result.exit_code != 0
    assert "cannot write" in str(result.exception)
    assert set(tmp_path.iterdir()) == before
