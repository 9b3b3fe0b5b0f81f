"""The one seam: what segsync asks of a store that LaunchDarkly's SDKs read. Contract suite: tests/contract."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from worker.model import SegmentPatch, WriteCounts

BeforeWindow = Callable[[], None]


class WriteSession(Protocol):
    """The right to write over one connection; used by one drain at a time, never by two threads."""

    @property
    def connection(self) -> str | None:
        """An opaque identity of the connection that writes go over, or None if this store cannot fence.

        Known before anything is written: it is kept in the open mark, and ``SegmentStore.fence`` takes it. It
        holds no secret. A session never replaces its connection: once that is broken, every write raises.
        """

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        """Make the members of ``patch.add`` included in the segment, and those of ``patch.remove`` not included.

        Idempotent; an empty patch writes nothing. Order within the patch does not matter. ``before_window`` is
        called before each bounded portion is sent (at least every few thousand members); what it raises ends
        the write, after everything already sent has been answered.

        Returns:
            How many members were really added and removed, from the store's replies.

        Raises:
            Unavailable: the store is away or refuses. ``fate_unknown`` says whether something sent was never
                answered, and so may still land; False means that whatever was sent has been answered, some of
                it perhaps applied. Nothing is ever retried in here.
        """


class SegmentStore(Protocol):
    """A store in the layout that LaunchDarkly's SDKs read. Safe to share between threads; not between forks."""

    def session(self) -> AbstractContextManager[WriteSession]:
        """Check out a live connection for one drain.

        Raises:
            Unavailable: it cannot be had (nothing has been written: ``fate_unknown`` is False).
        """

    def fence(self, connection: str) -> bool:
        """Make sure that no byte sent over that connection can land any more.

        Returns:
            True when that is certain now; False when this store cannot tell (the caller then waits instead).

        Raises:
            Unavailable: the store is away.
        """

    def included(self, context_key: str) -> set[str]:
        """The segment refs that include this context key, read from the store.

        Raises:
            Unavailable: the store is away.
        """

    def synchronized_on(self) -> int | None:
        """The store's freshness, in epoch milliseconds, or None if it was never set.

        Raises:
            Unavailable: the store is away.
        """

    def set_synchronized_on(self, epoch_ms: int) -> None:
        """Write the store's freshness, as SDKs read it.

        Raises:
            Unavailable: the store is away.
        """

    def close(self) -> None:
        """Give connections back; idempotent. Using the store again opens new ones."""
