"""The Redis store. It owns these keys of its prefix, and never sets a time to live:

    {prefix}:big_segment_include:{context hash}   SET      segment refs that include the context
    {prefix}:big_segments_synchronized_on         STRING   freshness, epoch milliseconds

SDKs also read ``{prefix}:big_segment_exclude:{context hash}``; synced segments never exclude anybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.exceptions import AuthenticationError, ResponseError

from worker.model import RedisStoreConfiguration
from worker.stores.layout import context_hash, redis_include_key, redis_synchronized_on_key
from worker.stores.redis_faults import DRIVER_ERRORS, unavailable
from worker.stores.redis_session import WINDOW, RedisWriteSession

# A write that is not answered for this long has an unknown fate; a pause for an fsync or a fork is shorter.
ANSWER_TIMEOUT_S: Final = 10.0
# Everything else is one small command: a store that has not answered it by then is away, and whoever asked has other
# stores to serve.
ASK_TIMEOUT_S: Final = 3.0
CONNECT_TIMEOUT_S: Final = 3.0
_CLIENT_NAME: Final = "segsync"


class RedisStore:
    """A ``SegmentStore`` on one Redis or Valkey primary.

    Its connections come from a redis-py pool, which opens its own after a fork; nothing in here reconnects or
    retries, except that a connection found dead at checkout, before anything was written, is replaced then.
    """

    def __init__(
        self,
        configuration: RedisStoreConfiguration,
        *,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        window: int = WINDOW,
    ) -> None:
        self._window = window
        self._prefix = configuration.prefix
        self._where = f"{configuration.host}:{configuration.port}"
        self._answer_timeout_s = answer_timeout_s
        self._pool = redis.ConnectionPool(
            connection_class=redis.SSLConnection if configuration.tlsEnabled else redis.Connection,
            host=configuration.host,
            port=configuration.port,
            db=configuration.database,
            username=configuration.username or None,
            password=configuration.password.get_secret_value() or None,
            socket_timeout=min(ASK_TIMEOUT_S, answer_timeout_s),
            socket_connect_timeout=connect_timeout_s,
            # RESP2 has no push messages between replies, and so no maintenance notifications that move a
            # connection to another server; with no retry object, redis-py tries once.
            protocol=2,
            retry=None,
            health_check_interval=0,
            driver_info=None,
        )

    def __repr__(self) -> str:
        return f"RedisStore({self._where}, prefix={self._prefix!r})"

    @contextmanager
    def session(self) -> Iterator[RedisWriteSession]:
        """See ``SegmentStore``.

        An exception that leaves the ``with`` block closes the connection instead of keeping it for the next
        session: a drain that failed may leave its open mark behind, and fencing by that mark must not hit
        another drain that was handed the same connection.
        """
        with self._connection() as link:
            identity = self._identify_or_replace(link)
            socket = link._get_socket()  # noqa: SLF001 - redis-py offers no public way to its socket
            assert socket is not None, "the connection was proved a moment ago"
            socket.settimeout(self._answer_timeout_s)
            try:
                yield RedisWriteSession(link, identity, prefix=self._prefix, where=self._where, window=self._window)
            except BaseException:
                link.disconnect()
                raise
            if link._get_socket() is socket:  # noqa: SLF001 - a session that broke has closed it
                socket.settimeout(link.socket_timeout)

    def fence(self, connection: str) -> bool:
        """See ``SegmentStore``. False where the server does not allow CLIENT KILL."""
        client_id, _, address = connection.partition(" ")
        with self._connection() as link, self._answered():
            try:
                # Both filters: after a restart of the server, the id alone may be somebody else's. How many it
                # killed, one or none, does not matter: no such client, no bytes to come.
                _ask(link, "CLIENT", "KILL", "ID", client_id, "ADDR", address)
            except ResponseError:
                return False
            return True

    def included(self, context_key: str) -> set[str]:
        """See ``SegmentStore``."""
        with self._connection() as link, self._answered():
            refs = _ask(link, "SMEMBERS", redis_include_key(self._prefix, context_hash(context_key)))
            return {ref.decode() for ref in refs}

    def synchronized_on(self) -> int | None:
        """See ``SegmentStore``."""
        with self._connection() as link, self._answered():
            value = _ask(link, "GET", redis_synchronized_on_key(self._prefix))
            return None if value is None else int(value)

    def set_synchronized_on(self, epoch_ms: int) -> None:
        """See ``SegmentStore``."""
        with self._connection() as link, self._answered(writes=True):
            _ask(link, "SET", redis_synchronized_on_key(self._prefix), epoch_ms)

    def close(self) -> None:
        """See ``SegmentStore``. Sessions that are open keep their connections until they end."""
        self._pool.disconnect(inuse_connections=False)

    @contextmanager
    def _connection(self) -> Iterator[redis.Connection]:
        with self._answered():
            link = self._pool.get_connection()
        try:
            yield link
        finally:
            self._pool.release(link)

    def _identify_or_replace(self, link: redis.Connection) -> str | None:
        """Prove with a round trip that the connection lives, replacing it once, and learn who it is."""
        with self._answered():
            try:
                return _identify(link)
            except AuthenticationError:
                raise
            except redis.exceptions.ConnectionError:
                # It was idle, and the server or something between has closed it. Nothing was written yet. One that
                # only does not answer is not tried twice: a store that hangs must not cost twice the time.
                link.disconnect()
                link.connect()
                return _identify(link)

    @contextmanager
    def _answered(self, *, writes: bool = False) -> Iterator[None]:
        try:
            yield
        except DRIVER_ERRORS as fault:
            lost = not isinstance(fault, ResponseError | AuthenticationError)
            raise unavailable(fault, self._where, fate_unknown=writes and lost) from fault


def _ask(link: redis.Connection, *command: str | int) -> Any:
    """One command, one reply; whatever goes wrong between the two closes the connection."""
    try:
        link.send_packed_command(link.pack_command(*command), check_health=False)
        return link.read_response()
    except ResponseError:
        raise
    except BaseException:
        link.disconnect()
        raise


def _identify(link: redis.Connection) -> str | None:
    """Name the connection and ask the server who it is; None where the server tells nobody (then no fencing)."""
    _, told = _ask_permitted(link, ("CLIENT", "SETNAME", _CLIENT_NAME), ("CLIENT", "INFO"))
    # As the server sees it: behind NAT our own idea of our address is of no use to CLIENT KILL.
    fields = dict(pair.partition("=")[::2] for pair in (told or b"").decode().split())
    if not fields.get("id") or not fields.get("addr"):
        return None
    return f"{fields['id']} {fields['addr']}"


def _ask_permitted(link: redis.Connection, *commands: tuple[str, ...]) -> list[bytes | None]:
    """Several commands in one round trip; None for each that the server refuses."""
    try:
        link.send_packed_command(link.pack_commands(commands), check_health=False)
        return [_reply_or_refusal(link) for _ in commands]
    except BaseException:
        link.disconnect()
        raise


def _reply_or_refusal(link: redis.Connection) -> bytes | None:
    try:
        reply: bytes = link.read_response()
    except ResponseError:
        return None
    return reply
