"""The Redis store against servers that hang, die, refuse and forget; and what fencing is worth then."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count

import pytest
import redis
from pydantic import SecretStr
from servers import TcpProxy, ValkeyServer, free_port, wait_until

from worker.errors import Unavailable
from worker.model import RedisStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.layout import context_hash, redis_include_key
from worker.stores.redis import RedisStore
from worker.stores.redis import session as session_module
from worker.stores.redis.bulk import WINDOW
from worker.stores.redis.session import WINDOWS_IN_FLIGHT, RedisWriteSession

REF = "beta-users.g1"
OpenStore = Callable[..., RedisStore]


@pytest.fixture
def open_store() -> Iterator[OpenStore]:
    """Open stores on a server: ``open_store(server, username=…, answer_timeout_s=…)``; all are closed afterwards."""
    with ExitStack() as stores:

        def open_store(
            server: ValkeyServer,
            *,
            answer_timeout_s: float = 10.0,
            connect_timeout_s: float = 5.0,
            **configuration: object,
        ) -> RedisStore:
            found = RedisStoreConfiguration.model_validate(
                {"host": server.host, "port": server.port, "password": SecretStr(server.password)} | configuration
            )
            store = RedisStore(found, answer_timeout_s=answer_timeout_s, connect_timeout_s=connect_timeout_s)
            stores.callback(store.close)
            return store

        yield open_store


@pytest.fixture
def store(valkey: ValkeyServer, real_redis: redis.Redis, open_store: OpenStore) -> RedisStore:
    """A store on the shared server, emptied."""
    return open_store(valkey)


def add(session: RedisWriteSession, *members: str) -> WriteCounts:
    return session.write(SegmentPatch(REF, list(members), []), lambda: None)


def connection_of(session: RedisWriteSession) -> str:
    assert session.connection is not None
    return session.connection


def client_id(session: RedisWriteSession) -> str:
    return connection_of(session).split()[0]


def is_connected(client: redis.Redis, session_id: str) -> bool:
    return any(known["id"] == session_id for known in client.client_list())


# --- servers that hang or die


def test_a_frozen_server_makes_a_write_fail_in_time_with_an_unknown_fate(
    start_valkey: Callable[..., ValkeyServer], open_store: OpenStore
) -> None:
    server = start_valkey()
    with open_store(server, answer_timeout_s=0.3).session() as session:
        add(session, "ann")
        server.freeze()
        started = time.monotonic()
        with pytest.raises(Unavailable, match="no answer in time") as raised:
            add(session, "bob")
        assert time.monotonic() - started < 2
        assert raised.value.fate_unknown


def test_a_frozen_server_makes_a_checkout_fail_in_time(
    start_valkey: Callable[..., ValkeyServer], open_store: OpenStore
) -> None:
    server = start_valkey()
    store = open_store(server, answer_timeout_s=0.3, connect_timeout_s=0.3)
    with store.session():
        pass
    server.freeze()
    started = time.monotonic()
    with pytest.raises(Unavailable) as raised, store.session():
        pass
    assert time.monotonic() - started < 3
    assert not raised.value.fate_unknown


@pytest.mark.parametrize("the_writer", ["gave up and closed", "still waits"])
def test_after_fencing_no_late_byte_undoes_what_the_successor_wrote(
    start_valkey: Callable[..., ValkeyServer], open_store: OpenStore, the_writer: str
) -> None:
    """The writer's bytes wait in the server's socket, more than it takes in before it hears the successor."""
    server = start_valkey()
    members = 230 if the_writer == "gave up and closed" else 2 * WINDOW
    last = f"user-{members - 1}"
    writer = open_store(server, answer_timeout_s=0.3 if the_writer == "gave up and closed" else 10)
    with (
        TcpProxy((server.host, server.port)) as proxy,
        open_store(server, port=proxy.port).session() as successor,
        server.client() as witness,
        ThreadPoolExecutor(2) as threads,
    ):
        fencer = open_store(server, port=proxy.port)
        with fencer.session():
            pass  # leaves a connection for fencing: a frozen server takes no new ones
        with writer.session() as session:
            connection = connection_of(session)
            server.freeze()
            patch = SegmentPatch(REF, [f"user-{number}" for number in range(members)], [])
            write = threads.submit(session.write, patch, lambda: None)
            wait_until(lambda: write.done() or len(session._sent) == members // WINDOW, message="everything is sent")

            before = proxy.forwarded_bytes
            fenced = threads.submit(fencer.fence, connection)
            wait_until(lambda: proxy.forwarded_bytes > before, message="the server's socket holds the fencing")
            server.thaw()
            assert fenced.result(timeout=10)
            successor.write(SegmentPatch(REF, [], [last]), lambda: None)
            fault = write.exception(timeout=10)
        writer.close()
        wait_until(lambda: not is_connected(witness, connection.split()[0]), message="the writer's end")
        assert fencer.included(last) == set()
        assert isinstance(fault, Unavailable)
        assert fault.fate_unknown


def test_a_server_killed_under_a_session_breaks_it_for_good(
    start_valkey: Callable[..., ValkeyServer], open_store: OpenStore
) -> None:
    server = start_valkey()
    store = open_store(server)
    with store.session() as session:
        add(session, "ann")
        server.kill()
        with pytest.raises(Unavailable) as raised:
            add(session, "bob")
        assert raised.value.fate_unknown
        server.restart()
        with pytest.raises(Unavailable) as raised:
            add(session, "bob")
        assert raised.value.fate_unknown
        with pytest.raises(Unavailable):
            session.write(SegmentPatch(REF, [], []), lambda: None)
        assert store.included("bob") == set()


def test_a_connection_of_a_server_process_that_is_gone_is_fenced_already(
    start_valkey: Callable[..., ValkeyServer], open_store: OpenStore
) -> None:
    server = start_valkey()
    store = open_store(server)
    with store.session() as session:
        old = connection_of(session)
    server.kill()
    server.restart()
    with store.session() as session:
        assert session.connection != old
        assert store.fence(old)
        assert add(session, "ann") == WriteCounts(1, 0)


# --- fencing


def test_fencing_kills_that_connection_and_no_other(store: RedisStore) -> None:
    with store.session() as innocent, store.session() as victim:
        assert store.fence(connection_of(victim))
        assert add(innocent, "ann") == WriteCounts(1, 0)
        with pytest.raises(Unavailable):
            add(victim, "bob")
    assert store.included("bob") == set()


def test_fencing_a_connection_that_is_gone_is_certain(store: RedisStore, real_redis: redis.Redis) -> None:
    with store.session() as session:
        connection = connection_of(session)
    store.close()
    wait_until(lambda: not is_connected(real_redis, connection.split()[0]), message="connection closed")
    assert store.fence(connection)


def test_fencing_spares_a_client_that_has_the_id_but_not_the_address(store: RedisStore) -> None:
    with store.session() as innocent:
        assert store.fence(f"{client_id(innocent)} 127.0.0.1:1")
        assert add(innocent, "ann") == WriteCounts(1, 0)


def test_a_server_that_hides_its_clients_cannot_fence_but_can_be_written(
    store: RedisStore, valkey: ValkeyServer, real_redis: redis.Redis, open_store: OpenStore
) -> None:
    real_redis.acl_setuser(
        "least",
        enabled=True,
        passwords=["+least-secret"],
        keys=["launchdarkly:*"],
        commands=["+sadd", "+srem", "+smembers", "+get", "+set", "+eval"],
    )
    try:
        least = open_store(valkey, username="least", password=SecretStr("least-secret"))
        with store.session() as foreign, least.session() as session:
            assert session.connection is None
            assert add(session, "ann") == WriteCounts(1, 0)
            assert not least.fence(connection_of(foreign))
            assert add(foreign, "bob") == WriteCounts(1, 0)
        assert least.set_synchronized_on(17, least.claim("ours", 1))
        assert least.included("ann") == {REF}
        assert least.synchronized_on() == 17
    finally:
        real_redis.acl_deluser("least")


def test_a_session_that_ended_in_an_exception_gives_its_connection_to_nobody(
    store: RedisStore, real_redis: redis.Redis
) -> None:
    sessions = store.session()
    failed = client_id(sessions.__enter__())
    assert not sessions.__exit__(KeyError, KeyError(), None)
    with store.session() as session:
        assert client_id(session) != failed
    wait_until(lambda: not is_connected(real_redis, failed), message="the failed session's connection is closed")


def test_a_session_that_ended_well_gives_its_connection_to_the_next(store: RedisStore) -> None:
    with store.session() as session:
        add(session, "ann")
        first = session.connection
    with store.session() as session:
        assert session.connection == first


# --- connections that die while nobody looks


def test_a_connection_closed_between_two_sessions_is_replaced_at_checkout(
    store: RedisStore, real_redis: redis.Redis
) -> None:
    with store.session() as session:
        first = client_id(session)
    real_redis.client_kill_filter(_id=first)
    with store.session() as session:
        assert client_id(session) != first
        assert add(session, "ann") == WriteCounts(1, 0)


def test_a_connection_cut_without_a_word_costs_one_session_and_is_replaced_by_the_next(
    valkey: ValkeyServer, real_redis: redis.Redis, open_store: OpenStore
) -> None:
    with TcpProxy((valkey.host, valkey.port)) as proxy:
        store = open_store(valkey, port=proxy.port, answer_timeout_s=0.3)
        with store.session() as session:
            first = session.connection
        proxy.swallow_what_is_open()
        with pytest.raises(Unavailable) as raised, store.session():
            pass
        assert not raised.value.fate_unknown
        with store.session() as session:
            assert session.connection != first
            assert add(session, "ann") == WriteCounts(1, 0)


def test_a_connection_closed_within_a_session_is_never_replaced(store: RedisStore, real_redis: redis.Redis) -> None:
    with store.session() as session:
        add(session, "ann")
        real_redis.client_kill_filter(_id=client_id(session))
        for _ in range(3):
            with pytest.raises(Unavailable) as raised:
                add(session, "bob")
            assert raised.value.fate_unknown
    assert store.included("bob") == set()


def test_a_forked_child_opens_connections_of_its_own(store: RedisStore) -> None:
    with store.session() as session:
        parents = session.connection
    child = os.fork()
    if child == 0:
        try:
            with store.session() as session:
                own = session.connection != parents
                add(session, "child")
            store.close()
            os._exit(0 if own else 1)
        except BaseException:  # noqa: BLE001 - a child of pytest must never return
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with store.session() as session:
        assert session.connection == parents
        assert add(session, "parent") == WriteCounts(1, 0)
    assert store.included("child") == {REF}


# --- servers that refuse


def test_a_password_lets_in(start_valkey: Callable[..., ValkeyServer], open_store: OpenStore) -> None:
    with open_store(start_valkey(password="open-sesame")).session() as session:
        assert add(session, "ann") == WriteCounts(1, 0)


@pytest.mark.parametrize("password", ["guessed-wrong", ""])
def test_a_wrong_password_is_told_without_telling_it(
    start_valkey: Callable[..., ValkeyServer], open_store: OpenStore, password: str
) -> None:
    server = start_valkey(password="open-sesame")
    store = open_store(server, password=SecretStr(password))
    with pytest.raises(Unavailable, match="password") as raised, store.session() as session:
        add(session, "ann")
    assert not raised.value.fate_unknown
    assert str(server.port) in str(raised.value)
    assert "guessed-wrong" not in str(raised.value) + repr(store)


def test_error_replies_are_answers_and_so_the_fate_is_known(
    store: RedisStore, valkey: ValkeyServer, real_redis: redis.Redis
) -> None:
    members = [f"user-{number}" for number in range((WINDOWS_IN_FLIGHT + 4) * WINDOW)]
    real_redis.acl_setuser("passing", enabled=True, passwords=["+p"], keys=["launchdarkly:*"], commands=["+@all"])
    windows = count()

    def forbid_after_the_first() -> None:
        if next(windows) == 1:
            wait_until(lambda: real_redis.dbsize() == WINDOW, message="the first window is written")
            real_redis.acl_setuser("passing", commands=["-sadd"])

    passing = RedisStore(
        RedisStoreConfiguration(host=valkey.host, port=valkey.port, username="passing", password=SecretStr("p"))
    )
    try:
        with passing.session() as session:
            with pytest.raises(Unavailable, match="NOPERM") as raised:
                session.write(SegmentPatch(REF, members, []), forbid_after_the_first)
            assert not raised.value.fate_unknown
            # Nothing was sent once the refusal was read, and the session goes on.
            assert next(windows) <= WINDOWS_IN_FLIGHT + 2
            assert store.included("user-2") == {REF}
            real_redis.acl_setuser("passing", commands=["+sadd"])
            assert add(session, "ann") == WriteCounts(1, 0)
    finally:
        passing.close()
        real_redis.acl_deluser("passing")


def test_a_member_whose_key_holds_another_type_is_refused_alone(store: RedisStore, real_redis: redis.Redis) -> None:
    members = [f"user-{number}" for number in range(3 * WINDOW)]
    spoilt = [members[1], members[WINDOW], members[-1]]
    for member in spoilt:
        real_redis.set(redis_include_key("launchdarkly", context_hash(member)), "not a set")
    with store.session() as session:
        counts = session.write(SegmentPatch(REF, members, []), lambda: None)
        assert (counts.added, counts.removed) == (3 * WINDOW - 3, 0)
        assert [member.context_hash for member in counts.refused] == [context_hash(member) for member in spoilt]
        assert all("WRONGTYPE" in member.reason and "another" in member.reason for member in counts.refused)
        assert add(session, "ann") == WriteCounts(1, 0)


def test_a_server_without_memory_refuses_and_takes_again_when_it_has_some(
    store: RedisStore, real_redis: redis.Redis
) -> None:
    with store.session() as session:
        real_redis.config_set("maxmemory", "1")
        try:
            with pytest.raises(Unavailable, match="OOM: it is out of memory; raise its maxmemory") as raised:
                add(session, "ann")
        finally:
            real_redis.config_set("maxmemory", "0")
        assert not raised.value.fate_unknown
        assert add(session, "ann") == WriteCounts(1, 0)


def test_a_replica_refuses_and_the_message_says_to_use_the_primary(
    start_valkey: Callable[..., ValkeyServer], open_store: OpenStore
) -> None:
    server = start_valkey()
    with server.client() as client:
        client.replicaof("127.0.0.1", free_port())
    store = open_store(server)
    with store.session() as session, pytest.raises(Unavailable, match="point the store at the primary") as raised:
        add(session, "ann")
    assert not raised.value.fate_unknown
    with pytest.raises(Unavailable, match="READONLY") as raised:
        store.claim("ours", 1)
    assert not raised.value.fate_unknown
    assert raised.value.fault == "configuration"


def test_a_database_number_out_of_range_is_told_at_checkout(valkey: ValkeyServer, open_store: OpenStore) -> None:
    with pytest.raises(Unavailable, match="database number") as raised, open_store(valkey, database=99).session():
        pass
    assert not raised.value.fate_unknown


def test_another_database_is_another_store(store: RedisStore, valkey: ValkeyServer, open_store: OpenStore) -> None:
    other = open_store(valkey, database=3)
    with other.session() as session:
        add(session, "ann")
    assert store.included("ann") == set()
    assert other.included("ann") == {REF}


def test_what_before_window_raises_comes_after_all_answers(store: RedisStore, real_redis: redis.Redis) -> None:
    permitted = iter(range(2))

    def before_window() -> None:
        if next(permitted, None) is None:
            raise KeyError

    with store.session() as session:
        with pytest.raises(KeyError):
            session.write(SegmentPatch(REF, [f"user-{number}" for number in range(4 * WINDOW)], []), before_window)
        assert real_redis.dbsize() == 2 * WINDOW


def test_while_the_last_answers_are_waited_for_the_caller_is_asked_and_can_end_the_write(
    store: RedisStore, real_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "ASK_AGAIN_SECONDS", 0.0)
    windows = count()

    def lose_the_lease_when_all_is_sent() -> None:
        if next(windows) == 4:
            raise KeyError

    with store.session() as session:
        with pytest.raises(KeyError):
            session.write(
                SegmentPatch(REF, [f"user-{number}" for number in range(4 * WINDOW)], []),
                lose_the_lease_when_all_is_sent,
            )
        assert real_redis.dbsize() == 4 * WINDOW
        assert add(session, "ann") == WriteCounts(1, 0)


def test_a_lost_connection_outweighs_what_before_window_raised(
    start_valkey: Callable[..., ValkeyServer], open_store: OpenStore
) -> None:
    server = start_valkey()

    permitted = iter(range(1))

    def freeze_then_stop() -> None:
        if next(permitted, None) is None:
            raise KeyError
        server.freeze()

    with (
        open_store(server, answer_timeout_s=0.3).session() as session,
        pytest.raises(Unavailable) as raised,
    ):
        session.write(SegmentPatch(REF, [f"user-{number}" for number in range(2 * WINDOW)], []), freeze_then_stop)
    assert raised.value.fate_unknown


def test_many_threads_have_a_session_each(store: RedisStore) -> None:
    def write(number: int) -> str | None:
        with store.session() as session:
            all_have_one.wait()
            assert add(session, f"user-{number}") == WriteCounts(1, 0)
            return session.connection

    all_have_one = threading.Barrier(8, timeout=30)
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(write, range(8)))) == 8
