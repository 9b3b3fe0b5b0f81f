"""Getting a segment of LaunchDarkly ready for its members: created, adopted, or found to have lost them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from worker.model import SegmentProfile
from worker.stores.launchdarkly.faults import OF_ONE_SEGMENT
from worker.stores.launchdarkly.segments import BigSegment, LaunchDarklySegments

# What was found of a segment holds for so long in a process: a stream of small batches costs one request each, not two.
# What is missed meanwhile, the write itself is told: a segment that is gone, or is no big one any more, takes nobody.
KNOWN_S: Final = 30.0
_MOST_KNOWN: Final = 10_000

# "retired": a later generation has the key; what an old generation's drain would still write is nobody's any more.
Standing = Literal["ready", "retired"]


class SegmentLost(Exception):
    """Raised when a segment that was written to is not there, or is another one: its members are gone."""


class _Known(NamedTuple):
    standing: Standing
    at: float
    incarnation: str
    creation_date: int


class Preparation:
    """What this process knows of segments, one for all sessions of a store. Safe between threads."""

    def __init__(self, segments: LaunchDarklySegments, clock: Callable[[], float] = time.monotonic) -> None:
        self._segments = segments
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def prepare(self, profile: SegmentProfile, incarnation: str) -> Standing:
        """Make sure that members can be written to a segment, and that those written before are still there.

        A segment that is missing is created if nothing was ever written to it. One that somebody else has made, a
        person, Terraform, or LaunchDarkly itself, is adopted if it is a big one of the same context kind, and nothing
        is added to it, no tag either: whoever describes it elsewhere would only take that away again. Such a one is
        not told of by ``included``; and when it is deleted and made again by hand, only a process that has seen the
        former one notices. One of an earlier generation, which was deleted and came back, is replaced with its members.

        Where a later generation has the key, the drain of an old one has nothing to say any more: "retired".

        Args:
            profile: the segment, and whether it is fresh.
            incarnation: of the store's present life; what is known of segments is of one life.

        Raises:
            SegmentLost: it has lost the members that were written to it.
            Unavailable: LaunchDarkly is away or refuses, or a person must see to the segment.
        """
        ref = profile.segment.ref
        with self._lock:
            known = self._known.get(ref)
        if known is not None and known.incarnation != incarnation:
            known = None
        if not profile.fresh and known is not None and self._clock() - known.at < KNOWN_S:
            return known.standing
        at = self._clock()
        found = self._segments.get(profile.segment.segment_key)
        standing: Standing = "ready"
        if found is None:
            found = self._create(profile)
        if (found.generation or 0) > profile.segment.generation:
            self._prove_retired(found, profile)
            standing = "retired"
        else:
            found = self._usable(found, profile, known)
        self._note(ref, _Known(standing, at, incarnation, found.creation_date))
        return standing

    def prove_big(self, profile: SegmentProfile) -> None:
        """Look again at a segment that takes nobody.

        Raises:
            SegmentLost: it is not there.
            Unavailable: a person must see to it.
        """
        found = self._segments.get(profile.segment.segment_key)
        if found is None:
            raise SegmentLost
        self._prove(found, profile)

    def forget(self, segment_ref: str) -> None:
        """A segment is gone, and shall be: what was found of it is told to nobody any more."""
        with self._lock:
            self._known.pop(segment_ref, None)

    def _create(self, profile: SegmentProfile) -> BigSegment:
        if not profile.fresh:
            raise SegmentLost
        key = profile.segment.segment_key
        # Where somebody has made it since it was looked for, it is that one.
        found = self._segments.create(profile) or self._segments.get(key)
        if found is None:
            raise self._segments.faults.unavailable(f"segment {key} comes and goes; it is tried again")
        return found

    def _usable(self, found: BigSegment, profile: SegmentProfile, known: _Known | None) -> BigSegment:
        generation = profile.segment.generation
        if found.generation is not None and found.generation < generation:
            if not profile.fresh:
                raise SegmentLost
            self._segments.delete(found.key)
            return self._create(profile)
        if not profile.fresh and known is not None and known.creation_date != found.creation_date:
            raise SegmentLost
        self._prove(found, profile)
        return found

    def _prove_retired(self, found: BigSegment, profile: SegmentProfile) -> None:
        """A generation that has never been written and is late already is none: the counter of generations is."""
        if profile.fresh:
            raise self._segments.faults.unavailable(
                f"segment {found.key} is of generation {found.generation} there, and of {profile.segment.generation} "
                "here, as if the state server had lost what it knew; delete the segment there, or restore the state "
                "server",
                fault=OF_ONE_SEGMENT,
            )

    def _prove(self, found: BigSegment, profile: SegmentProfile) -> None:
        faults = self._segments.faults
        if not found.unbounded:
            raise faults.unavailable(
                f"segment {found.key} is no big segment, and cannot become one; delete it there",
                fault=OF_ONE_SEGMENT,
            )
        if found.context_kind != profile.context_kind:
            raise faults.unavailable(
                f"segment {found.key} is of context kind {found.context_kind}, the partner's cohort of "
                f"{profile.context_kind}; delete the segment there, or let the partner send the other kind",
                fault=OF_ONE_SEGMENT,
            )

    def _note(self, ref: str, known: _Known) -> None:
        with self._lock:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[ref] = known
