"""The event loop's own connection to the state server: what it gives back, and what it does about one that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from redis.exceptions import NoScriptError
from servers import ValkeyServer

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
