"""A Redis Cluster for tests: three primaries and a replica of each, on ports of their own; nodes to kill and freeze."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis
from servers import VOLATILE, ValkeyServer, free_port, wait_until

PRIMARIES: Final = 3
NODE_TIMEOUT_MS: Final = 1_500
SLOTS: Final = 16_384


class RedisCluster:
    """Six server processes on 127.0.0.1. Node files written beforehand make a cluster of them without a handshake."""

    host = "127.0.0.1"

    def __init__(self, directory: Path, settings: dict[str, str] | None = None, *, binary: Path | None = None) -> None:
        self._directory = directory
        self._binary = binary
        self._settings = settings or {}
        self.servers: dict[int, ValkeyServer] = {}

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def nodes(self) -> list[tuple[str, int, int]]:
        """Host, port and process id of every node that runs; at first the primaries, then their replicas."""
        return [(self.host, port, server.pid) for port, server in self.servers.items() if server._process is not None]

    @property
    def url(self) -> str:
        """All six addresses, as ``worker.redis_url`` reads them."""
        return "redis+cluster://" + ",".join(f"{self.host}:{port}" for port in self.servers)

    def start(self) -> Self:
        """Start six nodes; returns when every slot is served, every replica is in step and everybody agrees."""
        while len(self.servers) < 2 * PRIMARIES:
            self.add_server()
        ports = list(self.servers)
        for port in ports:
            (self.servers[port].directory / "nodes.conf").write_text(self._node_file(ports, port))
            self.servers[port].start()
        wait_until(self.is_well, 60, "the cluster's beginning")
        return self

    def add_server(self) -> ValkeyServer:
        """One more node, not started, that belongs to nobody yet."""
        port, bus = free_port(), free_port()
        settings = {
            **VOLATILE,
            "cluster-enabled": "yes",
            "cluster-port": str(bus),
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            # A replica may take over however long it was cut off: tests freeze them.
            "cluster-replica-validity-factor": "0",
            "cluster-migration-barrier": "9",
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",
            "enable-debug-command": "local",
            **self._settings,
        }
        server = ValkeyServer(self._directory / f"node-{port}", settings, port=port, binary=self._binary)
        self.servers[port] = server
        return server

    def stop(self) -> None:
        """Kill every node; idempotent."""
        for server in self.servers.values():
            server.kill()

    def kill(self, port: int) -> None:
        """``kill -9`` a node."""
        self.servers[port].kill()

    def client(self, **options: Any) -> redis.RedisCluster:
        """A redis-py client of the whole cluster; the caller closes it. Replies are bytes."""
        nodes = [redis.cluster.ClusterNode(host, port) for host, port, _ in self.nodes]
        return redis.RedisCluster(startup_nodes=nodes, **options)

    def flush(self) -> None:
        """Empty every primary, and wait for the replicas."""
        for port in self.primaries():
            with self.servers[port].client(socket_timeout=10) as client:
                client.flushall()
        wait_until(lambda: all(self.ask(port, "DBSIZE") == 0 for _, port, _ in self.nodes), 20, "all empty")

    def join(self) -> int:
        """Start one more primary, without slots, and make everybody know it; its port."""
        server = self.add_server().start()
        known = next(port for _, port, _ in self.nodes)
        self.ask(server.port, "CLUSTER", "MEET", self.host, known, self.servers[known].settings["cluster-port"])
        identity = self.id_of(server.port).encode()
        wait_until(lambda: all(identity in self.ask(port, "CLUSTER", "NODES") for _, port, _ in self.nodes), 30)
        wait_until(self.is_well, 30)
        return server.port

    def move_slot(self, slot: int, target: int, *, at_once: int = 100) -> Iterator[None]:
        """Move a slot with all that is in it, as resharding does; pauses after each portion of keys, and at the end."""
        source = self.owner(slot)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, at_once):
            self.ask(source, "MIGRATE", self.host, target, "", 0, 5000, "REPLACE", "KEYS", *keys)
            yield
        for port in (target, source, *(other for other in self.primaries() if other not in (source, target))):
            self.ask(port, "CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))
        wait_until(lambda: self.owner(slot) == target, 30)

    def ask(self, port: int, *command: str | int | bytes) -> Any:
        """One command to one node, its reply as the node gives it."""
        with self.servers[port].client(socket_timeout=5) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def role(self, port: int) -> str:
        """``master`` or ``slave``, as the node itself sees it; "" when it does not answer."""
        try:
            return str(self.ask(port, "ROLE")[0].decode())
        except redis.RedisError:
            return ""

    def primaries(self) -> list[int]:
        """The ports of the nodes that run and hold slots."""
        held = {}
        for _, port, _ in self.nodes:
            try:
                lines = self.ask(port, "CLUSTER", "NODES").decode().splitlines()
            except redis.RedisError:
                continue
            held[port] = any("myself,master" in line and len(line.split()) > 8 for line in lines)
        return [port for port, holds in held.items() if holds]

    def replica_of(self, port: int) -> int:
        """The port of the replica of a primary, as it was when the cluster was made, or the other way round."""
        ports = list(self.servers)
        return ports[(ports.index(port) + PRIMARIES) % (2 * PRIMARIES)]

    def id_of(self, port: int) -> str:
        """The node's id in the cluster."""
        return str(self.ask(port, "CLUSTER", "MYID").decode())

    def owner(self, slot: int) -> int:
        """The port of the primary that serves a slot, by what a node that answers says."""
        for _, port, _ in self.nodes:
            try:
                ranges = self.ask(port, "CLUSTER", "SLOTS")
            except redis.RedisError:
                continue
            for first, last, node, *_ in ranges:
                if first <= slot <= last:
                    return int(node[1])
        raise AssertionError(f"nobody serves slot {slot}")

    def is_well(self) -> bool:
        """Whether all nodes that run agree that every slot is served, and every replica that runs is in step."""
        maps = set()
        for _, port, _ in self.nodes:
            try:
                state = self.ask(port, "CLUSTER", "INFO").decode()
                ranges = self.ask(port, "CLUSTER", "SLOTS")
                role = self.ask(port, "ROLE")
            except redis.RedisError:
                return False
            if "cluster_state:ok" not in state or "cluster_slots_ok:16384" not in state:
                return False
            if role[0] == b"slave" and role[3] != b"connected":
                return False
            maps.add(tuple(sorted((first, last, node[1]) for first, last, node, *_ in ranges)))
        return len(maps) == 1

    def _node_file(self, ports: list[int], own: int) -> str:
        ids = {port: hashlib.sha1(str(port).encode()).hexdigest() for port in ports}
        lines = []
        for index, port in enumerate(ports):
            bus = self.servers[port].settings["cluster-port"]
            flags = "myself," if port == own else ""
            if index < PRIMARIES:
                first, last = index * SLOTS // PRIMARIES, (index + 1) * SLOTS // PRIMARIES - 1
                rest = f"{flags}master - 0 0 {index + 1} connected {first}-{last}"
            else:
                primary = ids[ports[index - PRIMARIES]]
                rest = f"{flags}slave {primary} 0 0 {index - PRIMARIES + 1} connected"
            lines.append(f"{ids[port]} {self.host}:{port}@{bus} {rest}")
        return "\n".join([*lines, f"vars currentEpoch {PRIMARIES} lastVoteEpoch 0", ""])
