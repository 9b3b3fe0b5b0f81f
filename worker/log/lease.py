"""The drain's side of the log: take a lease, read, renew, advance, release, rewind (rules 4 to 10)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from worker.errors import LeaseLost
from worker.log import entry, keyspace
from worker.log.dead import DeadLetter
from worker.log.entry import Entry
from worker.log.scripts import script
from worker.model import SegmentId
from worker.state import state_errors

# Well under the sweeper's lease time, so that one slow step between two renewals costs no lease.
RENEWAL_SECONDS = 2.0


@dataclass(slots=True, frozen=True)
class Busy:
    """Somebody else drains; the hint may be dropped, for whoever holds the lease re-checks when letting it go."""


@dataclass(slots=True, frozen=True)
class Idle:
    """The store has applied everything."""


class Behind(Exception):
    """Raised when entries after the position are no longer in the log: what they amounted to is in the snapshot."""


@dataclass(slots=True, frozen=True)
class Orphans:
    """Drains that nobody runs any more left marks: their bytes may still land. token -> connection."""

    connections: dict[str, str]


# From so much on, the text of a reply is not kept beside what was read from it.
_LARGE_REPLY_BYTES = 8 * 1024 * 1024

# What the script of an advance answers when the log goes on after it.
_GOES_ON = 2
_NOTHING_TAKEN: dict[bytes, Busy | Idle] = {b"busy": Busy(), b"idle": Idle()}


@dataclass(slots=True)
class Lease:
    """The right to move one cursor, until it is released or the sweeper finds its beat standing still.

    Attributes:
        suspect: the last drain's lease expired: perhaps it was a batch that killed its worker.
        base: the snapshot of which chunks were applied by earlier drains, and how many chunks.
        integration_key: the integration that the segment's batches come through.
        fresh: no drain has ever written to the store from this log, in its present life.
        filling: the snapshot with which the store began to be filled, while it is filled from the beginning.
    """

    segment: SegmentId
    store_id: str
    token: str
    epoch: str
    position: str
    suspect: bool
    base: tuple[str, int]
    integration_key: str
    fresh: bool
    filling: str
    _log: DrainLog = field(repr=False)
    _renewed_at: float = field(default=0.0, repr=False)

    def read(self, *, most_bytes: int, most_entries: int, after: str | None = None) -> list[Entry]:
        """The next entries after the position, or after another one, at least one if there is one.

        Raises:
            Behind: some of them are in the snapshot.
            Unavailable: the state server is away.
        """
        return self._log.read(self.segment, after or self.position, most_bytes=most_bytes, most_entries=most_entries)

    def renew(self) -> None:
        """Show that this drain lives; cheap to call often, it asks the server only every two seconds.

        Raises:
            LeaseLost: the lease, or the epoch it was taken in, is gone.
            Unavailable: the state server is away.
        """
        now = self._log.clock()
        if now - self._renewed_at < RENEWAL_SECONDS:
            return
        if not self._call("renew", self.epoch):
            raise self._lost()
        self._renewed_at = now

    def advance(self, upto: Entry, members_change: int | None, excluded_change: int = 0) -> bool:
        """Move the cursor to that entry. Call it only when every request to the store has been answered.

        Args:
            upto: the last entry whose effect is in the store.
            members_change: by how much the segment's member count changed; None when another store counts.
            excluded_change: by how much the count of those it excludes changed.

        Returns:
            Whether there is more to read. What comes later is seen by ``release``.

        Raises:
            LeaseLost: the lease, or the epoch it was taken in, is gone; the cursor has not moved.
            Unavailable: the state server is away; the cursor may have moved.
        """
        return self.advance_to(upto.entry_id, upto.batches_total, upto.bytes_total, members_change, excluded_change)

    def advance_to(
        self,
        position: str,
        batches_total: int,
        bytes_total: int,
        members_change: int | None,
        excluded_change: int = 0,
    ) -> bool:
        """As ``advance``, to a position and the log's totals up to there."""
        change = _change(members_change), excluded_change
        verdict = self._call("advance", self.epoch, position, batches_total, bytes_total, *change)
        if not verdict:
            raise self._lost()
        self.position = position
        self.base = ("", 0)
        self._renewed_at = self._log.clock()
        return bool(verdict == _GOES_ON)

    def advance_base(
        self,
        snapshot: str,
        chunks: int,
        members_change: int | None,
        excluded_change: int = 0,
        *,
        from_nothing: bool = False,
    ) -> None:
        """Note that so many chunks of a snapshot are in the store; the cursor stays. As ``advance`` otherwise.

        ``from_nothing``: it is the first snapshot of which anything is written to a store that had nothing of this log.
        """
        told = (snapshot, chunks, _change(members_change), excluded_change, "1" if from_nothing else "0")
        if not self._call("advance_base", self.epoch, *told):
            raise self._lost()
        self.base = (snapshot, chunks)
        if from_nothing:
            self.filling = self.filling or snapshot
        self._renewed_at = self._log.clock()

    def release(self, *, clean: bool, exact: bool = True, innocent: bool = False) -> bool:
        """Let go.

        Args:
            clean: every request to the store was answered; False leaves the open mark for a fence or the sweeper.
            exact: False when members may have changed in the store without having been counted.
            innocent: every entry that was read could be parsed, or is dead: the log is suspect no longer.

        Returns:
            Whether a wake-up is due, and now this caller's to send.

        Raises:
            LeaseLost: it was not ours any more; the mark still is.
            Unavailable: the state server is away.
        """
        verdict, *due = self._call("release", *("1" if flag else "0" for flag in (clean, exact, innocent)))
        if verdict == b"lost":
            raise self._lost()
        return bool(due[0])

    def rewind(self) -> bool:
        """After the lease was lost, every request answered: go back to where this drain began.

        Returns:
            Whether a wake-up is due, and now this caller's to send.

        Raises:
            Unavailable: the state server is away; the mark stays, and the sweeper rewinds.
        """
        return bool(self._call("rewind")[1])

    def bury(self, entry: Entry, letter: DeadLetter) -> bool:
        """Decide, for all stores, that an entry is dead; an earlier decision stands.

        Returns:
            Whether this call decided it.

        Raises:
            LeaseLost: the lease, or the epoch it was taken in, is gone: it may have been replayed since it was read.
            Unavailable: the state server is away.
        """
        decided = int(self._call("bury", self.epoch, entry.entry_id, letter.encode()))
        if decided < 0:
            raise self._lost()
        return bool(decided)

    def count_crash(self, entry: Entry) -> int:
        """Note that parsing an entry, alone and in a process of its own, killed that process; returns how often by now.

        Raises:
            Unavailable: the state server is away.
        """
        return int(self._log.call("crash", self.segment, entry.entry_id))

    def _lost(self) -> LeaseLost:
        return LeaseLost(f"lost the lease of {self.segment.ref} for store {self.store_id}")

    def _call(self, name: str, *arguments: object) -> Any:
        return self._log.call(name, self.segment, self.store_id, self.token, *arguments)


class DrainLog:
    """What a drain needs of the log. Safe between threads, as far as the client is."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self.clock = clock

    def take(
        self,
        segment: SegmentId,
        store_id: str,
        *,
        connection: str | None,
        incarnation: str = "",
        process: str = "",
        even_idle: bool = False,
        fenced: Sequence[str] = (),
        waived: Sequence[str] = (),
    ) -> Lease | Busy | Idle | Orphans:
        """Take the lease of a store's cursor, and leave an open mark.

        ``connection`` is the identity of the connection that this drain will write over; the mark keeps it.
        ``incarnation`` is the store's present life: a cursor made for another one starts over (rule 12).
        ``process`` is the server that answers for the store, "" where it does not tell: with another one, the cursor
        goes back to where it stood ten minutes ago at least (rule 13).
        ``even_idle`` asks for the lease though nothing waits.
        ``fenced`` are tokens of orphaned drains whose bytes surely cannot land any more: they are settled first.
        ``waived`` are those whose bytes may still land: they are left to the sweeper.

        Raises:
            Unavailable: the state server is away; a lease may have been taken, which then expires.
        """
        token = secrets.token_hex(8)
        told = (connection or "", incarnation, process, "1" if even_idle else "0")
        reply = self.call("take", segment, store_id, token, *told, len(fenced), *fenced, *waived)
        verdict = reply[0]
        if verdict in _NOTHING_TAKEN:
            return _NOTHING_TAKEN[verdict]
        if verdict == b"orphans":
            tokens = [text.decode() for text in reply[1:]]
            return Orphans(dict(zip(tokens[::2], tokens[1::2], strict=True)))
        return Lease(
            segment=segment,
            store_id=store_id,
            token=token,
            position=reply[1].decode(),
            epoch=reply[2].decode(),
            suspect=reply[3] == b"1",
            base=(reply[4].decode(), int(reply[5])),
            integration_key=reply[6].decode(),
            fresh=reply[7] != b"1",
            filling=reply[8].decode(),
            _log=self,
            _renewed_at=self.clock(),
        )

    def read(self, segment: SegmentId, position: str, *, most_bytes: int, most_entries: int) -> list[Entry]:
        """Entries after a position, in order, as ``Lease.read``; without a lease.

        Raises:
            Behind: some of them are in the snapshot.
            Unavailable: the state server is away.
        """
        verdict, *found = self.call("read", segment, position, most_bytes, most_entries)
        if verdict == b"behind":
            raise Behind
        entries = [entry.unpack(*found[i : i + 3]) for i in range(0, len(found), 3)]
        if sum(len(each.data) for each in entries) >= _LARGE_REPLY_BYTES:
            # hiredis keeps the whole text of a reply until the next one comes: any, over the same connection.
            with state_errors():
                self._client.exists(keyspace.base(segment.environment_id, segment.segment_key))
        return entries

    def call(self, name: str, segment: SegmentId, *arguments: object) -> Any:
        """Run a script on that segment's generation."""
        base = keyspace.base(segment.environment_id, segment.segment_key)
        return script(name)(self._client, base, segment.generation, *arguments)


def _change(members_change: int | None) -> str:
    return "" if members_change is None else str(members_change)
