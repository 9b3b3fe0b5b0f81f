"""The event loop's own connection to the state server: what it gives back, and what it does about one that is gone."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import hiredis
import pytest
from redis.exceptions import NoScriptError, ReadOnlyError
from servers import ValkeyServer

from worker import state_line
from worker.errors import Unavailable
from worker.settings import Settings
from worker.state_line import StateLine


def line_to(server: ValkeyServer) -> StateLine:
    return StateLine(Settings(state_url=server.url))


def test_replies_come_in_the_order_asked_and_an_error_takes_the_place_of_its_own(valkey: ValkeyServer) -> None:
    async def ask() -> list[object]:
        line = line_to(valkey)
        try:
            return await line.ask([("SET", "line", "ü"), ("EVALSHA", "0" * 40, 0), ("GET", "line"), ("DEL", "line")])
        finally:
            await line.close()

    done, unknown, got, deleted = asyncio.run(ask())
    assert (done, got, deleted) == (b"OK", "ü".encode(), 1)
    assert isinstance(unknown, NoScriptError)


def test_many_replies_are_all_read(valkey: ValkeyServer) -> None:
    async def ask() -> list[object]:
        line = line_to(valkey)
        try:
            return await line.ask([("ECHO", str(number) * 1000) for number in range(500)])
        finally:
            await line.close()

    assert asyncio.run(ask()) == [(str(number) * 1000).encode() for number in range(500)]


def test_a_connection_that_the_server_closed_meanwhile_is_replaced_unnoticed(valkey: ValkeyServer) -> None:
    async def ask() -> tuple[list[object], int]:
        line = line_to(valkey)
        [own] = await line.ask([("CLIENT", "ID")])
        with valkey.client() as other:
            other.client_kill_filter(_id=str(own))
        async with asyncio.timeout(10):
            while not await line._connection.can_read():  # its end  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
        try:
            return await line.ask([("PING",)]), line.made
        finally:
            await line.close()

    assert asyncio.run(ask()) == ([b"PONG"], 2)


def test_a_server_that_goes_away_leaves_an_unknown_fate_and_is_found_again(
    start_valkey: Callable[..., ValkeyServer],
) -> None:
    server = start_valkey()

    async def ask() -> list[object]:
        line = line_to(server)
        await line.ask([("PING",)])
        server.stop()
        with pytest.raises(Unavailable) as away:
            await line.ask([("PING",)])
        assert away.value.fate_unknown
        server.start()
        try:
            return await line.ask([("PING",)])
        finally:
            await line.close()

    assert asyncio.run(ask()) == [b"PONG"]


class Answering:
    """A server that takes every command, and says to what the test asks what the test says."""

    def __init__(self, *said: bytes) -> None:
        self._said = iter(said)
        self._writers: list[asyncio.StreamWriter] = []
        self.asked = asyncio.Event()
        self.line: StateLine

    async def __aenter__(self) -> StateLine:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.line = StateLine(Settings(state_url=f"redis://127.0.0.1:{port}"))
        return self.line

    async def __aexit__(self, *_: object) -> None:
        await self.line.close()
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def reset(self) -> None:
        """End the newest connection as a server does that is killed, and wait until the line has heard of it."""
        writer = self._writers[-1]
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()
        stream = self.line._connection._reader
        assert stream is not None
        async with asyncio.timeout(10):
            while stream.exception() is None:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        parser = hiredis.Reader()
        while received := await reader.read(1000):
            parser.feed(received)
            while (command := parser.gets()) is not False:
                writer.write(next(self._said) if command[0] == b"ECHO" else b"+OK\r\n")
                if command[0] == b"ECHO":
                    self.asked.set()


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n", b"*2\r\n$3\r\nabc\r\n!what\r\n", b"$-7\r\n"])
def test_what_is_no_reply_leaves_an_unknown_fate_and_ends_the_connection(said: bytes) -> None:
    async def ask() -> tuple[list[object], int]:
        async with Answering(said, b"$1\r\n2\r\n") as line:
            with pytest.raises(Unavailable) as broken:
                await line.ask([("ECHO", "1")])
            assert broken.value.fate_unknown
            return await line.ask([("ECHO", "2")]), line.made

    assert asyncio.run(ask()) == ([b"2"], 2)


def test_a_reply_that_comes_after_the_wait_for_it_is_never_taken_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_line, "ANSWER_SECONDS", 0.2)

    async def ask() -> list[object]:
        server = Answering(b"$1\r\n", b"$1\r\n2\r\n")  # half a reply; the rest comes when nobody waits any more
        async with server as line:
            with pytest.raises(Unavailable) as silent:
                await line.ask([("ECHO", "1")])
            assert silent.value.fate_unknown
            server._writers[0].write(b"1\r\n")
            return await line.ask([("ECHO", "2")])

    assert asyncio.run(ask()) == [b"2"]


def test_an_ask_that_is_cancelled_leaves_nothing_for_the_next_one() -> None:
    async def ask() -> list[object]:
        server = Answering(b"$1\r\n", b"$1\r\n2\r\n")
        async with server as line:
            waiting = asyncio.create_task(line.ask([("ECHO", "1")]))
            async with asyncio.timeout(10):
                await server.asked.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            return await line.ask([("ECHO", "2")])

    assert asyncio.run(ask()) == [b"2"]


def test_what_comes_unasked_is_never_taken_for_a_reply() -> None:
    async def ask() -> tuple[list[object], int]:
        server = Answering(b"$1\r\n1\r\n", b"$1\r\n2\r\n")
        async with server as line:
            await line.ask([("ECHO", "1")])
            server._writers[0].write(b"$6\r\nunasked\r\n")
            stream = line._connection._reader
            async with asyncio.timeout(10):
                while not stream._buffer:  # type: ignore[union-attr]  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0)
            return await line.ask([("ECHO", "2")]), line.made

    assert asyncio.run(ask()) == ([b"2"], 2)


def test_a_connection_that_was_reset_meanwhile_is_replaced_unnoticed() -> None:
    async def ask() -> tuple[list[object], int]:
        server = Answering(b"$1\r\n1\r\n", b"$1\r\n2\r\n")
        async with server as line:
            await line.ask([("ECHO", "1")])
            await server.reset()
            return await line.ask([("ECHO", "2")]), line.made

    assert asyncio.run(ask()) == ([b"2"], 2)


def test_a_server_that_takes_no_writes_any_more_is_not_asked_over_the_same_connection_again() -> None:
    async def ask() -> tuple[list[object], int]:
        async with Answering(b"-READONLY You can't write against a read only replica.\r\n", b"$1\r\n2\r\n") as line:
            [refused] = await line.ask([("ECHO", "1")])
            assert isinstance(refused, ReadOnlyError)
            return await line.ask([("ECHO", "2")]), line.made

    assert asyncio.run(ask()) == ([b"2"], 2)
