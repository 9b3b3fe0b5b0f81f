"""The whole service as children of one process: what is started in which order, and when it counts as answering."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from socket import socket
from typing import Any

from pydantic import SecretStr
from redis.exceptions import RedisError

from worker.cli import log_files
from worker.cli.connection import all_secret_keys
from worker.cli.data_directory import DataDirectory
from worker.cli.embedded import HOST, settle
from worker.cli.listener import url_of
from worker.cli.ourselves import command_line, environment
from worker.cli.signals import Signals
from worker.cli.supervisor import Child, Role, Supervisor
from worker.errors import Misconfigured
from worker.model import RedisStoreConfiguration
from worker.settings import Settings
from worker.stores.layout import redis_synchronized_on_key
from worker.wiring import open_records

_PREFIX = "launchdarkly"
_TICK = 0.1
_START_SECONDS = 60.0  # the roles; three Python processes on a busy machine take a few
_LOADING_HINT_SECONDS = 5.0
_LOG_LINES = 3
_OWN_WORDS = "segsync: "  # how the last line of a command begins that a person can put right
_HOPELESS_DEATHS = 3  # of a child that was never ready: starting it again does not help
# With a backlog from before, synchronizedOn is rightly older than this start until it has been applied.
_FRESH_SECONDS = 5.0


class Stack:
    """One service in one data directory."""

    def __init__(
        self,
        *,
        settings: Settings,
        directory: DataDirectory,
        listener: socket,
        binary: str,
        signals: Signals,
        say: Callable[[str], None],
    ) -> None:
        self._listener = listener
        self._directory = directory
        self._binary = binary
        self._signals = signals
        self._say = say
        self._supervisor = Supervisor(self._on_death)
        self._credentials = directory.credentials()
        self._server = settle(directory.server, self._credentials.state_password)
        keys = all_secret_keys(settings, directory.secret_keys())
        self._settings = settings.model_copy(
            update={"state_url": SecretStr(self._server.url), "durability": "fsync", "secret_keys": keys}
        )
        self._starting = True
        self._fills_own_store = True
        self.url = url_of(listener)

    def start(self) -> dict[str, Any]:
        """Start everything, and return the facts of connection.json once it answers.

        Raises:
            Misconfigured: a part does not start.
            Stopped: somebody asked to stop meanwhile.
        """
        started_ms = time.time_ns() // 1_000_000
        self._start_server()
        facts = self._bootstrap()
        receiver, worker, scheduler = (self._supervisor.start(role) for role in self._roles())
        self._await(receiver, self._receiver_answers)
        self._await(worker, lambda: worker.ready)
        if self._fills_own_store:
            self._await(scheduler, lambda: self._synchronized_on() is not None)
            self._await_fresh(started_ms)
        else:
            self._await(scheduler, lambda: scheduler.ready)
        self._starting = False
        for key, faults in self._readiness().get("broken_manifests", {}).items():
            self._say(f"the manifest of {key} cannot be used: {faults[0]['pointer']} {faults[0]['message']}")
        return facts

    def watch(self) -> None:
        """Keep everything alive until somebody asks to stop."""
        while True:
            self._turn()

    def stop(self) -> None:
        """Stop everything; nothing is accepted from the first moment on."""
        self._listener.close()
        self._supervisor.stop()

    def _turn(self, most_seconds: float = float("inf")) -> None:
        self._signals.check()
        self._signals.wait(min(most_seconds, self._supervisor.tend()))

    def _on_death(self, child: Child, fate: str) -> None:
        last = log_files.last_lines(child.role.log, _LOG_LINES)
        if self._starting and last and last[-1].startswith(_OWN_WORDS):
            # It has found by itself what a person must put right, and would find it again.
            raise Misconfigured(last[-1].removeprefix(_OWN_WORDS))
        if self._starting and child.deaths >= _HOPELESS_DEATHS:
            raise Misconfigured(_does_not_start(child, f"and has died {child.deaths} times"))
        again = f"starting it again in {child.delay:g} s"
        self._say(f"the {child.role.name} {fate}; {again} (log: {child.role.log})")
        for line in last:
            self._say(f"    {line}")

    def _start_server(self) -> None:
        server = self._supervisor.start(self._server.role(self._binary, self._directory.logs / "server.log"))
        hint = time.monotonic() + _LOADING_HINT_SECONDS
        while not self._server.answers():
            # What ends it now would end it again: a fault in its data, or a program that is no Valkey.
            if (fate := server.died()) is not None:
                raise Misconfigured(_does_not_start(server, f"and {fate}"))
            if time.monotonic() >= hint:
                hint = float("inf")
                self._say("the server is still loading its data")
            self._signals.check()
            self._signals.wait(_TICK)

    def _bootstrap(self) -> dict[str, Any]:
        """Create what is missing in the state server, and return what connection.json says."""
        credentials, server = self._credentials, self._server
        made = open_records(self._settings).bootstrap(
            environment_id=credentials.environment_id,
            store_configuration=RedisStoreConfiguration(
                host=HOST, port=server.port, password=SecretStr(credentials.state_password), prefix=_PREFIX
            ),
            writer_token=credentials.writer_token,
            admin_token=credentials.admin_token,
            existing_store="moved",  # the same server with the same data, if perhaps on another port
        )
        # It may have been switched off or removed: then nobody tells it how fresh it is.
        self._fills_own_store = made.settled is not None and made.settled.on
        return {
            "url": self.url,
            "project_key": made.project_key,
            "environment_key": made.environment_key,
            "environment_id": made.environment_id,
            "writer_token": made.writer_token,
            "admin_token": made.admin_token,
            "state_url": server.url,
            "store": {"kind": "redis", "url": server.url, "prefix": _PREFIX} if made.settled else None,
        }

    def _roles(self) -> list[Role]:
        variables = child_environment(self._settings, self._listener)
        listener_fd = self._listener.fileno()

        def role(name: str, *arguments: str, pass_fds: tuple[int, ...] = ()) -> Role:
            log = self._directory.logs / f"{name}.log"
            return Role(name, command_line(*arguments), log, env=variables, pass_fds=pass_fds, reports=True)

        return [
            role("receiver", "serve", "--fd", str(listener_fd), pass_fds=(listener_fd,)),
            role("worker", "worker"),
            role("scheduler", "scheduler"),
        ]

    def _await(self, child: Child, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not answers():
            if time.monotonic() >= deadline:
                raise Misconfigured(_does_not_start(child, f"within {_START_SECONDS:g} s"))
            self._turn(_TICK)

    def _await_fresh(self, started_ms: int) -> None:
        deadline = time.monotonic() + _FRESH_SECONDS
        while (self._synchronized_on() or 0) < started_ms:
            if time.monotonic() >= deadline:
                self._say("the store lags behind: batches from before are still being applied")
                return
            self._turn(_TICK)

    def _receiver_answers(self) -> bool:
        return bool(self._readiness().get("status") == "ready")

    def _readiness(self) -> dict[str, Any]:
        """What /readyz says; empty when it says nothing."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=1)
        try:
            connection.request("GET", "/readyz")
            said: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException):
            return {}
        else:
            return said
        finally:
            connection.close()

    def _synchronized_on(self) -> int | None:
        with self._server.client() as client:
            try:
                value = client.get(redis_synchronized_on_key(_PREFIX))
            except RedisError:
                return None
        return int(str(value)) if value else None


def child_environment(settings: Settings, listener: socket) -> dict[str, str]:
    """The environment of our roles: the user's, with what `segsync up` decides laid over it."""
    host, port = listener.getsockname()[:2]
    return environment() | {
        "SEGSYNC_STATE_URL": settings.state_url.get_secret_value(),
        "SEGSYNC_HOST": host,
        "SEGSYNC_PORT": str(port),
        "SEGSYNC_DURABILITY": settings.durability,
        "SEGSYNC_SECRET_KEYS": settings.secret_keys.get_secret_value(),
        "PYTHONUNBUFFERED": "1",  # a child that dies must have said why
    }


def _does_not_start(child: Child, how: str) -> str:
    last = "".join(f": {line}" for line in log_files.last_lines(child.role.log, 1))
    return f"the {child.role.name} does not start {how}{last} (log: {child.role.log})"
