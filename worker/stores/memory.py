"""A store in this process's memory: the reference implementation of the seam, for tests and for reading.

Keyspace: context hash -> set of segment refs; one freshness for all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from worker.errors import Unavailable
from worker.model import SegmentPatch, WriteCounts
from worker.stores.layout import context_hash, portions
from worker.stores.segment_store import BeforeWindow

WINDOW = 2_000


class MemoryStore:
    """The whole contract in a page. Set ``away`` to see how a caller takes a store that is down."""

    def __init__(self) -> None:
        self.away = False
        self._included: dict[str, set[str]] = {}
        self._synchronized_on: int | None = None
        self._lock = threading.Lock()

    @contextmanager
    def session(self) -> Iterator[MemorySession]:
        """See ``SegmentStore``."""
        self._check()
        yield MemorySession(self)

    def fence(self, connection: str) -> bool:  # noqa: ARG002 - the seam names it
        """Nothing is ever late in memory."""
        self._check()
        return True

    def included(self, context_key: str) -> set[str]:
        """See ``SegmentStore``."""
        self._check()
        with self._lock:
            return set(self._included.get(context_hash(context_key), ()))

    def synchronized_on(self) -> int | None:
        """See ``SegmentStore``."""
        self._check()
        return self._synchronized_on

    def set_synchronized_on(self, epoch_ms: int) -> None:
        """See ``SegmentStore``."""
        self._check()
        self._synchronized_on = epoch_ms

    def close(self) -> None:
        """There is nothing to give back; the content stays."""

    def apply(self, patch: SegmentPatch) -> WriteCounts:
        """Change membership at once, and count what really changed."""
        self._check()
        added = removed = 0
        with self._lock:
            for hashed in map(context_hash, patch.add):
                refs = self._included.setdefault(hashed, set())
                added += patch.segment_ref not in refs
                refs.add(patch.segment_ref)
            for hashed in map(context_hash, patch.remove):
                refs = self._included.get(hashed, set())
                removed += patch.segment_ref in refs
                refs.discard(patch.segment_ref)
                if not refs:
                    self._included.pop(hashed, None)
        return WriteCounts(added, removed)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the store in memory was told to be away", dependency="store")


class MemorySession:
    """See ``WriteSession``."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.connection: str | None = f"memory-{id(self)}"

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``."""
        added = removed = 0
        for portion in portions(patch, WINDOW):
            before_window()
            counts = self._store.apply(portion)
            added += counts.added
            removed += counts.removed
        return WriteCounts(added, removed)
