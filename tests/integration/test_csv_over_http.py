"""A CSV file of a million keys over HTTP, by LaunchDarkly's own client: taken in, followed, written, replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from csv_files import WorkerMemory, as_csv, hashes, identities, included
from launchdarkly_api import SegmentBody, SegmentsApi
from management_api import ManagementApi, managed
from servers import VOLATILE, ValkeyServer, wait_until

MEMBERS = 1_000_000
# Above what the receiver held before: the file lies on its disk, and goes on in pieces.
MOST_BYTES = 60 * 1024 * 1024
PLACE = "default", "production", "million"
SETTINGS = {"SEGSYNC_RETENTION_SECONDS": "0"}


def import_file(api: ManagementApi, mode: str, path: Path) -> list[dict[str, Any]]:
    """Import a file; returns what the API told of it, up to its end."""
    answer = SegmentsApi(api.client()).create_big_segment_import_with_http_info(*PLACE, mode=mode, file=str(path))
    assert answer.status_code == 204
    assert answer.headers is not None
    location = answer.headers["location"].removeprefix("/api/v2")
    told: list[dict[str, Any]] = []

    def over() -> bool:
        told.append(api.request("GET", location, 200))
        return told[-1]["status"] in {"complete", "stopped"}

    wait_until(over, 300, "an import to end")
    assert told[-1]["status"] == "complete", told[-1]
    return told


def test_the_official_client_imports_a_million_keys_and_replaces_them(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    state = start_valkey(VOLATILE)
    people = identities(MEMBERS + 100_000)
    first, second = people[:MEMBERS], people[100_000:]
    for name, listed in (("first.csv", first), ("second.csv", second)):
        with (tmp_path / name).open("wb") as file:
            file.writelines(as_csv(listed))
    with managed(state, tmp_path, SETTINGS) as api:
        api.deployment.start("worker")
        api.deployment.start("scheduler")
        client = SegmentsApi(api.client())
        made = client.post_segment(*PLACE[:2], SegmentBody(name="A million", key="million", unbounded=True))
        assert made.unbounded_metadata is not None
        ref = str(made.unbounded_metadata.segment_id)
        store = state.client(decode_responses=False, socket_timeout=30)
        with WorkerMemory(api.deployment.processes[0].pid) as receiver:
            told = import_file(api, "merge", tmp_path / "first.csv")
            assert included(store, ref) == hashes(first)
            lines = {each["_progress"]["lines"] for each in told}
            shares = {share for each in told for share in each["_progress"]["stores"].values()}
            assert max(lines) == MEMBERS + MEMBERS // 1_000
            assert len(shares) > 5, "how far the store is can be followed"
            assert any(0 < share < 1 for share in shares)
            import_file(api, "replace", tmp_path / "second.csv")
        assert included(store, ref) == hashes(second)
        print(f"\nreceiver: {receiver.most_bytes / 2**20:.0f} MiB more than before")
        assert receiver.most_bytes < MOST_BYTES
        metadata = client.get_segment(*PLACE).unbounded_metadata
        assert metadata is not None
        assert metadata.included_count == MEMBERS
        store.close()
