"""What a step of a drain reads: entries of the log, page by page, and what they say."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from worker.log.entry import Entry
from worker.log.lease import Behind, Lease
from worker.sync.judge import Judge

# One page. Compressed bytes, some three to five times that once decoded; little enough to be read, and parsed, while a
# store works on what it was sent before.
PAGE_BYTES = 1024 * 1024
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
        """Begin with a page that was read; ``over``, asked after each full page, says whether it was the last."""
        self._lease = lease
        self._judge = judge
        self._over = over
        self._turn_to(first)
        self.reached = Reached(lease.position, 0, 0)
        self.batches = 0

    def members(self) -> Iterator[Mapping[str, bool]]:
        """What each entry says, in names; a large one piece by piece. Ends before an import, or with a page.

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
            if not self._page and self._full and not self._over():
                self._turn_to(self._next_page())

    def _turn_to(self, page: Sequence[Entry]) -> None:
        self._page = deque(page)
        # After one that is not, the cursor tells whether there is more: no reading what is not there.
        self._full = len(page) >= PAGE_ENTRIES or 2 * sum(len(entry.data) for entry in page) >= PAGE_BYTES

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
