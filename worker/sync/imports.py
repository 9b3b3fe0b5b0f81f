"""Imports of CSV files: received, read and sorted in bounded memory, and appended as one entry of the log (rule 20).

An import counts as accepted when its whole file and its record are in the state server. Its **status** is one of
LaunchDarkly's: ``preparing`` while the file is read, by one worker at a time; a worker that is killed is followed by
another, which begins anew. ``in_progress`` from when its entry is in the log, in one step: then stores write it.
``complete`` when every store of the environment that is on has. ``stopped`` when it cannot be done, and nothing was
changed; or when the segment was deleted meanwhile.

One import of a segment is read at a time: the one that is asked for first comes first in the log. As soon as it is
there, the next may come, for the log keeps their order; a store that is away for days must not hold them up.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import NoReturn

import structlog

from worker.errors import Conflict, LeaseLost, NotFound, SegsyncError, Unavailable
from worker.log.batch import WakeUp
from worker.log.chunk import CHUNK_MEMBERS
from worker.log.import_records import RECORD_SECONDS, ImportRecord, read_shares, unpack_record
from worker.log.imports import ImportChunks, ImportMode, append_import, import_of
from worker.log.jobs import Claim
from worker.log.segments import Segment, read_segments
from worker.log.uploads import FileGone, delete_file, read_file, write_file
from worker.model import SegmentId
from worker.processes import stop_requested
from worker.state import memory_share
from worker.sync.confirm import appends_of, confirm
from worker.sync.csv_keys import BadFile, KeyReader
from worker.sync.sorted_keys import SortedKeys
from worker.wiring import Wiring

IMPORT_TASK = "segsync.import"
# Below the share of memory from which receivers take nothing more: payloads come first.
FULL = 0.85
# So many workers may end in the midst of one import; perhaps it is what ends them.
MOST_ATTEMPTS = 5
APPEND_SECONDS = 5.0
# For people who watch, and to show that the worker lives.
NOTE_SECONDS = 0.5
_LOOK_AT_MEMORY_BYTES = 4 * 1024 * 1024
_KEYS_AT_ONCE = 1_000

_log = structlog.get_logger(__name__)


class FileTooLarge(SegsyncError):
    """Raised when an upload is larger than SEGSYNC_IMPORT_BYTES; nothing of it is left."""


class _Stopped(Exception):
    """Raised between two steps when the worker was told to stop."""


def start_import(
    wiring: Wiring, segment: SegmentId, stream: Iterable[bytes], *, mode: ImportMode, file_name: str, by: str
) -> ImportRecord:
    """Take in a file and put its import on record; then hint at it with ``IMPORT_TASK``, or wait for the sweeper.

    Args:
        wiring: of this process.
        segment: the living generation that it is for.
        stream: the file's bytes, in portions of any size.
        mode: "merge" adds who is in the file; "replace" also takes out everybody else who is included.
        file_name: as it was given, for people.
        by: who wants it, for people.

    Raises:
        NotFound: there is no such segment, or it is of another generation by now.
        Conflict: another import of it is being read.
        FileTooLarge: it is larger than the setting allows.
        Unavailable: the state server is away, nearly full, or too few replicas have it. What the stream raises goes on
            to the caller. In each of these cases nothing is on record, but perhaps in the last; what was written of the
            file goes by itself.
    """
    jobs, client = wiring.imports, wiring.client
    _living(wiring, segment)
    subject = f"{segment.environment_id}/{segment.segment_key}"
    if other := jobs.busy(subject):
        raise _conflict(other)
    import_id = secrets.token_hex(12)
    looked_at = -_LOOK_AT_MEMORY_BYTES

    def check(size: int) -> None:
        nonlocal looked_at
        if size > wiring.settings.import_bytes:
            raise FileTooLarge(f"the file is larger than {wiring.settings.import_bytes:,} bytes")
        if size - looked_at >= _LOOK_AT_MEMORY_BYTES:
            looked_at = size
            if memory_share(client) > FULL:
                raise Unavailable("the state server is nearly full: it takes no files", dependency="state")

    check(0)
    key = jobs.pieces_key(import_id)
    file = write_file(client, key, stream, check)
    record = {
        "environment_id": segment.environment_id,
        "segment_key": segment.segment_key,
        "generation": segment.generation,
        "mode": mode,
        "status": "preparing",
        "file_name": file_name,
        "size_bytes": file.size_bytes,
        "pieces": file.pieces,
        "by": by,
    }
    try:
        other = jobs.begin(import_id, record, subject=subject, pieces=file.pieces)
    except Unavailable as error:
        if not error.fate_unknown:
            file.abandon()
        raise
    if other is not None:
        file.abandon()
        raise _conflict(other)
    confirm(wiring)
    _log.info("import.begun", import_id=import_id, segment=segment.ref, mode=mode, bytes=file.size_bytes, by=by)
    found = read_import(wiring, import_id)
    if found is None:
        raise Unavailable("the import is not on record any more", dependency="state")
    return found


def read_import(wiring: Wiring, import_id: str) -> ImportRecord | None:
    """An import, and how far each store is with it; None when there is none, or it is over and was forgotten.

    Raises:
        Unavailable: the state server is away.
    """
    found = wiring.imports.read(import_id)
    if found is None:
        return None
    record = unpack_record(import_id, found)
    if record.status == "in_progress":
        store_ids = [store.store_id for store in wiring.stores_of(record.segment.environment_id)]
        record.stores = read_shares(wiring.client, record.segment, record.position, store_ids)
    return record


def run_import(wiring: Wiring, import_id: str, *, stopping: Callable[[], bool] = stop_requested) -> list[WakeUp]:
    """Read the file of an import, and append it; nothing, when another worker is at it, or it is done.

    Safe to run at any time, by any number of processes, and to kill at any time.

    Returns:
        The wake-ups that are due, and now the caller's to send.

    Raises:
        Unavailable: the state server is away; the sweeper tries again.
    """
    claim = None if stopping() else wiring.imports.claim(import_id)
    if claim is None:
        return []
    try:
        return _Reading(wiring, claim, stopping).run()
    except LeaseLost:
        _log.warning("import.lease_lost", import_id=import_id)
    except (_Stopped, Conflict):  # its chunks had their hour: whoever is next writes them anew
        with suppress(LeaseLost):
            claim.give_back()
    except Unavailable:
        with suppress(LeaseLost, Unavailable):
            claim.give_back()
        raise
    return []


def settle_imports(wiring: Wiring) -> None:
    """Note which imports every store has written by now, and which can be no more as their segment was deleted.

    Raises:
        Unavailable: the state server is away.
    """
    for import_id in wiring.imports.open():
        record = read_import(wiring, import_id)
        if record is None or record.status != "in_progress":
            continue
        generation, alive = wiring.closings.present(record.segment)
        if not alive or generation != record.segment.generation:
            _finish(wiring, import_id, status="stopped", message="the segment was deleted")
        elif all(share >= 1 for share in record.stores.values()):
            _finish(wiring, import_id, status="complete")


class _Reading:
    """One worker's attempt at one import."""

    def __init__(self, wiring: Wiring, claim: Claim, stopping: Callable[[], bool]) -> None:
        self._wiring = wiring
        self._claim = claim
        self._stopping = stopping
        self._record = unpack_record(claim.job_id, claim.record)
        self._chunks = ImportChunks(wiring.client)
        self._noted_at = time.monotonic()
        self._lines = self._keys = 0

    def run(self) -> list[WakeUp]:
        record, claim = self._record, self._claim
        segment = record.segment
        due: list[WakeUp] = []
        try:
            position = self._chunks.position(segment, claim.job_id)
            if position is None:
                self._check_attempts()
                due = self._append(_living(self._wiring, segment), self._prepare())
                position = self._chunks.position(segment, claim.job_id) or _gone()
        except (BadFile, NotFound, FileGone) as error:
            self._stop(error)
            return []
        claim.wait(status="in_progress", position=position)
        delete_file(self._wiring.client, self._wiring.imports.pieces_key(claim.job_id))
        _log.info("import.appended", import_id=claim.job_id, segment=segment.ref, mode=record.mode, position=position)
        return due

    def _check_attempts(self) -> None:
        if self._claim.attempts > MOST_ATTEMPTS:
            raise BadFile(f"{MOST_ATTEMPTS} workers ended while they read it")

    def _prepare(self) -> int:
        """Lay the sorted chunks down; returns how many. The file is read whole before, so that what is wrong shows."""
        with SortedKeys() as keys:
            self._sort_into(keys)
            if not self._keys:
                # To empty a segment is not what a file that came to nothing on its way should do.
                raise BadFile("the file has no keys; nothing was changed")
            self._note()
            found, chunks, self._keys = iter(keys), 0, 0
            while chunk := list(islice(found, CHUNK_MEMBERS)):
                self._check()
                self._chunks.add(self._record.segment, self._claim.job_id, chunks, chunk)
                chunks += 1
                self._keys += len(chunk)
            self._note()
            return chunks

    def _sort_into(self, keys: SortedKeys) -> None:
        pieces_key = self._wiring.imports.pieces_key(self._claim.job_id)
        reader = KeyReader(read_file(self._wiring.client, pieces_key, self._record.pieces))
        found: Iterator[str] = iter(reader)
        while portion := list(islice(found, _KEYS_AT_ONCE)):
            for key in portion:
                keys.add(key)
            self._keys += len(portion)
            self._lines = reader.lines
            self._check()
        self._lines = reader.lines

    def _append(self, segment: Segment, chunks: int) -> list[WakeUp]:
        wiring, environment_id = self._wiring, self._record.segment.environment_id
        return append_import(
            appends_of(wiring),
            environment_id,
            segment,
            import_of(self._claim.job_id, self._record.mode, chunks=chunks, members=self._keys),
            store_ids=[store.store_id for store in wiring.stores_of(environment_id)],
            not_after_ms=wiring.upkeep.server_ms() + int(APPEND_SECONDS * 1000),
        )

    def _check(self) -> None:
        if self._stopping():
            raise _Stopped
        if time.monotonic() - self._noted_at >= NOTE_SECONDS:
            self._note()

    def _note(self) -> None:
        self._claim.note(lines=self._lines, keys=self._keys)
        self._noted_at = time.monotonic()

    def _stop(self, error: Exception) -> None:
        message = "what was uploaded is gone" if isinstance(error, FileGone) else str(error)
        claim, wiring = self._claim, self._wiring
        claim.finish(RECORD_SECONDS, status="stopped", message=message, finished_ms=wiring.upkeep.server_ms())
        with suppress(Unavailable):  # what is left goes by itself, or lies there until then
            delete_file(wiring.client, wiring.imports.pieces_key(claim.job_id))
            self._chunks.drop(self._record.segment, claim.job_id)
        _log.warning("import.stopped", import_id=claim.job_id, segment=self._record.segment.ref, problem=message)


def _living(wiring: Wiring, segment: SegmentId) -> Segment:
    for found in read_segments(wiring.client, segment.environment_id, [segment.segment_key]):
        if found.generation == segment.generation:
            return found
    raise NotFound("the segment was deleted")


def _gone() -> NoReturn:
    raise NotFound("the segment was deleted")


def _conflict(other: str) -> Conflict:
    return Conflict(f"import {other} of this segment is being read; wait until it is in progress, or over")


def _finish(wiring: Wiring, import_id: str, **fields: object) -> None:
    noted = wiring.imports.note(
        import_id, "", "over", {**fields, "finished_ms": wiring.upkeep.server_ms()}, RECORD_SECONDS
    )
    if noted:
        _log.info("import.finished", import_id=import_id, **fields)
