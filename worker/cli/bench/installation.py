"""A service to measure: the embedded default's server, and roles beside it, each started when a benchmark needs it."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from socket import socket
from typing import Literal

import redis
from pydantic import SecretStr

from worker.cli import log_files
from worker.cli.data_directory import DataDirectory
from worker.cli.embedded import HOST, EmbeddedServer, find_binary, settle
from worker.cli.listener import listen, url_of
from worker.cli.ourselves import command_line
from worker.cli.stack import child_environment
from worker.cli.supervisor import Child, Role, Supervisor
from worker.errors import Misconfigured
from worker.log.batch import WakeUp
from worker.log.keyspace import prefix
from worker.model import RedisStoreConfiguration, SegmentId
from worker.settings import Settings
from worker.state import open_state
from worker.wiring import Wiring, open_records

PREFIX = "launchdarkly"
# What the store writes down: each write at once, as it is the state server itself; or, as a server of its own, whatever
# there is every second, or nothing.
StoreKeeps = Literal["as state", "everysec", "no"]

_START_SECONDS = 60.0
_POLL_SECONDS = 0.002


class Installation:
    """One installation in a directory of its own: a server with the settings of ``segsync up``, and perhaps a store.

    Nothing in it is ever restarted: a process that dies ends the run.

    Attributes:
        wiring: what the benchmark itself looks at it with.
        environment_id, writer_token, store_id: where payloads are sent to, and with what.
        store_server: the state server as well, unless the store is another.
    """

    def __init__(
        self, directory: DataDirectory, supervisor: Supervisor, store: StoreKeeps, variables: Mapping[str, str]
    ) -> None:
        self._directory = directory
        self._supervisor = supervisor
        self._variables = variables
        credentials = directory.credentials()
        self._children: dict[str, Child] = {}
        self._server = self._start_server("server", credentials.state_password)
        self.store_server = self._server
        if store != "as state":
            self.store_server = self._start_server("store", credentials.state_password)
            with self.store_server.client() as client:
                client.config_set("appendfsync" if store == "everysec" else "appendonly", store)
        self._settings = Settings(
            state_url=SecretStr(self._server.url), durability="fsync", secret_keys=SecretStr(directory.secret_keys())
        )
        made = open_records(self._settings).bootstrap(
            environment_id=credentials.environment_id,
            store_configuration=RedisStoreConfiguration(
                host=HOST, port=self.store_server.port, password=SecretStr(credentials.state_password), prefix=PREFIX
            ),
            writer_token=credentials.writer_token,
            admin_token=credentials.admin_token,
        )
        self.environment_id = made.environment_id
        self.writer_token = credentials.writer_token
        self.store_id = made.store.store_id
        self.wiring = Wiring(self._settings)

    @property
    def directory(self) -> Path:
        """Where a benchmark may put files; they go with the installation."""
        return self._directory.path

    def client(self) -> redis.Redis:
        """A client of the state server, for one's own; the caller closes it."""
        return open_state(self._settings)

    def store_client(self) -> redis.Redis:
        """The same of the store."""
        return open_state(self._settings.model_copy(update={"state_url": SecretStr(self.store_server.url)}))

    def pids(self) -> dict[str, int]:
        """The processes that run, without their own children, by role."""
        return {name: child.pid for name, child in self._children.items() if child.pid is not None}

    @contextmanager
    def receiver(self) -> Iterator[str]:
        """One receiver while entered; yields its URL."""
        with closing(listen(HOST, 0)) as listener:
            fd = listener.fileno()
            with self._role("receiver", "serve", "--fd", str(fd), listener=listener, pass_fds=(fd,)):
                yield url_of(listener)

    @contextmanager
    def worker(self, name: str = "worker", processes: int = 1) -> Iterator[None]:
        """A worker with so many processes while entered. Several need different names."""
        with self._role(name, "worker", "--concurrency", str(processes)):
            yield

    @contextmanager
    def scheduler(self) -> Iterator[None]:
        """A scheduler while entered."""
        with self._role("scheduler", "scheduler"):
            yield

    def wait_until_applied(self, segments: Sequence[SegmentId], poll_seconds: float = _POLL_SECONDS) -> None:
        """Wait until the store has all that is in these logs now. Cursors are looked at, which disturbs nobody.

        Raises:
            Misconfigured: a process died, or it took more than a minute.
        """
        with self.client() as client:
            ends = {segment: client.hget(f"{prefix(segment)}:head", "last") for segment in segments}

            def applied() -> bool:
                for segment, end in list(ends.items()):
                    if client.hget(f"{prefix(segment)}:cursor:{self.store_id}", "position") != end:
                        return False
                    del ends[segment]
                return True

            self.wait_until(applied, "the log to be applied", poll_seconds)
        keys = [segment.segment_key for segment in segments]
        self.wait_until(lambda: self._settled(keys), "the log to be let go", poll_seconds)

    def wait_until(self, done: Callable[[], bool], what: str, poll_seconds: float = _POLL_SECONDS) -> None:
        """Wait for something that the roles do.

        Raises:
            Misconfigured: a process died meanwhile, or it took more than a minute.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not done():
            for name, child in self._children.items():
                if (fate := child.died()) is not None:
                    raise Misconfigured(self._account(f"the {name} {fate} while waiting for {what}", name))
            if time.monotonic() >= deadline:
                raise Misconfigured(f"waited {_START_SECONDS:g} s for {what} in vain")
            time.sleep(poll_seconds)

    def drain_of(self, segment: SegmentId) -> WakeUp:
        """The hint by which a worker drains that segment to the store."""
        return WakeUp(segment, self.store_id)

    def _settled(self, segment_keys: list[str]) -> bool:
        statuses = self.wiring.upkeep.statuses(self.environment_id, segment_keys, [self.store_id])
        return all(store.settled for status in statuses for store in status.stores.values())

    @contextmanager
    def _role(
        self, name: str, *arguments: str, listener: socket | None = None, pass_fds: tuple[int, ...] = ()
    ) -> Iterator[Child]:
        with ExitStack() as stack:
            nowhere = listener or stack.enter_context(closing(listen(HOST, 0)))
            variables = {**child_environment(self._settings, nowhere), **self._variables}
        role = Role(name, command_line(*arguments), self._log(name), env=variables, pass_fds=pass_fds, reports=True)
        child = Child(role)
        child.start()
        self._children[name] = child
        try:
            self._await(name, lambda: child.ready)
            yield child
        finally:
            del self._children[name]
            child.terminate()
            child.end(time.monotonic() + _START_SECONDS)

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        self.wait_until(ready, f"the {name} to start")

    def _start_server(self, name: str, password: str) -> EmbeddedServer:
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        server = settle(directory, password)
        role = dataclasses.replace(server.role(find_binary(), self._log(name)), name=name)
        self._children[name] = self._supervisor.start(role)
        self._await(name, server.answers)
        return server

    def _log(self, name: str) -> Path:
        return self._directory.logs / f"{name}.log"

    def _account(self, what: str, name: str) -> str:
        return "; ".join([what, *log_files.last_lines(self._log(name), 3)])


@contextmanager
def installed(store: StoreKeeps = "as state", **variables: str) -> Iterator[Installation]:
    """An installation while entered, without roles; nothing is left of it. ``variables`` are SEGSYNC_* of the roles."""
    with tempfile.TemporaryDirectory(prefix="segsync-bench-") as temporary, DataDirectory.lock(Path(temporary)) as held:
        supervisor = Supervisor(_never_called)
        installation = None
        try:
            installation = Installation(held, supervisor, store, variables)
            yield installation
        finally:
            if installation is not None:
                installation.wiring.close()
            supervisor.stop()


def _never_called(child: Child, fate: str) -> None:
    raise AssertionError(child.role.name, fate)
