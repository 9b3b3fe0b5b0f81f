"""A `segsync up` under test: started as a person starts it, and followed to the last of its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import psutil
from servers import wait_until

START_SECONDS = 60.0


class UpProcess:
    """One `segsync up` on a free port, with everything it says."""

    def __init__(self, data_dir: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self._mark = uuid.uuid4().hex
        self._output = Path(tempfile.gettempdir(), f"segsync-{self._mark}.out")
        # Nor PYTHONUNBUFFERED: what is not flushed must not look as if it were.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SEGSYNC_", "PYTHON"))}
        self._stale = self._written()  # by one that was killed: not an answer of this one
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker", "up", "--data-dir", str(data_dir), *(arguments or ("--port", "0"))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Every descendant inherits the mark, and is found by it, whoever its parent is by then.
                env=inherited | {"SEGSYNC_TEST_MARK": self._mark, "SEGSYNC_CONCURRENCY": "2"} | (environment or {}),
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def connection_file(self) -> Path:
        return self.data_dir / "connection.json"

    def ready(self) -> dict[str, Any]:
        """Wait for connection.json, and return it."""

        def there() -> bool:
            assert self.process.poll() is None, self.output
            return self._written() not in {None, self._stale}

        wait_until(there, START_SECONDS, f"connection.json; {self.output}")
        facts: dict[str, Any] = json.loads(self.connection_file.read_text())
        return facts

    def _written(self) -> int | None:
        try:
            return self.connection_file.stat().st_mtime_ns
        except OSError:
            return None

    def descendants(self) -> list[psutil.Process]:
        """Every process that this one has started and that still runs."""
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get("SEGSYNC_TEST_MARK") == self._mark
                if marked and process.pid != self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def child(self, role: str) -> psutil.Process:
        """The process of a role: "server", "receiver", "worker" or "scheduler"."""
        command = {"receiver": "serve"}.get(role, role)
        return next(
            process
            for process in psutil.Process(self.process.pid).children()
            if (process.name() == "valkey-server" if role == "server" else command in process.cmdline()[4:5])
        )

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Send a signal, and return the exit code once it has ended, within the time that it promises."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def clean_up(self) -> None:
        """Whatever the test did: leave no process."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in self.descendants():
            process.kill()
        self._output.unlink()
