"""Compaction: batches whose retention is over leave the log, and what they amount to stays (rules 18 and 19)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog

from worker.errors import InvalidBatch, Unavailable
from worker.log.compaction import Bounds, Draft, Foldable, Folded
from worker.log.entry import Entry
from worker.log.imports import ChunksGone, ImportChunks, read_import
from worker.log.lease import Behind
from worker.log.merging import Imported, merge
from worker.log.position import START, ms_of, order
from worker.log.snapshot import Changes
from worker.log.snapshots import ENTRY_BYTES, Base, SnapshotReplaced
from worker.model import SegmentId
from worker.processes import stop_requested
from worker.state import memory_share
from worker.sync.members import read_members
from worker.wiring import Wiring

# A pass reads so much of the log, compressed, and holds so many members of it at once (some 50 MB); then it commits.
PASS_BYTES = 8 * 1024 * 1024
PASS_MEMBERS = 250_000
READ_BYTES = 4 * 1024 * 1024
READ_ENTRIES = 1_000

# Writing a snapshot anew must be worth it: when the entries amount to so much of it, or the first has outstayed its
# retention by a quarter, and by ten minutes at least.
WORTH = 1 / 4
SLACK = 1 / 4
LEAST_SLACK_SECONDS = 600
# Below the share of memory from which receivers take nothing more: what is applied makes room first. Then what any
# store has applied goes without waiting for its time; but writing a snapshot takes memory, too.
EARLY = 0.8
WORTH_EARLY = 1 / 16

_log = structlog.get_logger(__name__)


class _Stopped(Exception):
    """Raised between two steps when the worker was told to stop."""


@dataclass(slots=True, frozen=True)
class _Rules:
    """What holds for the logs of one environment, now.

    Attributes:
        floor_ms: nothing that was accepted earlier may be replayed.
        overdue_ms: entries accepted before it are folded whatever it costs.
        worth: the share of the snapshot's bytes from which on folding is worth it.
    """

    bounds: Bounds
    floor_ms: int
    overdue_ms: int
    worth: float

    def worth_it(self, found: Foldable) -> bool:
        """Whether this log is to be compacted."""
        if found.oldest_ms is not None:
            return found.bytes >= self.worth * found.snapshot_bytes or found.oldest_ms < self.overdue_ms
        # Nothing has come for so long that nobody may ask any more: those who left can be forgotten, once.
        end_ms = ms_of(found.trimmed)
        return found.snapshot_removed > 0 and ms_of(found.floor) < end_ms == ms_of(self.floor_of(found, found.trimmed))

    def floor_of(self, found: Foldable, position: str) -> str:
        """The floor of a snapshot at that position: as high as whatever may come back to life allows.

        Floors have whole milliseconds. One lies a millisecond below what may be replayed, so that a cursor that is
        taken back to just before that is not below the floor: its store would have to be compared with the log.
        """
        bounds = [self.floor_ms, ms_of(position), ms_of(found.upto)]
        if found.lowest is not None:
            bounds.append(ms_of(found.lowest) - 1)
        return max(found.floor, f"{max(min(bounds), 0)}-0", key=order)


@dataclass(slots=True)
class Compacted:
    """What one compaction did.

    Attributes:
        outcome: "folded"; "not due"; "gone" (no such segment, or no store); "stopped" (with the worker); "blocked" (an
            entry that was read before cannot be read now); "not whole" (an older version trimmed the log and kept no
            snapshot); or what a commit met, see ``Compaction.commit``: the next compaction tries again.
    """

    outcome: str = "not due"
    passes: int = 0
    entries: int = 0
    members: int = 0
    snapshot_bytes: int = 0


def due(wiring: Wiring) -> list[SegmentId]:
    """The segments to compact, those first of which the most can be folded.

    Raises:
        Unavailable: the state server is away.
    """
    now_ms, early = _now(wiring)
    if early:
        _log.warning("log.compacted_early", problem="the state server is nearly full")
    found: list[Foldable] = []
    for environment_id in wiring.directory.fresh().environments:
        rules = _rules(wiring, environment_id, now_ms, early=early)
        if rules is None:
            continue
        keys = wiring.segment_keys.registered(environment_id)
        try:
            found += (
                each
                for each in wiring.compaction.look(environment_id, keys, rules.bounds)
                # A log that an older version trimmed without a snapshot cannot be, and must not crowd out the others.
                if rules.worth_it(each) and (each.snapshot or each.trimmed == START)
            )
        except Unavailable as error:  # of one segment, perhaps: the others are compacted all the same
            _log.error("compaction.incomplete", environment_id=environment_id, error=str(error))
    return [each.segment for each in sorted(found, key=lambda each: each.bytes, reverse=True)]


def compact(
    wiring: Wiring, segment: SegmentId, *, force: bool = False, stopping: Callable[[], bool] = stop_requested
) -> Compacted:
    """Fold what has outlived its retention into the segment's snapshot, a portion at a time.

    Safe to run at any time, by any number of processes, and to kill at any time: until a portion is committed, which
    is one step, nothing has changed. Only entries that a store has applied, or that are dead, are parsed.

    Args:
        wiring: of this process.
        segment: whose log.
        force: also when it is not worth it.
        stopping: asked between two steps; the portion in hand is given up then.

    Raises:
        Unavailable: the state server is away, or cannot give the parser of a batch; what was committed stays so.
    """
    now_ms, early = _now(wiring)
    done = Compacted()
    rules = _rules(wiring, segment.environment_id, now_ms, early=early)
    found = wiring.compaction.look_at(segment, rules.bounds) if rules else None
    if rules is None or found is None:
        done.outcome = "gone"
    elif found.trimmed != START and not found.snapshot:
        _log.error("compaction.not_whole", environment_id=segment.environment_id, segment=segment.ref)
        done.outcome = "not whole"
    elif force or rules.worth_it(found):
        try:
            while _Pass(wiring, segment, rules, stopping).run(done):
                pass
        except (Behind, SnapshotReplaced):
            done.outcome = "replaced"
        except _Stopped:
            done.outcome = "stopped"
        wiring.upkeep.release_payloads(segment)
        _report(segment, done)
    return done


def fold_import(
    wiring: Wiring,
    segment: SegmentId,
    entry: Entry,
    meanwhile: Callable[[], object],
    stopping: Callable[[], bool] = stop_requested,
) -> str:
    """Fold an import into the segment's snapshot, and everything before it, which some store has applied (rule 20).

    Safe to run by any number of processes, and to kill at any time, as ``compact`` is. In memory are a portion of the
    log and a few chunks, however large segment and import are. No store holds it up: who is behind reads the snapshot.
    The floor stays where it is, so that nobody's cursor comes to lie below it.

    Args:
        wiring: of this process.
        segment: whose log.
        entry: the import; everything before it is in the store that is the furthest.
        meanwhile: called before each step: to keep a lease, say. What it raises goes on to the caller.
        stopping: asked before each step; the portion in hand is given up then.

    Returns:
        "folded"; "stopped"; or what a commit met, see ``Compaction.commit``: it is to be looked at anew.

    Raises:
        Unavailable: the state server is away, or does not have the import's chunks, or an entry before it that was
            read before cannot be read now, or nobody knows what the log had before; what was committed stays so.
    """

    def check() -> bool:
        meanwhile()
        return stopping()

    # In this order: the first compaction of all may come in between.
    if wiring.snapshots.bounds(segment)[1] != START and wiring.snapshots.base(segment, most_bytes=0) is None:
        raise Unavailable(
            "an older version trimmed this log and kept no snapshot: nobody knows who is in, and no import can follow",
            dependency="state",
        )
    store_ids = [store.store_id for store in wiring.directory.fresh().stores_of(segment.environment_id)]
    bounds = Bounds(ms_of(entry.entry_id), limit_ms=0, store_ids=store_ids, none_holds=True)
    rules = _Rules(bounds, floor_ms=0, overdue_ms=0, worth=0)
    done = Compacted()
    try:
        while _Pass(wiring, segment, rules, check, entry).run(done):
            pass
    except (Behind, SnapshotReplaced):
        done.outcome = "replaced"
    except ChunksGone as error:
        if order(wiring.snapshots.bounds(segment)[1]) < order(entry.entry_id):
            raise Unavailable(f"the state server does not have {error}", dependency="state") from error
        done.outcome = "replaced"
    except _Stopped:
        done.outcome = "stopped"
    wiring.upkeep.release_payloads(segment)
    _report(segment, done)
    if done.outcome == "blocked":
        raise Unavailable("a batch before an import cannot be read any more, so the import waits", dependency="state")
    return done.outcome


class _Pass:
    """One portion of a log, read and folded into the snapshot; up to and with the import, where there is one."""

    def __init__(
        self,
        wiring: Wiring,
        segment: SegmentId,
        rules: _Rules,
        stopping: Callable[[], bool],
        upto: Entry | None = None,
    ) -> None:
        self._wiring = wiring
        self._segment = segment
        self._rules = rules
        self._stopping = stopping
        self._upto = upto
        self._import: Entry | None = None
        self._changes = Changes()
        self._taken: dict[str, str] = {}
        self._passed: list[str] = []
        self._position = START
        self._bytes = 0
        self._outcome = "folded"

    def run(self, done: Compacted) -> bool:
        """Read, fold, commit; returns whether there is more to do."""
        base = self._wiring.snapshots.base(self._segment, most_bytes=PASS_BYTES)
        found = self._gather(base)
        floor = self._rules.floor_of(found, self._position)
        forgets = not done.passes and found.snapshot_removed > 0 and order(floor) > order(found.floor)
        if not (self._taken or self._passed or forgets):
            done.outcome = self._outcome if self._outcome == "blocked" or done.passes else "not due"
            return False
        draft = self._write(base, floor)
        beside = self._wiring.compaction.beside(self._segment, self._position)
        folded = Folded(
            follows=base.token if base else "",
            position=self._position,
            floor=floor,
            entries=len(self._taken),
            passed=self._passed,
            late={entry_id: digest for entry_id, digest in self._taken.items() if entry_id in beside},
        )
        verdict = self._wiring.compaction.commit(draft, folded, self._rules.bounds, found.holding)
        if verdict != "committed":
            draft.abandon()
            done.outcome = verdict
            return False
        done.outcome = self._outcome
        done.passes += 1
        done.entries += len(self._taken)
        done.members, done.snapshot_bytes = draft.members, draft.bytes
        return (self._full or self._import is not self._upto) and self._outcome == "folded"

    @property
    def _full(self) -> bool:
        return self._bytes >= PASS_BYTES or len(self._changes) >= PASS_MEMBERS

    def _gather(self, base: Base | None) -> Foldable:
        """Take entries in, in order, as far as the bounds and this pass allow; returns the bounds as last seen."""
        if base is not None:
            self._position = base.trimmed
        found = self._look()
        if base is not None and not self._take_in(base.late, found.reached):
            return found
        # Where there are more of those than one pass takes, they come first.
        while not self._full and (base is None or base.whole):
            entries = self._wiring.drain_log.read(
                self._segment, self._position, most_bytes=READ_BYTES, most_entries=READ_ENTRIES
            )
            # Only now: that a store has been there says that it has applied an entry if the entry was there before.
            found = self._look()
            if not entries or not self._take_in(entries, found.upto, moves=True):
                break
        return found

    def _check(self) -> None:
        if self._stopping():
            raise _Stopped

    def _look(self) -> Foldable:
        self._check()
        found = self._wiring.compaction.look_at(self._segment, self._rules.bounds)
        if found is None:
            raise SnapshotReplaced
        return found

    def _take_in(self, entries: list[Entry], upto: str, *, moves: bool = False) -> bool:
        """Take entries in, up to a position; returns whether that was all of them."""
        for entry in entries:
            if self._full:
                return False
            if entry.kind == "import":
                self._take_import(entry)
                return False
            if order(entry.entry_id) > order(upto):
                return False
            if self._upto is not None:
                self._check()  # somebody's lease waits
            self._bytes += len(entry.data) + ENTRY_BYTES
            if entry.dead:
                self._passed.append(entry.entry_id)
            else:
                try:
                    self._changes.add(entry.entry_id, read_members(self._wiring, entry))
                except InvalidBatch as error:
                    self._block(entry, error)
                    return False
                self._taken[entry.entry_id] = entry.parser_digest
            if moves:
                self._position = entry.entry_id
        return True

    def _take_import(self, entry: Entry) -> None:
        """Who only compacts leaves it to a drain: no store has come to it."""
        if self._upto is not None and entry.entry_id == self._upto.entry_id:
            self._import = entry
            self._position = entry.entry_id
            self._taken[entry.entry_id] = entry.parser_digest

    def _block(self, entry: Entry, error: InvalidBatch) -> None:
        """A store has applied it, so it could be read then: nobody knows what it said, and the log keeps it."""
        self._outcome = "blocked"
        _log.error(
            "compaction.blocked",
            batch_id=entry.batch_id,
            environment_id=self._segment.environment_id,
            segment=self._segment.ref,
            entry_id=entry.entry_id,
            reason=error.reason,
        )

    def _write(self, base: Base | None, floor: str) -> Draft:
        draft = self._wiring.compaction.draft(self._segment)
        try:
            for chunk in merge(_chunks(base), self._changes, floor, self._imported()):
                self._check()
                draft.add(chunk)
        except BaseException:
            draft.abandon()
            raise
        return draft

    def _imported(self) -> Imported | None:
        if self._import is None:
            return None
        said = read_import(self._import)
        names = ImportChunks(self._wiring.client).names(self._segment, said, self._check)
        return Imported(self._import.entry_id, names, said.resets)


def _chunks(base: Base | None) -> Iterator[bytes]:
    return (base.chunk(number) for number in range(base.chunks)) if base is not None else iter(())


def _now(wiring: Wiring) -> tuple[int, bool]:
    """The state server's clock, and whether its memory is short."""
    return wiring.upkeep.server_ms(), memory_share(wiring.client) > EARLY


def _rules(wiring: Wiring, environment_id: str, now_ms: int, *, early: bool) -> _Rules | None:
    """What holds for the logs of an environment; None where no store is, and so nothing is known to be applied."""
    settings = wiring.settings
    store_ids = [store.store_id for store in wiring.directory.fresh().stores_of(environment_id)]
    if not store_ids:
        return None
    retention = settings.retention_seconds
    asked_about = max(retention, settings.dead_retention_seconds, settings.rejected_retention_seconds)
    return _Rules(
        bounds=Bounds(
            horizon_ms=now_ms if early else now_ms - retention * 1000,
            limit_ms=now_ms - settings.lag_limit_seconds * 1000,
            store_ids=store_ids,
            none_holds=early,
        ),
        floor_ms=now_ms - asked_about * 1000,
        overdue_ms=now_ms - int((retention + max(retention * SLACK, LEAST_SLACK_SECONDS)) * 1000),
        worth=WORTH_EARLY if early else WORTH,
    )


def _report(segment: SegmentId, done: Compacted) -> None:
    _log.info(
        "log.compacted",
        outcome=done.outcome,
        environment_id=segment.environment_id,
        segment=segment.ref,
        entries=done.entries,
        members=done.members,
        snapshot_bytes=done.snapshot_bytes,
    )
