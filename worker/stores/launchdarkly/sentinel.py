"""The sentinel of a LaunchDarkly environment: a big segment without members, whose description says what it is.

LaunchDarkly has no other place for it. Whoever may see the environment's segments sees this one, too, and what for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, NamedTuple

import httpx2

from worker.stores.launchdarkly.segments import LaunchDarklySegments
from worker.stores.segment_store import Sentinel

SENTINEL_KEY: Final = "segsync-sentinel"
# So old may be what a drain takes for the sentinel: else half of all requests would ask for it. A store that has lost
# its content in these seconds shows itself all the same, and nothing is written that should not be: the segment that a
# drain writes to is gone as well, which answers 404. And where another life of the store has begun meanwhile, what is
# written under the former one's cursors is what those cursors say, and is written once more under the new one's.
RECENT_S: Final = 15.0

_TOLD: Final = (
    "segsync knows by this that the environment's synced segments are as it has left them. Do not use it in flags, and "
    "do not change or delete it: segsync would take the members of all its segments for lost, and write them again."
)
_FACTS: Final = re.compile(r" incarnation=(\S+) beat=(\d+)(?: synchronizedOn=(\d+))?$", re.ASCII)
# What somebody else has written there is a sentinel that nobody knows.
_UNKNOWN: Final = Sentinel("unreadable", 0)


class _Seen(NamedTuple):
    at: float
    description: str


class LaunchDarklySentinel:
    """The segment ``segsync-sentinel``. Safe between threads; every method raises ``Unavailable``."""

    def __init__(self, segments: LaunchDarklySegments, clock: Callable[[], float] = time.monotonic) -> None:
        self._segments = segments
        self._clock = clock
        self._seen: _Seen | None = None

    def read(self) -> Sentinel | None:
        """The sentinel that is there."""
        description = self._read()
        return None if description is None else _facts(description)[0]

    def recent(self) -> Sentinel | None:
        """The sentinel that was there not long ago (``RECENT_S``); that there was none is always asked again."""
        seen = self._seen
        if seen is not None and self._clock() - seen.at < RECENT_S:
            return _facts(seen.description)[0]
        return self.read()

    def read_freshness(self) -> int | None:
        """The freshness that stands beside it."""
        description = self._read()
        return None if description is None else _facts(description)[1]

    def claim(self, sentinel: Sentinel) -> Sentinel | None:
        """Leave a sentinel if there is none, and return the one that is there; None if it was taken away meanwhile."""
        return sentinel if self._create(_describe(sentinel, None)) else self.read()

    def replace(self, sentinel: Sentinel) -> bool:
        """Leave a sentinel in place of any other; whether it is there: others may be at it at the same time."""
        self._seen, started = None, self._clock()
        text = _describe(sentinel, None)
        answer = self._segments.patch_description(SENTINEL_KEY, text)
        if answer.status_code == HTTPStatus.OK:
            self._note(started, answer)
            return True
        if answer.status_code != HTTPStatus.NOT_FOUND:
            raise self._segments.refused(answer, "updateDescription")
        return self._create(text)

    def write_freshness(self, epoch_ms: int, sentinel: Sentinel) -> bool:
        """Write it and the beat, in one step and only beside that sentinel; see ``SegmentStore``.

        Costs one request where nobody else writes it: what was last written here is the condition of the next change.
        """
        seen = self._seen
        known = seen.description if seen is not None else None
        if known is None or _facts(known)[0].incarnation != sentinel.incarnation:
            known = self._read()
        for last in (False, True):
            if known is None or _facts(known)[0].incarnation != sentinel.incarnation:
                return False
            started = self._clock()
            beat_ms = max(sentinel.beat_ms, _facts(known)[0].beat_ms)
            text = _describe(Sentinel(sentinel.incarnation, beat_ms), epoch_ms)
            answer = self._segments.patch_description(SENTINEL_KEY, text, was=known)
            if answer.status_code == HTTPStatus.OK:
                self._note(started, answer)
                return True
            tested, known = known, self._read()
            if last and known == tested:  # so that it was not the test that failed
                raise self._segments.refused(answer, "updateDescription")
        return False

    def take_away(self, sentinel: Sentinel | None) -> None:
        """Delete it, so that the store shows as one that has lost its content; but not one that came in its place."""
        found = self.read()
        if found is not None and (sentinel is None or found.incarnation == sentinel.incarnation):
            self._seen = None
            self._segments.delete(SENTINEL_KEY)

    def description(self) -> str | None:
        """All that its segment says; None when there is none."""
        return self._read()

    def _read(self) -> str | None:
        self._seen, started = None, self._clock()
        found = self._segments.get(SENTINEL_KEY)
        if found is None:
            return None
        self._seen = _Seen(started, found.description)
        return found.description

    def _create(self, description: str) -> bool:
        """Create the segment; False when it is there already."""
        self._seen, started = None, self._clock()
        created = self._segments.create_as(
            {
                "key": SENTINEL_KEY,
                "name": "segsync's sentinel: do not delete",
                "description": description,
                "tags": [SENTINEL_KEY],
                "unboundedContextKind": "user",
            }
        )
        if created is not None:
            self._seen = _Seen(started, created.description)
        return created is not None

    def _note(self, started: float, answer: httpx2.Response) -> None:
        """What LaunchDarkly made of a text is what the next condition must name."""
        self._seen = _Seen(started, self._segments.read(answer).description)


def _describe(sentinel: Sentinel, epoch_ms: int | None) -> str:
    freshness = "" if epoch_ms is None else f" synchronizedOn={epoch_ms}"
    return f"{_TOLD} incarnation={sentinel.incarnation} beat={sentinel.beat_ms}{freshness}"


def _facts(description: str) -> tuple[Sentinel, int | None]:
    """The sentinel and the freshness that a description tells."""
    found = _FACTS.search(description)
    if found is None:
        return _UNKNOWN, None
    return Sentinel(found[1], int(found[2])), None if found[3] is None else int(found[3])
