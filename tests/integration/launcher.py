"""Commands under test, each a process with its output in a file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

_STOP_SECONDS = 20.0


@dataclass
class Started:
    """A process and where its output goes."""

    process: subprocess.Popen[bytes]
    output: Path

    def says(self, text: str) -> bool:
        """Whether it runs, and has said that; with "" just whether it runs.

        Raises:
            AssertionError: it has ended, with what it said.
        """
        said = self.output.read_text()
        assert self.process.poll() is None, said
        return text in said

    def result(self, timeout_s: float) -> str:
        """Wait for a success, and return what it said."""
        assert self.process.wait(timeout_s) == 0, self.output.read_text()
        return self.output.read_text()


@dataclass
class Launcher:
    """Starts commands in a directory of their own, with nothing of this machine's SEGSYNC_* variables."""

    directory: Path
    started: list[Started] = field(default_factory=list)

    def __call__(self, command: list[str], environment: dict[str, str]) -> Started:
        output = self.directory / f"{len(self.started)}.out"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SEGSYNC_")}
        path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=inherited | environment | path,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.started.append(Started(process, output))
        return self.started[-1]

    def stop_all(self) -> None:
        """Ask all of them to end, and kill who does not."""
        for started in self.started:
            started.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for started in self.started:
            try:
                started.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                started.process.kill()
                started.process.wait()
