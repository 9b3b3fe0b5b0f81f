"""How a store is asked about members: by context hash, as its layout has it, or by context key, one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from worker.log.lease import Lease
from worker.stores import SegmentStore, WriteSession
from worker.stores.layout import context_hashes

Name = bytes | str

_HASHED_AT_ONCE: Final = 50_000
# Where each member asked about costs a request: so many who should be in a segment, and so many who should not.
ASKED_ONE_BY_ONE: Final = 100


class Asking(Protocol):
    """One store's way.

    Attributes:
        most: of how many members of a segment it is asked, of those who should be in and of those who should not; None
            where everybody can be looked at.
    """

    most: int | None

    def names(self, context_keys: Sequence[str], meanwhile: Callable[[], object]) -> Sequence[Name]:
        """What it knows these contexts by, in their order."""

    def included(self, segment_ref: str, names: Sequence[Name]) -> list[bool]:
        """Whether each of them is in the segment.

        Raises:
            Unavailable: the store is away.
        """

    def remove(self, session: WriteSession, lease: Lease, names: Sequence[Name]) -> bool:
        """Take strays out, where that can be done without folding everything again; returns whether it was.

        Raises:
            LeaseLost: see ``WriteSession.write``.
            Unavailable: see there.
        """


def asking(store: SegmentStore) -> Asking:
    """The way of this store."""
    return ByHash(store) if store.lists_members else ByKey(store)


class ByHash:
    """A store in LaunchDarkly's layout: everybody in it can be listed, and any number asked about at once."""

    most: int | None = None

    def __init__(self, store: SegmentStore) -> None:
        self._store = store

    def names(self, context_keys: Sequence[str], meanwhile: Callable[[], object]) -> Sequence[Name]:
        """See ``Asking``."""
        hashes: list[bytes] = []
        for start in range(0, len(context_keys), _HASHED_AT_ONCE):
            hashes += context_hashes(context_keys[start : start + _HASHED_AT_ONCE])
            meanwhile()
        return hashes

    def included(self, segment_ref: str, names: Sequence[Name]) -> list[bool]:
        """See ``Asking``."""
        return self._store.includes(segment_ref, cast("Sequence[bytes]", names))

    def remove(self, session: WriteSession, lease: Lease, names: Sequence[Name]) -> bool:
        """See ``Asking``."""
        session.remove_hashes(lease.segment.ref, cast("Sequence[bytes]", names), lease.renew)
        return True


class ByKey:
    """LaunchDarkly itself: it says of one context at a time whether it is in a segment."""

    most: int | None = ASKED_ONE_BY_ONE

    def __init__(self, store: SegmentStore) -> None:
        self._store = store

    def names(self, context_keys: Sequence[str], meanwhile: Callable[[], object]) -> Sequence[Name]:  # noqa: ARG002
        """See ``Asking``."""
        return context_keys

    def included(self, segment_ref: str, names: Sequence[Name]) -> list[bool]:
        """See ``Asking``."""
        return self._store.includes_keys(segment_ref, cast("Sequence[str]", names))

    def remove(self, session: WriteSession, lease: Lease, names: Sequence[Name]) -> bool:  # noqa: ARG002
        """See ``Asking``: the log knows that they left, so that folding it again takes them out."""
        return False
