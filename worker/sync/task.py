"""What every task does with what goes wrong in it: say so, and tell its worker nothing."""

from __future__ import annotations

from typing import Any

import celery
import structlog

from worker.errors import Unavailable

_log = structlog.get_logger(__name__)


class Task(celery.Task):  # type: ignore[type-arg]
    """A Celery task that never fails in Celery's eyes.

    Nobody reads what becomes of a task, and the sweeper is the retry. But Celery sends what was raised, with its
    traceback, through a pipe from the process of the pool to its parent: some tens of KiB, in several writes. A parent
    that loses the broker in the midst of reading forgets what it has read, takes the rest for the beginning of another
    message, and never gives that process anything to do again (measured: one process in every third outage under load,
    for good). What is told of a task that ends well is smaller than a write that nothing can divide.
    """

    abstract = True

    def __call__(self, *arguments: Any, **options: Any) -> None:
        """Run it; what it returns is dropped, and what it raises is logged."""
        try:
            self.run(*arguments, **options)
        except Unavailable as error:
            _log.warning(f"{error.dependency}.away", task=self.name, error=str(error))
        except Exception:  # noqa: BLE001 - the next time, it may go well
            _log.exception("task.bug", task=self.name)
