"""How fast a table takes writes, found out by writing.

Nobody tells it: a table has a capacity or none, its partitions have a thousand write units a second each, DynamoDB
divides them where there is heat, and others write to the same table. So nothing is held back until DynamoDB says that
it is too much. From then on writes are sent at a rate, a little below what was really taken while it was too much. It
grows slowly near that, as every step over it is a refused request, and ever faster the longer nothing is refused: a
table that is given more, or one that had a bad minute, is used in full within half a minute.

Rejected: a number of requests in flight as the thing to regulate. Of a table that answers in a few milliseconds, one
request in flight can be too much already.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

# Answers are judged together: so many of them, over so much time; of a slow table what there is by the longest time,
# and so when nothing was taken: to refuse takes a table less time than to write.
_ENOUGH: Final = 10
_SHORTEST_S: Final = 0.5
_LONGEST_S: Final = 2.0
# Of what was taken while some was refused.
_CUT: Final = 0.9
# One bad moment does not cost more than this part of the rate.
_DEEPEST_CUT: Final = 0.5
# Growth in a second, at first and at most, and how long without a refusal doubles it.
_GROWTH: Final = 0.03
_FASTEST_GROWTH: Final = 1.0
_DOUBLES_IN_S: Final = 5.0
# What the table took when it was too much is where growth becomes slow; it is believed less with each later refusal.
_FORGOTTEN: Final = 0.7
# A rate that is not used by this part says nothing of the table, and does not grow.
_USED: Final = 0.7
_SLOWEST: Final = 1.0


class Pace:
    """Write units a second, for all sessions of one store in one process. Safe between threads."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._rate: float | None = None
        self._limit = 0.0
        self._next_turn = 0.0
        self._taken = self._refused = 0.0
        self._answers = 0
        self._judged_at = self._heard_at = self._cut_at = self._taken_at = clock()

    @property
    def rate(self) -> float | None:
        """Write units a second; None while nothing has been refused."""
        return self._rate

    @property
    def taken_at(self) -> float:
        """When the table last took something, by the clock."""
        return self._taken_at

    def now(self) -> float:
        """The clock that turns are told by."""
        return self._clock()

    def take_turn(self, units: float, until: float) -> float | None:
        """Wait until so many units may be sent.

        Returns:
            When that was, for ``refused``; None, at ``until``, when it would have been later.
        """
        with self._lock:
            now = self._clock()
            if now - self._heard_at > _LONGEST_S:
                # Nobody has written for a while: that says nothing of what the table takes.
                self._judged_at = self._heard_at = now
                self._forget_answers()
            turn = now if self._rate is None else max(now, self._next_turn)
            if self._rate is not None and turn < until:
                self._next_turn = turn + units / self._rate
        wait_s = min(turn, until) - now
        if wait_s > 0:
            self._sleep(wait_s)
        return turn if turn < until else None

    def taken(self, units: float) -> None:
        """So much was not refused."""
        with self._lock:
            self._taken_at = self._heard_at = self._clock()
            self._taken += units
            self._answers += 1
            self._judge()

    def refused(self, units: float, sent_at: float) -> None:
        """So much, sent at that time, was too much."""
        with self._lock:
            self._heard_at = self._clock()
            # What was under way when the rate was cut says nothing of the new one.
            if sent_at >= self._cut_at:
                self._refused += units
                self._answers += 1
                self._judge()

    def forget(self) -> None:
        """The table takes nothing at all, which is no pace: when it is back, begin anew."""
        with self._lock:
            self._rate = None
            self._limit = 0
            self._forget_answers()
            self._judged_at = self._cut_at = self._clock()

    def _judge(self) -> None:
        now = self._heard_at
        elapsed_s = now - self._judged_at
        enough = elapsed_s >= _SHORTEST_S and self._answers >= _ENOUGH and self._taken > 0
        if not enough and elapsed_s < _LONGEST_S:
            return
        measured = self._taken / elapsed_s
        if self._refused:
            least = _SLOWEST if self._rate is None else max(_SLOWEST, self._rate * _DEEPEST_CUT)
            self._rate = max(least, _CUT * measured)
            self._limit = max(measured, self._limit * _FORGOTTEN)
            self._cut_at = now
        elif self._rate is not None and measured >= _USED * self._rate:
            near = _CUT * self._limit
            if self._rate < near:
                self._rate = min(near, self._rate * (1 + _FASTEST_GROWTH * elapsed_s))
            else:
                growth = min(_FASTEST_GROWTH, _GROWTH * 2 ** ((now - self._cut_at) / _DOUBLES_IN_S))
                self._rate *= 1 + growth * elapsed_s
        self._judged_at = now
        self._forget_answers()

    def _forget_answers(self) -> None:
        self._taken = self._refused = 0
        self._answers = 0
