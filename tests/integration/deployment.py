"""A deployment for tests: receivers, workers and a scheduler as processes of their own, on a real state server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from secret_keys import KEY, VARIABLE
from servers import ValkeyServer, free_port, wait_until

from worker.settings import Settings
from worker.wiring import Wiring


class Deployment:
    """The roles of one installation. Every process is in a session of its own; ``stop`` leaves none behind."""

    def __init__(self, state: ValkeyServer, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.state = state
        self.directory = directory
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SEGSYNC_")},
            "SEGSYNC_STATE_URL": state.url,
            "SEGSYNC_CONCURRENCY": "1",
            VARIABLE: KEY,
            **(settings or {}),
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.facts: dict[str, Any] = self.init()

    @property
    def environment_id(self) -> str:
        return str(self.facts["environment_id"])

    @property
    def writer_token(self) -> str:
        return str(self.facts["writer_token"])

    def wiring(self) -> Wiring:
        """What a command would look at the installation with; the caller closes it."""
        return Wiring(Settings(state_url=self.state.url))

    def init(self, *arguments: str) -> dict[str, Any]:
        """Run `segsync init`; returns what it printed."""
        facts: dict[str, Any] = json.loads(self._run("init", *arguments))
        return facts

    def start(self, role: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one process of a role; its output goes to a file in the directory."""
        with (self.directory / f"{role}-{len(self.processes)}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker", role, *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.processes.append(process)
        if role == "worker":
            self.workers.append(process)
        return process

    def start_receiver(self) -> str:
        """Start a receiver; returns its URL once it is ready."""
        port = free_port()
        self.start("serve", "--host", "127.0.0.1", "--port", str(port))
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _is_ready(url), 30, "a receiver")
        return url

    def signal(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Send a signal to the process and whatever it started."""
        os.killpg(process.pid, number)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """``kill -9`` the process and whatever it started, as the end of its machine would."""
        self.signal(process, signal.SIGKILL)
        process.wait()
        self.processes.remove(process)
        self.workers = [worker for worker in self.workers if worker is not process]

    def wait_until_applied(self, timeout_s: float = 60.0) -> None:
        """Wait until no log is ahead of a cursor, nobody holds a lease, and nothing could still land."""
        wiring = self.wiring()
        try:
            wait_until(lambda: everything_applied(wiring, self.environment_id), timeout_s, "everything applied")
        finally:
            wiring.close()

    def logs(self) -> str:
        """What every process wrote."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("*.log")))

    def stop(self) -> None:
        """Stop every process, in an orderly way if it lets itself."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def add_store(self, name: str, port: int, host: str = "127.0.0.1") -> None:
        """Give the environment one more Redis store; it is filled from the logs."""
        self.command("store", "add", name, "--redis-url", f"redis://{host}:{port}/0")

    def command(self, *arguments: str) -> str:
        """Run a command of `segsync` to its success; returns what it printed."""
        return self._run(*arguments)

    def _run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "worker", *arguments]
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.directory,  # where no data directory of a `segsync up` is taken for the service that is meant
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout


@contextmanager
def deployed(
    state: ValkeyServer, directory: Path, *, workers: int, settings: Mapping[str, str] | None = None
) -> Iterator[Deployment]:
    """A deployment with a scheduler and some workers; receivers are started by the test."""
    deployment = Deployment(state, directory, settings)
    try:
        deployment.start("scheduler")
        for _ in range(workers):
            deployment.start("worker")
        yield deployment
    finally:
        deployment.stop()


def everything_applied(wiring: Wiring, environment_id: str) -> bool:
    """Whether no log is ahead of a cursor, nobody holds a lease, and nothing could still land."""
    stores = [store.store_id for store in wiring.stores_of(environment_id)]
    statuses = wiring.upkeep.statuses(environment_id, wiring.segment_keys.registered(environment_id), stores)
    return all(store.settled for status in statuses for store in status.stores.values())


def send(client: httpx2.Client, urls: Sequence[str], path: str, body: bytes) -> int:
    """Send one body as a partner does: again after a 503 or a broken connection, to the next receiver.

    Returns:
        How many tries it took to get a 204; the body is in the log at least once then.
    """
    tries = 0

    def accepted() -> bool:
        nonlocal tries
        tries += 1
        try:
            answer = client.post(urls[tries % len(urls)] + path, content=body)
        except httpx2.TransportError:
            return False
        assert answer.status_code in {204, 503}, answer.text
        return answer.status_code == 204

    wait_until(accepted, 60, "a 204")
    return tries


def _is_ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", timeout=2).status_code == 200
    except httpx2.TransportError:
        return False
