"""Taking a lease for a store: for a drain, or for looking at what one left (rules 4, 8, 12)."""

from __future__ import annotations

import structlog

from worker.log.lease import Busy, Idle, Lease, Orphans
from worker.model import SegmentId, StoreRecord
from worker.stores import SegmentStore, WriteSession
from worker.wiring import Wiring

_log = structlog.get_logger(__name__)


def take_lease(
    wiring: Wiring,
    segment: SegmentId,
    record: StoreRecord,
    store: SegmentStore,
    session: WriteSession,
    *,
    even_idle: bool = False,
) -> Lease | str:
    """Take the lease; drains that nobody runs any more are fenced off first, where the store can.

    Args:
        wiring: of this process.
        segment: whose log.
        record: the store's.
        store: the same, open.
        session: over which it will be written to.
        even_idle: take it though nothing waits.

    Returns:
        The lease; or why there is none: "busy", "idle", or "wiped" (the store lost its content and waits for a person).

    Raises:
        Unavailable: the store or the state server is away; a lease may have been taken, which then expires.
    """
    incarnation = wiring.incarnations.confirm(record, store, session.sentinel, wiring.upkeep.server_ms)
    if incarnation is None:
        return "wiped"
    fenced: list[str] = []
    waived: list[str] = []
    while True:
        found = wiring.drain_log.take(
            segment,
            record.store_id,
            connection=session.connection,
            incarnation=incarnation,
            process=session.process,
            even_idle=even_idle,
            fenced=fenced,
            waived=waived,
        )
        if isinstance(found, Busy | Idle):
            return type(found).__name__.lower()
        if isinstance(found, Lease):
            return found
        assert isinstance(found, Orphans)
        for token, connection in found.connections.items():
            sure = bool(connection) and store.fence(connection)
            (fenced if sure else waived).append(token)
            _log.info("drain.orphan", segment=segment.ref, store_id=record.store_id, fenced=sure)
