"""What the state server keeps against what is promised, on real servers that keep more or less."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from servers import DURABLE, VOLATILE, ValkeyServer, wait_until

from worker.log.durability import broken_promises
from worker.settings import Durability

Start = Callable[..., redis.Redis]
EVERY_SECOND = {**DURABLE, "appendfsync": "everysec"}
ALL: tuple[Durability, ...] = ("fsync", "everysec", "replica", "memory")


@pytest.fixture
def start(start_valkey: Callable[..., ValkeyServer]) -> Iterator[Start]:
    """Start a server with these settings; returns its client."""
    clients: list[redis.Redis] = []

    def started(settings: dict[str, str], primary: redis.Redis | None = None) -> redis.Redis:
        # By default a primary lets replicas wait for each other.
        clients.append(start_valkey({"repl-diskless-sync-delay": "0", **settings}).client(decode_responses=False))
        if primary is not None:
            clients[-1].replicaof("127.0.0.1", primary.get_connection_kwargs()["port"])
            wait_until(lambda: primary.info("replication").get("slave0", {}).get("state") == "online", 20)
        return clients[-1]

    yield started
    for client in clients:
        client.close()


def forbid(client: redis.Redis, *commands: str) -> None:
    client.execute_command("ACL", "SETUSER", "default", *(f"-{command}" for command in commands))


@pytest.mark.parametrize(
    ("durability", "settings"),
    [("fsync", DURABLE), ("everysec", EVERY_SECOND), ("everysec", DURABLE), ("memory", VOLATILE)],
)
def test_a_server_that_keeps_what_is_promised_breaks_nothing(
    start: Start, durability: Durability, settings: dict[str, str]
) -> None:
    assert broken_promises(start(settings), durability) == []


@pytest.mark.parametrize(
    ("durability", "settings", "names"),
    [
        ("fsync", VOLATILE, ["`appendonly no`", "`appendfsync everysec`"]),
        ("fsync", EVERY_SECOND, ["`appendfsync everysec`"]),
        ("fsync", {**DURABLE, "no-appendfsync-on-rewrite": "yes"}, ["`no-appendfsync-on-rewrite yes`"]),
        ("everysec", VOLATILE, ["`appendonly no`"]),
        ("everysec", {**DURABLE, "appendfsync": "no"}, ["`appendfsync no`"]),
    ],
)
def test_a_server_that_keeps_less_is_told_by_the_settings_that_would_keep_it(
    start: Start, durability: Durability, settings: dict[str, str], names: list[str]
) -> None:
    broken = broken_promises(start(settings), durability)

    assert len(broken) == len(names)
    for sentence, name in zip(broken, names, strict=True):
        assert name in sentence
        assert f"SEGSYNC_DURABILITY={durability} needs `" in sentence


@pytest.mark.parametrize("durability", ALL)
@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_evicts_keys_breaks_every_promise(start: Start, durability: Durability, policy: str) -> None:
    primary = start({**DURABLE, "maxmemory-policy": policy})
    if durability == "replica":
        start(VOLATILE, primary)

    [sentence] = broken_promises(primary, durability)

    assert f"`maxmemory-policy {policy}`" in sentence
    assert "needs `noeviction`" in sentence


def test_a_server_that_forbids_config_still_tells_some_of_it_and_the_rest_is_unverified(start: Start) -> None:
    client = start({**VOLATILE, "maxmemory-policy": "allkeys-lru"})
    forbid(client, "config")

    broken = broken_promises(client, "fsync")

    assert [name for name in ("maxmemory-policy allkeys-lru", "appendonly no") if name in " ".join(broken[:2])] == [
        "maxmemory-policy allkeys-lru",
        "appendonly no",
    ]
    assert "`appendfsync always`, `no-appendfsync-on-rewrite no`" in broken[2]
    assert "unverified" in broken[2]
    assert len(broken) == 3


@pytest.mark.parametrize("durability", ALL)
def test_a_server_that_tells_nothing_leaves_every_promise_unverified(start: Start, durability: Durability) -> None:
    client = start(DURABLE)
    forbid(client, "config", "info")

    broken = broken_promises(client, durability)

    assert broken
    assert all("unverified" in sentence for sentence in broken)


def test_replicas_are_counted_when_they_are_online(start: Start) -> None:
    primary = start(VOLATILE)
    [sentence] = broken_promises(primary, "replica")
    assert "has 0 replicas online" in sentence
    assert "SEGSYNC_REPLICAS=1" in sentence

    start(VOLATILE, primary)

    assert broken_promises(primary, "replica") == []
    [sentence] = broken_promises(primary, "replica", replicas=2)
    assert "has 1 replicas online" in sentence


def test_with_config_forbidden_a_promise_of_replicas_can_be_verified_all_the_same(start: Start) -> None:
    primary = start(VOLATILE)
    start(VOLATILE, primary)
    forbid(primary, "config")

    assert broken_promises(primary, "replica") == []


def test_a_replica_is_no_state_server(start: Start) -> None:
    replica = start(VOLATILE, start(VOLATILE))

    [sentence] = broken_promises(replica, "replica")

    assert "SEGSYNC_STATE_URL must name the primary" in sentence
