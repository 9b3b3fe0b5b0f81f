from __future__ import annotations

import socket
from collections.abc import Iterator

import hiredis
import pytest

from worker.stores.redis.bulk import Replies

REFUSED = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, Replies]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        yield theirs, Replies(ours)


def test_replies_of_one_and_nought_are_counted_window_by_window(wire: tuple[socket.socket, Replies]) -> None:
    server, replies = wire
    server.sendall(b":1\r\n:0\r\n:1\r\n" + b":0\r\n:0\r\n")
    assert replies.count_ones(3) == 2
    assert replies.count_ones(2) == 0


def test_no_replies_are_nobody(wire: tuple[socket.socket, Replies]) -> None:
    assert wire[1].count_ones(0) == 0


@pytest.mark.parametrize("other", [REFUSED, b":12\r\n", b"+OK\r\n", b"$4\r\n:1\r\n\r\n"])
def test_another_reply_among_them_leaves_all_of_them_to_be_parsed(
    wire: tuple[socket.socket, Replies], other: bytes
) -> None:
    server, replies = wire
    server.sendall(b":1\r\n" + other + b":0\r\n:1\r\n")
    assert replies.count_ones(3) is None
    first, second, third = replies.take(3)
    assert (first, third) == (1, 0)
    assert second not in {0, 1} or isinstance(second, hiredis.ReplyError)
    # What came with them is not lost, and what comes later is parsed as well.
    server.sendall(b":0\r\n")
    assert replies.count_ones(2) is None
    assert list(replies.take(2)) == [1, 0]


def test_replies_that_were_parsed_are_never_counted(wire: tuple[socket.socket, Replies]) -> None:
    server, replies = wire
    server.sendall(b":1\r\n:1\r\n" + REFUSED)
    assert replies.count_ones(3) is None
    assert list(replies.take(3))[:2] == [1, 1]
    server.sendall(b":0\r\n:0\r\n")
    assert replies.count_ones(2) is None
    assert list(replies.take(2)) == [0, 0]


def test_replies_that_come_in_pieces_are_waited_for(wire: tuple[socket.socket, Replies]) -> None:
    server, replies = wire
    server.sendall(b":1\r")
    server.sendall(b"\n:")
    server.sendall(b"1\r\n")
    assert replies.count_ones(2) == 2


def test_a_server_that_hangs_up_midway_is_an_error(wire: tuple[socket.socket, Replies]) -> None:
    server, replies = wire
    server.sendall(b":1\r\n")
    server.close()
    with pytest.raises(ConnectionResetError):
        replies.count_ones(2)
