"""LaunchDarkly itself as a store: for its instances that have big segments but no synced ones, as the EU's and federal.

Members go over its REST API into big segments of one environment, a segment ref ``{key}.g{N}`` into the segment
``{key}``. It owns there

    every segment with the tag ``segsync``; the tag ``segsync-g{N}`` tells the generation
    the segment ``segsync-sentinel``, without members: its description is the sentinel, and says how fresh the rest is

LaunchDarkly hands members on to SDKs by itself, and keeps the freshness that they read; the one written here is for
segsync and for people. It knows contexts by their keys, and cannot list them: who left a cohort before the store was
filled anew, and longer ago than the log goes back, stays in the segment, and nobody can tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, NoReturn

from worker.errors import Unavailable
from worker.model import LaunchDarklyStoreConfiguration, MemberList
from worker.stores.launchdarkly.check import find_faults
from worker.stores.launchdarkly.link import LaunchDarklyLink
from worker.stores.launchdarkly.preparation import Preparation
from worker.stores.launchdarkly.rate import RateLimit
from worker.stores.launchdarkly.segments import BigSegment, LaunchDarklySegments
from worker.stores.launchdarkly.sentinel import LaunchDarklySentinel
from worker.stores.launchdarkly.session import WINDOW, LaunchDarklyWriteSession
from worker.stores.segment_store import Sentinel

# A process that is told to stop waits for one connection and its answer, and has ten seconds for all.
ANSWER_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 3.0
# Questions in flight when one context is looked for in every segment, or many in one.
_ASKED_AT_ONCE: Final = 4


class LaunchDarklyStore:
    """A ``SegmentStore`` on one LaunchDarkly environment.

    It cannot fence, and cannot list members. A segment that is deleted in LaunchDarkly shows as soon as something is
    written to it; then the whole store counts as wiped, as its sentinel is taken away: cursors are of stores, not of
    segments.
    """

    lists_members = False

    def __init__(
        self,
        configuration: LaunchDarklyStoreConfiguration,
        *,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        window: int = WINDOW,
        rate: RateLimit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._where = str(configuration)
        self._window = window
        self._link = LaunchDarklyLink(
            configuration,
            answer_timeout_s=answer_timeout_s,
            connect_timeout_s=connect_timeout_s,
            rate=rate or RateLimit(),
        )
        self._segments = LaunchDarklySegments(self._link, configuration)
        self._preparation = Preparation(self._segments, clock)
        self._sentinel = LaunchDarklySentinel(self._segments, clock)

    def __repr__(self) -> str:
        return f"LaunchDarklyStore({self._where})"

    @contextmanager
    def session(self) -> Iterator[LaunchDarklyWriteSession]:
        """See ``SegmentStore``. The sentinel may be one that was read up to fifteen seconds ago, in this process."""
        sentinel = self._sentinel.recent()
        yield LaunchDarklyWriteSession(
            self._segments, self._preparation, sentinel, self._sentinel.take_away, window=self._window
        )

    def fence(self, connection: str) -> bool:  # noqa: ARG002 - the seam names it
        """Never certain here: HTTP requests have no connection whose bytes one could keep from landing."""
        return False

    def included(self, context_key: str) -> set[str]:
        """See ``SegmentStore``. One request for each segment that segsync has created here, and one for fifty of them.

        Segments that it has adopted have no tag, and are not asked: ``includes_keys`` asks them.
        """
        return self._refs(context_key, "included")

    def excluded(self, context_key: str) -> set[str]:
        """See ``included``."""
        return self._refs(context_key, "excluded")

    def includes_keys(self, segment_ref: str, context_keys: Sequence[str], of: MemberList = "included") -> list[bool]:
        """See ``SegmentStore``. One request for each context."""
        if not context_keys:
            return []
        key, _, generation = segment_ref.rpartition(".g")
        segment = self._segments.get(key)
        if segment is None or (segment.generation is not None and str(segment.generation) != generation):
            return [False] * len(context_keys)
        return self._each(lambda context_key: self._segments.has_member(key, context_key, of), context_keys)

    def includes(self, segment_ref: str, hashes: Sequence[bytes], of: MemberList = "included") -> NoReturn:
        """LaunchDarkly knows contexts by their keys."""
        raise NotImplementedError

    def scan(self) -> NoReturn:
        """LaunchDarkly tells nobody who is in a segment."""
        raise NotImplementedError

    def holds_members(self) -> NoReturn:
        """LaunchDarkly tells nobody who is in a segment."""
        raise NotImplementedError

    def drop_segment(self, segment_ref: str) -> None:
        """See ``SegmentStore``. Deletes the segment, unless a later generation has its key.

        One that segsync has adopted is left, empty: whoever has made it may have it in flags, or in Terraform, and
        deletes it there.
        """
        key, _, generation = segment_ref.rpartition(".g")
        found = self._segments.get(key)
        if found is not None and found.generation is not None and found.generation <= int(generation):
            self._segments.delete(key)
        self._preparation.forget(segment_ref)

    def sentinel(self) -> Sentinel | None:
        """See ``SegmentStore``."""
        return self._sentinel.read()

    def claim(self, incarnation: str, beat_ms: int) -> Sentinel:
        """See ``SegmentStore``."""
        held = self._sentinel.claim(Sentinel(incarnation, beat_ms))
        if held is None:
            raise self._link.faults.unavailable("its sentinel comes and goes; see who deletes it")
        return held

    def replace_sentinel(self, incarnation: str, beat_ms: int) -> None:
        """See ``SegmentStore``."""
        if not self._sentinel.replace(Sentinel(incarnation, beat_ms)):
            raise self._link.faults.unavailable("somebody else replaces its sentinel at this moment; it is tried again")

    def synchronized_on(self) -> int | None:
        """See ``SegmentStore``. No SDK reads it: LaunchDarkly tells its own."""
        return self._sentinel.read_freshness()

    def set_synchronized_on(self, epoch_ms: int, sentinel: Sentinel) -> bool:
        """See ``SegmentStore``. One request, unless somebody else has written it since this process did."""
        return self._sentinel.write_freshness(epoch_ms, sentinel)

    def check(self) -> list[str]:
        """See ``SegmentStore``. It changes nothing, and does not find out whether members can be added until then."""
        try:
            return find_faults(self._segments, self._sentinel)
        except Unavailable as fault:
            return [str(fault)]

    def close(self) -> None:
        """See ``SegmentStore``."""
        self._link.close()

    def _refs(self, context_key: str, of: MemberList) -> set[str]:
        segments = list(self._segments.ours())
        found = self._each(lambda segment: self._segments.has_member(segment.key, context_key, of), segments)
        return {_ref(segment) for segment, is_in in zip(segments, found, strict=True) if is_in}

    def _each(self, ask: Callable[..., bool], asked: Iterable[object]) -> list[bool]:
        """Threads belong to the question, so that none is inherited over a fork."""
        with ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="launchdarkly-ask") as executor:
            return list(executor.map(ask, asked))


def _ref(segment: BigSegment) -> str:
    return f"{segment.key}.g{segment.generation}"
