"""What a Redis store tells at checkout, on a real server: whose it is and which process answers; and its check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest
import redis
from pydantic import SecretStr
from servers import ValkeyServer, free_port, wait_until

from worker.errors import Unavailable
from worker.model import RedisStoreConfiguration, SegmentPatch
from worker.stores.layout import context_hash, context_hashes, redis_exclude_key, redis_include_key, redis_sentinel_key
from worker.stores.redis import RedisStore
from worker.stores.redis.bulk import WINDOW
from worker.stores.segment_store import Sentinel

REF = "beta-users.g1"
EVERY_COMMAND = ["+sadd", "+srem", "+smembers", "+sismember", "+scan", "+get", "+set", "+eval"]
OpenStore = Callable[..., RedisStore]


@pytest.fixture
def open_store() -> Iterator[OpenStore]:
    """Open stores on a server: ``open_store(server, username=…)``; all are closed afterwards."""
    with ExitStack() as stores:

        def open_store(server: ValkeyServer, **configuration: object) -> RedisStore:
            store = RedisStore(
                RedisStoreConfiguration.model_validate(
                    {"host": server.host, "port": server.port, "password": SecretStr(server.password)} | configuration
                ),
                connect_timeout_s=5,
            )
            stores.callback(store.close)
            return store

        yield open_store


@pytest.fixture
def store(valkey: ValkeyServer, real_redis: redis.Redis, open_store: OpenStore) -> RedisStore:
    """A store on the shared server, emptied."""
    return open_store(valkey)


@contextmanager
def user(client: redis.Redis, *commands: str, keys: Sequence[str] = ("launchdarkly:*",)) -> Iterator[dict[str, object]]:
    """The credentials of a user who may only use those commands, on those keys."""
    client.acl_setuser(
        "limited", enabled=True, reset=True, passwords=["+limited-secret"], keys=list(keys), commands=commands
    )
    try:
        yield {"username": "limited", "password": SecretStr("limited-secret")}
    finally:
        client.acl_deluser("limited")


def add(store: RedisStore, *members: str) -> None:
    with store.session() as session:
        session.write(SegmentPatch(REF, list(members), []), lambda: None)


def process_of(store: RedisStore) -> str:
    with store.session() as session:
        return session.process


# --- checkout


def test_a_checkout_is_one_round_trip(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.claim("ours", 1)
    sent: list[list[bytes]] = []
    send: Callable[..., None] = redis.Connection.send_packed_command

    def count(link: redis.Connection, command: list[bytes], check_health: bool = True) -> None:
        sent.append(command)
        send(link, command, check_health)

    monkeypatch.setattr(redis.Connection, "send_packed_command", count)
    with store.session() as session:
        assert session.sentinel == Sentinel("ours", 1)
        assert session.process
        assert session.connection
    assert len(sent) == 1


def test_a_restarted_server_is_another_process_and_a_wiped_one_has_no_sentinel(
    start_valkey: Callable[..., ValkeyServer], open_store: OpenStore
) -> None:
    server = start_valkey()
    store = open_store(server)
    store.claim("ours", 1)
    add(store, "ann")
    before = process_of(store)
    assert process_of(store) == before
    server.kill()
    server.restart()
    with store.session() as session:
        assert session.process not in {"", before}
        assert session.sentinel is None
    assert not store.holds_members()


def test_a_server_in_another_role_is_another_process(
    start_valkey: Callable[..., ValkeyServer], open_store: OpenStore
) -> None:
    server = start_valkey()
    store = open_store(server)
    primary = process_of(store)
    with server.client() as client:
        client.replicaof("127.0.0.1", free_port())
        replica = process_of(store)
        client.replicaof("NO", "ONE")
    promoted = process_of(store)
    # Promoted again it has a history of its own: what another primary was told meanwhile is not in it.
    assert len({primary, replica, promoted}) == 3


def test_a_server_that_does_not_tell_who_it_is_can_be_written(
    valkey: ValkeyServer, real_redis: redis.Redis, open_store: OpenStore
) -> None:
    with user(real_redis, *EVERY_COMMAND) as credentials:
        store = open_store(valkey, **credentials)
        sentinel = store.claim("ours", 1)
        with store.session() as session:
            assert (session.process, session.connection, session.sentinel) == ("", None, sentinel)
            session.write(SegmentPatch(REF, ["ann"], []), lambda: None)
        assert store.included("ann") == {REF}


def test_a_sentinel_that_may_not_be_read_is_not_taken_for_none(
    valkey: ValkeyServer, real_redis: redis.Redis, open_store: OpenStore
) -> None:
    with (
        user(real_redis, "+sadd", "+srem") as credentials,
        pytest.raises(Unavailable, match="NOPERM") as raised,
        open_store(valkey, **credentials).session(),
    ):
        pass
    assert raised.value.fault == "configuration"


def test_a_sentinels_key_of_another_type_is_the_whole_stores_trouble(
    store: RedisStore, real_redis: redis.Redis
) -> None:
    real_redis.lpush(redis_sentinel_key("launchdarkly"), "not ours")
    with pytest.raises(Unavailable, match="WRONGTYPE") as raised, store.session():
        pass
    assert raised.value.fault == "configuration"
    assert any("WRONGTYPE" in fault for fault in store.check())


@pytest.mark.parametrize("value", ["", "somebody", "somebody else's", "ours 12x", "\xff\x00 \n", "ours ²"])
def test_what_somebody_else_left_in_the_sentinels_place_is_a_sentinel_that_nobody_knows(
    store: RedisStore, real_redis: redis.Redis, value: str
) -> None:
    real_redis.set(redis_sentinel_key("launchdarkly"), value.encode("latin-1", "replace"))
    found = store.sentinel()
    assert found is not None
    assert found.beat_ms == 0
    assert store.claim("new", 1) == found
    assert not store.set_synchronized_on(17, Sentinel("new", 1))
    store.replace_sentinel("new", 1)
    assert store.set_synchronized_on(17, Sentinel("new", 2))
    assert store.sentinel() == Sentinel("new", 2)


# --- faults


@pytest.mark.parametrize(
    ("configuration", "told", "kind"),
    [
        ({"password": SecretStr("wrong")}, "password", "configuration"),
        ({"database": 99}, "database number", "configuration"),
        # Where services are names, one that restarts has none for a while.
        ({"host": "no-such-host.invalid"}, "host, port and TLS", "transient"),
    ],
    ids=["password", "database", "host"],
)
def test_the_check_names_a_wrong_setting_and_a_drain_knows_how_soon_to_try_again(
    start_valkey: Callable[..., ValkeyServer],
    open_store: OpenStore,
    configuration: dict[str, object],
    told: str,
    kind: str,
) -> None:
    store = open_store(start_valkey(password="open-sesame"), **configuration)
    with pytest.raises(Unavailable, match=told) as raised, store.session():
        pass
    assert raised.value.fault == kind
    [fault] = store.check()
    assert told in fault


def test_tls_where_the_server_speaks_none_is_told_among_the_reasons_for_silence(
    valkey: ValkeyServer, open_store: OpenStore
) -> None:
    [fault] = open_store(valkey, tlsEnabled=True).check()
    assert "no answer in time" in fault
    assert "whether TLS is right" in fault


def test_one_spoilt_context_is_no_trouble_of_the_store(store: RedisStore, real_redis: redis.Redis) -> None:
    real_redis.set(redis_include_key("launchdarkly", context_hash("ann")), "not a set")
    with store.session() as session:
        for patch in (SegmentPatch(REF, ["ann", "bob"], []), SegmentPatch(REF, [], ["ann", "bob"])):
            counts = session.write(patch, lambda: None)
            assert (counts.added, counts.removed) == (len(patch.add) // 2, len(patch.remove) // 2)
            [refused] = counts.refused
            assert refused.context_hash == context_hash("ann")
            assert "WRONGTYPE" in refused.reason
        assert session.remove_hashes(REF, context_hashes(["ann"]), lambda: None) == 0
    with pytest.raises(Unavailable, match="WRONGTYPE") as raised:
        store.included("ann")
    assert raised.value.fault == "item"


def test_a_full_server_is_expected_to_have_room_again(store: RedisStore, real_redis: redis.Redis) -> None:
    sentinel = store.claim("ours", 1)
    with store.session() as session:
        real_redis.config_set("maxmemory", "1")
        try:
            with pytest.raises(Unavailable, match="OOM") as raised:
                session.write(SegmentPatch(REF, ["ann"], []), lambda: None)
            assert raised.value.fault == "transient"
            with pytest.raises(Unavailable, match="OOM") as raised:
                store.set_synchronized_on(17, sentinel)
            assert raised.value.fault == "transient"
            assert any("OOM" in fault for fault in store.check())
        finally:
            real_redis.config_set("maxmemory", "0")
    assert store.check() == []


# --- scans


def test_what_is_no_contexts_set_of_segments_is_passed_over(store: RedisStore, real_redis: redis.Redis) -> None:
    add(store, "ann")
    real_redis.set(redis_include_key("launchdarkly", context_hash("spoilt")), "not a set")
    real_redis.sadd(redis_include_key("launchdarkly", "no hash"), REF)
    real_redis.sadd(redis_include_key("launchdarkly", context_hash("ann") + "x"), REF)
    real_redis.sadd(redis_include_key("launchdarkly", "é" * 22), REF)
    real_redis.set(redis_exclude_key("launchdarkly", context_hash("spoilt")), "not a set")
    real_redis.sadd(redis_exclude_key("launchdarkly", "no hash"), REF)
    real_redis.sadd("launchdarkly:big_segment_inclxde:" + context_hash("eve"), REF)
    real_redis.sadd("x" + redis_include_key("launchdarkly", context_hash("eve")), REF)
    assert [entry for page in store.scan() for entry in page] == [(context_hash("ann").encode(), {REF}, set())]
    assert store.includes(REF, context_hashes(["spoilt", "ann"])) == [False, True]
    with store.session() as session:
        session.write(SegmentPatch(REF, [], ["ann"]), lambda: None)
    assert not store.holds_members()


def test_a_prefix_of_pattern_characters_matches_itself_alone(
    valkey: ValkeyServer, real_redis: redis.Redis, open_store: OpenStore
) -> None:
    prefix = "a?[b]*\\c^"
    odd, plain = open_store(valkey, prefix=prefix), open_store(valkey, prefix="axbyc")
    add(plain, "bob")
    assert not odd.holds_members()
    add(odd, "ann")
    assert [entry for page in odd.scan() for entry in page] == [(context_hash("ann").encode(), {REF}, set())]


def test_a_scan_among_many_foreign_keys_finds_everybody_in_bounded_pages(
    store: RedisStore, real_redis: redis.Redis
) -> None:
    with real_redis.pipeline(transaction=False) as pipe:
        for number in range(20_000):
            pipe.set(f"foreign:{number}", 1)
        pipe.execute()
    assert not store.holds_members()
    members = [f"user-{number}" for number in range(3 * WINDOW)]
    add(store, *members)
    pages = list(store.scan())
    assert {hashed for page in pages for hashed, _, _ in page} == set(context_hashes(members))
    assert all(0 < len(page) <= WINDOW for page in pages)


def test_a_server_that_goes_away_under_a_scan_ends_it(
    start_valkey: Callable[..., ValkeyServer], open_store: OpenStore
) -> None:
    server = start_valkey()
    store = open_store(server)
    add(store, *(f"user-{number}" for number in range(3 * WINDOW)))
    pages = store.scan()
    next(pages)
    server.kill()
    server.restart()  # another process: its cursors are others
    with pytest.raises(Unavailable) as raised:
        list(pages)
    assert not raised.value.fate_unknown
    assert list(store.scan()) == []


def test_many_scans_that_were_left_keep_no_connection(store: RedisStore, real_redis: redis.Redis) -> None:
    add(store, *(f"user-{number}" for number in range(2 * WINDOW)))
    connected = real_redis.info("clients")["connected_clients"]
    for _ in range(5):
        pages = store.scan()
        next(pages)
        pages.close()  # type: ignore[attr-defined]
    assert real_redis.info("clients")["connected_clients"] == connected


# --- the check


def test_a_check_leaves_every_key_as_it_was(store: RedisStore, real_redis: redis.Redis) -> None:
    store.set_synchronized_on(17, store.claim("ours", 1))
    add(store, "ann")
    before = {key: real_redis.dump(key) for key in real_redis.scan_iter()}
    assert store.check() == []
    assert {key: real_redis.dump(key) for key in real_redis.scan_iter()} == before


@pytest.mark.parametrize("missing", EVERY_COMMAND)
def test_a_check_names_the_command_that_is_not_permitted(
    valkey: ValkeyServer, real_redis: redis.Redis, open_store: OpenStore, missing: str
) -> None:
    with user(real_redis, *(command for command in EVERY_COMMAND if command != missing)) as credentials:
        [fault] = open_store(valkey, **credentials).check()
        # Without GET, the script is permitted, but not what is in it.
        assert f"{'GET, EVAL' if missing == '+get' else missing[1:].upper()}: it answered NOPERM" in fault
        assert "limited-secret" not in fault
        permitted = {key for key in real_redis.scan_iter() if not key.endswith(b":segsync_probe")}
    assert permitted == set()


def test_a_check_asks_for_no_more_than_segsync_needs(
    valkey: ValkeyServer, real_redis: redis.Redis, open_store: OpenStore
) -> None:
    with user(real_redis, *EVERY_COMMAND) as credentials:
        assert open_store(valkey, **credentials).check() == []
    wait_until(lambda: real_redis.dbsize() == 0, message="the probes' end")


def test_a_user_of_another_prefix_is_told_which_commands_are_not_permitted_here(
    valkey: ValkeyServer, real_redis: redis.Redis, open_store: OpenStore
) -> None:
    with user(real_redis, *EVERY_COMMAND) as credentials:
        [fault] = open_store(valkey, prefix="others", **credentials).check()
    assert "GET, EVAL, SADD, SISMEMBER, SMEMBERS, SREM, SET: it answered NOPERM" in fault


def test_a_check_tries_the_keys_of_both_lists(
    valkey: ValkeyServer, real_redis: redis.Redis, open_store: OpenStore
) -> None:
    keys = "launchdarkly:seg*", "launchdarkly:big_segments_*", "launchdarkly:big_segment_include:*"
    with user(real_redis, *EVERY_COMMAND, keys=keys) as credentials:
        [fault] = open_store(valkey, **credentials).check()
    assert "SADD, SISMEMBER, SMEMBERS, SREM: it answered NOPERM" in fault


@pytest.mark.parametrize("writable", ["no", "yes"])
def test_a_check_of_a_replica_points_to_the_primary(
    start_valkey: Callable[..., ValkeyServer], open_store: OpenStore, writable: str
) -> None:
    server = start_valkey({"save": "", "replica-read-only": "no" if writable == "yes" else "yes"})
    with server.client() as client:
        client.replicaof("127.0.0.1", free_port())
        [fault] = open_store(server).check()
        assert "point the store at the primary" in fault
        assert client.dbsize() == 0


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "allkeys-lru", "allkeys-random"])
@pytest.mark.parametrize("refused", [[], ["-config"], ["-info"]], ids=lambda refused: "".join(refused) or "all")
def test_a_check_warns_of_a_server_that_forgets_keys_when_memory_runs_short(
    valkey: ValkeyServer,
    real_redis: redis.Redis,
    open_store: OpenStore,
    policy: str,
    refused: list[str],
) -> None:
    real_redis.config_set("maxmemory-policy", policy)
    try:
        with user(real_redis, "+@all", *refused) as credentials:
            faults = open_store(valkey, **credentials).check()
    finally:
        real_redis.config_set("maxmemory-policy", "noeviction")
    assert [f"maxmemory-policy is {policy}" in fault for fault in faults] == [True] * policy.startswith("allkeys")
