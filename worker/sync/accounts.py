"""Counting over what was accepted: accepted = applied + pending + dead + discarded, per store, at every moment.

A log keeps totals of what was ever put into it and of what left it, and everything else lies in it. So its books can be
balanced: the totals, and the position up to which they hold, are read in one step; what lies in it up to there is then
walked through, which nothing but a compaction can change, and that shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from worker.errors import Unavailable
from worker.log.accounts import Books, hollow, read_books, undecided, walk
from worker.log.position import order
from worker.log.snapshots import snapshot_key
from worker.model import SegmentId
from worker.state import state_errors
from worker.wiring import Wiring

# A compaction comes a few times an hour at the most.
_MOST_TRIES = 5


class _Compacted(Exception):
    """Raised when the log was compacted while it was walked through."""


@dataclass(slots=True)
class Share:
    """How much of what was accepted, and can be applied, one store has, and how much it has not."""

    applied: int = 0
    pending: int = 0


@dataclass(slots=True)
class Account:
    """What became of the batches of one log, or of several.

    Attributes:
        accepted: how many the logs ever took.
        dead: wait for a person.
        discarded: a person decided that they stay out, or that they go elsewhere (moved).
        expired: dead letters whose retention was over before a person decided.
        lost: accepted, and nothing of the above. Less than none: there is more in the logs than they ever took.
        stores: store id -> its share of the others. Of what lies in a snapshot only, the share of a store that has not
            read it whole yet is reckoned by the order in which it was accepted.
        problems: what else is wrong, a sentence each.
    """

    accepted: int = 0
    dead: int = 0
    discarded: int = 0
    expired: int = 0
    lost: int = 0
    stores: dict[str, Share] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing, and nothing wrong."""
        return self.lost == 0 and not self.problems

    def add(self, other: Account) -> None:
        """Take in another log's."""
        self.accepted += other.accepted
        self.dead += other.dead
        self.discarded += other.discarded
        self.expired += other.expired
        self.lost += other.lost
        self.problems += other.problems
        for store_id, share in other.stores.items():
            known = self.stores.setdefault(store_id, Share())
            known.applied += share.applied
            known.pending += share.pending


def count_over(
    wiring: Wiring,
    segments: Sequence[SegmentId],
    store_ids: Sequence[str],
    progress: Callable[[int], object] = lambda _done: None,
) -> Account:
    """Count over these logs; payloads may keep arriving, and be applied, replayed and compacted.

    Args:
        wiring: of this process.
        segments: whose logs.
        store_ids: of their environment, on or off.
        progress: called with how many logs are done.

    Raises:
        Unavailable: the state server is away, or a log was compacted again and again meanwhile.
    """
    total = Account(stores={store_id: Share() for store_id in store_ids})
    for done, segment in enumerate(segments, 1):
        total.add(_count(wiring, segment, store_ids))
        progress(done)
    return total


def _count(wiring: Wiring, segment: SegmentId, store_ids: Sequence[str]) -> Account:
    for _ in range(_MOST_TRIES):
        try:
            return _count_once(wiring, segment, store_ids)
        except _Compacted:
            continue
    raise Unavailable(f"{segment.ref} was compacted again and again while it was counted", dependency="state")


def _count_once(wiring: Wiring, segment: SegmentId, store_ids: Sequence[str]) -> Account:
    client = wiring.client
    books = read_books(client, segment, store_ids)
    account = Account(accepted=books.batches + books.inserted, expired=books.expired)
    live = _Live(books)
    in_stream = _walk_through(wiring, books, live, account)
    for entry_id in books.beside - books.unread - in_stream:
        live.add(entry_id)
    waiting = undecided(client, segment, sorted(books.unread))
    # What is not dead any more was dead when the books were read, or had been decided about: it is the same sum.
    account.dead = len(waiting)
    account.discarded = len(books.unread) - len(waiting) + books.forgotten
    account.lost = account.accepted - books.folded - live.count - len(books.unread) - books.expired - books.forgotten
    for store_id, reached in books.stores.items():
        # As far as a store has come in what the log has no more: all of it, unless its cursor is below.
        behind = min(books.folded, max(0, books.trimmed_batches - reached.batches))
        folded = books.folded if order(reached.position) >= order(books.trimmed) else books.folded - behind
        applied = folded + live.applied[store_id]
        account.stores[store_id] = Share(applied, books.folded + live.count - applied)
    gone = [entry_id for entry_id in waiting if entry_id not in in_stream and entry_id not in books.beside]
    _note(account, segment, len(gone), "dead letters without their batch")
    _note(account, segment, len(hollow(client, segment, sorted(books.beside))), "entries beside the stream are empty")
    if books.snapshot and not _has_snapshot(wiring, books):
        account.problems.append(f"{segment.ref}: its snapshot is gone")
    return account


class _Live:
    """Entries that folds read, counted, and how many of them each store has reached."""

    def __init__(self, books: Books) -> None:
        self.count = 0
        self.applied = dict.fromkeys(books.stores, 0)
        self._reached = {store_id: order(reached.position) for store_id, reached in books.stores.items()}

    def add(self, entry_id: str) -> None:
        here = order(entry_id)
        self.count += 1
        for store_id, reached in self._reached.items():
            self.applied[store_id] += here <= reached


def _walk_through(wiring: Wiring, books: Books, live: _Live, account: Account) -> set[str]:
    """Count what lies in the stream; returns the ids of those entries of it that lie elsewhere, too."""
    also_elsewhere: set[str] = set()
    ordinal, gaps, last = books.trimmed_batches, 0, order(books.last)
    for entry_id, number in walk(wiring.client, books.segment, books.trimmed):
        if order(entry_id) > last:
            break
        gaps += number - ordinal - 1
        ordinal = number
        if entry_id in books.unread or entry_id in books.beside:
            also_elsewhere.add(entry_id)
        if entry_id not in books.unread:
            live.add(entry_id)
    gaps += books.batches - ordinal
    if gaps:
        if read_books(wiring.client, books.segment, ()).trimmed != books.trimmed:
            raise _Compacted
        _note(account, books.segment, gaps, "batches are missing in the order in which they were accepted")
    return also_elsewhere


def _has_snapshot(wiring: Wiring, books: Books) -> bool:
    with state_errors():
        if wiring.client.exists(snapshot_key(books.segment, books.snapshot)):
            return True
    if read_books(wiring.client, books.segment, ()).snapshot != books.snapshot:
        raise _Compacted
    return False


def _note(account: Account, segment: SegmentId, count: int, problem: str) -> None:
    if count:
        account.problems.append(f"{segment.ref}: {count:,} {problem}")
