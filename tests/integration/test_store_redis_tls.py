"""How the Redis store reaches a server: TLS with a private authority and client certificates, sockets, users."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from certificates import Authority, Certificate
from pydantic import SecretStr
from redis_cluster import RedisCluster
from servers import VOLATILE, ValkeyServer, free_port, redis_binary, wait_until
from tls_server import TlsServer

from worker.errors import Unavailable
from worker.model import RedisStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.redis import RedisStore
from worker.stores.segment_store import Sentinel

REF = "beta-users.g1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def start(tmp_path: Path, authority: Authority) -> Iterator[Callable[..., TlsServer]]:
    """Start servers: ``start(certificate, tls_auth_clients="no")``; all are stopped after the test."""
    with ExitStack() as servers:

        def start(certificate: Certificate | None = None, **settings: str) -> TlsServer:
            shown = certificate or authority.issue("server")
            server = TlsServer(tmp_path / f"server-{free_port()}", authority, shown, **settings)
            servers.callback(server.plain.stop)
            return server

        yield start


@pytest.fixture
def open_store() -> Iterator[Callable[..., RedisStore]]:
    with ExitStack() as stores:

        def open_store(**configuration: object) -> RedisStore:
            store = RedisStore(RedisStoreConfiguration.model_validate(configuration))
            stores.callback(store.close)
            return store

        yield open_store


def with_tls(server: TlsServer, client: Certificate | None = None, **others: object) -> dict[str, object]:
    """The configuration of a store there."""
    shown = {"tlsCertFile": str(client.file), "tlsKeyFile": str(client.key_file)} if client else {}
    where = {"host": "127.0.0.1", "port": server.port, "tlsEnabled": True, "tlsCaFile": str(server.authority.file)}
    return where | shown | others


def write(store: RedisStore, *members: str) -> WriteCounts:
    with store.session() as session:
        return session.write(SegmentPatch(REF, list(members), []), lambda: None)


def configuration_fault(store: RedisStore) -> str:
    """What a person is told: by a drain, and by the check, the same."""
    with pytest.raises(Unavailable) as raised:
        write(store, "ann")
    assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False), str(raised.value)
    assert store.check() == [str(raised.value)]
    return str(raised.value)


# --- TLS


def test_a_private_authority_and_a_client_certificate_let_in(
    start: Callable[..., TlsServer], open_store: Callable[..., RedisStore], authority: Authority
) -> None:
    server = start()
    store = open_store(**with_tls(server, authority.issue("client")))
    assert write(store, *(f"user-{number}" for number in range(5000))) == WriteCounts(5000, 0)
    assert store.set_synchronized_on(17, store.claim("ours", 1))
    assert store.check() == []
    assert len([member for page in store.scan() for member in page]) == 5000
    with store.session() as session:
        assert store.fence(session.connection or "")
        with pytest.raises(Unavailable) as raised:
            session.write(SegmentPatch(REF, ["bob"], []), lambda: None)
        assert raised.value.fate_unknown


def test_the_url_says_the_same(
    start: Callable[..., TlsServer], open_store: Callable[..., RedisStore], authority: Authority
) -> None:
    server = start()
    configured = RedisStoreConfiguration.model_validate(with_tls(server, authority.issue("client")))
    store = open_store(**RedisStoreConfiguration.from_url(configured.url.get_secret_value()).model_dump())
    assert write(store, "ann") == WriteCounts(1, 0)


def test_a_server_of_an_authority_that_is_not_trusted_is_not_spoken_to(
    start: Callable[..., TlsServer], open_store: Callable[..., RedisStore], authority: Authority, tmp_path: Path
) -> None:
    server = start(tls_auth_clients="no")
    other = Authority(tmp_path / "other", "another authority")
    for trusted in (str(other.file), ""):  # "": the system's
        told = configuration_fault(open_store(**with_tls(server, tlsCaFile=trusted)))
        assert "its certificate is not accepted" in told
        assert "tlsCaFile" in told


def test_an_expired_certificate_of_the_server_is_told_as_one(
    start: Callable[..., TlsServer], open_store: Callable[..., RedisStore], authority: Authority
) -> None:
    server = start(authority.issue("expired", expired=True), tls_auth_clients="no")
    assert "certificate has expired" in configuration_fault(open_store(**with_tls(server)))


def test_a_server_of_another_name_is_refused_unless_its_name_is_not_to_be_checked(
    start: Callable[..., TlsServer], open_store: Callable[..., RedisStore], authority: Authority
) -> None:
    server = start(authority.issue("elsewhere", "redis.example"), tls_auth_clients="no")
    assert "tlsCheckHostname" in configuration_fault(open_store(**with_tls(server)))
    store = open_store(**with_tls(server, tlsCheckHostname=False))
    assert write(store, "ann") == WriteCounts(1, 0)


@pytest.mark.parametrize("shown", ["none", "expired", "anothers"])
def test_a_client_certificate_that_is_missing_or_refused_is_told(
    start: Callable[..., TlsServer],
    open_store: Callable[..., RedisStore],
    authority: Authority,
    tmp_path: Path,
    shown: str,
) -> None:
    client = {
        "none": None,
        "expired": authority.issue("client", expired=True),
        "anothers": Authority(tmp_path / "other", "another authority").issue("client"),
    }[shown]
    told = configuration_fault(open_store(**with_tls(start(), client)))
    assert "client certificate" in told
    assert "tlsCertFile" in told


@pytest.mark.parametrize("setting", ["tlsCaFile", "tlsCertFile", "tlsKeyFile"])
@pytest.mark.parametrize("trouble", ["missing", "no certificate", "a directory"])
def test_a_file_that_cannot_be_used_is_named_with_its_setting(  # noqa: PLR0917
    start: Callable[..., TlsServer],
    open_store: Callable[..., RedisStore],
    authority: Authority,
    tmp_path: Path,
    setting: str,
    trouble: str,
) -> None:
    spoilt = tmp_path / "spoilt.pem"
    if trouble == "no certificate":
        spoilt.write_text("the-secret-content")
    elif trouble == "a directory":
        spoilt.mkdir()
    told = configuration_fault(open_store(**with_tls(start(), authority.issue("client"), **{setting: str(spoilt)})))
    assert str(spoilt) in told
    assert setting in told
    assert "the-secret-content" not in told


def test_a_key_with_a_passphrase_or_of_another_certificate_asks_nobody_and_is_told(
    start: Callable[..., TlsServer], open_store: Callable[..., RedisStore], authority: Authority
) -> None:
    server = start()
    client = authority.issue("client")
    for key in (authority.issue("locked", passphrase=b"open sesame").key_file, authority.issue("other").key_file):
        told = configuration_fault(open_store(**with_tls(server, client._replace(key_file=key))))
        assert str(key) in told
        assert "tlsKeyFile" in told


def test_rotated_files_are_taken_up_by_connecting_again(
    start: Callable[..., TlsServer], open_store: Callable[..., RedisStore], authority: Authority
) -> None:
    server = start()
    client = authority.issue("client", expired=True)
    store = open_store(**with_tls(server, client))
    assert "client certificate" in configuration_fault(store)
    authority.issue("client")  # in place of the expired one
    assert write(store, "ann") == WriteCounts(1, 0)
    client.file.unlink()
    assert write(store, "bob") == WriteCounts(1, 0)  # a connection that is there needs no file
    store.close()
    assert str(client.file) in configuration_fault(store)


def test_a_server_restarted_with_another_certificate_is_found_again(
    start: Callable[..., TlsServer], open_store: Callable[..., RedisStore], authority: Authority
) -> None:
    certificate = authority.issue("server")
    server = start(certificate, tls_auth_clients="no")
    store = open_store(**with_tls(server))
    write(store, "ann")
    server.plain.kill()
    with pytest.raises(Unavailable) as raised:
        write(store, "ann")
    assert raised.value.fault == "transient"
    authority.issue("server", expired=True)
    server.plain.start()
    assert "certificate has expired" in configuration_fault(store)
    server.plain.kill()
    authority.issue("server")
    server.plain.start()
    assert write(store, "ann") == WriteCounts(1, 0)


class TlsCluster(RedisCluster):
    """A cluster whose nodes know each other by their ports for TLS."""

    def add_server(self) -> ValkeyServer:
        server = super().add_server()
        server.settings["tls-port"] = str(free_port())
        return server

    def _node_file(self, ports: list[int], own: int) -> str:
        text = super()._node_file(ports, own)
        for port, server in self.servers.items():
            text = text.replace(f":{port}@", f":{server.settings['tls-port']}@")
        return text


def test_a_cluster_over_tls_wants_the_certificate_on_every_node(
    authority: Authority, open_store: Callable[..., RedisStore], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shown = authority.issue("server")
    settings = {
        "tls-cluster": "yes",
        "tls-replication": "yes",
        "tls-cert-file": str(shown.file),
        "tls-key-file": str(shown.key_file),
        "tls-ca-cert-file": str(authority.file),
    }
    with TlsCluster(tmp_path_factory.mktemp("tls"), settings, binary=redis_binary()) as cluster:
        named = next(iter(cluster.servers.values())).settings["tls-port"]
        where = {"mode": "cluster", "host": "127.0.0.1", "port": int(named), "tlsEnabled": True}
        client = authority.issue("client")
        files = {"tlsCaFile": authority.file, "tlsCertFile": client.file, "tlsKeyFile": client.key_file}
        store = open_store(**where, **{name: str(file) for name, file in files.items()})
        assert write(store, *(f"user-{number}" for number in range(5000))) == WriteCounts(5000, 0)
        assert store.set_synchronized_on(17, store.claim("ours", 1))
        assert store.check() == []
        assert len([member for page in store.scan() for member in page]) == 5000
        assert "client certificate" in configuration_fault(open_store(**where, tlsCaFile=str(authority.file)))


# --- a unix socket


def test_a_unix_socket_leads_to_a_server_that_has_no_port(
    start_valkey: Callable[..., ValkeyServer], open_store: Callable[..., RedisStore], tmp_path: Path
) -> None:
    path = Path("/tmp") / f"segsync-{free_port()}.sock"
    server = start_valkey({**VOLATILE, "unixsocket": str(path)})
    store = open_store(unixSocket=str(path), database=2)
    assert write(store, "ann") == WriteCounts(1, 0)
    assert store.check() == []
    with redis.Redis(unix_socket_path=str(path), db=2) as client:
        assert client.dbsize() == 1
    with server.client() as client:
        assert client.dbsize() == 0
    with store.session() as session:
        connection = session.connection
        assert store.fence(connection or "")
        with pytest.raises(Unavailable):
            session.write(SegmentPatch(REF, ["bob"], []), lambda: None)
    assert repr(store) == f"RedisStore({path}, prefix='launchdarkly')"
    server.kill()
    with pytest.raises(Unavailable, match=str(path)) as raised:
        write(store, "ann")
    assert raised.value.fault == "transient"
    server.restart()
    assert write(store, "ann") == WriteCounts(1, 0)
    path.unlink(missing_ok=True)


def test_a_socket_whose_path_has_a_space_cannot_be_fenced_and_can_be_written(
    start_valkey: Callable[..., ValkeyServer], open_store: Callable[..., RedisStore]
) -> None:
    path = Path("/tmp") / f"segsync {free_port()}.sock"
    start_valkey({**VOLATILE, "unixsocket": str(path)})
    with open_store(unixSocket=str(path)).session() as session:
        assert session.connection is None
        assert session.write(SegmentPatch(REF, ["ann"], []), lambda: None) == WriteCounts(1, 0)
    path.unlink()


# --- users and passwords


def test_a_wrong_password_is_put_right_on_the_server_without_a_new_store(
    start_valkey: Callable[..., ValkeyServer], open_store: Callable[..., RedisStore]
) -> None:
    server = start_valkey(password="open-sesame")
    store = open_store(host=server.host, port=server.port, password=SecretStr("new-secret"))
    told = configuration_fault(store)
    assert "new-secret" not in told
    assert "open-sesame" not in told
    with server.client() as client:
        client.config_set("requirepass", "new-secret")
    assert write(store, "ann") == WriteCounts(1, 0)


def test_a_user_of_its_own_and_a_database_number(
    start_valkey: Callable[..., ValkeyServer], open_store: Callable[..., RedisStore]
) -> None:
    server = start_valkey()
    store = open_store(host=server.host, port=server.port, username="segsync", password=SecretStr("s3"), database=3)
    assert "WRONGPASS" in configuration_fault(store)
    with redis.Redis(port=server.port, db=3) as client:
        client.acl_setuser("segsync", enabled=True, passwords=["+s3"], keys=["launchdarkly:*"], commands=["+@all"])
        assert write(store, "ann") == WriteCounts(1, 0)
        assert store.claim("ours", 1) == Sentinel("ours", 1)
        assert client.dbsize() == 2
        client.acl_setuser("segsync", enabled=True, keys=["launchdarkly:*"], commands=["+@all", "-sadd"])
        with pytest.raises(Unavailable, match="NOPERM") as raised:
            write(store, "bob")
        assert raised.value.fault == "configuration"


def test_a_server_that_is_still_loading_is_waited_for(
    start_valkey: Callable[..., ValkeyServer], open_store: Callable[..., RedisStore]
) -> None:
    server = start_valkey({**VOLATILE, "key-load-delay": "1000", "loading-process-events-interval-bytes": "1024"})
    store = open_store(host=server.host, port=server.port)
    with server.client() as client:
        with client.pipeline(transaction=False) as pipe:
            for number in range(3_000):
                pipe.set(f"key-{number}", number)
            pipe.execute()
        client.save()
    server.kill()
    directory = server.directory
    assert (directory / "dump.rdb").exists()
    starting = ValkeyServer(directory, server.settings, port=server.port)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starting, "_answers", lambda: True)  # it is not to be waited for
        starting.start()
    seen: list[tuple[str, str]] = []

    def written() -> bool:
        try:
            return write(store, "ann").added == 1
        except Unavailable as fault:
            seen.append((fault.fault, str(fault)))
            return False

    try:
        wait_until(written, 60, "it has loaded")
    finally:
        starting.stop()
    assert any("LOADING" in told for _, told in seen)
    assert {kind for kind, _ in seen} == {"transient"}
