"""Deleting segments: the last entry of a log takes everybody out, and when every store is through it, the log goes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

import structlog

from worker.errors import NotFound, Unavailable
from worker.log.append import Appends
from worker.log.batch import Made, WakeUp
from worker.log.closing import Ending
from worker.log.imports import final_import, pack_import
from worker.log.segments import read_segments
from worker.log.upkeep import SegmentStatus
from worker.model import SegmentId
from worker.wiring import Wiring

# An append that takes longer is not told of as done; see rule 1.
APPEND_SECONDS = 5.0

_log = structlog.get_logger(__name__)


def delete_segment(wiring: Wiring, appends: Appends, environment_id: str, segment_key: str, *, by: str) -> list[WakeUp]:
    """Delete a segment: from now on it is gone, and its members leave the stores as fast as these take it.

    What was accepted before goes with it; what is accepted later begins the next generation, empty. Its key stays its
    cohort's. As durable as a batch.

    Args:
        wiring: of this process.
        appends: with the durability that batches have.
        environment_id: where.
        segment_key: which.
        by: who wants it, for the log line.

    Returns:
        The wake-ups that are due, and now the caller's to send.

    Raises:
        NotFound: there is no such segment.
        Unavailable: the state server is away: it may be deleted, and doing it again is right.
    """
    found = read_segments(wiring.client, environment_id, [segment_key])
    if not found:
        raise NotFound(f"there is no segment {segment_key!r}")
    segment = SegmentId(environment_id, segment_key, found[0].generation)
    not_after_ms = wiring.upkeep.server_ms() + int(APPEND_SECONDS * 1000)
    wiring.closings.add(segment, not_after_ms)
    deletion = final_import(f"deletion-{secrets.token_hex(12)}")
    due = appends.append_made(
        Made(
            segment=segment,
            context_kind=found[0].context_kind,
            integration_key=found[0].integration_key,
            cohort_id=found[0].cohort_id,
            batch_id=deletion.import_id,
            fields=pack_import(found[0].integration_key, deletion),
            store_ids=[store.store_id for store in wiring.stores_of(environment_id)],
            not_after_ms=not_after_ms,
            import_id=deletion.import_id,
            final=True,
        )
    )
    _log.info("segment.deleted", environment_id=environment_id, segment=segment.ref, by=by)
    return due


def deleted_statuses(wiring: Wiring, environment_id: str, store_ids: Sequence[str]) -> Iterator[SegmentStatus]:
    """How far stores are through the deleted generations of an environment that are not closed; read when first asked.

    Raises:
        Unavailable: the state server is away, or could not look at some.
    """
    endings = wiring.closings.endings(environment_id)
    yield from wiring.upkeep.statuses_of([ending.segment for ending in endings], store_ids)


def close_deleted(wiring: Wiring) -> int:
    """Close the deleted generations that every store is through, and forget those of which nothing is dead any more.

    That is ten minutes after the last of them was, so that one that fails over and loses it is emptied again (rule 13).
    All stores of the environment count, those too that are off: what they hold would show when they are on again. One
    that is away holds up the generations that it has not emptied, and nothing else. Idempotent.

    Returns:
        How many were closed.

    Raises:
        Unavailable: the state server is away. A store that could not be told is logged, and told the next time.
    """
    closed = 0
    for ending in wiring.closings.endings():
        try:
            closed += _look_after(wiring, ending)
        except Unavailable as error:
            _log.warning("deletion.incomplete", segment=ending.segment.ref, error=str(error))
            if error.dependency == "state":
                raise
    return closed


def _look_after(wiring: Wiring, ending: Ending) -> bool:
    segment = ending.segment
    generation, alive = wiring.closings.present(segment)
    if alive and generation == segment.generation:
        if wiring.upkeep.server_ms() > ending.not_after_ms:
            wiring.closings.remove(ending)
        return False
    directory = wiring.directory.fresh()
    store_ids = [store.store_id for store in directory.stores_of(segment.environment_id)]
    closed = False
    for status in wiring.upkeep.statuses_of([segment], store_ids):
        if not all(store.settled for store in status.stores.values()):
            return False
        if not wiring.closings.may_close(segment, store_ids):
            return False
        if not alive:  # one that has come back has taken the place of this one's, where a store has places
            _drop(wiring, segment)
        closed = wiring.closings.close(segment, store_ids)
        if not closed:
            return False
        _log.info("segment.closed", environment_id=segment.environment_id, segment=segment.ref)
    wiring.upkeep.release_payloads(segment)
    if wiring.closings.forget(segment, with_dead=segment.environment_id not in directory.environments):
        wiring.closings.remove(ending)
    return closed


def _drop(wiring: Wiring, segment: SegmentId) -> None:
    """Take away what the segment is in stores beside its members; a store that is off keeps that."""
    for record in wiring.stores_of(segment.environment_id):
        store = wiring.stores.get(record.store_id)
        if store is None:
            continue
        if not wiring.circuits.allows(record.store_id):
            raise Unavailable("its circuit is open", dependency="store")
        try:
            store.drop_segment(segment.ref)
        except Unavailable as error:
            wiring.circuits.failed(record.store_id, error)
            raise
        wiring.circuits.abstained(record.store_id)
