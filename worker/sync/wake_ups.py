"""Sending wake-ups: hints through Celery, from a thread of their own, dropped freely."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import structlog
from celery import Celery

from worker.log.batch import WakeUp

DRAIN_QUEUE = "segsync.drain"
DRAIN_TASK = "segsync.drain"
# With the broker away, hints are worth less than memory: the sweeper sends them again.
MOST_WAITING = 10_000
# Once more, at once: a broker that restarted has closed the connection that is tried first.
_ONCE_MORE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}

_log = structlog.get_logger(__name__)


def send(app: Celery, wake_ups: Sequence[WakeUp]) -> int:
    """Publish wake-ups; returns how many were sent. The first failure ends it: the sweeper finds the rest.

    Costs about a millisecond each, and up to the broker's time-outs when it is away.
    """
    return send_tasks(app, DRAIN_TASK, [(*wake_up.segment, wake_up.store_id) for wake_up in wake_ups])


def send_tasks(app: Celery, task: str, arguments: Sequence[tuple[object, ...]]) -> int:
    """Publish one message to the workers for each of these arguments, as ``send`` does."""
    sent = 0
    try:
        for given in arguments:
            app.send_task(task, args=given, queue=DRAIN_QUEUE, retry=True, retry_policy=_ONCE_MORE)
            sent += 1
    except Exception as error:  # noqa: BLE001 - kombu raises what each transport's driver raises; a hint may fail
        _log.warning(
            "wake_ups.dropped", task=task, count=len(arguments) - sent, error=f"{type(error).__name__}: {error}"
        )
    return sent


class _Hint(NamedTuple):
    """What a message to the workers says: a task, and what it is given."""

    task: str
    arguments: tuple[object, ...]


class WakeUpSender:
    """Sends from a thread, so that no partner waits for the broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._waiting: queue.Queue[_Hint | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="wake-ups", daemon=True)
        self._thread.start()

    def send(self, wake_ups: Iterable[WakeUp]) -> None:
        """Hand wake-ups over; never blocks, and drops them when too many wait."""
        self._put(_Hint(DRAIN_TASK, (*wake_up.segment, wake_up.store_id)) for wake_up in wake_ups)

    def hint(self, task: str, *arguments: object) -> None:
        """Hand over one message of another task, as ``send`` does."""
        self._put([_Hint(task, arguments)])

    def _put(self, hints: Iterable[_Hint]) -> None:
        try:
            for hint in hints:
                self._waiting.put_nowait(hint)
        except queue.Full:
            _log.warning("wake_ups.dropped", error="too many wait to be sent")

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Send what waits, within the time given, and end the thread; hints that are left over are dropped."""
        with suppress(queue.Full):  # the thread is a daemon: one that hangs in the broker ends with the process
            self._waiting.put_nowait(None)
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while True:
            waiting = [self._waiting.get()]
            # All at once: while the broker is away, one time-out and one line in the log for all of them.
            with suppress(queue.Empty):
                while len(waiting) < MOST_WAITING:
                    waiting.append(self._waiting.get_nowait())
            hints = [hint for hint in waiting if hint is not None]
            for task in dict.fromkeys(hint.task for hint in hints):
                send_tasks(self._app, task, [hint.arguments for hint in hints if hint.task == task])
            if None in waiting:
                return
