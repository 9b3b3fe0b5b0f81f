"""The drain: lease, read, parse, fold, write, advance, until the log is empty or the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from worker.errors import InvalidBatch, LeaseLost, Unavailable
from worker.log.dead import DeadLetter
from worker.log.entry import Entry
from worker.log.lease import Behind, Busy, Idle, Lease, Orphans
from worker.model import SegmentId
from worker.stores import SegmentStore, WriteSession
from worker.sync.fold import fold
from worker.sync.members import read_members
from worker.wiring import Wiring

# A drain ends itself and lets others run: a worker that is told to stop waits for no more than this, and one write.
BUDGET_SECONDS = 2.0
# One read: what is folded into one write. Compressed bytes, some three to five times that once decoded.
READ_BYTES = 4 * 1024 * 1024
READ_ENTRIES = 256

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Drained:
    """What one drain did.

    Attributes:
        outcome: "applied", "idle", "busy", "behind" (the log is trimmed further than this store has read), "gone" (no
            such store), "away" (the store), "lost" (the lease); in the log also "state away" and "failed".
        wake_up_due: a wake-up is due and this caller's to send.
    """

    outcome: str
    wake_up_due: bool = False
    batches: int = 0
    dead: int = 0
    added: int = 0
    removed: int = 0


def drain(
    wiring: Wiring,
    segment: SegmentId,
    store_id: str,
    *,
    budget_seconds: float = BUDGET_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Drained:
    """Apply what waits in a segment's log to one store.

    Safe to run at any time, by any number of processes: the lease lets one through. Whatever happens to it, the
    store converges: a cursor moves only over what was answered, and what may still land is folded over again.

    Raises:
        Unavailable: the state server is away, or cannot give the parser of a batch; the cursor stays before it, and
            the sweeper tries again.
    """
    store = wiring.stores.get(store_id)
    if store is None:
        return Drained("gone")
    if wiring.stores.resting(store_id):
        return Drained("away")
    stores = wiring.directory.fresh().stores_of(segment.environment_id)
    counts_members = bool(stores) and stores[0].store_id == store_id
    found: Lease | Busy | Idle | None = None
    try:
        with store.session() as session:
            found = _take(wiring, segment, store_id, store, session)
            if isinstance(found, Busy | Idle):
                return Drained(type(found).__name__.lower())
            deadline = clock() + budget_seconds
            return _Run(wiring, found, session, counts_members).until(lambda: clock() >= deadline)
    except Unavailable as error:
        if error.dependency == "state":
            raise
        # No wake-up: the sweeper sends one, after a while, until the store is back. A refused write was quick and may
        # be one segment's own trouble; what hangs or cannot be reached costs seconds each time, and rests.
        if found is None or error.fate_unknown:
            wiring.stores.rest(store_id)
        _log.warning("store.away", store_id=store_id, segment=segment.ref, error=str(error))
        return Drained("away")


def _take(
    wiring: Wiring, segment: SegmentId, store_id: str, store: SegmentStore, session: WriteSession
) -> Lease | Busy | Idle:
    """Take the lease; drains that nobody runs any more are fenced off first, where the store can (rule 8)."""
    fenced: list[str] = []
    waived: list[str] = []
    while True:
        found = wiring.drain_log.take(segment, store_id, connection=session.connection, fenced=fenced, waived=waived)
        if not isinstance(found, Orphans):
            return found
        for token, connection in found.connections.items():
            sure = bool(connection) and store.fence(connection)
            (fenced if sure else waived).append(token)
            _log.info("drain.orphan", segment=segment.ref, store_id=store_id, fenced=sure)


class _Run:
    """One drain that holds its lease."""

    def __init__(self, wiring: Wiring, lease: Lease, session: WriteSession, counts_members: bool) -> None:
        self._wiring = wiring
        self._lease = lease
        self._session = session
        self._counts_members = counts_members
        self._done = Drained("applied")

    def until(self, over: Callable[[], bool]) -> Drained:
        """Drain; then let go in the way that what happened demands (rule 7)."""
        lease, done = self._lease, self._done
        try:
            while self._step() and not over():
                pass
            done.wake_up_due = lease.release(clean=True)
        except LeaseLost:
            # Everything sent has been answered; a successor may have advanced over it meanwhile.
            done.outcome = "lost"
            done.wake_up_due = lease.rewind()
        except Behind:
            # Nothing is written, and the heartbeat says how old the store is: STALE, never a silent gap.
            _log.error("store.behind", store_id=lease.store_id, segment=lease.segment.ref)
            done.outcome = "behind"
            self._let_go(clean=True)
        except Unavailable as error:
            done.outcome = "away" if error.dependency == "store" else "state away"
            self._let_go(clean=not (error.dependency == "store" and error.fate_unknown))
            raise
        except BaseException:
            # Our own bug, or the end of the process: nobody knows what was sent. The mark stays, and the next drain
            # fences or waits.
            done.outcome = "failed"
            self._let_go(clean=False)
            raise
        finally:
            self._report()
        return done

    def _let_go(self, *, clean: bool) -> None:
        # With the lease lost as well, the mark stays for a fence or the sweeper; with the state server away, both do.
        with suppress(LeaseLost, Unavailable):
            self._lease.release(clean=clean, exact=False)

    def _step(self) -> bool:
        """One read, fold and write; returns whether there was anything to read."""
        entries = self._lease.read(most_bytes=READ_BYTES, most_entries=READ_ENTRIES)
        if not entries:
            return False
        patch = fold(self._lease.segment.ref, (self._members(entry) for entry in entries if not entry.dead))
        counts = self._session.write(patch, self._lease.renew)
        self._lease.advance(entries[-1], counts.added - counts.removed if self._counts_members else None)
        self._done.batches += len(entries)
        self._done.added += counts.added
        self._done.removed += counts.removed
        return True

    def _members(self, entry: Entry) -> dict[str, bool]:
        """What an entry says; one that can never be read is dead from now on, for all stores, and says nothing.

        Only a fault of the batch's own kills it. A parser that is missing, an entry of a newer version, memory that
        runs out: these are the deployment's, and the batch waits until they are put right.
        """
        self._lease.renew()
        try:
            return read_members(self._wiring, entry)
        except InvalidBatch as error:
            now_ms = self._wiring.upkeep.server_ms()
            self._lease.bury(entry, DeadLetter("dead", error.reason, error.message, error.pointer, died_ms=now_ms))
            self._done.dead += 1
            _log.error("batch.dead", batch_id=entry.batch_id, segment=self._lease.segment.ref, reason=error.reason)
            return {}

    def _report(self) -> None:
        done = self._done
        _log.info(
            "drain.done",
            outcome=done.outcome,
            environment_id=self._lease.segment.environment_id,
            segment=self._lease.segment.ref,
            store_id=self._lease.store_id,
            batches=done.batches,
            dead=done.dead,
            added=done.added,
            removed=done.removed,
        )
