"""The Redis store. It owns these keys of its prefix, and never sets a time to live:

    {prefix}:big_segment_include:{context hash}   SET      segment refs that include the context
    {prefix}:big_segments_synchronized_on         STRING   freshness, epoch milliseconds
    {prefix}:segsync_sentinel                     STRING   incarnation, a space, beat in epoch milliseconds

SDKs also read ``{prefix}:big_segment_exclude:{context hash}``; synced segments never exclude anybody. ``check`` writes
``{prefix}:big_segment_include:segsync_probe`` and ``{prefix}:segsync_probe``, and takes them away again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import hiredis
import redis
from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

from worker.errors import Unavailable
from worker.model import RedisStoreConfiguration
from worker.stores import redis_check, redis_metadata, redis_reads
from worker.stores.layout import context_hash, context_hashes, proved_hashes, redis_include_key
from worker.stores.redis_bulk import WINDOW, socket_of
from worker.stores.redis_faults import DRIVER_ERRORS, unavailable
from worker.stores.redis_link import Greeting, ask, greet
from worker.stores.redis_session import RedisWriteSession
from worker.stores.segment_store import Sentinel

# A write that is not answered for this long has an unknown fate; a pause for an fsync or a fork is shorter. A process
# that is told to stop waits for one, and has ten seconds for all.
ANSWER_TIMEOUT_S: Final = 5.0
# Everything else is one small command: a store that has not answered it by then is away, and whoever asked has other
# stores to serve.
ASK_TIMEOUT_S: Final = 3.0
CONNECT_TIMEOUT_S: Final = 3.0
# Error replies: whatever they refuse has been answered.
_REFUSALS: Final = (ResponseError, AuthenticationError, hiredis.ReplyError)


class RedisStore:
    """A ``SegmentStore`` on one Redis or Valkey primary.

    Its connections come from a redis-py pool, which opens its own after a fork; nothing in here reconnects or
    retries, except that a connection found dead at checkout, before anything was written, is replaced then.
    """

    lists_members = True

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
            greeting = self._greet_or_replace(link)
            socket = socket_of(link)
            socket.settimeout(self._answer_timeout_s)
            try:
                yield RedisWriteSession(link, greeting, prefix=self._prefix, where=self._where, window=self._window)
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
                ask(link, "CLIENT", "KILL", "ID", client_id, "ADDR", address)
            except ResponseError:
                return False
            return True

    def included(self, context_key: str) -> set[str]:
        """See ``SegmentStore``."""
        with self._connection() as link, self._answered(of_a_member=True):
            refs = ask(link, "SMEMBERS", redis_include_key(self._prefix, context_hash(context_key)))
            return {ref.decode() for ref in refs}

    def includes_keys(self, segment_ref: str, context_keys: Sequence[str]) -> list[bool]:
        """See ``SegmentStore``."""
        return self.includes(segment_ref, context_hashes(context_keys))

    def includes(self, segment_ref: str, hashes: Sequence[bytes]) -> list[bool]:
        """See ``SegmentStore``."""
        proved_hashes(hashes)
        with self._connection() as link, self._answered(of_a_member=True):
            return redis_reads.read_inclusions(link, self._prefix, segment_ref, hashes)

    def scan(self) -> Iterator[list[tuple[bytes, set[str]]]]:
        """See ``SegmentStore``."""
        with self._connection() as link:
            pages = redis_reads.read_pages(link, self._prefix)
            while True:
                with self._answered(of_a_member=True):
                    page = next(pages, None)
                if page is None:
                    return
                if page:
                    yield page

    def holds_members(self) -> bool:
        """See ``SegmentStore``. Looks through the whole database when there is nobody."""
        with self._connection() as link, self._answered(of_a_member=True):
            return redis_reads.holds_members(link, self._prefix)

    def sentinel(self) -> Sentinel | None:
        """See ``SegmentStore``."""
        with self._connection() as link, self._answered():
            return redis_metadata.read(link, self._prefix)

    def claim(self, incarnation: str, beat_ms: int) -> Sentinel:
        """See ``SegmentStore``."""
        with self._connection() as link, self._answered(writes=True):
            return redis_metadata.claim(link, self._prefix, Sentinel(incarnation, beat_ms))

    def replace_sentinel(self, incarnation: str, beat_ms: int) -> None:
        """See ``SegmentStore``."""
        with self._connection() as link, self._answered(writes=True):
            redis_metadata.replace(link, self._prefix, Sentinel(incarnation, beat_ms))

    def synchronized_on(self) -> int | None:
        """See ``SegmentStore``."""
        with self._connection() as link, self._answered():
            return redis_metadata.read_freshness(link, self._prefix)

    def set_synchronized_on(self, epoch_ms: int, sentinel: Sentinel) -> bool:
        """See ``SegmentStore``."""
        with self._connection() as link, self._answered(writes=True):
            return redis_metadata.write_freshness(link, self._prefix, epoch_ms, sentinel)

    def check(self) -> list[str]:
        """See ``SegmentStore``."""
        try:
            with self._connection() as link, self._answered():
                return [f"Redis store {self._where}: {fault}" for fault in redis_check.find_faults(link, self._prefix)]
        except Unavailable as fault:
            return [str(fault)]

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

    def _greet_or_replace(self, link: redis.Connection) -> Greeting:
        """Prove with a round trip that the connection lives, replacing it once, and learn who is at its ends."""
        with self._answered():
            try:
                return greet(link, self._prefix)
            except (AuthenticationError, BusyLoadingError):
                raise
            except redis.exceptions.ConnectionError:
                # It was idle, and the server or something between has closed it. Nothing was written yet. One that
                # only does not answer is not tried twice: a store that hangs must not cost twice the time.
                link.disconnect()
                link.connect()
                return greet(link, self._prefix)

    @contextmanager
    def _answered(self, *, writes: bool = False, of_a_member: bool = False) -> Iterator[None]:
        try:
            yield
        except DRIVER_ERRORS as fault:
            lost = writes and not isinstance(fault, _REFUSALS)
            raise unavailable(fault, self._where, fate_unknown=lost, of_a_member=of_a_member) from fault
