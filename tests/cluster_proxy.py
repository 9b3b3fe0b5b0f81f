"""One port in front of a Redis Cluster, for clients that speak to one server only: LaunchDarkly's Python SDK is one."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import hiredis
import redis
from redis.crc import key_slot
from redis_cluster import RedisCluster

_KEYED: Final = {b"GET", b"SMEMBERS", b"SISMEMBER", b"EXISTS", b"TYPE"}
# What a client waits for while a replica takes over.
_PATIENCE_S: Final = 20.0


class ClusterProxy:
    """Takes a command to the node that has its key, and follows slots that move and replicas that take over.

    It reads only; commands without a key go to every node that this client has spoken to, and are answered by one.
    """

    host = "127.0.0.1"

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = cluster
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://{self.host}:{self.port}/0"
        self._clients: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close every connection, and wait for the threads; idempotent."""
        for each in [self._listener, *self._clients]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(timeout=30)

    def _spawn(self, run: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        reader = hiredis.Reader()
        nodes = _Nodes(self._cluster)
        try:
            while chunk := client.recv(65_536):
                reader.feed(chunk)
                while (command := reader.gets()) is not False:
                    client.sendall(nodes.answer(command))
        except OSError:
            pass
        finally:
            nodes.close()
            client.close()


class _Nodes:
    """One client's connections to the nodes; each is told first what the client said of itself."""

    def __init__(self, cluster: RedisCluster) -> None:
        self._cluster = cluster
        self._links: dict[int, socket.socket] = {}
        self._said: list[list[bytes]] = []
        self._owners: list[tuple[int, int, int]] = []

    def answer(self, command: list[bytes]) -> bytes:
        """The reply to a command, as the node gave it."""
        if command[0].upper() not in _KEYED:
            port = next(iter(self._links), None) or self._cluster.nodes[0][1]
            reply = self._exchange(port, command)
            for other in list(self._links):
                if other != port:
                    self._exchange(other, command)
            self._said.append(command)
            return reply
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with suppress(OSError, redis.RedisError, LookupError):
                reply = self._exchange(self._owner(key_slot(command[1])), command)
                if not reply.startswith((b"-MOVED", b"-ASK", b"-CLUSTERDOWN", b"-LOADING", b"-MASTERDOWN")):
                    return reply
            self._owners.clear()
            if time.monotonic() > deadline:
                return b"-ERR no node of the cluster answers for this key\r\n"
            time.sleep(0.02)

    def close(self) -> None:
        for link in self._links.values():
            link.close()

    def _owner(self, slot: int) -> int:
        if not self._owners:
            for _, port, _ in self._cluster.nodes:
                with suppress(redis.RedisError):
                    ranges = self._cluster.ask(port, "CLUSTER", "SLOTS")
                    self._owners = [(first, last, int(node[1])) for first, last, node, *_ in ranges]
                    break
        return next(port for first, last, port in self._owners if first <= slot <= last)

    def _exchange(self, port: int, command: list[bytes]) -> bytes:
        try:
            if port not in self._links:
                self._links[port] = socket.create_connection((self._cluster.host, port), timeout=5)
                for said in self._said:
                    _ask(self._links[port], said)
            return _ask(self._links[port], command)
        except BaseException:
            if broken := self._links.pop(port, None):
                broken.close()
            raise


def _ask(link: socket.socket, command: list[bytes]) -> bytes:
    link.sendall(b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in command))
    reader = hiredis.Reader()
    received = b""
    while reader.gets() is False:
        chunk = link.recv(65_536)
        if not chunk:
            raise ConnectionResetError("the node closed the connection")
        received += chunk
        reader.feed(chunk)
    return received
