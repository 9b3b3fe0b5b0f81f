"""Backpressure: how much waits in the logs, by the scheduler's figures and by what was accepted here since."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping

import structlog

from worker.log.pending import Pending
from worker.settings import Settings

# Figures come every ten seconds; older ones say nothing of now, and with no scheduler nothing would ever lower them.
BELIEVED_MS = 60_000
# What is accepted here is added up by the second.
_SLICE_MS = 1000
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
        self._accepted: dict[str, deque[tuple[int, int]]] = {}  # environment id -> (beginning of a slice, bytes)
        self._bytes: dict[str, int] = {}
        self._bytes_in_all = 0
        self._over: frozenset[str] = frozenset()
        self._old = False

    def look(self, figures: Mapping[str, Pending] | None) -> None:
        """Take the latest figures, by environment id; None when they could not be read: then the former ones age."""
        if figures is not None:
            self._figures = figures
        now_ms = self._now_ms()
        self._believed = {
            environment_id: pending
            for environment_id, pending in self._figures.items()
            if now_ms - pending.measured_ms <= BELIEVED_MS
        }
        self._forget_measured(now_ms)
        self._bytes = {environment_id: pending.bytes for environment_id, pending in self._believed.items()}
        for environment_id, slices in self._accepted.items():
            self._bytes[environment_id] = self._bytes.get(environment_id, 0) + sum(size for _, size in slices)
        self._bytes_in_all = sum(self._bytes.values())
        self._log_changes()

    def accept(self, environment_id: str, size: int) -> None:
        """Note that so many bytes were accepted here."""
        begun_ms = self._now_ms() // _SLICE_MS * _SLICE_MS
        slices = self._accepted.get(environment_id)
        if slices is None:
            slices = self._accepted[environment_id] = deque()
        if slices and slices[-1][0] == begun_ms:
            slices[-1] = (begun_ms, slices[-1][1] + size)
        else:
            slices.append((begun_ms, size))
        self._bytes[environment_id] = self._bytes.get(environment_id, 0) + size
        self._bytes_in_all += size

    def problem(self, environment_id: str) -> str | None:
        """Which bound is passed in this environment; None when none is."""
        if not self._believed:
            return None
        settings = self._settings
        pending = self._believed.get(environment_id)
        return self._passed(
            f"environment {environment_id}",
            ("SEGSYNC_MOST_PENDING_BYTES", settings.most_pending_bytes, self._bytes.get(environment_id, 0)),
            ("SEGSYNC_MOST_PENDING_SECONDS", settings.most_pending_seconds, _waited_seconds(pending)),
        )

    def problem_in_all(self) -> str | None:
        """Which bound is passed by all environments together; None when none is."""
        if not self._believed:
            return None
        settings = self._settings
        longest = max(map(_waited_seconds, self._believed.values()), default=0)
        return self._passed(
            "all environments together",
            ("SEGSYNC_MOST_PENDING_BYTES_IN_ALL", settings.most_pending_bytes_in_all, self._bytes_in_all),
            ("SEGSYNC_MOST_PENDING_SECONDS_IN_ALL", settings.most_pending_seconds_in_all, longest),
        )

    def problems(self) -> list[str]:
        """Every bound that is passed."""
        found = (self.problem_in_all(), *map(self.problem, self._believed))
        return [problem for problem in found if problem is not None]

    def _passed(self, whose: str, *bounds: tuple[str, int, int]) -> str | None:
        for name, bound, value in bounds:
            if bound and value > bound:
                return f"what waits of {whose} is {value}, more than {name}={bound}"
        return None

    def _forget_measured(self, now_ms: int) -> None:
        """What was accepted here before the figures were measured is in them."""
        newest_ms = max((pending.measured_ms for pending in self._believed.values()), default=now_ms - BELIEVED_MS)
        for environment_id, slices in list(self._accepted.items()):
            pending = self._believed.get(environment_id)
            # Of an environment that has no figure, nothing waited when the others' were measured.
            measured_ms = newest_ms if pending is None else pending.measured_ms
            while slices and slices[0][0] + _SLICE_MS <= measured_ms:
                slices.popleft()
            if not slices:
                del self._accepted[environment_id]

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


def _waited_seconds(pending: Pending | None) -> int:
    """For how long the oldest entry had waited when that was measured."""
    if pending is None or pending.oldest_ms is None:
        return 0
    return (pending.measured_ms - pending.oldest_ms) // 1000
