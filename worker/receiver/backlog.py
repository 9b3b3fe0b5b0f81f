"""Backpressure: how much waits in the logs, by the scheduler's figures and by what was accepted here since."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping

import structlog

from worker.log.pending import Pending
from worker.settings import Settings

# Figures come every ten seconds; older ones say nothing of now, and with no scheduler nothing would ever lower them.
BELIEVED_MS = 60_000
_IN_ALL = ""

_log = structlog.get_logger(__name__)


class Backlog:
    """What waits, per environment and in all, against the bounds of the settings. For use from one thread.

    Sizes of what was accepted here count uncompressed until the scheduler has measured them: too much for some
    seconds, never too little. What other receivers accept is seen when it is measured.
    """

    def __init__(self, settings: Settings, now_ms: Callable[[], int]) -> None:
        """Take the bounds, and the state server's clock."""
        self._settings = settings
        self._now_ms = now_ms
        self._figures: Mapping[str, Pending] = {}
        self._believed: Mapping[str, Pending] = {}
        self._late: Mapping[str, str] = {}  # environment id -> what is to be said of how long it has waited
        self._late_in_all: str | None = None
        self._accepted: dict[str, int] = {}  # since the last look
        self._unmeasured: dict[str, deque[tuple[int, int]]] = {}  # between looks: when the second was, bytes
        self._bytes: dict[str, int] = {}
        self._bytes_in_all = 0
        self._over: frozenset[str] = frozenset()
        self._old = False

    def look(self, figures: Mapping[str, Pending] | None) -> None:
        """Take the latest figures, by environment id; None when they could not be read: then the former ones age.

        To be called every few seconds: what is accepted between two looks is forgotten together.
        """
        if figures is not None:
            self._figures = figures
        now_ms = self._now_ms()
        self._believed = {
            environment_id: pending
            for environment_id, pending in self._figures.items()
            if now_ms - pending.measured_ms <= BELIEVED_MS
        }
        for environment_id, size in self._accepted.items():
            self._unmeasured.setdefault(environment_id, deque()).append((now_ms, size))
        self._accepted.clear()
        self._forget_measured(now_ms)
        self._bytes = {environment_id: pending.bytes for environment_id, pending in self._believed.items()}
        for environment_id, between in self._unmeasured.items():
            self._bytes[environment_id] = self._bytes.get(environment_id, 0) + sum(size for _, size in between)
        self._bytes_in_all = sum(self._bytes.values())
        self._look_for_late()
        self._log_changes()

    def accept(self, environment_id: str, size: int) -> None:
        """Note that so many bytes were accepted here."""
        self._accepted[environment_id] = self._accepted.get(environment_id, 0) + size
        self._bytes[environment_id] = self._bytes.get(environment_id, 0) + size
        self._bytes_in_all += size

    def problem(self, environment_id: str) -> str | None:
        """Which bound is passed in this environment; None when none is."""
        if not self._believed:
            return None
        bound, waiting = self._settings.most_pending_bytes, self._bytes.get(environment_id, 0)
        if bound and waiting > bound:
            return _passed(f"environment {environment_id}", waiting, "SEGSYNC_MOST_PENDING_BYTES", bound)
        return self._late.get(environment_id)

    def problem_in_all(self) -> str | None:
        """Which bound is passed by all environments together; None when none is."""
        if not self._believed:
            return None
        bound, waiting = self._settings.most_pending_bytes_in_all, self._bytes_in_all
        if bound and waiting > bound:
            return _passed("all environments together", waiting, "SEGSYNC_MOST_PENDING_BYTES_IN_ALL", bound)
        return self._late_in_all

    def problems(self) -> list[str]:
        """Every bound that is passed."""
        found = (self.problem_in_all(), *map(self.problem, self._believed))
        return [problem for problem in found if problem is not None]

    def _look_for_late(self) -> None:
        """How long they have waited changes with the figures alone: each payload need not look at all of them."""
        settings = self._settings
        waited = {environment_id: _waited_seconds(pending) for environment_id, pending in self._believed.items()}
        bound, bound_in_all = settings.most_pending_seconds, settings.most_pending_seconds_in_all
        self._late = {
            environment_id: _passed(f"environment {environment_id}", seconds, "SEGSYNC_MOST_PENDING_SECONDS", bound)
            for environment_id, seconds in waited.items()
            if bound and seconds > bound
        }
        self._late_in_all, longest = None, max(waited.values(), default=0)
        if bound_in_all and longest > bound_in_all:
            self._late_in_all = _passed(
                "all environments together", longest, "SEGSYNC_MOST_PENDING_SECONDS_IN_ALL", bound_in_all
            )

    def _forget_measured(self, now_ms: int) -> None:
        """What was accepted here before the figures were measured is in them."""
        newest_ms = max((pending.measured_ms for pending in self._believed.values()), default=now_ms - BELIEVED_MS)
        for environment_id, between in list(self._unmeasured.items()):
            pending = self._believed.get(environment_id)
            # Of an environment that has no figure, nothing waited when the others' were measured.
            measured_ms = newest_ms if pending is None else pending.measured_ms
            while between and between[0][0] < measured_ms:
                between.popleft()
            if not between:
                del self._unmeasured[environment_id]

    def _log_changes(self) -> None:
        old = bool(self._figures) and not self._believed
        if old and not self._old:
            _log.warning("backlog.figures_old", problem="no scheduler measures what waits; nothing is bounded by it")
        self._old = old
        over = dict(self._over_now())
        for whose, problem in over.items():
            if whose not in self._over:
                _log.warning("backlog.over", environment_id=whose or None, problem=problem)
        for whose in self._over - over.keys():
            _log.info("backlog.under", environment_id=whose or None)
        self._over = frozenset(over)

    def _over_now(self) -> Iterator[tuple[str, str]]:
        for whose in (_IN_ALL, *self._believed):
            problem = self.problem(whose) if whose else self.problem_in_all()
            if problem is not None:
                yield whose, problem


def _passed(whose: str, value: int, name: str, bound: int) -> str:
    return f"what waits of {whose} is {value}, more than {name}={bound}"


def _waited_seconds(pending: Pending) -> int:
    """For how long the oldest entry had waited when that was measured."""
    if pending.oldest_ms is None:
        return 0
    return (pending.measured_ms - pending.oldest_ms) // 1000
