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
from worker.log.entry import Entry
from worker.log.scripts import script
from worker.model import SegmentId

# Well under the sweeper's lease time, so that one slow step between two renewals costs no lease.
RENEWAL_SECONDS = 2.0


@dataclass(slots=True, frozen=True)
class Busy:
    """Somebody else drains; the hint may be dropped, for whoever holds the lease re-checks when letting it go."""


@dataclass(slots=True, frozen=True)
class Idle:
    """The store has applied everything."""


@dataclass(slots=True, frozen=True)
class Behind:
    """Entries that the store has not applied are trimmed: it must be rebuilt, for reading on would leave a gap."""


@dataclass(slots=True, frozen=True)
class Orphans:
    """Drains that nobody runs any more left marks: their bytes may still land. token -> connection."""

    connections: dict[str, str]


_NOTHING_TAKEN: dict[bytes, Busy | Idle | Behind] = {b"busy": Busy(), b"idle": Idle(), b"behind": Behind()}


@dataclass(slots=True)
class Lease:
    """The right to move one cursor, until it is released or the sweeper finds its beat standing still."""

    segment: SegmentId
    store_id: str
    token: str
    epoch: str
    position: str
    _log: DrainLog = field(repr=False)
    _renewed_at: float = field(default=0.0, repr=False)

    def read(self, *, most_bytes: int, most_entries: int) -> list[Entry]:
        """The next entries after the position, at least one if there is one.

        Raises:
            Unavailable: the state server is away.
        """
        reply = self._log.call("read", self.segment, self.position, most_bytes, most_entries)
        return [entry.unpack(*reply[i : i + 3]) for i in range(0, len(reply), 3)]

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

    def advance(self, upto: Entry, members_change: int | None) -> None:
        """Move the cursor to that entry. Call it only when every request to the store has been answered.

        Args:
            upto: the last entry whose effect is in the store.
            members_change: by how much the segment's member count changed; None when another store counts.

        Raises:
            LeaseLost: the lease, or the epoch it was taken in, is gone; the cursor has not moved.
            Unavailable: the state server is away; the cursor may have moved.
        """
        change = "" if members_change is None else str(members_change)
        if not self._call("advance", self.epoch, upto.entry_id, upto.batches_total, upto.bytes_total, change):
            raise self._lost()
        self.position = upto.entry_id
        self._renewed_at = self._log.clock()

    def release(self, *, clean: bool, exact: bool = True) -> bool:
        """Let go.

        Args:
            clean: every request to the store was answered; False leaves the open mark for a fence or the sweeper.
            exact: False when members may have changed in the store without having been counted.

        Returns:
            Whether a wake-up is due, and now this caller's to send.

        Raises:
            LeaseLost: it was not ours any more; the mark still is.
            Unavailable: the state server is away.
        """
        verdict, *due = self._call("release", "1" if clean else "0", "1" if exact else "0")
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

    def bury(self, dead: Entry, reason: str) -> None:
        """Decide, for all stores, that an entry is dead; an earlier decision stands.

        Raises:
            Unavailable: the state server is away.
        """
        self._log.call("bury", self.segment, dead.entry_id, reason)

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
        fenced: Sequence[str] = (),
        waived: Sequence[str] = (),
    ) -> Lease | Busy | Idle | Behind | Orphans:
        """Take the lease of a store's cursor, and leave an open mark.

        ``connection`` is the identity of the connection that this drain will write over; the mark keeps it.
        ``fenced`` are tokens of orphaned drains whose bytes surely cannot land any more: they are settled first.
        ``waived`` are those whose bytes may still land: they are left to the sweeper.

        Raises:
            Unavailable: the state server is away; a lease may have been taken, which then expires.
        """
        token = secrets.token_hex(8)
        reply = self.call("take", segment, store_id, token, connection or "", len(fenced), *fenced, *waived)
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
            _log=self,
            _renewed_at=self.clock(),
        )

    def call(self, name: str, segment: SegmentId, *arguments: object) -> Any:
        """Run a script on that segment's generation."""
        base = keyspace.base(segment.environment_id, segment.segment_key)
        return script(name)(self._client, base, segment.generation, *arguments)
