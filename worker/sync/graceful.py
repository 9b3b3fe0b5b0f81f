"""A Celery worker that stops as it is told: what is in hand is finished, and after ten seconds nobody is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import structlog
from celery import Celery
from celery.apps.worker import Worker
from celery.exceptions import WorkerShutdown
from celery.utils.threads import bound_open_broker_sockets  # type: ignore[attr-defined]  # the stubs lag behind
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer

from worker.processes import LastResort, request_stop, stop_requested, stop_signals, where

# A process that runs its tasks itself interrupts the one in hand after so long: it may hang in the broker, which
# Celery waits for with the patience of minutes.
TASK_SECONDS = 5.0
# One with a pool has nothing in hand itself, and a signal wakes it: after so long it hangs in the broker.
TURN_SECONDS = 2.0
# Since the signal: what the pool's processes have in hand ends long before that. Celery may have lost the pipe by which
# it tells one to end, when it lost the broker, and would wait for that one for ever.
POOL_SECONDS = 7.0
# To take leave of the broker. What it does not answer by then is lost, and nothing of it is needed.
FAREWELL_SECONDS = 1.0
# Of that, for each thing asked: a blocking pop that is under way may have seconds to go.
ANSWER_SECONDS = 0.5

_FROM_A_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)

_log = structlog.get_logger(__name__)


class _FarewellOver(BaseException):
    """Raised out of whatever waits for the broker."""


class GracefulWorker(Worker):
    """Celery's worker, with signals of our own. Make and start it in the main thread; one per process.

    SIGTERM, SIGINT, SIGHUP (unless it is ignored, as by nohup) and SIGQUIT all mean: take nothing new, finish what is
    in hand, end with exit code 0. Said again they change nothing; a second Ctrl-C ends the process at once, with
    code 130. Processes of the pool learn of it from ``worker.processes.stop_requested`` alone.
    """

    consumer: Any
    pool: Any
    pool_cls: Any

    def __init__(self, app: Celery, **options: Any) -> None:
        self._pid = os.getpid()
        # Python writes to it when a signal comes: the event loop would sleep on until a message does.
        self._signals_read, self._signals_write = os.pipe()
        for fd in (self._signals_read, self._signals_write):
            os.set_blocking(fd, False)
        self._connecting = self._closing = self._pool_is_gone = False
        self._told_at: float | None = None
        self._signals = stop_signals()
        self._last_resort = LastResort("worker")  # the processes of the pool end with this one
        super().__init__(app=app, consumer_cls=_Consumer, **options)

    def install_platform_tweaks(self, worker: WorkController) -> None:
        """Replace Celery's handlers: theirs wait for a broker that hangs, and restart the program on SIGHUP."""
        super().install_platform_tweaks(worker)
        if signal.SIGHUP not in self._signals:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in self._signals:
            signal.signal(number, self._stop_for)
        signal.signal(signal.SIGALRM, self._interrupt)
        signal.set_wakeup_fd(self._signals_write, warn_on_full_buffer=False)

    def on_close(self) -> None:
        """See Celery; called first of all when it closes, for whatever reason."""
        self._closing = True
        request_stop()
        self._last_resort.arm()
        gone_seconds = 0.0 if self._told_at is None else time.monotonic() - self._told_at
        signal.setitimer(signal.ITIMER_REAL, 0 if self._runs_tasks else max(0.1, POOL_SECONDS - gone_seconds))
        # Celery leaves these without a limit, for the sake of late acknowledgements, which there are none of here.
        bound_open_broker_sockets(self.consumer.connection, ANSWER_SECONDS)
        super().on_close()

    def on_stopped(self) -> None:
        """See Celery; called last of all: nothing is in hand any more, and only the broker is to be left."""
        self._pool_is_gone = True
        try:
            signal.setitimer(signal.ITIMER_REAL, FAREWELL_SECONDS)
            super().on_stopped()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except _FarewellOver:
            _log.warning("broker.left", problem=f"it has not answered for {FAREWELL_SECONDS:g} s")

    def connecting(self, connect: Callable[[], Any]) -> Any:
        """Connect to the broker, unless a signal comes first: in there, Celery would not look at it for minutes."""
        self._connecting = True
        try:
            state.maybe_shutdown()
            return connect()
        finally:
            self._connecting = False

    def wake_on_signals(self, hub: Any) -> None:
        """Let signals wake an event loop, so that it looks at what they mean."""
        hub.add_reader(self._signals_read, os.read, self._signals_read, 4096)

    @property
    def _runs_tasks(self) -> bool:
        return bool(self.pool_cls.__module__.endswith("solo"))

    def _stop_for(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # a process of the pool, so new that it has no handlers of its own yet
        if number in _FROM_A_KEYBOARD and stop_requested():
            os._exit(128 + number)
        request_stop()
        if self._told_at is None:
            self._told_at = time.monotonic()
        self._last_resort.arm(number)
        state.should_stop = 0  # type: ignore[assignment]
        if self._connecting:
            raise WorkerShutdown(0)
        if not self._closing:
            signal.setitimer(signal.ITIMER_REAL, TASK_SECONDS if self._runs_tasks else TURN_SECONDS)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if not self._closing:
            raise WorkerShutdown(0)
        if self._pool_is_gone:
            raise _FarewellOver
        # Nobody loses by it: a lease that one should hold expires, as after any other death.
        pool = getattr(self.pool, "_pool", None)
        for process in pool._pool if pool else ():  # noqa: SLF001 - it has no other list of them
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        _log.warning("pool.left", problem=f"it had not ended {POOL_SECONDS:g} s after the signal", at=where())


class _Consumer(Consumer):
    """Celery's consumer, which a signal wakes also while it connects."""

    controller: Any

    def connect(self) -> Any:
        return self.controller.connecting(super().connect)

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        self.controller.wake_on_signals(hub)


def ignore_signals_of_a_stop() -> None:
    """Make a process of the pool finish what it has in hand when its whole group gets the signal.

    Whoever stops a service often tells all its processes (systemd does). Celery's own handler raises in the midst
    of whatever the process is at.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
