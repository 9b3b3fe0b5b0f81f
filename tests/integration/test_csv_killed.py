"""Workers that are killed in the midst of an import, while they read and while they write: the next one goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from csv_files import Importing, hashes, identities, included
from deployment import deployed
from servers import VOLATILE, ValkeyServer, wait_until

SETTINGS = {"SEGSYNC_DURABILITY": "memory", "SEGSYNC_RETENTION_SECONDS": "0"}


def test_workers_that_are_killed_while_they_read_and_while_they_write_lose_nothing(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    state = start_valkey(VOLATILE)
    people = identities(400_000)
    before, imported = people[:1_000], people[500:]
    with deployed(state, tmp_path, workers=1, settings=SETTINGS) as deployment:
        importing = Importing(deployment, state)
        ref = importing.segment.ref
        importing.accept(before)
        wait_until(lambda: included(importing.client, ref) == hashes(before), 60, "those who came by a payload")
        import_id = importing.start(imported, "replace")

        def attempts() -> int:
            found = importing.wiring.imports.read(import_id)
            return int(found["attempts"]) if found else 0

        wait_until(lambda: attempts() == 1, 60, "a worker at it")
        deployment.kill(deployment.workers[0])
        assert importing.record(import_id).status == "preparing"
        assert included(importing.client, ref) == hashes(before)

        deployment.start("worker")
        wait_until(lambda: 0 < importing.share(import_id) < 0.9, 120, "a worker that writes")
        deployment.kill(deployment.workers[0])
        record = importing.record(import_id)
        assert (record.status, attempts()) == ("in_progress", 2)
        importing.accept(["later"])

        deployment.start("worker")
        importing.finish(import_id)
        deployment.wait_until_applied()
        assert included(importing.client, ref) == hashes([*imported, "later"])
        assert attempts() == 2
