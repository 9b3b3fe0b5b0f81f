"""The drain: lease, read, judge, fold, write, advance, until the log is empty or the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from worker.errors import LeaseLost, Unavailable
from worker.log.entry import Entry
from worker.log.lease import Behind, Lease
from worker.log.segments import read_segments
from worker.log.snapshots import SnapshotReplaced
from worker.model import DEFAULT_CONTEXT_KIND, MemberList, SegmentId, SegmentPatch, SegmentProfile, WriteCounts
from worker.processes import stop_requested
from worker.stores import SegmentStore, WriteSession
from worker.stores.layout import context_hashes
from worker.sync.base import BaseReading
from worker.sync.compact import fold_import
from worker.sync.fold import fold
from worker.sync.isolation import ParserInterrupted
from worker.sync.judge import Braked, Judge
from worker.sync.reading import Reading, read_page
from worker.sync.taking import take_lease
from worker.wiring import Wiring

# A drain ends itself and lets others run: a worker that is told to stop waits for no more than this, and one write.
BUDGET_SECONDS = 2.0
# After so long the cursor follows what was written: what a crash makes to be done again. While it does, and until the
# first members of the next step are there, the store has nothing to do.
STEP_SECONDS = 0.5
# Of entries replayed below the snapshot, which are held in memory while its chunks are read.
BASE_BYTES = 64 * 1024 * 1024
# A worker that is told to stop finishes the write in hand, unless its store takes longer than this for it.
STOP_SECONDS = 2.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Drained:
    """What one drain did.

    Attributes:
        outcome: "applied"; "idle", "busy"; "gone" (no such store), "away" (the store), "wiped" (it lost its content and
            waits for a person), "braked" (most batches of the integration die), "behind" (the log does not go back
            far enough, and there is no snapshot), "stopped" (with the worker), "lost" (the lease); in the log also
            "state away" and "failed".
        wake_up_due: a wake-up is due and this caller's to send.
    """

    outcome: str
    wake_up_due: bool = False
    batches: int = 0
    dead: int = 0
    added: int = 0
    removed: int = 0
    added_excluded: int = 0
    removed_excluded: int = 0
    refused: int = 0


class _Stopped(Exception):
    """Raised between two windows of a write that takes too long for a worker that was told to stop."""


def drain(
    wiring: Wiring,
    segment: SegmentId,
    store_id: str,
    *,
    budget_seconds: float = BUDGET_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    stopping: Callable[[], bool] = stop_requested,
) -> Drained:
    """Apply what waits in a segment's log to one store.

    Safe to run at any time, by any number of processes: the lease lets one through. Whatever happens to it, the
    store converges: a cursor moves only over what was answered, and what may still land is folded over again.

    Raises:
        Unavailable: the state server is away, or cannot give the parser of a batch; the cursor stays before it, and
            the sweeper tries again.
    """
    store = _open(wiring, store_id)
    record = wiring.directory.fresh().store(store_id)
    if isinstance(store, Drained) or record is None:
        return store if isinstance(store, Drained) else Drained("gone")
    if stopping():
        return Drained("stopped", wake_up_due=True)  # the hint is another worker's
    if not wiring.circuits.allows(store_id):
        return Drained("away")
    try:
        with store.session() as session:
            found = take_lease(wiring, segment, record, store, session)
            if isinstance(found, str):
                wiring.circuits.abstained(store_id)  # it could be reached, but whether it takes writes is not known
                return Drained(found)
            deadline = clock() + budget_seconds
            run = _Run(wiring, found, session, stopping, clock)
            done = run.until(lambda: stopping() or clock() >= deadline)
        (wiring.circuits.succeeded if run.wrote else wiring.circuits.abstained)(store_id)
    except Unavailable as error:
        if error.dependency == "state":
            raise
        # No wake-up: the sweeper sends one when the circuit says that it is time. A worker that stops leaves it to
        # others to find out: one server may be both the store that hangs and the one that it would be told to.
        if not stopping():
            wiring.circuits.failed(store_id, error)
        _log.warning("store.away", store_id=store_id, segment=segment.ref, fault=error.fault, error=str(error))
        return Drained("away")
    else:
        return done


def _open(wiring: Wiring, store_id: str) -> SegmentStore | Drained:
    """The store, or how a drain of it ends at once: it is gone, or its secrets cannot be opened here."""
    try:
        return wiring.stores.get(store_id) or Drained("gone")
    except Unavailable as error:
        if error.dependency == "state":
            raise
        if wiring.circuits.allows(store_id):
            wiring.circuits.failed(store_id, error)
        return Drained("away")


class _Run:
    """One drain that holds its lease."""

    def __init__(
        self,
        wiring: Wiring,
        lease: Lease,
        session: WriteSession,
        stopping: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._wiring = wiring
        self._lease = lease
        self._session = session
        self._stopping = stopping
        self._clock = clock
        self._stopping_since: float | None = None
        stores = wiring.directory.fresh().stores_of(lease.segment.environment_id)
        self._counts_members = bool(stores) and stores[0].store_id == lease.store_id
        self._base: BaseReading | None = None
        self._prepared = False
        self._exact = True
        self.wrote = self._writes = self._sends_members = False
        self._done = Drained("applied")

    def until(self, over: Callable[[], bool]) -> Drained:
        """Drain; then let go in the way that what happened demands (rule 7)."""
        lease, done = self._lease, self._done
        try:
            with Judge(self._wiring, lease) as judge:
                judge.check_brake()
                while self._step(judge, over) and not over():
                    pass
            done.wake_up_due = lease.release(clean=True, exact=self._exact, innocent=True)
        except LeaseLost:
            # Everything sent has been answered; a successor may have advanced over it meanwhile.
            done.outcome = "lost"
            done.wake_up_due = lease.rewind()
        except Braked:
            done.outcome = "braked"
            self._let_go(clean=True)
        except Behind:
            # Nothing is written, and the heartbeat says how old the store is: STALE, never a silent gap.
            _log.error("store.behind", store_id=lease.store_id, segment=lease.segment.ref)
            done.outcome = "behind"
            self._let_go(clean=True)
        except (_Stopped, ParserInterrupted):
            done.outcome = "stopped"
            done.wake_up_due = self._let_go(clean=True)
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

    def _let_go(self, *, clean: bool) -> bool:
        # With the lease lost as well, the mark stays for a fence or the sweeper; with the state server away, both do.
        with suppress(LeaseLost, Unavailable):
            return self._lease.release(clean=clean, exact=clean and not self._writes)
        return False

    def _step(self, judge: Judge, over: Callable[[], bool]) -> bool:
        """Read, fold and write, page after page, then advance; returns whether there may be more to read."""
        if self._base is not None:
            return self._step_in_base(self._base)
        try:
            page = read_page(self._lease)
        except Behind:
            self._base = self._open_base()
            return True
        if not page:
            return False
        if page[0].kind == "import":
            return self._fold_import(page[0])
        until = self._clock() + STEP_SECONDS
        reading = Reading(self._lease, judge, page, lambda: over() or self._clock() >= until)
        del page

        def patches() -> Iterator[SegmentPatch]:
            yield from fold(self._lease.segment.ref, reading.members())
            judge.note_lived()

        counts = self._write(patches())
        goes_on = self._lease.advance_to(*reading.reached, *self._change(counts))
        self._done.batches += reading.batches
        self._done.dead += judge.dead
        judge.dead = 0
        return goes_on

    def _fold_import(self, entry: Entry) -> bool:
        """Have an import in the snapshot, which is then read as by any store that is behind (rule 20)."""
        done = fold_import(self._wiring, self._lease.segment, entry, self._lease.renew, self._stopping)
        if done == "stopped":
            raise _Stopped
        # Anything else came in between, and the next drain sees what it left: no reason to go on at once.
        return done in {"folded", "replaced"}

    def _open_base(self) -> BaseReading:
        base = self._wiring.snapshots.base(self._lease.segment, after=self._lease.position, most_bytes=BASE_BYTES)
        if base is None:
            raise Behind
        return BaseReading(self._wiring, self._lease, base)

    def _step_in_base(self, reading: BaseReading) -> bool:
        """What the log no longer has, a chunk of its snapshot at a time (rule 19)."""
        try:
            patch = reading.next_patch()
        except SnapshotReplaced:
            self._base = self._open_base()
            return True
        if patch is not None:
            reading.written(*self._change(self._write([patch])))
        else:
            reading.finish(self._change(WriteCounts(0, 0))[0])
            self._base = None
        return True

    def _write(self, patches: Iterable[SegmentPatch]) -> WriteCounts:
        """Write patches in their order; each is made while the store works on the one before."""
        if not self._prepared:
            self._session.prepare(self._describe)
            self._prepared = True
        noted: dict[MemberList, set[str]] = {"included": set(), "excluded": set()}
        counts = self._session.write_all(self._looked_through(patches, noted), self._before_window)
        self.wrote = self.wrote or self._sends_members
        for of, hashes in noted.items():
            if hashes:  # whoever is refused once more is noted again
                self._wiring.refused_members.written(self._lease.store_id, self._lease.segment, hashes, of)
        if counts.refused:
            # Before the cursor moves on: whom the store refused is in no one's way, and not forgotten either.
            self._wiring.refused_members.note(self._lease.store_id, self._lease.segment, counts.refused)
        self._done.added += counts.added
        self._done.removed += counts.removed
        self._done.added_excluded += counts.added_excluded
        self._done.removed_excluded += counts.removed_excluded
        self._done.refused += len(counts.refused)
        return counts

    def _looked_through(
        self, patches: Iterable[SegmentPatch], noted: Mapping[MemberList, set[str]]
    ) -> Iterator[SegmentPatch]:
        """The same patches; ``noted`` takes the hashes of those in them whom the store refused before.

        Of all others nothing is kept: it may be a million. The notes go when everything was answered.
        """
        notes, segment, store_id = self._wiring.refused_members, self._lease.segment, self._lease.store_id
        some = notes.has(store_id, segment)
        for patch in patches:
            self._writes = True
            names = patch.add or patch.remove or patch.add_excluded or patch.remove_excluded
            self._sends_members = self._sends_members or bool(names)
            if some:
                of_lists: dict[MemberList, list[str]] = {
                    "included": [*patch.add, *patch.remove],
                    "excluded": [*patch.add_excluded, *patch.remove_excluded],
                }
                for of, keys in of_lists.items():
                    if keys:
                        hashes = (hashed.decode() for hashed in context_hashes(keys))
                        noted[of].update(notes.among(store_id, segment, hashes, of))
            yield patch

    def _describe(self) -> SegmentProfile:
        segment = self._lease.segment
        found = read_segments(self._wiring.client, segment.environment_id, [segment.segment_key])
        kind, name = (found[0].context_kind, found[0].name) if found else (DEFAULT_CONTEXT_KIND, "")
        return SegmentProfile(segment, kind, name, fresh=self._lease.fresh)

    def _change(self, counts: WriteCounts) -> tuple[int | None, int]:
        if not self._counts_members:
            return None, 0
        self._exact = self._exact and counts.exact
        return counts.added - counts.removed, counts.added_excluded - counts.removed_excluded

    def _before_window(self) -> None:
        self._lease.renew()
        if self._stopping():
            now = self._clock()
            if self._stopping_since is None:
                self._stopping_since = now
            if now - self._stopping_since >= STOP_SECONDS:
                raise _Stopped

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
            added_excluded=done.added_excluded,
            removed_excluded=done.removed_excluded,
            refused=done.refused,
        )
