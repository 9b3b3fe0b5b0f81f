"""``segsync worker`` and ``segsync scheduler``: Celery's two roles."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from worker.processes import supervised

# Only `segsync up` passes it.
Supervisor = Annotated[str | None, typer.Option("--supervisor", hidden=True, metavar="PID:FD")]


def note_supervisor(supervisor: str | None) -> None:
    """Obey ``--supervisor``: end with that process, and say on that descriptor when ready."""
    if supervisor is not None:
        pid, fd = supervisor.split(":")
        supervised(int(pid), int(fd))


def worker(
    concurrency: Annotated[
        int | None,
        typer.Option(min=0, max=256, help="Processes, 0: one per core. Default: SEGSYNC_CONCURRENCY, else 0."),
    ] = None,
    supervisor: Supervisor = None,
) -> None:
    """Run a worker: applies what was accepted to the stores. Start as many as needed, on as many machines."""
    note_supervisor(supervisor)

    from worker.celery import run_worker
    from worker.settings import load_settings

    wanted = load_settings().concurrency if concurrency is None else concurrency
    raise typer.Exit(run_worker(wanted or _cores()))


def scheduler(supervisor: Supervisor = None) -> None:
    """Run the scheduler: freshness, sweeps and trims. Start one; a second one is harmless."""
    note_supervisor(supervisor)

    from worker.celery import run_scheduler

    raise typer.Exit(run_scheduler())


def _cores() -> int:
    # The cores that this process may use, which a container's limits make fewer than the machine's.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
