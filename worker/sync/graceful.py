"""A Celery worker that stops as it is told: what is in hand is finished, and after ten seconds nobody is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog
from celery import Celery
from celery.apps.worker import Worker
from celery.exceptions import WorkerShutdown
from celery.utils.threads import bound_open_broker_sockets  # type: ignore[attr-defined]  # the stubs lag behind
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer

from worker.processes import request_stop, stop_requested

# After so long, the process ends whatever it is at: orchestrators and `segsync up` kill after ten. A drain that is
# still at work then is one whose worker was killed, and the protocol bears that.
LAST_RESORT_SECONDS = 9.0
# A process that runs its tasks itself interrupts the one in hand after so long: it may hang in the broker, which
# Celery waits for with the patience of minutes.
TASK_SECONDS = 5.0
# To take leave of the broker. What it does not answer by then is lost, and nothing of it is needed.
FAREWELL_SECONDS = 1.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_FROM_A_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)

_log = structlog.get_logger(__name__)


class GracefulWorker(Worker):
    """Celery's worker, with signals of our own. Make and start it in the main thread; one per process.

    SIGTERM, SIGINT, SIGHUP (unless it is ignored, as by nohup) and SIGQUIT all mean: take nothing new, finish what is
    in hand, end with exit code 0. Said again they change nothing; a second Ctrl-C ends the process at once, with
    code 130. Processes of the pool learn of it from ``worker.processes.stop_requested`` alone.
    """

    consumer: Any
    pool_cls: Any

    def __init__(self, app: Celery, **options: Any) -> None:
        self._pid = os.getpid()
        self._connecting = self._closing = False
        self._hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
        self._wake_read, self._wake_write = os.pipe()
        # It waits from the beginning: a handler of signals must not take the locks that starting it takes.
        threading.Thread(target=self._watch, name="last-resort", daemon=True).start()
        super().__init__(app=app, consumer_cls=_Consumer, **options)

    def install_platform_tweaks(self, worker: WorkController) -> None:
        """Replace Celery's handlers: theirs wait for a broker that hangs, and restart the program on SIGHUP."""
        super().install_platform_tweaks(worker)
        for number in _SIGNALS:
            if number != signal.SIGHUP or self._hangs_up:
                signal.signal(number, self._stop_for)
            else:
                signal.signal(number, signal.SIG_IGN)
        if self._runs_tasks:
            signal.signal(signal.SIGALRM, self._interrupt)

    def on_close(self) -> None:
        """See Celery; called first of all when it closes, for whatever reason."""
        self._closing = True
        request_stop()
        self._wake(0)
        if self._runs_tasks:
            signal.setitimer(signal.ITIMER_REAL, 0)
        # Celery leaves these without a limit, for the sake of late acknowledgements, which there are none of here.
        bound_open_broker_sockets(self.consumer.connection, FAREWELL_SECONDS)
        super().on_close()

    def connecting(self, connect: Callable[[], Any]) -> Any:
        """Connect to the broker, unless a signal comes first: in there, Celery would not look at it for minutes."""
        self._connecting = True
        try:
            state.maybe_shutdown()
            return connect()
        finally:
            self._connecting = False

    @property
    def _runs_tasks(self) -> bool:
        return bool(self.pool_cls.__module__.endswith("solo"))

    def _stop_for(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # a process of the pool, so new that it has no handlers of its own yet
        if number in _FROM_A_KEYBOARD and stop_requested():
            os._exit(128 + number)
        request_stop()
        self._wake(number)
        state.should_stop = 0  # type: ignore[assignment]
        if self._connecting:
            raise WorkerShutdown(0)
        if self._runs_tasks and not self._closing:
            signal.setitimer(signal.ITIMER_REAL, TASK_SECONDS)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if not self._closing:
            raise WorkerShutdown(0)

    def _wake(self, number: int) -> None:
        os.write(self._wake_write, bytes([number]))

    def _watch(self) -> None:
        number = os.read(self._wake_read, 1)[0]
        why = signal.Signals(number).name if number else "its own end"
        _say(lambda: _log.info("worker.stopping", why=why))
        time.sleep(LAST_RESORT_SECONDS)
        _say(lambda: _log.error("worker.cut_short", problem=f"not done {LAST_RESORT_SECONDS:g} s after {why}"))
        os._exit(1)  # the processes of the pool end with this one


class _Consumer(Consumer):
    """Celery's consumer, which a signal wakes also while it connects."""

    controller: Any

    def connect(self) -> Any:
        return self.controller.connecting(super().connect)


def ignore_signals_of_a_stop() -> None:
    """Make a process of the pool finish what it has in hand when its whole group gets the signal.

    Whoever stops a service often tells all its processes (systemd does). Celery's own handler raises in the midst
    of whatever the process is at.
    """
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _say(line: Callable[[], None]) -> None:
    """Log, but wait for no reader of a full pipe, and no thread that holds the log's lock."""
    saying = threading.Thread(target=line, daemon=True)
    saying.start()
    saying.join(0.5)
