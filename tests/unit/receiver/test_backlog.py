"""When payloads are asked to come again later: by figures of the scheduler, and by what was accepted here since."""

from __future__ import annotations

from typing import Any

import pytest

from worker.log.pending import Pending
from worker.receiver.backlog import BELIEVED_MS, Backlog
from worker.settings import Settings

ENV = "env-1"
NOW = 1_700_000_000_000


class Watching:
    """A backlog with a clock of its own."""

    def __init__(self, **bounds: int) -> None:
        self.now_ms = NOW
        off = dict.fromkeys(("most_pending_bytes", "most_pending_bytes_in_all"), 0)
        settings: dict[str, Any] = off | bounds
        self.backlog = Backlog(Settings(**settings), lambda: self.now_ms)

    def measure(self, size: int, environment_id: str = ENV, *, waited_s: int | None = None) -> None:
        oldest_ms = None if waited_s is None else self.now_ms - waited_s * 1000
        self.backlog.look({environment_id: Pending(size, oldest_ms, self.now_ms)})

    def pass_seconds(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)


def test_a_bound_is_passed_by_more_than_it_not_by_as_much() -> None:
    watching = Watching(most_pending_bytes=1000)
    watching.measure(1000)
    assert watching.backlog.problem(ENV) is None
    watching.measure(1001)
    assert (
        watching.backlog.problem(ENV)
        == "what waits of environment env-1 is 1001, more than SEGSYNC_MOST_PENDING_BYTES=1000"
    )


def test_a_bound_of_one_environment_is_of_that_one_alone() -> None:
    watching = Watching(most_pending_bytes=1000)
    watching.backlog.look({"env-1": Pending(1001, None, NOW), "env-2": Pending(1000, None, NOW)})
    assert watching.backlog.problem("env-1")
    assert watching.backlog.problem("env-2") is None
    assert watching.backlog.problem_in_all() is None
    assert watching.backlog.problems() == [watching.backlog.problem("env-1")]


def test_a_bound_in_all_adds_the_environments_up() -> None:
    watching = Watching(most_pending_bytes_in_all=2000)
    watching.backlog.look({"env-1": Pending(1000, None, NOW), "env-2": Pending(1001, None, NOW)})
    assert "SEGSYNC_MOST_PENDING_BYTES_IN_ALL=2000" in (watching.backlog.problem_in_all() or "")
    assert watching.backlog.problem("env-1") is None


def test_the_longest_wait_is_bounded_for_one_environment_and_in_all() -> None:
    watching = Watching(most_pending_seconds=30, most_pending_seconds_in_all=60)
    watching.measure(1, waited_s=31)
    assert "SEGSYNC_MOST_PENDING_SECONDS=30" in (watching.backlog.problem(ENV) or "")
    assert watching.backlog.problem_in_all() is None
    watching.measure(1, waited_s=61)
    assert "SEGSYNC_MOST_PENDING_SECONDS_IN_ALL=60" in (watching.backlog.problem_in_all() or "")
    assert watching.backlog.problem("env-2") is None


def test_what_is_accepted_here_counts_until_it_is_measured() -> None:
    watching = Watching(most_pending_bytes=1000, most_pending_bytes_in_all=5000)
    watching.measure(900)
    watching.backlog.accept(ENV, 100)
    assert watching.backlog.problem(ENV) is None
    watching.backlog.accept(ENV, 1)
    assert watching.backlog.problem(ENV)
    watching.backlog.look(None)
    assert watching.backlog.problem(ENV)
    watching.pass_seconds(2)
    watching.measure(950)
    assert watching.backlog.problem(ENV) is None
    watching.backlog.accept(ENV, 4000)
    assert watching.backlog.problem(ENV)
    watching.backlog.accept(ENV, 100)
    assert watching.backlog.problem_in_all()


def test_figures_measured_before_something_was_accepted_do_not_take_it_out() -> None:
    watching = Watching(most_pending_bytes=1000)
    watching.measure(900)
    figures = {ENV: Pending(900, None, watching.now_ms)}
    watching.pass_seconds(5)
    watching.backlog.accept(ENV, 200)
    watching.pass_seconds(2)
    watching.backlog.look(figures)
    assert watching.backlog.problem(ENV)


def test_an_environment_without_a_figure_is_bounded_by_what_was_accepted_here() -> None:
    watching = Watching(most_pending_bytes=1000)
    watching.measure(0, "another")
    watching.backlog.accept(ENV, 1001)
    assert watching.backlog.problem(ENV)
    watching.pass_seconds(2)
    watching.backlog.look(None)
    assert watching.backlog.problem(ENV)
    watching.pass_seconds(10)
    watching.measure(0, "another")
    assert watching.backlog.problem(ENV) is None


def test_old_figures_are_not_believed_and_that_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    watching = Watching(most_pending_bytes=1000, most_pending_bytes_in_all=1000, most_pending_seconds=1)
    watching.measure(2000, waited_s=100)
    assert watching.backlog.problem(ENV)
    watching.now_ms += BELIEVED_MS + 1
    capsys.readouterr()
    for _ in range(3):
        watching.backlog.look({ENV: Pending(2000, NOW - 100_000, NOW)})
        watching.backlog.accept(ENV, 5000)
        assert (watching.backlog.problem(ENV), watching.backlog.problem_in_all()) == (None, None)
        assert watching.backlog.problems() == []
    said = capsys.readouterr()
    assert (said.out + said.err).count("backlog.figures_old") == 1
    watching.measure(2000)
    assert watching.backlog.problem(ENV)


def test_figures_that_can_no_longer_be_read_age() -> None:
    watching = Watching(most_pending_bytes=1000)
    watching.measure(2000)
    watching.pass_seconds(59)
    watching.backlog.look(None)
    assert watching.backlog.problem(ENV)
    watching.pass_seconds(2)
    watching.backlog.look(None)
    assert watching.backlog.problem(ENV) is None


def test_without_figures_nothing_is_bounded_and_nothing_piles_up() -> None:
    watching = Watching(most_pending_bytes=1000)
    for second in range(500):
        watching.backlog.accept(f"env-{second}", 10_000)
        assert watching.backlog.problem(f"env-{second}") is None
        watching.backlog.look({})
        watching.pass_seconds(1)
    assert len(watching.backlog._unmeasured) <= BELIEVED_MS / 1000 + 1


def test_a_bound_of_zero_is_none() -> None:
    watching = Watching()
    watching.measure(10**15, waited_s=10**6)
    assert (watching.backlog.problem(ENV), watching.backlog.problem_in_all()) == (None, None)


def test_it_is_said_when_a_bound_is_passed_and_when_it_is_not_any_more(capsys: pytest.CaptureFixture[str]) -> None:
    watching = Watching(most_pending_bytes=1000)
    for size in (2000, 3000, 500, 400, 2000):
        watching.measure(size)
    said = capsys.readouterr()
    events = [
        word for line in (said.out + said.err).splitlines() for word in line.split() if word.startswith("backlog")
    ]
    assert events == ["backlog.over", "backlog.under", "backlog.over"]
