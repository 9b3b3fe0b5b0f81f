"""Dead letters expire when their retention is over; nothing goes unseen."""

from __future__ import annotations

import structlog

from worker.log.dead import DeadLetter
from worker.log.position import ms_of, order
from worker.model import SegmentId
from worker.wiring import Wiring

_log = structlog.get_logger(__name__)


def expire_dead(wiring: Wiring) -> int:
    """Forget dead letters whose retention is over, and what was discarded, or replayed, as long ago.

    Each dead letter that expires is logged before it goes. Whatever the stream still has stays.

    Returns:
        How many dead letters expired.

    Raises:
        Unavailable: the state server is away; those that are left expire the next time.
    """
    before_ms = wiring.upkeep.server_ms() - wiring.settings.dead_retention_seconds * 1000
    expired = 0
    for environment_id in wiring.directory.fresh().environments:
        keys = wiring.segment_keys.registered(environment_id)
        trimmed = {status.segment: status.trimmed for status in wiring.upkeep.looked_at(environment_id, keys)}
        for ending in wiring.closings.endings(environment_id):
            trimmed[ending.segment] = wiring.snapshots.bounds(ending.segment)[1]
        touched: set[SegmentId] = set()
        for segment, entry_id, record, letter in wiring.compaction.read_dead(list(trimmed)):
            over = _decided_ms(letter, entry_id) < before_ms and order(entry_id) <= order(trimmed[segment])
            if over and _expire(wiring, segment, entry_id, record, letter):
                expired += letter.status == "dead"
                touched.add(segment)
                wiring.dead_letters.unindex(segment, entry_id, letter.batch_id)
        for segment in touched:
            wiring.upkeep.release_payloads(segment)
    wiring.dead_letters.forget_replayed(before_ms)
    return expired


def _expire(wiring: Wiring, segment: SegmentId, entry_id: str, record: bytes, letter: DeadLetter) -> bool:
    if letter.status == "dead":  # first: killed in between, it would have gone unseen
        _log.warning(
            "batch.expires",
            batch_id=letter.batch_id,
            environment_id=segment.environment_id,
            segment=segment.ref,
            entry_id=entry_id,
            reason=letter.reason,
        )
    return wiring.compaction.expire(segment, entry_id, record)


def _decided_ms(letter: DeadLetter, entry_id: str) -> int:
    return (letter.died_ms if letter.status == "dead" else letter.decided_ms) or ms_of(entry_id)
