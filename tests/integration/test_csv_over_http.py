"""CSV files of a million keys by LaunchDarkly's own client: taken in, followed, written, replaced, read out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from csv_files import WorkerMemory, as_csv, hashes, identities, included
from launchdarkly_api import SegmentBody, SegmentsApi, SegmentUserList, SegmentUserState
from management_api import ManagementApi, managed
from servers import VOLATILE, ValkeyServer, wait_until

MEMBERS = 1_000_000
# Above what a process held before. In the receiver the file lies on disk, and goes on in pieces; a worker sorts it in
# runs, and has a snapshot's chunks and a write in hand.
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


def export_file(api: ManagementApi) -> list[str]:
    """The keys in an export's file."""
    client = SegmentsApi(api.client())
    answer = client.create_big_segment_export_with_http_info(*PLACE)
    assert answer.headers is not None
    export_id = answer.headers["location"].rpartition("/")[2]
    wait_until(lambda: client.get_big_segment_export(*PLACE, export_id).status == "complete", 120, "an export")
    found = client.get_big_segment_export(*PLACE, export_id)
    file = api.http.get(str(found.links["file"].href), headers={"Authorization": api.admin_token})
    assert (file.status_code, len(file.content)) == (200, found.size_bytes)
    return file.text.splitlines()


def test_the_official_client_imports_a_million_keys_replaces_them_and_gets_them_back(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    state = start_valkey(VOLATILE)
    people = identities(MEMBERS + 200_000)
    before, first, second = people[-1_000:], people[:MEMBERS], people[100_000 : MEMBERS + 100_000]
    for name, listed in (("first.csv", first), ("second.csv", second)):
        with (tmp_path / name).open("wb") as file:
            file.writelines(as_csv(listed))
    with managed(state, tmp_path, SETTINGS) as api:
        worker = api.deployment.start("worker")
        api.deployment.start("scheduler")
        client = SegmentsApi(api.client())
        made = client.post_segment(*PLACE[:2], SegmentBody(name="A million", key="million", unbounded=True))
        assert made.unbounded_metadata is not None
        ref = str(made.unbounded_metadata.segment_id)
        by_hand = SegmentUserState(included=SegmentUserList(add=before))
        client.update_big_segment_context_targets(*PLACE, by_hand)
        store = state.client(decode_responses=False, socket_timeout=30)
        wait_until(lambda: included(store, ref) == hashes(before), 60, "those who came by hand")
        with WorkerMemory(api.deployment.processes[0].pid) as receiving, WorkerMemory(worker.pid) as working:
            told = import_file(api, "merge", tmp_path / "first.csv")
            assert included(store, ref) == hashes([*before, *first])
            lines = {each["_progress"]["lines"] for each in told}
            shares = {share for each in told for share in each["_progress"]["stores"].values()}
            assert max(lines) == MEMBERS + MEMBERS // 1_000
            assert any(0 < share < 1 for share in shares), "how far the store is can be followed"
            import_file(api, "replace", tmp_path / "second.csv")
            assert included(store, ref) == hashes(second)
            metadata = client.get_segment(*PLACE).unbounded_metadata
            assert metadata is not None
            assert metadata.included_count == MEMBERS
            assert export_file(api) == sorted(second)
        print(f"\nreceiver: {receiving.most_bytes / 2**20:.0f} MiB, worker: {working.most_bytes / 2**20:.0f} MiB more")
        assert working.processes >= 2  # the pool's child is among them
        assert max(receiving.most_bytes, working.most_bytes) < MOST_BYTES
        store.close()
