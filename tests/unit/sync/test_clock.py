"""The scheduler's clock: what it calls when, and that nothing stops it."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from celery import Celery
from kombu.asynchronous.timer import Timer
from structlog.testing import capture_logs

from worker.sync.clock import Clock
from worker.sync.task import Task
from worker.sync.tasks import CLOCK


@pytest.fixture
def called() -> list[str]:
    return []


@pytest.fixture
def consumer(called: list[str]) -> SimpleNamespace:
    def calling(name: str) -> Callable[[], None]:
        return lambda: called.append(name)

    return SimpleNamespace(app=SimpleNamespace(tasks={name: calling(name) for name in CLOCK}), timer=Timer())


def fire(consumer: SimpleNamespace, within_seconds: float) -> None:
    """Let every time come that is so near."""
    until = time.monotonic() + within_seconds
    for scheduled in sorted(consumer.timer.queue):
        if scheduled.eta <= until and not scheduled.entry.cancelled:
            scheduled.entry()


def test_freshness_is_told_and_logs_are_swept_at_once(consumer: SimpleNamespace, called: list[str]) -> None:
    Clock(consumer).start(consumer)
    fire(consumer, within_seconds=0)
    assert called == ["segsync.heartbeat", "segsync.sweep"]


def test_everything_on_the_clock_is_called_when_its_time_has_come(consumer: SimpleNamespace, called: list[str]) -> None:
    Clock(consumer).start(consumer)
    fire(consumer, within_seconds=60)
    assert set(called) == set(CLOCK)


def test_a_lost_connection_to_the_broker_takes_its_times_with_it(consumer: SimpleNamespace, called: list[str]) -> None:
    clock = Clock(consumer)
    clock.start(consumer)
    clock.stop(consumer)
    fire(consumer, within_seconds=60)
    assert called == []


def test_a_task_that_fails_keeps_no_other_from_its_turn(consumer: SimpleNamespace) -> None:
    app = Celery(set_as_current=False, task_cls=Task)

    def fail() -> None:
        raise ZeroDivisionError

    consumer.app.tasks = {name: app.task(name=name, shared=False)(fail) for name in CLOCK}
    Clock(consumer).start(consumer)
    with capture_logs() as lines:
        fire(consumer, within_seconds=60)
    assert {line["task"] for line in lines} == set(CLOCK)
