"""Commands that do what services do: they tell of it in their own words, and not by the services' log lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.cli.connection import open_wiring

if TYPE_CHECKING:
    from pathlib import Path

    from worker.wiring import Wiring


@contextmanager
def quiet_wiring(data_dir: Path | None) -> Iterator[Wiring]:
    """As ``open_wiring``, without log lines as long as it is open."""
    import structlog

    configured = structlog.get_config()
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(**{**configured, "wrapper_class": silent})
    try:
        with open_wiring(data_dir) as wiring:
            yield wiring
    finally:
        structlog.configure(**configured)
