"""How the Redis store reaches a server: addresses, and a pool of connections to each, plain, over TLS or a socket.

Nothing in here reconnects or retries. Files of certificates are read with every new connection: a rotated one is taken
up by connecting again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Self

import redis
from redis.connection import AbstractConnection

from worker.model import RedisStoreConfiguration
from worker.stores.redis.tls import TlsConnection

# Everything but a write is one small command: a store that has not answered it by then is away, and whoever asked has
# other stores to serve.
ASK_TIMEOUT_S: Final = 3.0


class Address(NamedTuple):
    """Where a server listens: host and port, or the path of a socket and port 0."""

    host: str
    port: int

    def __str__(self) -> str:
        """As people write it."""
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def read(cls, text: str) -> Self:
        """What ``__str__`` wrote."""
        host, colon, port = text.rpartition(":")
        return cls(host.strip("[]"), int(port)) if colon and port.isdecimal() else cls(text, 0)


class Pools:
    """Connections to any number of servers of one store. Safe between threads, and after a fork, when it opens its own.

    Args:
        configuration: the store's.
        answer_timeout_s: the longest that a command is waited for; no more than ``ASK_TIMEOUT_S`` in any case.
        connect_timeout_s: the longest that a connection is.
        of_discovery: log in as the configuration says for Redis Sentinels, and to no database.
    """

    def __init__(
        self,
        configuration: RedisStoreConfiguration,
        *,
        answer_timeout_s: float,
        connect_timeout_s: float,
        of_discovery: bool = False,
    ) -> None:
        self._pools: dict[Address, redis.ConnectionPool] = {}
        self._connection_class, options = _reached(configuration)
        self._options = {
            **options,
            **_login(configuration, of_discovery=of_discovery),
            "socket_timeout": min(ASK_TIMEOUT_S, answer_timeout_s),
            "socket_connect_timeout": connect_timeout_s,
            # RESP2 has no push messages between replies, and so no maintenance notifications that move a
            # connection to another server; with no retry object, redis-py tries once.
            "protocol": 2,
            "retry": None,
            "health_check_interval": 0,
            "driver_info": None,
        }

    def take(self, address: Address) -> redis.Connection:
        """A connection to that server, which is given back with ``give_back``.

        Raises:
            redis.RedisError: it cannot be had.
            OSError: it cannot be had.
        """
        pool = self._pools.get(address) or self._pools.setdefault(address, self._pool(address))
        return pool.get_connection()

    def give_back(self, address: Address, link: redis.Connection) -> None:
        """Keep a connection for the next who takes one; a closed one opens again then."""
        self._pools[address].release(link)

    @contextmanager
    def connection(self, address: Address) -> Iterator[redis.Connection]:
        """``take``, and ``give_back`` at the end."""
        link = self.take(address)
        try:
            yield link
        finally:
            self.give_back(address, link)

    def close(self) -> None:
        """Close what nobody uses; idempotent."""
        for pool in list(self._pools.values()):
            pool.disconnect(inuse_connections=False)

    def _pool(self, address: Address) -> redis.ConnectionPool:
        where: dict[str, Any] = {"host": address.host, "port": address.port} if address.port else {"path": address.host}
        return redis.ConnectionPool(connection_class=self._connection_class, **where, **self._options)


def addresses_of(configuration: RedisStoreConfiguration) -> list[Address]:
    """Every server that the configuration names."""
    if configuration.unixSocket:
        return [Address(configuration.unixSocket, 0)]
    return [Address(host, port) for host, port in configuration.addresses]


def _reached(configuration: RedisStoreConfiguration) -> tuple[type[AbstractConnection], dict[str, Any]]:
    if configuration.unixSocket:
        return redis.UnixDomainSocketConnection, {}
    if not configuration.tlsEnabled:
        return redis.Connection, {}
    return TlsConnection, {
        "ssl_ca_certs": configuration.tlsCaFile or None,
        "ssl_certfile": configuration.tlsCertFile or None,
        "ssl_keyfile": configuration.tlsKeyFile or None,
        "ssl_check_hostname": configuration.tlsCheckHostname,
    }


def _login(configuration: RedisStoreConfiguration, *, of_discovery: bool) -> dict[str, Any]:
    if of_discovery:
        username, password = configuration.sentinelUsername, configuration.sentinelPassword
    else:
        username, password = configuration.username, configuration.password
    return {
        "db": 0 if of_discovery else configuration.database,
        "username": username or None,
        "password": password.get_secret_value() or None,
    }
