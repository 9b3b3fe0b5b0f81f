"""``segsync worker`` and ``segsync scheduler``: Celery's two roles."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from worker.processes import supervised

if TYPE_CHECKING:  # `segsync --help` must not wait for pydantic
    from worker.settings import Settings

_LOOK_AGAIN_SECONDS = 2.0

Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Refuse a state server that keeps less than SEGSYNC_DURABILITY promises, or does not tell."
    ),
]

# Only `segsync up` passes it.
Supervisor = Annotated[str | None, typer.Option("--supervisor", hidden=True, metavar="PID:FD")]


def note_supervisor(supervisor: str | None) -> None:
    """Obey ``--supervisor``: end with that process, and say on that descriptor when ready."""
    if supervisor is not None:
        pid, fd = supervisor.split(":")
        supervised(int(pid), int(fd))


def check_promises(settings: Settings, *, wait: bool) -> None:
    """Before a role starts: compare what the state server keeps with what is promised.

    Where the settings are not strict, what is amiss is logged (``durability.broken``), and the role starts.

    Args:
        settings: the role's.
        wait: where they are strict, wait for a state server that is away; else the role has to judge it later.

    Raises:
        Misconfigured: they are strict, and something is broken or cannot be verified; the message has all of it.
    """
    import structlog

    from worker.errors import Misconfigured, Unavailable
    from worker.log.durability import broken_promises
    from worker.state import open_state

    log = structlog.get_logger(__name__)
    with contextlib.closing(open_state(settings)) as client:
        while True:
            try:
                broken = broken_promises(client, settings.durability, settings.replicas)
                break
            except Unavailable as error:
                log.warning("state.away", error=str(error))
                if not (wait and settings.strict):
                    return
                time.sleep(_LOOK_AGAIN_SECONDS)
    if settings.strict and broken:
        raise Misconfigured(f"strict, so nothing is started: {'; '.join(broken)}")
    for sentence in broken:
        log.warning("durability.broken", problem=sentence)


def load_role_settings(*, strict: bool) -> Settings:
    """The role's settings, as the environment and ``--strict`` have them; logs are configured by them.

    Raises:
        Misconfigured: a setting is out of bounds.
    """
    from worker.logs import configure_logs
    from worker.settings import load_settings

    settings = load_settings()
    configure_logs(settings.log_level)
    return settings.model_copy(update={"strict": settings.strict or strict})


def worker(
    concurrency: Annotated[
        int | None,
        typer.Option(min=0, max=256, help="Processes, 0: one per core. Default: SEGSYNC_CONCURRENCY, else 0."),
    ] = None,
    strict: Strict = False,
    supervisor: Supervisor = None,
) -> None:
    """Run a worker: applies what was accepted to the stores. Start as many as needed, on as many machines."""
    note_supervisor(supervisor)

    settings = load_role_settings(strict=strict)
    check_promises(settings, wait=True)

    from worker.celery import run_worker

    wanted = settings.concurrency if concurrency is None else concurrency
    raise typer.Exit(run_worker(wanted or _cores()))


def scheduler(strict: Strict = False, supervisor: Supervisor = None) -> None:
    """Run the scheduler: freshness, sweeps and trims. Start one; a second one is harmless."""
    note_supervisor(supervisor)
    check_promises(load_role_settings(strict=strict), wait=True)

    from worker.celery import run_scheduler

    raise typer.Exit(run_scheduler())


def _cores() -> int:
    # The cores that this process may use, which a container's limits make fewer than the machine's.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
