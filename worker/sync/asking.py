"""How a store is asked about members of both lists: by context hash, as its layout has it, or by key, one by one.

What a store knows a member by is here its hash, behind a mark where the excluded list is meant; or its name (names.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, cast

from worker.log.names import is_excluded, split_name
from worker.model import MemberList
from worker.stores import SegmentStore, WriteSession
from worker.stores.layout import context_hashes
from worker.stores.segment_store import BeforeWindow

Name = bytes | str

# No hash begins with it.
_EXCLUDED: Final = b"-"
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

    def known_by(self, names: Sequence[str], meanwhile: Callable[[], object]) -> Sequence[Name]:
        """What it knows these members by, in their order."""

    def has(self, segment_ref: str, names: Sequence[Name]) -> list[bool]:
        """Whether each of them is in its list of the segment.

        Raises:
            Unavailable: the store is away.
        """

    def remove(
        self, session: WriteSession, segment_ref: str, names: Sequence[Name], before_window: BeforeWindow
    ) -> bool:
        """Take strays out, where that can be done without folding everything again; returns whether it was.

        Raises:
            LeaseLost: see ``WriteSession.write``.
            Unavailable: see there.
        """


def hash_in(of: MemberList, context_hash: bytes) -> bytes:
    """What a member of one of the lists is known by."""
    return context_hash if of == "included" else _EXCLUDED + context_hash


def in_excluded(name: Name) -> bool:
    """Whether it is a member of the excluded list that is known by it."""
    return is_excluded(name) if isinstance(name, str) else name.startswith(_EXCLUDED)


def _hash_of(name: bytes) -> bytes:
    return name.removeprefix(_EXCLUDED)


def _by_list(names: Iterable[Name]) -> dict[MemberList, list[Name]]:
    """Those of each list that anybody is asked about in."""
    found: dict[MemberList, list[Name]] = {}
    for name in names:
        found.setdefault("excluded" if in_excluded(name) else "included", []).append(name)
    return found


def asking(store: SegmentStore) -> Asking:
    """The way of this store."""
    return ByHash(store) if store.lists_members else ByKey(store)


class ByHash:
    """A store in LaunchDarkly's layout: everybody in it can be listed, and any number asked about at once."""

    most: int | None = None

    def __init__(self, store: SegmentStore) -> None:
        self._store = store

    def known_by(self, names: Sequence[str], meanwhile: Callable[[], object]) -> Sequence[Name]:
        """See ``Asking``."""
        found: list[bytes] = []
        for start in range(0, len(names), _HASHED_AT_ONCE):
            told = [split_name(name) for name in names[start : start + _HASHED_AT_ONCE]]
            hashes = context_hashes([key for _, key in told])
            found += (hash_in(of, hashed) for (of, _), hashed in zip(told, hashes, strict=True))
            meanwhile()
        return found

    def has(self, segment_ref: str, names: Sequence[Name]) -> list[bool]:
        """See ``Asking``."""
        found: dict[Name, bool] = {}
        for of, there in _by_list(names).items():
            hashes = [_hash_of(cast("bytes", name)) for name in there]
            found.update(zip(there, self._store.includes(segment_ref, hashes, of), strict=True))
        return [found[name] for name in names]

    def remove(
        self, session: WriteSession, segment_ref: str, names: Sequence[Name], before_window: BeforeWindow
    ) -> bool:
        """See ``Asking``."""
        for of, there in _by_list(names).items():
            hashes = [_hash_of(cast("bytes", name)) for name in there]
            session.remove_hashes(segment_ref, hashes, before_window, of)
        return True


class ByKey:
    """LaunchDarkly itself: it says of one context at a time whether it is in a segment."""

    most: int | None = ASKED_ONE_BY_ONE

    def __init__(self, store: SegmentStore) -> None:
        self._store = store

    def known_by(self, names: Sequence[str], meanwhile: Callable[[], object]) -> Sequence[Name]:  # noqa: ARG002
        """See ``Asking``."""
        return names

    def has(self, segment_ref: str, names: Sequence[Name]) -> list[bool]:
        """See ``Asking``."""
        found: dict[Name, bool] = {}
        for of, there in _by_list(names).items():
            keys = [split_name(cast("str", name))[1] for name in there]
            found.update(zip(there, self._store.includes_keys(segment_ref, keys, of), strict=True))
        return [found[name] for name in names]

    def remove(
        self,
        session: WriteSession,  # noqa: ARG002
        segment_ref: str,  # noqa: ARG002
        names: Sequence[Name],  # noqa: ARG002
        before_window: BeforeWindow,  # noqa: ARG002
    ) -> bool:
        """See ``Asking``: the log knows that they left, so that folding it again takes them out."""
        return False
