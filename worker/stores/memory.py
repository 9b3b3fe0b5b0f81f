"""A store in this process's memory: the reference implementation of the seam, for tests and for reading.

Keyspace: of each list, context hash -> set of segment refs; one freshness and one sentinel for all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from worker.errors import Unavailable
from worker.model import MemberList, SegmentPatch, WriteCounts
from worker.stores.layout import MEMBER_LISTS, context_hash, context_hashes, portions, proved_hashes
from worker.stores.segment_store import BeforeWindow, Describe, Scanned, Sentinel, write_in_turn

WINDOW = 2_000


class MemoryStore:
    """The whole contract in a page.

    Set ``away`` to see how a caller takes a store that is down, ``process`` for one that was restarted; ``wipe`` it.
    """

    lists_members = True

    def __init__(self) -> None:
        self.away = False
        self.process = "memory"
        self._lists: dict[MemberList, dict[bytes, set[str]]] = {of: {} for of in MEMBER_LISTS}
        self._synchronized_on: int | None = None
        self._sentinel: Sentinel | None = None
        self._lock = threading.Lock()

    @contextmanager
    def session(self) -> Iterator[MemorySession]:
        """See ``SegmentStore``."""
        self._answer()
        yield MemorySession(self)

    def fence(self, connection: str) -> bool:  # noqa: ARG002 - the seam names it
        """Nothing is ever late in memory."""
        self._answer()
        return True

    def included(self, context_key: str) -> set[str]:
        """See ``SegmentStore``."""
        return self._refs("included", context_key)

    def excluded(self, context_key: str) -> set[str]:
        """See ``SegmentStore``."""
        return self._refs("excluded", context_key)

    def includes_keys(self, segment_ref: str, context_keys: Sequence[str], of: MemberList = "included") -> list[bool]:
        """See ``SegmentStore``."""
        return self.includes(segment_ref, context_hashes(context_keys), of)

    def includes(self, segment_ref: str, hashes: Sequence[bytes], of: MemberList = "included") -> list[bool]:
        """See ``SegmentStore``."""
        proved_hashes(hashes)
        self._answer()
        with self._lock:
            return [segment_ref in self._lists[of].get(hashed, ()) for hashed in hashes]

    def scan(self) -> Iterator[list[Scanned]]:
        """See ``SegmentStore``."""
        self._answer()
        with self._lock:
            included, excluded = self._lists["included"], self._lists["excluded"]
            content = iter(
                [
                    Scanned(hashed, set(included.get(hashed, ())), set(excluded.get(hashed, ())))
                    for hashed in included | excluded
                ]
            )
        while page := list(islice(content, WINDOW)):
            self._answer()
            yield page

    def holds_members(self) -> bool:
        """See ``SegmentStore``."""
        self._answer()
        return any(self._lists.values())

    def drop_segment(self, segment_ref: str) -> None:  # noqa: ARG002 - the seam names it
        """See ``SegmentStore``: there is nothing to take away."""
        self._answer()

    def sentinel(self) -> Sentinel | None:
        """See ``SegmentStore``."""
        self._answer()
        return self._sentinel

    def claim(self, incarnation: str, beat_ms: int) -> Sentinel:
        """See ``SegmentStore``."""
        self._answer()
        with self._lock:
            self._sentinel = self._sentinel or Sentinel(incarnation, beat_ms)
            return self._sentinel

    def replace_sentinel(self, incarnation: str, beat_ms: int) -> None:
        """See ``SegmentStore``."""
        self._answer()
        with self._lock:
            self._sentinel = Sentinel(incarnation, beat_ms)

    def synchronized_on(self) -> int | None:
        """See ``SegmentStore``."""
        self._answer()
        return self._synchronized_on

    def set_synchronized_on(self, epoch_ms: int, sentinel: Sentinel) -> bool:
        """See ``SegmentStore``."""
        self._answer()
        with self._lock:
            held = self._sentinel
            if held is None or held.incarnation != sentinel.incarnation:
                return False
            self._sentinel = Sentinel(held.incarnation, max(held.beat_ms, sentinel.beat_ms))
            self._synchronized_on = epoch_ms
            return True

    def check(self) -> list[str]:
        """See ``SegmentStore``."""
        return ["the store in memory was told to be away; tell it to be back"] if self.away else []

    def close(self) -> None:
        """There is nothing to give back; the content stays."""

    def wipe(self) -> None:
        """Forget everything, as a server does that restarts without its data; also while it is away."""
        with self._lock:
            for members in self._lists.values():
                members.clear()
            self._synchronized_on = self._sentinel = None

    def change(
        self, segment_ref: str, add: Iterable[bytes], remove: Iterable[bytes], of: MemberList = "included"
    ) -> tuple[int, int]:
        """Change one list at once; returns how many were really added and removed."""
        self._answer()
        added = removed = 0
        members = self._lists[of]
        with self._lock:
            for hashed in add:
                refs = members.setdefault(hashed, set())
                added += segment_ref not in refs
                refs.add(segment_ref)
            for hashed in remove:
                refs = members.get(hashed, set())
                removed += segment_ref in refs
                refs.discard(segment_ref)
                if not refs:
                    members.pop(hashed, None)
        return added, removed

    def _refs(self, of: MemberList, context_key: str) -> set[str]:
        self._answer()
        with self._lock:
            return set(self._lists[of].get(context_hash(context_key).encode(), ()))

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("the store in memory was told to be away", dependency="store")


class MemorySession:
    """See ``WriteSession``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.connection: str | None = f"memory-{id(self)}"
        self.sentinel = store.sentinel()
        self.process = store.process

    def prepare(self, describe: Describe) -> None:
        """See ``WriteSession``."""

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``."""
        done = WriteCounts(0, 0)
        for portion in portions(patch, WINDOW):
            before_window()
            ref = patch.segment_ref
            included = self._store.change(ref, context_hashes(portion.add), context_hashes(portion.remove))
            add, remove = context_hashes(portion.add_excluded), context_hashes(portion.remove_excluded)
            excluded = self._store.change(ref, add, remove, "excluded")
            done = WriteCounts(
                added=done.added + included[0],
                removed=done.removed + included[1],
                added_excluded=done.added_excluded + excluded[0],
                removed_excluded=done.removed_excluded + excluded[1],
            )
        return done

    def write_all(self, patches: Iterable[SegmentPatch], before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``."""
        return write_in_turn(self, patches, before_window)

    def remove_hashes(
        self, segment_ref: str, hashes: Sequence[bytes], before_window: BeforeWindow, of: MemberList = "included"
    ) -> int:
        """See ``WriteSession``."""
        removed = 0
        for start in range(0, len(proved_hashes(hashes)), WINDOW):
            before_window()
            removed += self._store.change(segment_ref, (), hashes[start : start + WINDOW], of)[1]
        return removed
