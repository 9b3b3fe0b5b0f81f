"""How Celery is set up, and how hints are sent."""

from __future__ import annotations

import time

import pytest
import redis
from celery.app.defaults import NAMESPACES, flatten
from servers import ValkeyServer

from worker.log.batch import WakeUp
from worker.model import SegmentId
from worker.settings import Settings
from worker.sync.tasks import CLOCK, MAINTENANCE_QUEUE, create_celery, options, queued_hints, transport_options
from worker.sync.wake_ups import DRAIN_QUEUE, MOST_WAITING, WakeUpSender, send

NOBODY = "redis://127.0.0.1:1/0"
WAKE_UP = WakeUp(SegmentId("env", "rudderstack-beta", 1), "s1")


def test_every_option_is_one_that_celery_knows() -> None:
    assert set(options(Settings())) <= {str(option[0]) for option in flatten(NAMESPACES)}


def test_drains_and_upkeep_have_queues_of_their_own() -> None:
    app = create_celery(Settings())
    routed = {name: app.amqp.router.route({}, name)["queue"].name for name in app.tasks if name.startswith("segsync.")}
    work = ("drain", "compact", "import", "export")
    assert {routed.pop(f"segsync.{name}") for name in work} == {DRAIN_QUEUE}
    assert set(routed) == {"segsync.sweep", "segsync.heartbeat", "segsync.maintain"}
    assert set(routed.values()) == {MAINTENANCE_QUEUE}


def test_everything_on_the_clock_is_a_task() -> None:
    assert set(CLOCK) <= set(create_celery(Settings()).tasks)


@pytest.mark.parametrize("url", [NOBODY, "amqp://guest@rabbit//", "sqs://key:secret@"])
def test_the_broker_is_a_setting_of_its_own(url: str) -> None:
    app = create_celery(Settings(broker_url=url))
    assert app.conf.broker_url == url
    assert app.conf.broker_transport_options == transport_options(url)


def test_the_hints_that_wait_in_the_broker_are_counted(real_redis: redis.Redis, valkey: ValkeyServer) -> None:
    app = create_celery(Settings(broker_url=valkey.url))
    assert queued_hints(app) == 0
    assert send(app, [WAKE_UP] * 7) == 7
    assert queued_hints(app) == 7


def test_a_broker_that_is_away_drops_hints_within_seconds_and_raises_nothing() -> None:
    started = time.monotonic()
    assert send(create_celery(Settings(broker_url=NOBODY)), [WAKE_UP] * 50) == 0
    assert time.monotonic() - started < 10


def test_handing_over_hints_never_blocks_however_many_wait() -> None:
    sender = WakeUpSender(create_celery(Settings(broker_url=NOBODY)))
    sender.send([WAKE_UP] * (MOST_WAITING + 100))
    assert sender._waiting.qsize() <= MOST_WAITING
    sender.close(timeout_seconds=0)
