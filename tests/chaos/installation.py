"""A whole installation to be broken: state server, two stores, and roles that are started again whenever they end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import kombu
import psutil
import redis
from deployment import Deployment
from servers import DURABLE, ValkeyServer, free_port, wait_until

from chaos import plan
from chaos.load import CRASH, REFUSE
from chaos.logs import LogReader
from chaos.manifests import Manifests
from worker.sync.tasks import MAINTENANCE_QUEUE, create_celery

ENVIRONMENT_ID = "00000000000000000000c4a0"
_ENDS_WITHIN_SECONDS = 20.0


class _TwoStores(Deployment):
    """A deployment whose first store is a server of its own; the second is added later."""

    def __init__(self, state: ValkeyServer, directory: Path, settings: Mapping[str, str], store_url: str) -> None:
        self._store_url = store_url
        super().__init__(state, directory, settings)

    def init(self, *arguments: str) -> dict[str, Any]:
        """Run `segsync init` for the environment and the first store."""
        return super().init("--environment-id", ENVIRONMENT_ID, "--store-url", self._store_url, *arguments)


class Process:
    """One process of a role, with whatever it starts; ended and started anew as faults want it."""

    def __init__(self, deployment: Deployment, starter: Executor, role: str, *arguments: str) -> None:
        self._deployment = deployment
        self._starter = starter
        self._command = (role, *arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._lost_a_child = False

    def start(self) -> None:
        """Start it, from a thread that lives as long as the run: some end with the thread that forked them."""
        self._lost_a_child = False
        self._process = self._starter.submit(self._deployment.start, *self._command).result()

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def surprise(self) -> str | None:
        """How it ended, if it ended by itself for no reason that it was given."""
        code = None if self._process is None else self._process.poll()
        # Celery gives up where a process of its pool dies before it was ready.
        return None if code is None or (self._lost_a_child and code == 1) else f"ended by itself, with exit code {code}"

    def signal_group(self, number: int) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def kill_main(self) -> None:
        """``kill -9`` the process that the others were forked by; those must end by themselves."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_child(self, dice: random.Random) -> bool:
        """``kill -9`` one of the processes that it forked; False if there is none."""
        assert self._process is not None
        try:
            children = psutil.Process(self._process.pid).children()
            if not children:
                return False
            self._lost_a_child = True
            dice.choice(children).kill()
        except psutil.NoSuchProcess:
            return False
        return True

    def end(self, number: int) -> bool:
        """Signal it, and wait until it is gone; False if it had to be killed in the end."""
        assert self._process is not None
        in_time = True
        if number != signal.SIGKILL:
            self._process.send_signal(number)
        elif self.alive():
            self.signal_group(number)
        try:
            self._process.wait(_ENDS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            in_time = False
        self.signal_group(signal.SIGKILL)  # and whatever it has left behind
        self._process.wait()
        with suppress(ValueError):
            self._deployment.processes.remove(self._process)
        return in_time


class Installation:
    """Every part by the name that a plan calls it by."""

    def __init__(self, directory: Path, retention_seconds: int | None = None) -> None:
        self.directory = directory
        self._retention_seconds = retention_seconds
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="starter")
        directory.mkdir(parents=True, exist_ok=True)
        self._mended = directory / "mended"
        self.manifests = Manifests(directory / "manifests")
        self.state = ValkeyServer(directory / "state", DURABLE)
        self.stores = {name: ValkeyServer(directory / f"store-{name}", DURABLE) for name in plan.STORES}
        self.processes: dict[str, Process] = {}
        self.urls = [f"http://127.0.0.1:{free_port()}" for _ in range(plan.RECEIVERS)]
        self._deployment: _TwoStores | None = None

    @property
    def deployment(self) -> Deployment:
        assert self._deployment is not None, "it is not started"
        return self._deployment

    def start(self) -> None:
        """Start everything; returns once both receivers take payloads."""
        for server in (self.state, *self.stores.values()):
            server.start()
        logs = self.directory / "logs"
        logs.mkdir()
        tests = Path(__file__).resolve().parents[1]
        settings = {
            "SEGSYNC_MANIFESTS": str(self.manifests.directory),
            "SEGSYNC_CONCURRENCY": "2",
            "PYTHONPATH": os.pathsep.join(map(str, (tests / "faults", tests.parent))),
            "PYTHON_FAULTS_CRASH": CRASH,
            "PYTHON_FAULTS_REFUSE": REFUSE,
            "PYTHON_FAULTS_UNLESS": str(self._mended),
        }
        if self._retention_seconds is not None:
            settings["SEGSYNC_RETENTION_SECONDS"] = str(self._retention_seconds)
        self._deployment = deployment = _TwoStores(self.state, logs, settings, self.stores["a"].url)
        deployment.command("store", "set", "redis", "--rename", "a")
        deployment.add_store("b", self.stores["b"].port)
        for number, url in enumerate(self.urls):
            port = url.rpartition(":")[2]
            self._add_process(f"receiver-{number}", "serve", "--host", "127.0.0.1", "--port", port)
        for number in range(plan.SCHEDULERS):
            self._add_process(f"scheduler-{number}", "scheduler")
        for number in range(plan.WORKERS):
            self._add_process(f"worker-{number}", "worker")
        for process in self.processes.values():
            process.start()
        wait_until(self.ready, 60, "both receivers")

    def _add_process(self, name: str, role: str, *arguments: str) -> None:
        self.processes[name] = Process(self.deployment, self._starter, role, *arguments)

    def ready(self) -> bool:
        """Whether both receivers take payloads."""
        return all(_ready(url) for url in self.urls)

    def watch_logs(self) -> LogReader:
        """A reader that sees every entry, also of those that compaction folds: it reads on while the logs grow."""
        reader = LogReader(ENVIRONMENT_ID)
        if self._retention_seconds is not None:
            self._threads.append(threading.Thread(target=self._read_on, args=(reader,), daemon=True))
            self._threads[-1].start()
        return reader

    def _read_on(self, reader: LogReader) -> None:
        with self.state.client(socket_timeout=5) as client:
            while not self._stopping.wait(0.5):
                with suppress(redis.RedisError):
                    reader.read_news(client)

    def begin_compaction(self) -> None:
        """Have a scheduler look now which logs are to be compacted, not when its minute is over."""
        wiring = self.deployment.wiring()
        try:
            create_celery(wiring.settings).send_task("segsync.maintain", queue=MAINTENANCE_QUEUE, retry=False)
        except kombu.exceptions.OperationalError:
            pass  # the broker is away; there will be a next time
        finally:
            wiring.close()

    def mend_parsers(self) -> None:
        """From now on nothing goes wrong when a body is parsed, whatever it says."""
        self._mended.touch()

    def start_what_ended(self) -> list[str]:
        """Start whatever is not running, as an orchestrator does; returns what of it is a surprise."""
        surprises = []
        for name, process in self.processes.items():
            if not process.alive():
                surprises += [f"{name} {surprise}"] if (surprise := process.surprise()) else []
                process.start()
        return surprises

    def stop(self) -> None:
        """End every process, whatever state it is in; idempotent."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)
        for process in self.processes.values():
            if process.alive():
                process.signal_group(signal.SIGCONT)
                process.signal_group(signal.SIGTERM)
        for process in self.processes.values():
            if process.alive():
                process.end(signal.SIGTERM)
        for server in (self.state, *self.stores.values()):
            server.stop()
        self._starter.shutdown()


@contextmanager
def installed(directory: Path, retention_seconds: int | None = None) -> Iterator[Installation]:
    """An installation that runs; nothing of it is left afterwards but its directory."""
    installation = Installation(directory, retention_seconds)
    try:
        installation.start()
        yield installation
    finally:
        installation.stop()


def _ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", timeout=2).status_code == 200
    except httpx2.TransportError:
        return False
