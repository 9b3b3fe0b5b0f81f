"""Entry: the Celery app, and the two roles that run on it."""

from __future__ import annotations

import os
from typing import Any

from celery import signals

from worker.logs import configure_logs
from worker.processes import announce_ready, end_with_parent
from worker.settings import load_settings
from worker.sync.clock import add_clock
from worker.sync.graceful import GracefulWorker, ignore_signals_of_a_stop
from worker.sync.tasks import MAINTENANCE_QUEUE, create_celery
from worker.sync.wake_ups import DRAIN_QUEUE

settings = load_settings()
app = create_celery(settings)


@signals.setup_logging.connect
def _configure_logs(**_: Any) -> None:
    configure_logs(settings.log_level)


@signals.worker_process_init.connect
def _obey_worker(**_: Any) -> None:
    end_with_parent()
    ignore_signals_of_a_stop()


@signals.worker_process_shutdown.connect
def _leave(exitcode: int = 0, **_: Any) -> None:
    # Celery would let a process sleep for a second here that has nothing left to do.
    os._exit(exitcode)


def run_worker(concurrency: int) -> int:
    """Run drains until told to stop; returns the exit code.

    Then every drain in progress finishes the chunk that it has in hand and lets its lease go.

    Args:
        concurrency: processes; 0 is one per core.
    """
    signals.worker_ready.connect(_announce, weak=False)
    return _consume(DRAIN_QUEUE, pool="prefork", concurrency=concurrency or os.cpu_count() or 1)


def run_scheduler() -> int:
    """Run the clock and what it fires, in one process, until told to stop; returns the exit code.

    Several schedulers are harmless: everything they do is safe to do twice.
    """
    signals.worker_ready.connect(_announce, weak=False)
    add_clock(app)
    return _consume(MAINTENANCE_QUEUE, pool="solo")


def _consume(queue: str, **pool: Any) -> int:
    """Run a Celery worker on one queue; it knows of no other workers, for nothing here needs to."""
    worker = GracefulWorker(
        app,
        queues=[queue],
        quiet=True,
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        **pool,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _announce(**_: Any) -> None:
    announce_ready()
