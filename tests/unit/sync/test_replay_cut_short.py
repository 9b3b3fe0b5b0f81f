"""A replay that is cut short at any request to the state server is finished by doing it again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import pytest
import redis
from redis.client import Pipeline
from replay_builders import altered_parser, die, isolated, publish, reject
from sync_builders import Installation

from worker.errors import Unavailable
from worker.log import keyspace
from worker.sync.batches import Batches, BatchFilter
from worker.sync.drain import drain
from worker.sync.isolation import IsolatedParser
from worker.sync.replay import Replayer
from worker.sync.replay_plan import Planner, group_batches

__all__ = ["isolated"]  # a fixture


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Let so many requests through, and none after them; None: all."""
    left: list[int | None] = [None]

    def counted(do: Callable[..., Any]) -> Callable[..., Any]:
        def request(*arguments: Any, **options: Any) -> Any:
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    raise redis.ConnectionError("cut")
            return do(*arguments, **options)

        return request

    monkeypatch.setattr(redis.Redis, "execute_command", counted(redis.Redis.execute_command))
    monkeypatch.setattr(Pipeline, "execute", counted(Pipeline.execute))

    def let_through(requests: int | None) -> None:
        left[0] = requests

    return let_through


def a_rejected_body(installation: Installation) -> None:
    reject(installation, installation.body(add=("ann", "bob")))


def a_dead_batch(installation: Installation) -> None:
    die(installation, add=("ann", "bob"))
    publish(installation, installation.manifest.parser)


def a_dead_batch_that_belongs_elsewhere(installation: Installation) -> None:
    die(installation, add=("ann", "bob"))
    publish(installation, altered_parser(installation, "/cohortId", "/cohortName"))


class Case(NamedTuple):
    """What is replayed, into which cohort's segment, and what is listed of it afterwards."""

    prepare: Callable[[Installation], None]
    cohort: str
    statuses: list[str]


CASES = [
    Case(a_rejected_body, "beta", ["replayed"]),
    Case(a_dead_batch, "beta", ["replayed"]),
    Case(a_dead_batch_that_belongs_elsewhere, "Beta", ["moved"]),
]


def entries_beside(installation: Installation, cohort: str) -> int:
    return installation.client.zcard(f"{keyspace.prefix(installation.segment(cohort))}:late")


@pytest.mark.parametrize("case", CASES, ids=[case.prepare.__name__ for case in CASES])
def test_a_replay_that_is_cut_short_anywhere_is_finished_by_doing_it_again(
    real_redis: redis.Redis,
    isolated: IsolatedParser,
    cut: Callable[[int | None], None],
    case: Case,
) -> None:
    def replay_all(installation: Installation) -> None:
        found = Batches(installation.wiring).newest_first(BatchFilter())
        for planned in Planner(installation.wiring, isolated).plan(group_batches(found), with_effects=False):
            Replayer(installation.wiring, "a test").replay(planned)

    for requests in count():
        real_redis.flushall()
        installation = Installation(real_redis)
        publish(installation, installation.manifest.parser)
        case.prepare(installation)
        cut(requests)
        finished = True
        try:
            replay_all(installation)
        except Unavailable:
            finished = False
        cut(None)
        if not finished:
            replay_all(installation)

        batches = list(Batches(installation.wiring).newest_first(BatchFilter()))
        assert [batch.status for batch in batches] == case.statuses, requests
        assert entries_beside(installation, case.cohort) == 1, requests
        drain(installation.wiring, installation.segment(case.cohort), installation.store_id)
        assert installation.members("ann", "bob", cohort_id=case.cohort) == {"ann", "bob"}, requests
        if finished:
            assert requests > 8
            return
