"""Bulk writes over one Redis connection: pre-joined commands out, windows of replies back. Never reconnects."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import hiredis
import redis

from worker.model import SegmentPatch, WriteCounts
from worker.stores.layout import context_hashes, portions, proved_hashes
from worker.stores.redis_bulk import Replies, pack_commands, socket_of
from worker.stores.redis_faults import DRIVER_ERRORS, unavailable
from worker.stores.redis_link import Greeting
from worker.stores.segment_store import BeforeWindow, Describe

# One window is hashed and packed while the server works through another.
WINDOWS_IN_FLIGHT: Final = 2


class _Window(NamedTuple):
    """Commands to send, and how many replies they bring: first those of the adds, then those of the removes."""

    commands: bytes
    adds: int
    removes: int


class RedisWriteSession:
    """A ``WriteSession`` over one connection, from which nothing else may be read or written meanwhile."""

    def __init__(self, link: redis.Connection, greeting: Greeting, *, prefix: str, where: str, window: int) -> None:
        self.connection, self.sentinel, self.process = greeting
        self._link = link
        self._socket = socket_of(link)
        self._prefix = prefix
        self._where = where
        self._window = window
        self._replies = Replies(self._socket)
        self._sent: deque[_Window] = deque()
        self._added = 0
        self._removed = 0
        self._refusal: hiredis.ReplyError | None = None
        self._broken: BaseException | None = None

    def prepare(self, describe: Describe) -> None:
        """See ``WriteSession``: there is nothing to do."""

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``. After an error reply, nothing more is sent, and what was sent is read to its end."""
        return self._write(self._windows_of(patch), before_window)

    def remove_hashes(self, segment_ref: str, hashes: Sequence[bytes], before_window: BeforeWindow) -> int:
        """See ``WriteSession``."""
        proved_hashes(hashes)
        starts = range(0, len(hashes), self._window)
        portions_of_hashes = (hashes[start : start + self._window] for start in starts)
        windows = (self._pack(segment_ref, (), portion) for portion in portions_of_hashes)
        return self._write(windows, before_window).removed

    def _windows_of(self, patch: SegmentPatch) -> Iterator[_Window]:
        for portion in portions(patch, self._window):
            yield self._pack(portion.segment_ref, context_hashes(portion.add), context_hashes(portion.remove))

    def _pack(self, segment_ref: str, add: Sequence[bytes], remove: Sequence[bytes]) -> _Window:
        adds = pack_commands(b"SADD", self._prefix, add, segment_ref)
        removes = pack_commands(b"SREM", self._prefix, remove, segment_ref)
        return _Window(adds + removes, len(add), len(remove))

    def _write(self, windows: Iterable[_Window], before_window: BeforeWindow) -> WriteCounts:
        if self._broken is not None:
            raise self._unavailable(self._broken, fate_unknown=True) from self._broken
        self._added = self._removed = 0
        self._refusal = None
        try:
            self._send_all(windows, before_window)
        finally:
            # Also when before_window raised: its caller must know that whatever was sent has been answered.
            while self._sent and self._broken is None:
                self._read_window()
        if self._refusal is not None:
            raise self._unavailable(self._refusal) from self._refusal
        return WriteCounts(self._added, self._removed)

    def _send_all(self, windows: Iterable[_Window], before_window: BeforeWindow) -> None:
        for window in windows:
            if len(self._sent) == WINDOWS_IN_FLIGHT:
                self._read_window()
            if self._refusal is not None:
                return
            before_window()
            with self._breaking():
                self._sent.append(window._replace(commands=b""))
                self._socket.sendall(window.commands)

    def _read_window(self) -> None:
        with self._breaking():
            self._added += self._read_changes(self._sent[0].adds)
            self._removed += self._read_changes(self._sent[0].removes)
            self._sent.popleft()

    def _read_changes(self, replies: int) -> int:
        """Read that many replies and return how many members they say were changed."""
        changed = 0
        for reply in self._replies.take(replies):
            if reply.__class__ is int:
                changed += reply
            else:
                self._refusal = self._refusal or reply
        return changed

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Whatever interrupts a send or a read leaves replies outstanding: the connection is of no more use."""
        try:
            yield
        except BaseException as fault:
            self._broken = fault
            self._link.disconnect()
            if isinstance(fault, DRIVER_ERRORS):
                raise self._unavailable(fault, fate_unknown=True) from fault
            raise

    def _unavailable(self, fault: BaseException, *, fate_unknown: bool = False) -> Exception:
        return unavailable(fault, self._where, fate_unknown=fate_unknown, of_a_member=True)
