"""Ways for people to change the segments of an installation: by hand, and by imports."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from sync_builders import Installation

from worker.log.append import Appends
from worker.log.batch import WakeUp
from worker.log.changes import ManualChange, append_change
from worker.log.imports import Import, ImportChunks, ImportMode, append_import, final_import, import_of
from worker.log.segments import Segment, read_segments

_numbers = itertools.count(1)


def known(installation: Installation, cohort_id: str = "beta") -> Segment:
    segment = installation.segment(cohort_id)
    [found] = read_segments(installation.client, segment.environment_id, [segment.segment_key])
    return found


def stores_of(installation: Installation) -> list[str]:
    return [store.store_id for store in installation.wiring.stores_of(installation.environment_id)]


def change_by_hand(
    installation: Installation,
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    add_excluded: Sequence[str] = (),
    remove_excluded: Sequence[str] = (),
    batch_id: str = "",
    segment: Segment | None = None,
) -> list[WakeUp]:
    return append_change(
        Appends(installation.client),
        installation.environment_id,
        segment or known(installation),
        ManualChange(batch_id or f"change-{next(_numbers)}", add, remove, add_excluded, remove_excluded),
        store_ids=stores_of(installation),
        not_after_ms=10**15,
    )


def lay_down(
    installation: Installation, keys: Sequence[str], mode: ImportMode = "replace", *, chunk_keys: int = 3
) -> Import:
    """The chunks of an import, in the state server and not in the log."""
    chunks, import_id, found = ImportChunks(installation.client), f"import-{next(_numbers)}", known(installation)
    ordered = sorted(set(keys))
    portions = [ordered[start : start + chunk_keys] for start in range(0, len(ordered), chunk_keys)]
    segment = installation.segment()._replace(generation=found.generation)
    for number, portion in enumerate(portions):
        assert chunks.add(segment, import_id, number, portion)
    return import_of(import_id, mode, chunks=len(portions), members=len(ordered))


def append_laid_down(installation: Installation, said: Import, segment: Segment | None = None) -> list[WakeUp]:
    return append_import(
        Appends(installation.client),
        installation.environment_id,
        segment or known(installation),
        said,
        store_ids=stores_of(installation),
        not_after_ms=10**15,
    )


def import_keys(
    installation: Installation, *keys: str, mode: ImportMode = "replace", chunk_keys: int = 3
) -> list[WakeUp]:
    return append_laid_down(installation, lay_down(installation, keys, mode, chunk_keys=chunk_keys))


def close_log(installation: Installation) -> list[WakeUp]:
    """As the deletion of its segment does it."""
    return append_laid_down(installation, final_import(f"final-{next(_numbers)}"))
