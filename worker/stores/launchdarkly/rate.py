"""How fast LaunchDarkly may be asked: what its answers say of its limits, remembered for all threads of a process.

It counts requests in windows of ten seconds, for the account, for each route and perhaps for each token, and tells only
of those limits that it enforces: no header, no limit known. Other processes use up the same limits: what is held back
here saves most refusals, and a request that is refused all the same was certainly not done, so that it may wait and go
again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from worker.processes import stop_requested
from worker.stores.segment_store import BeforeWindow

# A wait is cut into pieces: who waits under a lease renews it, and who is told to stop does.
STEP_S: Final = 1.0
# A refusal that names no time, or one that has passed by the clocks that we have.
UNTOLD_HOLD_S: Final = 1.0
# A time further off than this comes from a clock that is wrong; windows are of ten seconds, bans of a minute.
LONGEST_HOLD_S: Final = 60.0
TOO_MANY: Final = 429

# Limit: the headers of what is left of it, and of when it begins anew.
_LIMITS: Final = {
    "global": ("x-ratelimit-global-remaining", "x-ratelimit-reset"),
    "route": ("x-ratelimit-route-remaining", "x-ratelimit-reset"),
    "token": ("x-ratelimit-auth-token-remaining", "x-ratelimit-auth-token-reset"),
}
# Holds up every route: a refusal that none of the limits explains. No other answer ends it.
_REFUSED: Final = "refused"


class Throttled(Exception):
    """Raised when a limit would have to be waited for longer than the caller has patience, or the process has time."""


@dataclass(slots=True)
class _Window:
    """What is left of one limit.

    Attributes:
        reset_ms: when it begins anew, by LaunchDarkly's clock: its identity.
        ends_at: the same by ours, monotonic, in seconds; never before it really ends.
    """

    reset_ms: int
    ends_at: float
    remaining: int


class Turn:
    """One request that may be sent now; tell it the answer."""

    def __init__(self, limit: RateLimit, route: str) -> None:
        self._limit = limit
        self._route = route

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from an answer; header names are in lower case, or the mapping does not care."""
        self._limit.learn(self._route, status, headers)


class RateLimit:
    """What is left of LaunchDarkly's limits. Safe between threads.

    Requests in flight are counted as used up, so that several threads do not share the last one.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._sleep = sleep
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}
        self._in_flight: dict[str, int] = {}

    def deadline(self, patience_s: float) -> float:
        """The time, by this object's clock, at which so many seconds are over."""
        return self._clock() + patience_s

    @contextmanager
    def turn(self, route: str, deadline: float, before_window: BeforeWindow | None = None) -> Iterator[Turn]:
        """Wait until one more request of that route may be sent.

        Args:
            route: any name; requests of one name share a limit.
            deadline: so long, at most; see ``deadline``.
            before_window: called before each second of waiting; what it raises ends it, and nothing is sent.

        Raises:
            Throttled: it would take longer, or the process was told to stop while waiting. Nothing is sent.
        """
        self._wait(route, deadline, before_window)
        try:
            yield Turn(self, route)
        finally:
            with self._lock:
                for name in _names(route):
                    self._in_flight[name] -= 1

    def learn(self, route: str, status: int, headers: Mapping[str, str]) -> None:
        """Take over what an answer says; requests that wait see it at once, or a second later."""
        now = self._clock()
        server_s = self._server_seconds(headers)
        with self._lock:
            for name, limit in zip(_names(route), _LIMITS, strict=True):
                remaining, reset = (_number(headers.get(header)) for header in _LIMITS[limit])
                if remaining is not None and reset is not None:
                    hold_s = min(max(reset / 1000 - server_s, 0.0), LONGEST_HOLD_S)
                    self._note(name, _Window(reset, now + hold_s, remaining))
            if status == TOO_MANY and self._held_s(route, now) <= 0:
                # Refusals by address have Retry-After alone; one that says nothing is waited for a moment.
                retry_after = _number(headers.get("retry-after"))
                hold_s = min(float(retry_after or UNTOLD_HOLD_S), LONGEST_HOLD_S)
                self._windows[_REFUSED] = _Window(0, now + hold_s, 0)

    def _wait(self, route: str, deadline: float, before_window: BeforeWindow | None) -> None:
        while True:
            with self._lock:
                now = self._clock()
                left_s = self._held_s(route, now)
                if left_s <= 0:
                    self._take(route)
                    return
            if now + left_s > deadline:
                raise Throttled
            if before_window is not None:
                before_window()
            elif stop_requested():
                raise Throttled
            self._sleep(min(left_s, STEP_S))

    def _take(self, route: str) -> None:
        for name in _names(route):
            self._in_flight[name] = self._in_flight.get(name, 0) + 1
            if name in self._windows:
                self._windows[name].remaining -= 1

    def _held_s(self, route: str, now: float) -> float:
        """How long a request of that route has to wait, in seconds; windows that are over are forgotten."""
        held = 0.0
        for name in (*_names(route), _REFUSED):
            window = self._windows.get(name)
            if window is None:
                continue
            if window.ends_at <= now:
                del self._windows[name]
            elif window.remaining <= 0:
                held = max(held, window.ends_at - now)
        return held

    def _note(self, name: str, told: _Window) -> None:
        """Answers come in any order: within one window the least counts, and one of a window that is over is late."""
        known = self._windows.get(name)
        if known is not None and told.reset_ms < known.reset_ms:
            return
        if known is not None and told.reset_ms == known.reset_ms:
            known.remaining = min(known.remaining, told.remaining)
            known.ends_at = min(known.ends_at, told.ends_at)
            return
        # Whether the others that are in flight were counted already, nobody knows.
        others = max(0, self._in_flight.get(name, 0) - 1)
        self._windows[name] = told
        told.remaining = max(0, told.remaining - others)

    def _server_seconds(self, headers: Mapping[str, str]) -> float:
        """LaunchDarkly's clock, as it was up to a second ago: a wait by it is never too short. Else ours."""
        try:
            return parsedate_to_datetime(headers["date"]).timestamp()
        except (KeyError, ValueError):
            return self._wall()


def _names(route: str) -> tuple[str, str, str]:
    return "global", f"route {route}", "token"


def _number(value: str | None) -> int | None:
    try:
        return max(0, int(float(value))) if value is not None else None
    except (ValueError, OverflowError):
        return None
