"""Batches that changed nothing, of both kinds: dead ones, which were accepted, and rejected ones, which were not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge
from typing import NamedTuple

from worker.log.dead_letters import DeadEntry
from worker.log.position import order
from worker.log.rejected_batch import RejectedBatch
from worker.model import SegmentId
from worker.wiring import Wiring

# Only the first two can be replayed or discarded. moved: replayed into other segments than the one it died in.
STATUSES = ("dead", "rejected", "replayed", "discarded", "moved")
WAITING = frozenset(("dead", "rejected"))
_OF_DEAD = frozenset(("dead", "replayed", "discarded", "moved"))
_OF_REJECTED = frozenset(("rejected", "replayed", "discarded"))
# So many are looked at for one page; with a filter that fits few, the page is the shorter.
MOST_LOOKED_AT = 10_000
_PAGE = 500


@dataclass(slots=True, frozen=True)
class KeptBatch:
    """One batch as it is listed. A batch that died in several segments is listed once for each.

    Attributes:
        status: see ``STATUSES``.
        position: its place in the order of everything accepted.
        environment_id: "" when a rejected body does not say one.
        segment: where it died; None for a rejected one.
        source: what it was made from.
    """

    batch_id: str
    status: str
    position: str
    integration_key: str
    environment_id: str
    segment: SegmentId | None
    reason: str
    message: str
    pointer: str | None
    attempts: int
    size_bytes: int
    decided_by: str
    decided_why: str
    decided_ms: int | None
    source: DeadEntry | RejectedBatch

    @property
    def accepted_ms(self) -> int:
        """When it was accepted, or refused, by the state server's clock."""
        return order(self.position)[0]

    @property
    def waits(self) -> bool:
        """Nobody has decided about it."""
        return self.status in WAITING


@dataclass(slots=True, frozen=True)
class BatchFilter:
    """Which batches are meant; None means any. Times are epoch milliseconds: from ``since_ms``, before ``until_ms``.

    A segment is known of dead batches only, and leaves out the rejected ones.
    """

    statuses: frozenset[str] | None = None
    reason: str | None = None
    integration_key: str | None = None
    environment_id: str | None = None
    segment_key: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def means_all(self) -> bool:
        """Nothing narrows it but what was decided about them."""
        named = (self.reason, self.integration_key, self.environment_id, self.segment_key, self.since_ms, self.until_ms)
        return all(part is None for part in named)

    def fits(self, batch: KeptBatch) -> bool:
        """Whether the batch is among those meant."""
        segment_key = None if batch.segment is None else batch.segment.segment_key
        return (
            (self.statuses is None or batch.status in self.statuses)
            and self.reason in {None, batch.reason}
            and self.integration_key in {None, batch.integration_key}
            and self.environment_id in {None, batch.environment_id}
            and self.segment_key in {None, segment_key}
            and (self.since_ms is None or batch.accepted_ms >= self.since_ms)
            and (self.until_ms is None or batch.accepted_ms < self.until_ms)
        )


class Page(NamedTuple):
    """Some batches, the latest first; ``before`` is what the next page begins with, None when there is none."""

    batches: list[KeptBatch]
    before: str | None


@dataclass(slots=True)
class Group:
    """One batch that waits: where it is kept, and what it takes. Some hundred bytes, whatever the batch holds.

    Attributes:
        position: of the earliest of its entries.
        places: of its dead entries; empty for a rejected body.
        size_bytes: what is kept of it.
    """

    batch_id: str
    position: str
    places: list[tuple[SegmentId, str]] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, batch: KeptBatch) -> None:
        """Take in one of its entries."""
        self.position = min(self.position, batch.position, key=order)
        self.size_bytes += batch.size_bytes
        if isinstance(batch.source, DeadEntry):
            self.places.append((batch.source.segment, batch.source.entry_id))


class Batches:
    """Lists, finds and discards them."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def newest_first(self, wanted: BatchFilter, before: str | None = None) -> Iterator[KeptBatch]:
        """Those that fit, the latest first; read page by page.

        Args:
            wanted: which.
            before: the key (see ``page_key``) of the last one of the page before.

        Raises:
            Unavailable: the state server is away.
        """
        return filter(wanted.fits, self._roughly(wanted, before))

    def page(self, wanted: BatchFilter, before: str | None, limit: int) -> Page:
        """At the most ``limit`` of them. A page may be short, or empty, though there are more: see ``before``.

        Raises:
            Unavailable: the state server is away.
        """
        found: list[KeptBatch] = []
        for number, batch in enumerate(self._roughly(wanted, before), 1):
            if len(found) == limit or number > MOST_LOOKED_AT:
                return Page(found, before)
            if wanted.fits(batch):
                found.append(batch)
            before = page_key(batch)
        return Page(found, None)

    def select(self, wanted: BatchFilter) -> list[Group]:
        """Those of them that wait, by batch, in the order in which they were accepted: the order to replay them in.

        Raises:
            Unavailable: the state server is away.
        """
        groups: dict[str, Group] = {}
        for batch in self.newest_first(replace(wanted, statuses=WAITING & (wanted.statuses or WAITING))):
            groups.setdefault(batch.batch_id, Group(batch.batch_id, batch.position)).add(batch)
        return sorted(groups.values(), key=lambda group: order(group.position))

    def read(self, groups: Sequence[Group]) -> list[KeptBatch]:
        """What is kept of these now; what nobody knows of any more is left out.

        Raises:
            Unavailable: the state server is away.
        """
        places = [(*place, group.batch_id) for group in groups for place in group.places]
        found = [_dead(entry) for entry in self._wiring.dead_letters.read(places)]
        rejected = [self._wiring.rejected.read(group.batch_id) for group in groups if not group.places]
        return found + [_rejected(body) for body in rejected if body is not None]

    def find(self, batch_id: str) -> list[KeptBatch]:
        """The batch with that id: as often as it died, or once when it was rejected; empty when there is none.

        Raises:
            Unavailable: the state server is away.
        """
        found = [_dead(entry) for entry in self._wiring.dead_letters.of_batch(batch_id)]
        rejected = self._wiring.rejected.read(batch_id)
        return found if rejected is None else [*found, _rejected(rejected)]

    def discard(self, batches: Sequence[KeptBatch], *, by: str, why: str) -> int:
        """Decide that these are never to be replayed; returns how many were not decided about before.

        Raises:
            Unavailable: the state server is away; some are discarded.
        """
        now_ms = self._wiring.upkeep.server_ms()
        count = 0
        for batch in batches:
            if isinstance(batch.source, DeadEntry):
                count += self._wiring.dead_letters.decide(batch.source, "discarded", by=by, why=why, now_ms=now_ms)
            else:
                count += self._wiring.rejected.mark(batch.batch_id, "discarded", by, why)
        return count

    def _roughly(self, wanted: BatchFilter, before: str | None) -> Iterator[KeptBatch]:
        """Those that fit, and others, the latest first."""
        until_ms = wanted.until_ms
        if before is not None:
            at_ms = parse_page_key(before)[0][0]
            until_ms = at_ms + 1 if until_ms is None else min(until_ms, at_ms + 1)
        dead: Iterator[KeptBatch] = iter(())
        rejected: Iterator[KeptBatch] = iter(())
        if wanted.statuses is None or wanted.statuses & _OF_DEAD:
            upto_ms = None if until_ms is None else until_ms - 1
            dead = _sorted_within_ms(map(_dead, self._wiring.dead_letters.newest_first(wanted.since_ms, upto_ms)))
        if (wanted.statuses is None or wanted.statuses & _OF_REJECTED) and wanted.segment_key is None:
            rejected = map(_rejected, self._rejected(wanted, until_ms))
        for batch in merge(dead, rejected, key=_sort_key, reverse=True):
            if before is None or _sort_key(batch) < parse_page_key(before):
                yield batch

    def _rejected(self, wanted: BatchFilter, until_ms: int | None) -> Iterator[RejectedBatch]:
        before: str | None = None
        while True:
            # Not filtered there: what fits few would be looked for without an end.
            page = self._wiring.rejected.list(before=before, since_ms=wanted.since_ms, until_ms=until_ms, limit=_PAGE)
            yield from page
            if not page:
                return
            before = page[-1].position


def page_key(batch: KeptBatch) -> str:
    """Where a page ends that has this batch as its last."""
    return f"{batch.position}/{_place(batch)}"


def _place(batch: KeptBatch) -> str:
    return batch.batch_id if batch.segment is None else f"{batch.batch_id}/{'/'.join(map(str, batch.segment))}"


def _sort_key(batch: KeptBatch) -> tuple[tuple[int, int], str]:
    return order(batch.position), _place(batch)


def parse_page_key(key: str) -> tuple[tuple[int, int], str]:
    """The place of a page key in the order of all.

    Raises:
        ValueError: it is none.
    """
    position, separator, place = key.partition("/")
    if not separator:
        raise ValueError(key)
    return order(position), place


def _sorted_within_ms(batches: Iterator[KeptBatch]) -> Iterator[KeptBatch]:
    """By their whole position: the index knows their millisecond only."""
    held: list[KeptBatch] = []
    for batch in batches:
        if held and batch.accepted_ms != held[-1].accepted_ms:
            yield from sorted(held, key=_sort_key, reverse=True)
            held.clear()
        held.append(batch)
    yield from sorted(held, key=_sort_key, reverse=True)


def _dead(entry: DeadEntry) -> KeptBatch:
    letter = entry.letter
    return KeptBatch(
        batch_id=letter.batch_id,
        status=letter.status,
        position=entry.entry_id,
        integration_key=letter.integration_key,
        environment_id=entry.segment.environment_id,
        segment=entry.segment,
        reason=letter.reason,
        message=letter.message,
        pointer=letter.pointer,
        attempts=letter.attempts,
        size_bytes=letter.size_bytes,
        decided_by=letter.by,
        decided_why=letter.why,
        decided_ms=letter.decided_ms or None,
        source=entry,
    )


def _rejected(batch: RejectedBatch) -> KeptBatch:
    return KeptBatch(
        batch_id=batch.batch_id,
        status=batch.status,
        position=batch.position,
        integration_key=batch.integration_key,
        environment_id=batch.environment_id,
        segment=None,
        reason=batch.reason,
        message=batch.message,
        pointer=batch.pointer,
        attempts=1,
        size_bytes=batch.length,
        decided_by=batch.decided_by,
        decided_why=batch.decided_why,
        decided_ms=batch.decided_ms,
        source=batch,
    )
