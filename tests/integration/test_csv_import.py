"""A CSV file of a million keys, end to end, with a worker of its own: progress, memory, membership; and back out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from csv_files import Importing, WorkerMemory, hashes, identities, included
from deployment import deployed
from servers import VOLATILE, ValkeyServer, wait_until

from worker.sync.csv_keys import KeyReader
from worker.sync.exports import export_file, read_export, start_export

MEMBERS = 1_000_000
# Above what the worker held before: sorting, a snapshot's chunks, a write in hand.
MOST_BYTES = 60 * 1024 * 1024
SETTINGS = {"SEGSYNC_DURABILITY": "memory", "SEGSYNC_RETENTION_SECONDS": "0"}


def test_a_million_keys_are_merged_and_replaced_and_come_back_out(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    state = start_valkey(VOLATILE)
    people = identities(MEMBERS + 300_000)
    before, first, second = people[-1_000:], people[:MEMBERS], people[200_000 : MEMBERS + 200_000]
    with deployed(state, tmp_path, workers=1, settings=SETTINGS) as deployment:
        importing = Importing(deployment, state)
        ref = importing.segment.ref
        importing.accept(before)
        wait_until(lambda: included(importing.client, ref) == hashes(before), 60, "those who came by a payload")
        with WorkerMemory(deployment.workers[0].pid) as memory:
            import_id = importing.start(first, "merge")
            seen = importing.finish(import_id)
            assert included(importing.client, ref) == hashes([*before, *first])
            lines = sorted({record.lines for record in seen})
            shares = sorted({share for record in seen for share in record.stores.values()})
            print(f"\nmerge: {seen[-1].finished_ms - seen[-1].created_ms} ms; lines {lines}; shares {len(shares)}")
            assert lines[-1] == MEMBERS + MEMBERS // 1_000
            assert len(shares) > 5
            assert seen[-1].keys == MEMBERS
            seen = importing.finish(importing.start(second, "replace"))
            print(f"replace: {seen[-1].finished_ms - seen[-1].created_ms} ms")
            assert included(importing.client, ref) == hashes(second)
            # An export of it is the file again, in another order.
            export_id = start_export(importing.wiring, importing.segment, by="a test").export_id
            importing.client.hset(f"segsync:{{exports}}:job:{export_id}", "hinted_ms", "0")
            wait_until(lambda: is_written(importing, export_id), 120, "an export")
        record = read_export(importing.wiring, export_id)
        assert record is not None
        assert (record.status, record.members) == ("complete", MEMBERS)
        assert list(KeyReader(export_file(importing.wiring, record))) == sorted(second)
        print(f"worker: {memory.most_bytes / 2**20:.0f} MiB more than before, of {memory.processes} processes")
        assert memory.processes >= 2  # the pool's child is among them
        assert memory.most_bytes < MOST_BYTES


def is_written(importing: Importing, export_id: str) -> bool:
    found = read_export(importing.wiring, export_id)
    return found is not None and found.status != "in_progress"
