"""Bulk writes over one Redis connection: pre-joined commands out, windows of replies back. Never reconnects."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import hiredis
import redis

from worker.model import SegmentPatch, WriteCounts
from worker.stores.layout import context_hashes, portions, redis_include_key
from worker.stores.redis_faults import DRIVER_ERRORS, unavailable
from worker.stores.segment_store import BeforeWindow

# Commands per window. From 1,000 up the cost per member is flat; a window of 2,000 is about 250 KB on the wire.
WINDOW: Final = 2_000
# One window is hashed and packed while the server works through another.
WINDOWS_IN_FLIGHT: Final = 2
_READ_BYTES: Final = 65_536
_HASH_BYTES: Final = 44


class _Sent(NamedTuple):
    """A window whose replies are outstanding: first those of its adds, then those of its removes."""

    adds: int
    removes: int


class RedisWriteSession:
    """A ``WriteSession`` over one connection, from which nothing else may be read or written meanwhile.

    It works on the connection's socket, not on redis-py's send and read methods: those replace a broken
    connection silently, and cost four times as much per command.
    """

    def __init__(self, link: redis.Connection, identity: str | None, *, prefix: str, where: str, window: int) -> None:
        socket = link._get_socket()  # noqa: SLF001 - redis-py offers no public way to its socket
        assert socket is not None, "the connection was checked at checkout"
        self.connection = identity
        self._link = link
        self._socket = socket
        self._prefix = prefix
        self._where = where
        self._window = window
        self._reader = hiredis.Reader()
        self._sent: deque[_Sent] = deque()
        self._added = 0
        self._removed = 0
        self._refusal: hiredis.ReplyError | None = None
        self._broken: BaseException | None = None

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``. After an error reply, nothing more is sent, and what was sent is read to its end."""
        if self._broken is not None:
            raise unavailable(self._broken, self._where, fate_unknown=True) from self._broken
        self._added = self._removed = 0
        self._refusal = None
        try:
            self._send_all(patch, before_window)
        finally:
            # Also when before_window raised: its caller must know that whatever was sent has been answered.
            while self._sent and self._broken is None:
                self._read_window()
        if self._refusal is not None:
            raise unavailable(self._refusal, self._where) from self._refusal
        return WriteCounts(self._added, self._removed)

    def _send_all(self, patch: SegmentPatch, before_window: BeforeWindow) -> None:
        for portion in portions(patch, self._window):
            commands = self._pack(portion)
            if len(self._sent) == WINDOWS_IN_FLIGHT:
                self._read_window()
            if self._refusal is not None:
                return
            before_window()
            with self._breaking():
                self._sent.append(_Sent(len(portion.add), len(portion.remove)))
                self._socket.sendall(commands)

    def _pack(self, portion: SegmentPatch) -> bytes:
        return _commands(b"SADD", self._prefix, portion.segment_ref, portion.add) + _commands(
            b"SREM", self._prefix, portion.segment_ref, portion.remove
        )

    def _read_window(self) -> None:
        with self._breaking():
            self._added += self._read_changes(self._sent[0].adds)
            self._removed += self._read_changes(self._sent[0].removes)
            self._sent.popleft()

    def _read_changes(self, replies: int) -> int:
        """Read that many replies and return how many members they say were changed."""
        gets = self._reader.gets
        changed = 0
        while replies:
            reply = gets()
            if reply is False:  # hiredis' word for "not yet"
                self._receive()
                continue
            replies -= 1
            if reply.__class__ is int:
                changed += reply
            else:
                self._refusal = self._refusal or reply
        return changed

    def _receive(self) -> None:
        received = self._socket.recv(_READ_BYTES)
        if not received:
            raise ConnectionResetError("the server closed the connection")
        self._reader.feed(received)

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Whatever interrupts a send or a read leaves replies outstanding: the connection is of no more use."""
        try:
            yield
        except BaseException as fault:
            self._broken = fault
            self._link.disconnect()
            if isinstance(fault, DRIVER_ERRORS):
                raise unavailable(fault, self._where, fate_unknown=True) from fault
            raise


def _commands(verb: bytes, prefix: str, segment_ref: str, context_keys: list[str]) -> bytes:
    """One RESP command per member, joined in bulk: all that differs between two of them is the hash."""
    if not context_keys:
        return b""
    key = redis_include_key(prefix, "").encode()
    ref = segment_ref.encode()
    head = b"*3\r\n$4\r\n%b\r\n$%d\r\n%b" % (verb, len(key) + _HASH_BYTES, key)
    tail = b"\r\n$%d\r\n%b\r\n" % (len(ref), ref)
    return head + (tail + head).join(context_hashes(context_keys)) + tail
