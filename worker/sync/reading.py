"""What a step of a drain reads: entries of the log, page by page, and what they say."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from worker.log.entry import Entry
from worker.log.lease import Behind, Lease
from worker.sync.judge import Judge

# One page. Compressed bytes, some three to five times that once decoded.
PAGE_BYTES = 4 * 1024 * 1024
PAGE_ENTRIES = 256


class Reached(NamedTuple):
    """An entry up to which everything was told: its id, and the log's totals with it."""

    entry_id: str
    batches_total: int
    bytes_total: int


class Reading:
    """Tells what the entries after a lease's position say, one after the other, and keeps none of them.

    Attributes:
        reached: the last entry of which all was told.
        batches: how many entries were told.
    """

    def __init__(self, lease: Lease, judge: Judge, first: Sequence[Entry], over: Callable[[], bool]) -> None:
        """Begin with a page that was read; the last is the one after which ``over`` says so."""
        self._lease = lease
        self._judge = judge
        self._page = deque(first)
        self._over = over
        self._reads_on = True
        self.reached = Reached(lease.position, 0, 0)
        self.batches = 0

    def end_with_page(self) -> None:
        """Read no further page: what this one says is being written, and the cursor is to follow."""
        self._reads_on = False

    def members(self) -> Iterator[Mapping[str, bool]]:
        """What each entry says, in names; a large one piece by piece. Ends before an import, or with the page.

        Raises:
            As ``Judge.members``; and Unavailable when the state server is away.
        """
        while self._page:
            entry = self._page.popleft()
            if entry.kind == "import":
                return
            said = () if entry.dead else self._judge.members(entry)
            self.reached = Reached(entry.entry_id, entry.batches_total, entry.bytes_total)
            self.batches += 1
            del entry  # its bytes may be many, and are not needed any more
            yield from said
            if not self._page and self._reads_on and not self._over():
                self._page.extend(self._next_page())

    def _next_page(self) -> Sequence[Entry]:
        try:
            return read_page(self._lease, after=self.reached.entry_id)
        except Behind:
            return []  # the next step reads the snapshot


def read_page(lease: Lease, after: str | None = None) -> list[Entry]:
    """The next entries after a position, or the lease's own.

    Raises:
        Behind, Unavailable: as ``Lease.read``.
    """
    return lease.read(most_bytes=PAGE_BYTES, most_entries=PAGE_ENTRIES, after=after)
