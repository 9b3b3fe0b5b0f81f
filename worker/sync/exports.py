"""Exports: who is in a segment, as a CSV file in the state server, for a while.

Its file has one column, the context key, and no header row: an import takes it as it is. It holds the included list
as far as some store of the environment had come when it was written. An export is written by one worker at a time; one
that is killed is followed by another, which begins anew.
"""

from __future__ import annotations

import csv
import io
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, cast

import structlog

from worker.errors import Conflict, InvalidBatch, LeaseLost, NotFound, Unavailable
from worker.log.jobs import Claim
from worker.log.lease import Behind
from worker.log.segments import read_segments
from worker.log.snapshots import SnapshotReplaced
from worker.log.uploads import PieceWriter, read_file
from worker.model import SegmentId
from worker.processes import stop_requested
from worker.state import memory_share, state_errors
from worker.sync.confirm import confirm
from worker.sync.imports import FULL, MOST_ATTEMPTS, NOTE_SECONDS
from worker.sync.streaming import included_pages
from worker.wiring import Wiring

EXPORT_TASK = "segsync.export"
# A compaction replaces what is being read; it comes a few times an hour at the most.
_MOST_TRIES = 5
ExportStatus = Literal["in_progress", "complete", "failed"]

_log = structlog.get_logger(__name__)


class _Stopped(Exception):
    """Raised between two steps when the worker was told to stop."""


@dataclass(slots=True, frozen=True)
class ExportRecord:
    """One export.

    Attributes:
        size_bytes: of the file, so far.
        members: how many are in it, so far.
        by: who wanted it.
        message: why it failed; "" otherwise.
        file: where the file lies, and ``pieces`` how many it has, once it is complete.
        expires_ms: until when it can be had; 0 while it is not complete.
    """

    export_id: str
    segment: SegmentId
    status: ExportStatus
    created_ms: int
    size_bytes: int
    members: int
    by: str
    message: str
    file: str
    pieces: int
    expires_ms: int


def start_export(wiring: Wiring, segment: SegmentId, *, by: str) -> ExportRecord:
    """Put an export on record; then hint at it with ``EXPORT_TASK``, or wait for the sweeper.

    One of a segment at a time: each reads it whole, and whoever may only look must not keep every worker busy.

    Raises:
        Conflict: another export of it is being written.
        NotFound: there is no such segment, or it is of another generation by now.
        Unavailable: the state server is away, or nearly full.
    """
    _check_lives(wiring, segment)
    if memory_share(wiring.client) > FULL:
        raise Unavailable("the state server is nearly full: it takes no files", dependency="state")
    export_id = secrets.token_hex(12)
    record = {
        "environment_id": segment.environment_id,
        "segment_key": segment.segment_key,
        "generation": segment.generation,
        "status": "in_progress",
        "by": by,
    }
    other = wiring.exports.begin(export_id, record, subject=f"{segment.environment_id}/{segment.segment_key}")
    if other is not None:
        raise Conflict(f"export {other} of this segment is being written; wait until it is over")
    confirm(wiring)
    _log.info("export.begun", export_id=export_id, segment=segment.ref, by=by)
    found = read_export(wiring, export_id)
    if found is None:
        raise Unavailable("the export is not on record any more", dependency="state")
    return found


def read_export(wiring: Wiring, export_id: str) -> ExportRecord | None:
    """An export; None when there is none, or its time is over.

    Raises:
        Unavailable: the state server is away.
    """
    found = wiring.exports.read(export_id)
    return None if found is None else _unpack(export_id, found)


def export_file(wiring: Wiring, record: ExportRecord) -> Iterator[bytes]:
    """The file of an export that is complete, piece by piece.

    Raises:
        FileGone: its time is over.
        Unavailable: the state server is away.
    """
    return read_file(wiring.client, record.file, record.pieces)


def run_export(wiring: Wiring, export_id: str, *, stopping: Callable[[], bool] = stop_requested) -> None:
    """Write the file of an export; nothing, when another worker is at it, or it is done.

    Safe to run at any time, by any number of processes, and to kill at any time.

    Raises:
        Unavailable: the state server is away; the sweeper tries again.
    """
    claim = None if stopping() else wiring.exports.claim(export_id)
    if claim is None:
        return
    try:
        _Writing(wiring, claim, stopping).run()
    except LeaseLost:
        _log.warning("export.lease_lost", export_id=export_id)
    except _Stopped:
        with suppress(LeaseLost):
            claim.give_back()
    except Unavailable:
        with suppress(LeaseLost, Unavailable):
            claim.give_back()
        raise


class _Writing:
    """One worker's attempt at one export."""

    def __init__(self, wiring: Wiring, claim: Claim, stopping: Callable[[], bool]) -> None:
        self._wiring = wiring
        self._claim = claim
        self._stopping = stopping
        self._segment = _unpack(claim.job_id, claim.record).segment
        self._noted_at = time.monotonic()
        self._members = 0

    def run(self) -> None:
        claim, wiring = self._claim, self._wiring
        try:
            if claim.attempts > MOST_ATTEMPTS:
                self._fail(f"{MOST_ATTEMPTS} workers ended while they wrote it")
                return
            for _ in range(_MOST_TRIES):
                file = PieceWriter(wiring.client, wiring.exports.pieces_key(claim.job_id, secrets.token_hex(4)))
                try:
                    members = self._write(file)
                    _check_lives(wiring, self._segment)  # else what was read may be a log that is being forgotten
                except (Behind, SnapshotReplaced):
                    file.abandon()
                    continue
                except BaseException:
                    file.abandon()
                    raise
                self._finish(file, members)
                return
        except NotFound as error:
            self._fail(str(error))
        except InvalidBatch:
            self._fail("a batch that was applied cannot be read any more")
        else:
            self._fail("the segment was compacted again and again while it was read")

    def _write(self, file: PieceWriter) -> int:
        self._members = 0
        for page in included_pages(self._wiring, self._segment, lambda: self._check(file)):
            text = io.StringIO()
            csv.writer(text).writerows((key,) for key in page)
            file.write(text.getvalue().encode())
            self._members += len(page)
        file.close()
        return self._members

    def _check(self, file: PieceWriter) -> None:
        if self._stopping():
            raise _Stopped
        if time.monotonic() - self._noted_at >= NOTE_SECONDS:
            self._noted_at = time.monotonic()
            if memory_share(self._wiring.client) > FULL:
                raise Unavailable("the state server is nearly full: it takes no files", dependency="state")
            self._claim.note(size_bytes=file.size_bytes, members=self._members)

    def _finish(self, file: PieceWriter, members: int) -> None:
        wiring, claim = self._wiring, self._claim
        keep_seconds = wiring.settings.export_retention_seconds
        with state_errors():  # first: cut short after it, another worker writes another file, and this one goes in time
            wiring.client.expire(file.key, keep_seconds)
        claim.finish(
            keep_seconds,
            status="complete",
            file=file.key,
            pieces=file.pieces,
            size_bytes=file.size_bytes,
            members=members,
            expires_ms=wiring.upkeep.server_ms() + keep_seconds * 1000,
        )
        _log.info("export.complete", export_id=claim.job_id, segment=self._segment.ref, members=members)

    def _fail(self, message: str) -> None:
        self._claim.finish(self._wiring.settings.export_retention_seconds, status="failed", message=message)
        _log.warning("export.failed", export_id=self._claim.job_id, segment=self._segment.ref, problem=message)


def _check_lives(wiring: Wiring, segment: SegmentId) -> None:
    found = read_segments(wiring.client, segment.environment_id, [segment.segment_key])
    if not found or found[0].generation != segment.generation:
        raise NotFound("the segment was deleted")


def _unpack(export_id: str, found: Mapping[str, str]) -> ExportRecord:
    return ExportRecord(
        export_id=export_id,
        segment=SegmentId(found["environment_id"], found["segment_key"], int(found["generation"])),
        status=cast("ExportStatus", found["status"]),
        created_ms=int(found["created_ms"]),
        size_bytes=int(found.get("size_bytes", 0)),
        members=int(found.get("members", 0)),
        by=found["by"],
        message=found.get("message", ""),
        file=found.get("file", ""),
        pieces=int(found.get("pieces", 0)),
        expires_ms=int(found.get("expires_ms", 0)),
    )
