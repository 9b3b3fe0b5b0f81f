"""The Celery tasks, and the one place where Celery's options are set."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import structlog
from celery import Celery

from worker.errors import Unavailable
from worker.log.batch import WakeUp
from worker.model import SegmentId
from worker.settings import Settings, load_settings
from worker.sync.compact import compact
from worker.sync.drain import drain
from worker.sync.exports import EXPORT_TASK, run_export
from worker.sync.freshness import Heartbeat
from worker.sync.imports import IMPORT_TASK, run_import, settle_imports
from worker.sync.maintenance import Maintenance
from worker.sync.store_watch import StoreWatch
from worker.sync.sweep import Sweeper
from worker.sync.wake_ups import DRAIN_QUEUE, DRAIN_TASK, send, send_tasks
from worker.wiring import Wiring

# The scheduler's own queue, for whoever does not want to wait for its clock.
MAINTENANCE_QUEUE = "segsync.maintenance"
SWEEP_SECONDS = 2.0
HEARTBEAT_SECONDS = 10.0  # SDKs call a store stale after 120; relay writes every 30
MAINTENANCE_SECONDS = 60.0
# Task -> its period in seconds, and whether the first time is at once. None of it is harmed by being done twice.
CLOCK = {
    "segsync.heartbeat": (HEARTBEAT_SECONDS, True),
    "segsync.sweep": (SWEEP_SECONDS, True),
    "segsync.maintain": (MAINTENANCE_SECONDS, False),
}
COMPACT_TASK = "segsync.compact"
# What all of them are, by its name: Celery's stubs take an app whose tasks are of a class for another type.
_TASK_CLASS = "worker.sync.task:Task"
# With so many hints waiting, more of them help nobody, and while no worker runs they would pile up without end.
MOST_QUEUED = 10_000

_log = structlog.get_logger(__name__)


def create_celery(settings: Settings) -> Celery:
    """The Celery app of every role, with its tasks.

    Messages are hints and may be lost, doubled or late: the log is the truth. Hence they are acknowledged early
    (a redelivery after an hour would help nobody, and late acknowledgement on Redis lets prefetch counts drift), if at
    all, keep no results, and are never retried: the sweeper is the retry.
    """
    app = Celery("segsync", broker=settings.broker(), set_as_current=False, task_cls=_TASK_CLASS)
    app.conf.update(options(settings))
    _add_tasks(app)
    _add_file_tasks(app)
    return app


def options(settings: Settings) -> dict[str, Any]:
    """Celery's options; a test holds each name against Celery's own list, for Celery ignores a misspelt one."""
    return {
        "task_default_queue": DRAIN_QUEUE,
        "task_create_missing_queues": True,
        "task_routes": {name: {"queue": MAINTENANCE_QUEUE} for name in CLOCK},
        "task_acks_late": False,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_publish_retry": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        # One message per free process: a hint must not wait behind a drain while another process is idle.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": settings.broker().startswith(("redis", "rediss", "sentinel")),
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,  # nobody uses it, and its reply queues outlive the workers
        # Cancels what is acknowledged late, so nothing here; unset, Celery warns at every reconnect.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        # Else a worker takes fewer messages after each reconnect, for no gain: hints need no second delivery.
        "worker_enable_prefetch_count_reduction": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 2,
        "broker_transport_options": transport_options(settings.broker()),
    }


def transport_options(broker_url: str) -> dict[str, object]:
    """What the broker's transport is told: never hang, and stay apart from other users of the same server."""
    if broker_url.startswith(("redis", "rediss", "sentinel")):
        return {
            "global_keyprefix": "segsync:celery:",
            "polling_interval": 5,  # of a blocking pop, which a message ends at once; the default costs 0.1 % of a core
            "socket_timeout": 30,  # longer than that, shorter than for ever (the default)
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
            # Else each message is written to a list of those in hand, and taken out of it again, each time onto the
            # disk: 40 % of what a worker's parent process does. What a killed worker has with it is lost: a hint.
            "ack_emulation": False,
        }
    if broker_url.startswith(("amqp", "pyamqp")):
        return {"confirm_publish": True}
    return {}


@cache
def _wiring(_pid: int) -> Wiring:
    """One wiring per process: a forked child must not use its parent's connections."""
    return Wiring(load_settings())


@cache
def _sweeper(pid: int) -> Sweeper:
    return Sweeper(_wiring(pid))


@cache
def _heartbeat(pid: int) -> Heartbeat:
    return Heartbeat(_wiring(pid))


@cache
def _store_watch(pid: int) -> StoreWatch:
    return StoreWatch(_wiring(pid))


@cache
def _maintenance(pid: int) -> Maintenance:
    return Maintenance(_wiring(pid), lambda: Wiring(load_settings()))


def queued_hints(app: Celery) -> int:
    """How many wake-ups wait in the broker; 0 when it does not tell."""
    try:
        with app.connection_for_write() as connection, connection.channel() as channel:
            # Kombu's Redis transport looks for the queue without our key prefix when it is asked passively.
            passive = connection.transport.driver_type == "amqp"
            return int(channel.queue_declare(DRAIN_QUEUE, passive=passive).message_count)  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001 - each transport raises its own; the queue may not be there yet
        _log.debug("queue.unknown", error=f"{type(error).__name__}: {error}")
        return 0


def _beat_all_the_same(pid: int) -> None:
    """A beat out of turn: what fails of it fails in the next one, too, and is no reason not to sweep."""
    try:
        _heartbeat(pid).beat()
    except Unavailable as error:
        _log.warning("state.away", error=str(error))


def _send_files(app: Celery) -> None:
    """Imports and exports that nobody is at; and imports that every store has by now."""
    wiring = _wiring(os.getpid())
    settle_imports(wiring)
    for jobs, status, task in (
        (wiring.imports, "preparing", IMPORT_TASK),
        (wiring.exports, "in_progress", EXPORT_TASK),
    ):
        if due := jobs.due(status):
            send_tasks(app, task, [(job_id,) for job_id in due])


def _add_tasks(app: Celery) -> None:
    @app.task(name=DRAIN_TASK, shared=False)
    def drain_segment(environment_id: str, segment_key: str, generation: int, store_id: str) -> None:
        segment = SegmentId(environment_id, segment_key, generation)
        if drain(_wiring(os.getpid()), segment, store_id).wake_up_due:
            send(app, [WakeUp(segment, store_id)])

    @app.task(name="segsync.sweep", shared=False)
    def sweep_logs() -> None:
        changed = _store_watch(os.getpid()).changed()
        # Once to find out what is in them, and once more to enter what they miss of it in the index.
        for _ in range(2 if changed else 0):
            _beat_all_the_same(os.getpid())
        due = _sweeper(os.getpid()).sweep(changed)
        if due and queued_hints(app) < MOST_QUEUED:
            send(app, due)

        _send_files(app)

    @app.task(name="segsync.heartbeat", shared=False)
    def beat_stores() -> None:
        _heartbeat(os.getpid()).beat()

    @app.task(name="segsync.maintain", shared=False)
    def maintain() -> None:
        segments = _maintenance(os.getpid()).run()
        if segments and queued_hints(app) < MOST_QUEUED:
            send_tasks(app, COMPACT_TASK, segments)

    @app.task(name=COMPACT_TASK, shared=False)
    def compact_log(environment_id: str, segment_key: str, generation: int) -> None:
        compact(_wiring(os.getpid()), SegmentId(environment_id, segment_key, generation))


def _add_file_tasks(app: Celery) -> None:
    @app.task(name=IMPORT_TASK, shared=False)
    def import_file(import_id: str) -> None:
        send(app, run_import(_wiring(os.getpid()), import_id))

    @app.task(name=EXPORT_TASK, shared=False)
    def export_segment(export_id: str) -> None:
        run_export(_wiring(os.getpid()), export_id)
