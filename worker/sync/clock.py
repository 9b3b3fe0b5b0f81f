"""The scheduler's clock: what is due is called from the event loop of its own Celery worker.

No messages, which that worker would take itself: Celery's Beat and one message every two seconds took 0.45 % of a core.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps

from worker.sync.tasks import CLOCK


class Clock(bootsteps.StartStopStep):
    """A step of a Celery consumer. With each connection to the broker, every time begins anew.

    What it calls never raises, see ``Task``: a timer would not say where it failed.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._entries: list[Any] = []
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        """See Celery. Freshness does not wait for its first ten seconds to be over, nor what is ahead for the sweep."""
        for name, (seconds, at_once) in CLOCK.items():
            task = consumer.app.tasks[name]
            if at_once:
                self._entries.append(consumer.timer.call_after(0, task))
            self._entries.append(consumer.timer.call_repeatedly(seconds, task))

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - Celery's
        """See Celery."""
        while self._entries:
            self._entries.pop().cancel()

    shutdown = stop


def add_clock(app: Celery) -> None:
    """Let the workers that this app is given from now on keep the clock."""
    app.steps["consumer"].add(Clock)
