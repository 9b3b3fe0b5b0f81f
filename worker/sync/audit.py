"""Comparing a store with the logs, both ways: who is missing from it, and who is in it of whom no log knows (rule 14).

The store is scanned once for a group of segments, without holding anybody up; what looks wrong then may only be on its
way. So each suspicion is looked at again under the segment's lease, where nothing moves: what the log amounts to at the
cursor is what the store must hold, but for members about whom something waits behind the cursor: of them, the store may
have been further before.

A store that cannot list its members (LaunchDarkly itself) is asked by context key about some of each segment: of those
who should be in it, and of those of whom the log still knows that they left. Folding everything again repairs it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from worker.errors import LeaseLost, Unavailable
from worker.log.accounts import note_members
from worker.log.closing import closed_generations
from worker.log.late import void_cursor
from worker.log.lease import Behind, Lease
from worker.log.position import order
from worker.log.segments import read_segments
from worker.model import SegmentId, StoreRecord
from worker.stores import SegmentStore, WriteSession
from worker.stores.segment_store import Scanned
from worker.sync.asking import Asking, Name, asking, hash_in, in_excluded
from worker.sync.deleting import deleted_statuses
from worker.sync.taking import take_lease
from worker.sync.truth import decided_after, members_by_name, removed_members
from worker.wiring import Wiring

# So many members of segments are compared in one scan of the store: some 100 bytes each.
GROUP_MEMBERS = 1_000_000

# How long a segment's drains are waited for; one gives its lease back after two seconds.
_PATIENCE_SECONDS = 20.0
_AGAIN_SECONDS = 0.05

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Comparison:
    """What comparing one store with the logs of its segments showed.

    Attributes:
        segments: how many were compared.
        members: who should be included, over all of them; ``excluded``, who should be excluded.
        missing: who should be in one of the lists, and was not.
        strays: who was, and should not have been; 0 when ``sampled``, for then nobody looked for them, or, of a store
            that cannot list its members, only for some.
        wrong: segment key -> how many are missing, and how many strays there are.
        uncertain: segments that could not be judged: drains held them all the while, or something of theirs may still
            land.
        counted: segments whose count of members was approximate, and is exact now.
        repaired: what was missing is on its way, and strays are gone.
    """

    store_id: str
    segments: int = 0
    members: int = 0
    excluded: int = 0
    missing: int = 0
    strays: int = 0
    sampled: bool = False
    repaired: bool = False
    counted: int = 0
    uncertain: list[str] = field(default_factory=list)
    wrong: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, segment: SegmentId, missing: int, strays: int) -> None:
        """Note what is wrong in one segment."""
        self.wrong[segment.segment_key] = (missing, strays)
        self.missing += missing
        self.strays += strays
        _log.error(
            "store.differs",
            store_id=self.store_id,
            segment=segment.ref,
            missing=missing,
            strays=strays,
            repaired=self.repaired,
        )

    @property
    def agrees(self) -> bool:
        """Nothing is wrong, as far as could be seen."""
        return not (self.missing or self.strays)


class Audit:
    """Compares one store with the logs.

    Args:
        wiring: of this process.
        record: the store.
        repair: also put right what is wrong: strays are removed, and who is missing is folded into the store again.
        sample: look at so many members of each segment only, and not for strays.
        progress: called with how many segments are done, now and then.
        stopping: asked now and then; an audit that stops leaves nothing half done.
    """

    def __init__(
        self,
        wiring: Wiring,
        record: StoreRecord,
        *,
        repair: bool = False,
        sample: int | None = None,
        progress: Callable[[int], object] = lambda _done: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._wiring = wiring
        self._record = record
        self._repair = repair
        self._sample = sample
        self._progress = progress
        self._stopping = stopping
        self._approximate: set[SegmentId] = set()
        self._deleted: set[SegmentId] = set()
        self._asking: Asking

    def run(self, segment_keys: Sequence[str] | None = None) -> Comparison:
        """Compare these segments, or all that the environment has.

        Raises:
            Unavailable: the store or the state server is away; what was repaired stays so.
        """
        done = Comparison(self._record.store_id, sampled=self._sample is not None, repaired=self._repair)
        store = self._wiring.stores.get(self._record.store_id)
        if store is None:
            return done
        self._asking = asking(store)
        done.sampled = done.sampled or self._asking.most is not None
        for group in self._groups(segment_keys):
            if self._stopping():
                break
            suspects = self._suspects(store, group)
            for segment in group:
                missing, strays, (members, excluded) = suspects[segment]
                if segment in self._deleted:
                    self._remove_deleted(store, segment, strays, done)
                    continue
                done.members += members
                done.excluded += excluded
                if missing or strays or segment in self._approximate:
                    self._confirm(store, segment, missing, strays, done)
                done.segments += 1
                self._progress(done.segments)
        return done

    def _groups(self, segment_keys: Sequence[str] | None) -> Iterator[list[SegmentId]]:
        """The segments, in groups that one scan can be compared with."""
        environment_id = self._record.environment_id
        keys = sorted(self._wiring.segment_keys.registered(environment_id) if segment_keys is None else segment_keys)
        group: list[SegmentId] = []
        members = 0
        counts_members = self._sample is None and self._counts_members()
        for found in read_segments(self._wiring.client, environment_id, keys):
            if group and members + found.members > GROUP_MEMBERS:
                yield group
                group, members = [], 0
            segment = SegmentId(environment_id, found.segment_key, found.generation)
            group.append(segment)
            members += max(found.members, 0)
            if counts_members and not found.members_exact:
                self._approximate.add(segment)
        if not (self._sample or self._asking.most):  # of nobody who should be there, no sample can be taken
            self._deleted = {*closed_generations(self._wiring.client, environment_id, keys), *self._emptied(set(keys))}
        group += sorted(self._deleted)
        if group:
            yield group

    def _emptied(self, keys: Container[str]) -> Iterator[SegmentId]:
        """Deleted generations that are not closed, and that the store is through; its life may have begun with more.

        Whoever comes back from a backup and has had nothing of it in this life is not told of it any more (rule 24).
        """
        for status in deleted_statuses(self._wiring, self._record.environment_id, [self._record.store_id]):
            if status.segment.segment_key in keys and status.stores[self._record.store_id].settled:
                yield status.segment

    def _counts_members(self) -> bool:
        stores = self._wiring.directory.fresh().stores_of(self._record.environment_id)
        return bool(stores) and stores[0].store_id == self._record.store_id

    def _suspects(
        self, store: SegmentStore, group: Sequence[SegmentId]
    ) -> dict[SegmentId, tuple[list[Name], list[Name], _Sizes]]:
        """Per segment: who seems to be missing, who seems to be a stray, and how many should be in."""
        size = self._sample or self._asking.most
        if size is not None:
            return {
                segment: ([], [], _Sizes(0, 0)) if self._stopping() else self._sampled(segment, size)
                for segment in group
            }
        by_ref = {segment.ref: segment for segment in group}
        # Before the scan: who joins meanwhile is missing from this list, and looks like a stray until it is confirmed.
        absent = {segment: set(self._truth(segment)) if segment not in self._deleted else set() for segment in group}
        counts = {segment: _sizes(names) for segment, names in absent.items()}
        strays: dict[SegmentId, list[Name]] = {segment: [] for segment in group}
        seen: dict[SegmentId, set[Name]] = {segment: set() for segment in group}
        for page in store.scan():
            if self._stopping():
                break
            for name, refs in _listed(page):
                for ref in refs & by_ref.keys():
                    segment = by_ref[ref]
                    if name in absent[segment]:
                        absent[segment].discard(name)
                        seen[segment].add(name)
                    elif name not in seen[segment]:  # a scan may show a context twice
                        strays[segment].append(name)
                        seen[segment].add(name)
        if self._stopping():
            return {segment: ([], [], counts[segment]) for segment in group}
        return {segment: (list(absent[segment]), strays[segment], counts[segment]) for segment in group}

    def _sampled(self, segment: SegmentId, size: int) -> tuple[list[Name], list[Name], _Sizes]:
        members = self._truth(segment)
        lost = self._not_as(segment, _some(members, size), there=True)
        if self._asking.most is None:
            return lost, [], _sizes(members)
        # Nobody can list who is in such a store: of strays, those show whose leaving is still known.
        former = removed_members(self._wiring, segment)
        return lost, self._not_as(segment, _some(former, size), there=False), _sizes(members)

    def _not_as(self, segment: SegmentId, names: Sequence[Name], *, there: bool) -> list[Name]:
        """Those of them who are not in their list though they should be ``there``, or the other way round."""
        found = self._asking.has(segment.ref, names)
        return [name for name, included in zip(names, found, strict=True) if included != there]

    def _truth(
        self, segment: SegmentId, upto: str | None = None, meanwhile: Callable[[], object] = lambda: None
    ) -> Sequence[Name]:
        return self._asking.known_by(members_by_name(self._wiring, segment, upto, meanwhile), meanwhile)

    def _remove_deleted(self, store: SegmentStore, segment: SegmentId, strays: list[Name], done: Comparison) -> None:
        """Of a deleted generation nobody should be there, whoever still writes to it: no lease is needed."""
        if not strays:
            return
        if self._repair:
            with store.session() as session:
                self._asking.remove(session, segment.ref, strays, lambda: None)
        done.add(segment, 0, len(strays))

    def _confirm(
        self, store: SegmentStore, segment: SegmentId, missing: list[Name], strays: list[Name], done: Comparison
    ) -> None:
        """Look again under the lease, and repair what is wrong."""
        removed = False
        with store.session() as session:
            lease = self._take(store, session, segment)
            if lease is None:
                done.uncertain.append(segment.segment_key)
                return
            try:
                lost, stray, sizes = self._really_wrong(lease, missing, strays)
                if self._repair and stray:
                    removed = self._asking.remove(session, segment.ref, stray, lease.renew)
                right = not lost and (removed or not stray)
                counted = right and segment in self._approximate and note_members(self._wiring.client, lease, *sizes)
                self._let_go(lease, exact=counted or not stray)
            except LeaseLost:
                done.uncertain.append(segment.segment_key)
                lease.rewind()
                self._index(segment)
                return
            except Behind:  # with its memory short, the state server compacts what no store holds on to
                done.uncertain.append(segment.segment_key)
                self._let_go(lease, exact=True)
                return
            except Unavailable as error:
                with suppress(LeaseLost, Unavailable):
                    lease.release(clean=not error.fate_unknown, exact=False)
                raise
        done.counted += counted
        if lost or stray:
            done.add(segment, len(lost), len(stray))
        if self._repair and (lost or (stray and not removed)):
            void_cursor(self._wiring.client, segment, self._record.store_id)
            self._index(segment)

    def _really_wrong(
        self, lease: Lease, missing: list[Name], strays: list[Name]
    ) -> tuple[list[Name], list[Name], _Sizes]:
        """Who is missing, and who is a stray, of those who seemed so; and how many there should be, at the cursor."""
        segment = lease.segment
        right = set(self._truth(segment, lease.position, lease.renew))
        decided = list(decided_after(self._wiring, segment, lease.position, lease.renew))
        waiting = set(self._asking.known_by(decided, lease.renew))
        wanted = [name for name in missing if name in right and name not in waiting]
        unwanted = [name for name in strays if name not in right and name not in waiting]
        lost = self._not_as(segment, wanted, there=True)
        return lost, self._not_as(segment, unwanted, there=False), _sizes(right)

    def _let_go(self, lease: Lease, *, exact: bool) -> None:
        if lease.release(clean=True, exact=exact):
            self._index(lease.segment)

    def _index(self, segment: SegmentId) -> None:
        """What came while the lease was held has no wake-up: the sweeper sends one."""
        self._wiring.upkeep.index([segment], ticket=f"audit-{self._wiring.upkeep.server_ms()}")

    def _take(self, store: SegmentStore, session: WriteSession, segment: SegmentId) -> Lease | None:
        """The segment's lease, once its drains leave it; None when they do not, or the cursor is below the snapshot."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            found = take_lease(self._wiring, segment, self._record, store, session, even_idle=True)
            if isinstance(found, Lease):
                break
            if found != "busy" or time.monotonic() >= deadline or self._stopping():
                return None
            time.sleep(_AGAIN_SECONDS)
        if order(found.position) < order(self._wiring.snapshots.bounds(segment)[1]):
            self._let_go(found, exact=True)
            return None
        return found


class _Sizes(NamedTuple):
    members: int
    excluded: int


def _sizes(names: Collection[Name]) -> _Sizes:
    excluded = sum(map(in_excluded, names))
    return _Sizes(len(names) - excluded, excluded)


def _listed(page: Sequence[Scanned]) -> Iterator[tuple[bytes, set[str]]]:
    """What a scan tells of each context, list by list."""
    for hashed, included, excluded in page:
        if included:
            yield hashed, included
        if excluded:
            yield hash_in("excluded", hashed), excluded


def _some(names: Sequence[Name], size: int) -> Sequence[Name]:
    return random.sample(names, min(size, len(names)))
