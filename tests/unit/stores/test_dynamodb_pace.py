"""How fast the store writes to a table that takes only so much: a world of its own, with a clock of its own."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Final

import pytest

from worker.stores.dynamodb.pace import Pace

THREADS: Final = 16
ANSWERS_IN_S: Final = 0.005
# What one process could send at most.
MACHINE: Final = 800.0


class World:
    """A table with a token bucket, and processes whose threads write to it for ever."""

    def __init__(self, units_per_s: float, *, burst_s: float = 1.0, processes: int = 1) -> None:
        self.now = 0.0
        self.units_per_s = units_per_s
        self.passed: list[tuple[float, int]] = []
        self.refused = 0
        self.paces = [Pace(clock=lambda: self.now, sleep=lambda _: None) for _ in range(processes)]
        self._burst_s = burst_s
        self._tokens = units_per_s * burst_s
        self._filled_at = 0.0
        self._order = count()
        self._events: list[tuple[float, int, str, int, float]] = []
        for process in range(processes):
            for thread in range(THREADS):
                self._at(thread / 1_000, "ask", process)

    def run(self, until: float) -> None:
        while self._events[0][0] < until:
            self.now, _, event, process, sent_at = heapq.heappop(self._events)
            pace = self.paces[process]
            if event == "ask":
                turn = pace.take_turn(1, self.now + 1)
                self._at(self.now + 1, "ask", process) if turn is None else self._at(turn, "send", process)
            elif event == "send":
                self._at(self.now + ANSWERS_IN_S, "taken" if self._takes(process) else "refused", process, self.now)
            elif event == "taken":
                pace.taken(1)
                self._at(self.now + THREADS / MACHINE, "ask", process)
            else:
                self.refused += 1
                pace.refused(1, sent_at)
                self._at(self.now + 0.075, "ask", process)
        self.now = until

    def rate(self, since: float, process: int | None = None) -> float:
        """Units a second since then, of all or of one process."""
        passed = sum(at >= since and process in (None, who) for at, who in self.passed)
        return passed / (self.now - since)

    def _takes(self, process: int) -> bool:
        refill = (self.now - self._filled_at) * self.units_per_s
        self._tokens = min(self._burst_s * self.units_per_s, self._tokens + refill)
        self._filled_at = self.now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        self.passed.append((self.now, process))
        return True

    def _at(self, when: float, event: str, process: int, sent_at: float = 0.0) -> None:
        heapq.heappush(self._events, (when, next(self._order), event, process, sent_at))


def test_nothing_is_held_back_until_the_table_says_that_it_is_too_much() -> None:
    world = World(units_per_s=10_000)
    world.run(10)
    assert world.refused == 0
    assert world.rate(0) > 0.75 * MACHINE  # as far as such a machine gets
    assert world.paces[0].rate is None


@pytest.mark.parametrize(
    ("units_per_s", "burst_s"),
    [(5, 1), (5, 5), (60, 0.2), (60, 1), (60, 5), (300, 0.2), (300, 5), (700, 0.2), (700, 1)],
)
def test_it_settles_near_what_the_table_takes(units_per_s: float, burst_s: float) -> None:
    world = World(units_per_s, burst_s=burst_s)
    world.run(20)
    refused = world.refused
    world.run(60)
    assert 0.8 * units_per_s <= world.rate(20) <= 1.1 * units_per_s
    # And little of what is sent then is sent in vain.
    assert world.refused - refused <= 0.2 * units_per_s * 40


def test_a_table_that_is_given_more_is_used_in_full_within_half_a_minute() -> None:
    world = World(60)
    world.run(20)
    world.units_per_s = 300
    world.run(50)
    world.run(70)
    assert world.rate(50) >= 0.8 * 300


def test_a_table_that_takes_less_than_before_is_overrun_for_a_moment_only() -> None:
    world = World(500)
    world.run(20)
    world.units_per_s = 50
    world.run(30)
    refused = world.refused
    world.run(50)
    assert 0.8 * 50 <= world.rate(30) <= 1.1 * 50
    assert world.refused - refused <= 0.2 * 50 * 20


def test_processes_that_share_a_table_all_get_on() -> None:
    world = World(120, processes=3)
    world.run(20)
    world.run(60)
    assert 0.8 * 120 <= world.rate(20) <= 1.1 * 120
    assert all(world.rate(20, process) >= 120 / 9 for process in range(3))


def test_a_table_that_takes_nothing_is_tried_about_once_a_second() -> None:
    world = World(0)
    world.run(5)
    refused = world.refused
    world.run(25)
    assert world.refused - refused <= 2 * 20


def test_a_pace_that_was_forgotten_begins_anew() -> None:
    world = World(0)
    world.run(5)
    world.paces[0].forget()
    world.units_per_s = 10_000
    world._tokens = 10_000
    world.run(15)
    assert world.rate(7) > 0.75 * MACHINE


def test_a_turn_that_comes_too_late_is_not_taken() -> None:
    now = [0.0]
    slept: list[float] = []
    pace = Pace(clock=lambda: now[0], sleep=slept.append)
    assert pace.take_turn(1, until=1) == 0.0
    for _ in range(10):
        pace.taken(1)
        pace.refused(1, sent_at=0.0)
    now[0] = 1.0
    pace.taken(0)
    assert pace.rate == pytest.approx(9.0)  # nine tenths of ten a second
    assert pace.take_turn(9, until=2) == 1.0
    assert pace.take_turn(9, until=1.5) is None
    assert slept == [0.5]  # until it is too late, and no longer
    assert pace.take_turn(9, until=2.5) == 2.0


def test_what_was_refused_before_the_rate_was_cut_says_nothing_of_the_new_rate() -> None:
    now = [0.0]
    pace = Pace(clock=lambda: now[0], sleep=lambda _: None)
    for _ in range(20):
        pace.taken(1)
    pace.refused(1, sent_at=0.0)
    now[0] = 1.0
    pace.taken(0)
    rate = pace.rate
    for _ in range(40):
        pace.refused(1, sent_at=0.9)
    now[0] = 4.0
    pace.taken(1)
    assert pace.rate == rate


def test_a_time_without_writes_says_nothing_of_the_table() -> None:
    now = [0.0]
    pace = Pace(clock=lambda: now[0], sleep=lambda _: None)
    for _ in range(20):
        pace.taken(1)
    pace.refused(1, sent_at=0.0)
    now[0] = 1.0
    pace.taken(0)
    rate = pace.rate
    assert rate is not None
    pace.refused(1, sent_at=1.0)  # the last that was heard of it
    now[0] = 1_000.0
    pace.take_turn(1, until=1_001)
    for _ in range(30):
        pace.taken(1)
    pace.refused(1, sent_at=1_000.0)
    now[0] = 1_001.0
    pace.taken(0)
    assert pace.rate is not None
    assert pace.rate >= rate / 2
