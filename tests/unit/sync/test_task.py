"""What becomes of a task that fails: a line in the log, and nothing in the pipe to its worker."""

from __future__ import annotations

import pickle
import select
from typing import Any, Literal

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from structlog.testing import capture_logs

from worker.errors import SegsyncError, Unavailable
from worker.settings import Settings
from worker.sync.task import Task
from worker.sync.tasks import create_celery

OUR_BUG = SegsyncError("x" * 100_000)


def failing(fault: Exception) -> Any:
    """A task that raises it."""
    app = Celery(set_as_current=False, task_cls=Task)

    def fail() -> None:
        raise fault

    return app.task(name="test.fail", shared=False)(fail)


@pytest.mark.parametrize("dependency", ["state", "store", "broker"])
def test_a_dependency_that_is_away_is_a_warning(dependency: Literal["state", "store", "broker"]) -> None:
    with capture_logs() as lines:
        failing(Unavailable("no answer", dependency=dependency))()
    assert lines == [
        {"event": f"{dependency}.away", "log_level": "warning", "task": "test.fail", "error": "no answer"},
    ]


def test_our_own_bug_is_an_error_that_shows_where_it_is() -> None:
    with capture_logs() as lines:
        failing(OUR_BUG)()
    assert [(line["event"], line["log_level"], line["exc_info"]) for line in lines] == [("task.bug", "error", True)]


def test_what_a_worker_is_told_of_a_task_that_failed_fits_in_a_write_that_nothing_divides() -> None:
    task = failing(OUR_BUG)
    with capture_logs():
        told = build_tracer(task.name, task, app=task.app)("id", [], {}, {"id": "id"})
    assert len(pickle.dumps(told)) < select.PIPE_BUF / 8


def test_every_task_of_ours_is_of_this_kind() -> None:
    app = create_celery(Settings(state_url="redis://127.0.0.1:1/0"))
    ours = [task for name, task in app.tasks.items() if name.startswith("segsync.")]
    assert len(ours) > 1
    assert all(isinstance(task, Task) for task in ours)
