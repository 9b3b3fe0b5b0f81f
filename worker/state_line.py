"""One connection to the state server that an event loop has to itself, for many commands at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
from redis._parsers import BaseParser
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, ReadOnlyError

from worker.settings import Settings
from worker.state import ANSWER_SECONDS, CONNECT_SECONDS, state_errors

Command = tuple[str | bytes | int, ...]

_READ_BYTES = 65_536


class StateLine:
    """Connects when first used, and anew after whatever went wrong; never repeats anything. One user at a time.

    A thread with redis-py's pipeline would do; but it fights the event loop for the interpreter at each of its steps,
    and nothing goes on meanwhile: 3,900 accepts a second in place of 5,700.

    Attributes:
        made: how many connections there were so far. After a new one, what was known of the server may be true of its
            predecessor only.
    """

    def __init__(self, settings: Settings) -> None:
        self.made = 0
        pool = ConnectionPool.from_url(
            settings.state_url.get_secret_value(),
            socket_timeout=None,  # ``ask`` itself bounds how long it waits
            socket_connect_timeout=CONNECT_SECONDS,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            decode_responses=False,
        )
        self._connection: Connection = pool.make_connection()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Ask for all of these in one round trip; returns the replies, error replies in their places.

        Raises:
            Unavailable: the state server is away; some of it may be done, or be done later.
        """
        connection = self._connection
        # redis-py's own way takes ten times as long.
        packed = b"".join(hiredis.pack_command(command) for command in commands)  # type: ignore[arg-type]
        with state_errors():
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._connect()
                    await connection.send_packed_command(packed, check_health=False)
                    replies = await self._replies(len(commands))
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            if ReadOnlyError in map(type, replies):
                # It is a replica now, and keeps its connections: who connects anew finds whom the address means now.
                await connection.disconnect(nowait=True)
            return replies

    async def close(self) -> None:
        """Hang up; idempotent."""
        with state_errors():
            await self._connection.disconnect(nowait=True)

    async def _connect(self) -> None:
        connection = self._connection
        stream = connection._reader  # noqa: SLF001 - as in ``_replies``; redis-py's own look takes 15 µs
        if stream is not None:
            if not (stream.at_eof() or stream._buffer or stream.exception()):  # type: ignore[attr-defined]  # noqa: SLF001
                return
            # Nothing was asked, so this is the end of the connection: the server has closed, or reset, it meanwhile.
            await connection.disconnect(nowait=True)
        await connection.connect()
        self.made += 1

    async def _replies(self, count: int) -> list[Any]:
        """The next replies, as they come: redis-py's own way waits for each of them."""
        stream = self._connection._reader  # noqa: SLF001 - redis-py offers no public way to it
        if stream is None:
            raise ConnectionResetError("the connection is closed")
        reader = hiredis.Reader(protocolError=InvalidResponse, replyError=BaseParser.parse_error)
        replies: list[Any] = []
        while len(replies) < count:
            if (reply := reader.gets()) is not False:  # hiredis' word for "not yet"
                replies.append(reply)
                continue
            received = await stream.read(_READ_BYTES)
            if not received:
                raise ConnectionResetError("the server closed the connection")
            reader.feed(received)
        return replies
