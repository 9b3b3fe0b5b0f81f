"""A `segsync up` of one's own, on a free port and in a directory that goes away: for the demo, and for tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from worker.cli.data_directory import CONNECTION_FILE
from worker.cli.ourselves import command_line, environment
from worker.errors import Misconfigured
from worker.processes import end_with_parent

_START_SECONDS = 90.0
_STOP_SECONDS = 15.0  # `segsync up` takes 10 at the most


@contextlib.contextmanager
def own_stack() -> Iterator[Path]:
    """Run a whole service while entered, and leave nothing of it behind.

    Yields:
        Its data directory, for ``find_service``.

    Raises:
        Misconfigured: it does not start; the line says why.
    """
    with tempfile.TemporaryDirectory(prefix="segsync-") as temporary:
        data_dir = Path(temporary)
        process = subprocess.Popen(  # noqa: S603
            command_line("up", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(data_dir)),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us; what we started, we stop
            preexec_fn=partial(end_with_parent, os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509
        )
        try:
            _await(process, data_dir)
            yield data_dir
        finally:
            process.terminate()
            try:
                process.communicate(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _await(process: subprocess.Popen[str], data_dir: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not (data_dir / CONNECTION_FILE).exists():
        if process.poll() is not None:
            said = process.stderr.read().strip() if process.stderr else ""
            raise Misconfigured(said.removeprefix("segsync: ") or "`segsync up` ended before it was ready")
        if time.monotonic() >= deadline:
            raise Misconfigured(f"`segsync up` was not ready within {_START_SECONDS:g} s")
        time.sleep(0.05)
