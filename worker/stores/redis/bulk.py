"""Commands on many contexts at once: joined into one buffer, their replies read as they come.

It works on the connection's socket, not on redis-py's send and read methods: those replace a broken connection
silently, and cost four times as much per command.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from socket import socket
from typing import Any, Final

import hiredis
import redis

from worker.model import MemberList
from worker.stores.layout import HASH_BYTES, redis_context_key

# Commands per window, over all nodes. From 1,000 up the cost per member is flat; a window of 2,000 is about 250 KB on
# the wire.
WINDOW: Final = 2_000
_READ_BYTES: Final = 65_536
_ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"


def socket_of(link: redis.Connection) -> socket:
    """The socket of a connection that was used a moment ago, or is connected now."""
    found: socket | None = link._get_socket()  # noqa: SLF001 - redis-py offers no public way to its socket
    if found is None:
        raise ConnectionResetError("the connection is closed")
    return found


def pack_commands(
    verb: bytes,
    prefix: str,
    hashes: Sequence[bytes],
    segment_ref: str | None,
    of: MemberList = "included",
    *,
    asking: bool = False,
) -> bytes:
    """One RESP command per context hash, joined in bulk: all that differs between two of them is the hash.

    With ``asking``, each comes after an ASKING, which has a reply of its own.
    """
    if not hashes:
        return b""
    key = redis_context_key(prefix, "", of).encode()
    tail = b"\r\n"
    if segment_ref is not None:
        ref = segment_ref.encode()
        tail += b"$%d\r\n%b\r\n" % (len(ref), ref)
    words = 2 if segment_ref is None else 3
    head = b"*%d\r\n$%d\r\n%b\r\n$%d\r\n%b" % (words, len(verb), verb, len(key) + HASH_BYTES, key)
    if asking:
        head = _ASKING + head
    return head + (tail + head).join(hashes) + tail


class Replies:
    """The replies that come in over one socket, in order. Whoever stops midway must close the connection."""

    def __init__(self, source: socket) -> None:
        self._source = source
        self._received = bytearray()
        self._reader: hiredis.Reader | None = None

    def count_ones(self, count: int) -> int | None:
        """How many of the next replies are 1, if all of them are 0 or 1; else None, and none of them is taken.

        Counted, not parsed: no reply is shorter than four bytes, so that four times as many say all or that some other
        reply is among them. It costs a twentieth of what parsing does, which itself is a tenth of all that we do.

        Raises:
            OSError: as ``take``.
        """
        if self._reader is not None:
            return None
        size = 4 * count
        while len(self._received) < size:
            self._received += self._receive()
        replies = self._received[:size]
        ones = replies.count(b":1\r\n")
        if ones + replies.count(b":0\r\n") < count:
            return None
        del self._received[:size]
        return ones

    def take(self, count: int) -> Iterator[Any]:
        """The next replies; those that are errors are given as ``hiredis.ReplyError``, not raised.

        From the first call on, all replies are parsed.

        Raises:
            OSError: the connection ended or timed out before.
            hiredis.HiredisError: it does not speak the protocol.
        """
        if self._reader is None:
            self._reader = hiredis.Reader()
            self._reader.feed(bytes(self._received))
        gets = self._reader.gets
        while count:
            reply = gets()
            if reply is False:  # hiredis' word for "not yet"
                self._reader.feed(self._receive())
                continue
            count -= 1
            yield reply

    def _receive(self) -> bytes:
        received = self._source.recv(_READ_BYTES)
        if not received:
            raise ConnectionResetError("the server closed the connection")
        return received
