"""The Redis store on the primary that real Redis Sentinels name: failovers, sentinels that are away or lock us out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from servers import ValkeyServer, free_port, server_binary, wait_until

from worker.errors import Unavailable
from worker.model import RedisStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.redis import RedisStore
from worker.stores.redis.addresses import Address
from worker.stores.segment_store import Sentinel

REF = "beta-users.g1"
SERVICE = "the-store"
FAILOVER_S = 90


class SentinelProcess:
    """One Redis Sentinel, which writes its own configuration file."""

    def __init__(self, directory: Path, primary: ValkeyServer, *, quorum: int, password: str = "") -> None:
        self.port = free_port()
        self.password = password
        directory.mkdir()
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {directory}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} {quorum}",
            f"sentinel down-after-milliseconds {SERVICE} 800",
            f"sentinel failover-timeout {SERVICE} 3000",
            *([f"requirepass {password}"] if password else []),
            *([f"sentinel auth-pass {SERVICE} {primary.password}"] if primary.password else []),
        ]
        (directory / "sentinel.conf").write_text("\n".join([*lines, ""]))
        with (directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(server_binary()), str(directory / "sentinel.conf"), "--sentinel"], stdout=log, stderr=log
            )

    def ask(self, *command: str) -> Any:
        client = redis.Redis(port=self.port, password=self.password or None, protocol=2)
        client.response_callbacks.clear()
        try:
            return client.execute_command(*command)
        except redis.ConnectionError:
            return None
        finally:
            client.close()

    def info(self) -> dict[bytes, bytes]:
        told = self.ask("SENTINEL", "MASTER", SERVICE)
        return dict(zip(told[::2], told[1::2], strict=True))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Replicated:
    """A primary, its replica and sentinels that watch them."""

    def __init__(self, directory: Path, *, password: str = "", sentinel_password: str = "") -> None:
        self.servers = [ValkeyServer(directory / f"server-{number}", password=password) for number in range(2)]
        self.primary, self.replica = self.servers
        self.sentinels: list[SentinelProcess] = []
        self._directory = directory
        self._sentinel_password = sentinel_password

    def start(self, sentinels: int) -> None:
        """Start all; whatever goes wrong, ``stop`` ends what runs."""
        for server in self.servers:
            if server.password:
                server.settings["primaryauth"] = server.password
            server.start()
        with self.replica.client() as client:
            client.replicaof(self.primary.host, self.primary.port)
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", 30, "the replica is in step")
        for number in range(sentinels):
            directory, quorum = self._directory / f"sentinel-{number}", sentinels // 2 + 1
            sentinel = SentinelProcess(directory, self.primary, quorum=quorum, password=self._sentinel_password)
            self.sentinels.append(sentinel)
            wait_until(lambda: sentinel.ask("PING"), 20, "the sentinel answers")  # noqa: B023 - called at once
        wait_until(self._know_each_other, 60, "the sentinels know each other and the replica")

    def _know_each_other(self) -> bool:
        expected = str(len(self.sentinels) - 1).encode()
        told = [sentinel.info() for sentinel in self.sentinels]
        return all(each[b"num-other-sentinels"] == expected and each[b"num-slaves"] == b"1" for each in told)

    def configuration(self, **others: object) -> RedisStoreConfiguration:
        host, *nodes = (f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        fields = {
            "mode": "sentinel",
            "service": SERVICE,
            "host": "127.0.0.1",
            "port": int(host.rpartition(":")[2]),
            "nodes": tuple(nodes),
            "password": SecretStr(self.primary.password),
            "sentinelPassword": SecretStr(self.sentinels[0].password),
        }
        return RedisStoreConfiguration.model_validate(fields | others)

    def role(self, server: ValkeyServer) -> str:
        with server.client() as client:
            try:
                return str(client.info("replication")["role"])
            except redis.RedisError:
                return ""

    def stop(self) -> None:
        for sentinel in self.sentinels:
            sentinel.stop()
        for server in self.servers:
            server.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Replicated]]:
    with ExitStack() as stack:

        def start(sentinels: int = 3, **passwords: str) -> Replicated:
            made = Replicated(tmp_path, **passwords)
            stack.callback(made.stop)
            made.start(sentinels)
            return made

        yield start


@pytest.fixture
def open_store() -> Iterator[Callable[[RedisStoreConfiguration], RedisStore]]:
    with ExitStack() as stores:

        def open_store(configuration: RedisStoreConfiguration) -> RedisStore:
            store = RedisStore(configuration)
            stores.callback(store.close)
            return store

        yield open_store


OpenStore = Callable[[RedisStoreConfiguration], RedisStore]


def write(store: RedisStore, *members: str) -> WriteCounts:
    with store.session() as session:
        return session.write(SegmentPatch(REF, list(members), []), lambda: None)


def process_of(store: RedisStore) -> str:
    with store.session() as session:
        return session.process


def until_it_answers(use: Callable[[], Any]) -> Any:
    answers: list[Any] = []

    def answered() -> bool:
        try:
            answers.append(use())
        except Unavailable as fault:
            if fault.fault != "transient":
                raise
            return False
        return True

    wait_until(answered, FAILOVER_S, "the store answers")
    return answers[0]


def test_a_killed_primary_is_followed_to_the_replica_that_takes_over(
    start: Callable[..., Replicated], open_store: OpenStore
) -> None:
    servers = start(password="open-sesame", sentinel_password="sentinels-own")
    store = open_store(servers.configuration())
    sentinel = store.claim("ours", 5)
    assert store.check() == []
    before = process_of(store)
    with servers.replica.client() as witness, store.session() as session:
        session.write(SegmentPatch(REF, ["ann"], []), lambda: None)
        wait_until(lambda: witness.dbsize() == 2, 20, "replicated")
        servers.primary.kill()
        with pytest.raises(Unavailable) as raised:
            session.write(SegmentPatch(REF, ["bob"], []), lambda: None)
        assert raised.value.fate_unknown
        connection = session.connection or ""
    assert not store.fence(connection)  # its node cannot be asked
    until_it_answers(lambda: write(store, "bob"))
    assert servers.role(servers.replica) == "master"
    assert process_of(store) not in {"", before}
    assert store.sentinel() == sentinel
    assert (store.included("ann"), store.included("bob")) == ({REF}, {REF})
    assert store.set_synchronized_on(17, sentinel)
    servers.primary.start()  # when Redis Sentinel makes it a replica is no matter of ours
    assert store.fence(connection)  # its process is gone
    assert write(store, "ann") == WriteCounts(0, 0)
    assert store.check() == []


def test_a_primary_that_became_a_replica_is_left_at_the_next_checkout(
    start: Callable[..., Replicated], open_store: OpenStore
) -> None:
    servers = start()
    store = open_store(servers.configuration())
    sentinel = store.claim("ours", 5)
    with store.session() as session:
        servers.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
        wait_until(lambda: servers.role(servers.primary) == "slave", FAILOVER_S, "the primary steps down")
        # It may have closed the connection, or refuse: nothing lands, or is known to have been lost with it.
        with pytest.raises(Unavailable) as raised:
            session.write(SegmentPatch(REF, ["ann"], []), lambda: None)
        assert raised.value.fault == "transient"
    assert until_it_answers(lambda: write(store, "ann")) == WriteCounts(1, 0)
    assert until_it_answers(lambda: store.set_synchronized_on(17, sentinel))
    with servers.replica.client() as client:
        assert client.dbsize() == 3


def test_sentinels_that_are_away_are_passed_over_and_without_any_the_store_is_away(
    start: Callable[..., Replicated], open_store: OpenStore
) -> None:
    servers = start()
    store = open_store(servers.configuration())
    for sentinel in servers.sentinels[:2]:
        sentinel.stop()
    assert write(store, "ann") == WriteCounts(1, 0)
    servers.sentinels[2].stop()
    assert write(store, "bob") == WriteCounts(1, 0)  # the primary is known
    with pytest.raises(Unavailable, match=f"Redis Sentinel 127.0.0.1:{servers.sentinels[0].port}") as raised:
        write(open_store(servers.configuration()), "eve")
    assert (raised.value.fault, raised.value.fate_unknown) == ("transient", False)


def test_an_unknown_service_and_a_refused_login_are_matters_of_configuration(
    start: Callable[..., Replicated], open_store: OpenStore
) -> None:
    servers = start(1, sentinel_password="sentinels-own")
    for others, told in (
        ({"service": "another"}, "does not know the service 'another'"),
        ({"sentinelPassword": SecretStr("")}, "Redis Sentinel .* NOAUTH"),
        ({"sentinelPassword": SecretStr("guessed-wrong")}, "Redis Sentinel .* WRONGPASS"),
    ):
        store = open_store(servers.configuration(**others))
        with pytest.raises(Unavailable, match=told) as raised:
            write(store, "ann")
        assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False)
        assert "guessed-wrong" not in str(raised.value)
        [fault] = store.check()
        assert "Redis Sentinel" in fault


def test_of_two_answers_the_one_that_is_not_known_to_be_wrong_counts(
    start: Callable[..., Replicated], open_store: OpenStore
) -> None:
    servers = start(1)
    store = open_store(servers.configuration())
    # Some sentinel told of the replica, or it was true until a moment ago.
    store._nodes._primary = Address(servers.replica.host, servers.replica.port)  # type: ignore[attr-defined]
    assert write(store, "ann") == WriteCounts(1, 0)
    store._nodes._primary = Address("127.0.0.1", free_port())  # type: ignore[attr-defined]
    assert write(store, "bob") == WriteCounts(1, 0)
    store._nodes._primary = Address(servers.replica.host, servers.replica.port)  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match="READONLY") as raised:
        store.claim("ours", 1)
    assert raised.value.fault == "transient"
    assert store.claim("ours", 1) == Sentinel("ours", 1)
