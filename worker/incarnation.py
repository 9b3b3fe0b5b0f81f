"""The life of a store (rule 12): wiped, rolled back or another's, it has another one, and cursors start over.

A store carries a random id, its sentinel's incarnation. ``segsync:incarnations`` says which one its cursors must be
for; a store is never told that it is another's: whatever sentinel is found there is taken over, so that two
installations on one store can not drive each other to rebuild for ever.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import redis
import structlog

from worker.log import keyspace
from worker.log.upkeep import NO_LIFE, read_lives
from worker.model import StoreRecord
from worker.state import state_errors
from worker.stores import SegmentStore
from worker.stores.segment_store import Sentinel

# Further back than the trail of rule 13 reaches for sure.
ROLLED_BACK_MS = 600_000

_log = structlog.get_logger(__name__)


@dataclass(slots=True, frozen=True)
class StoreNotes:
    """What was noticed of a store.

    Attributes:
        wiped_ms: since when it is known to have lost its content, and waits for a person; None when it does not.
        strays_due: it may hold members of our segments whom no log knows of: it must be compared with the logs. Another
            text with each time that this was noted, and empty when it need not be.
        beat_ms: the last beat that was written into its sentinel.
    """

    wiped_ms: int | None = None
    strays_due: str = ""
    beat_ms: int = 0


class Incarnations:
    """Which life of each store its cursors are for. Safe between threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def confirm(
        self, record: StoreRecord, store: SegmentStore, sentinel: Sentinel | None, server_ms: Callable[[], int]
    ) -> str | None:
        """The incarnation that cursors of this store must be for, or None while it waits for a person.

        Where the store has lost its sentinel, or has another one than is known, it has lost its content, too, or part
        of it, or has more: a new life begins, unless the store's record says that it must not by itself.

        Args:
            record: the store.
            store: the same, open.
            sentinel: what it carries at this moment.
            server_ms: asks for the state server's clock.

        Raises:
            Unavailable: the store or the state server is away.
        """
        if sentinel is not None and self._known.get(record.store_id) == sentinel.incarnation:
            return sentinel.incarnation
        known = read_lives(self._client, [record.store_id]).get(record.store_id, NO_LIFE).incarnation or None
        if sentinel is not None and known == sentinel.incarnation:
            self._remember(record.store_id, sentinel.incarnation)
            return sentinel.incarnation
        if known is not None:
            self._note_wiped(record, sentinel, server_ms())
            if not record.rebuild_when_wiped:
                return None
        return self.begin(record, store, sentinel, server_ms())

    def begin(self, record: StoreRecord, store: SegmentStore, sentinel: Sentinel | None, now_ms: int) -> str:
        """Begin a life of the store: with the sentinel that it has, or with a new one.

        Every cursor of the store is void from now on, and filled anew.

        Raises:
            Unavailable: the store or the state server is away; nothing has begun, or has, and the next call goes on.
        """
        # One that cannot list its members cannot be compared with the logs: who is a stray in it, nobody can tell.
        strays = store.lists_members and store.holds_members()
        if sentinel is None:
            sentinel = store.claim(secrets.token_hex(8), now_ms)
        notes = _notes_key(record.store_id)
        with state_errors(), self._client.pipeline(transaction=False) as pipe:
            if strays:
                pipe.hset(notes, "strays_due", secrets.token_hex(8))
            pipe.hset(notes, "beat_ms", str(sentinel.beat_ms))
            pipe.hset(keyspace.INCARNATIONS, record.store_id, sentinel.incarnation)
            pipe.hdel(notes, "wiped_ms")
            pipe.execute()
        _log.warning("store.filled_anew", store_id=record.store_id, store=record.name, holds_members=strays)
        self._remember(record.store_id, sentinel.incarnation)
        return sentinel.incarnation

    def is_rolled_back(self, sentinel: Sentinel, notes: StoreNotes) -> bool:
        """Whether the store shows a beat from long before the last one that was written: a backup was put in its place.

        What is lost within the time of the trail, cursors make good by themselves (rule 13).
        """
        return notes.beat_ms - sentinel.beat_ms > ROLLED_BACK_MS

    def end(self, record: StoreRecord, store: SegmentStore, sentinel: Sentinel, now_ms: int) -> Sentinel | None:
        """End a life of the store that is not what it says it is.

        Returns:
            The sentinel of the next one; None when its record says that it must not be filled anew by itself: then it
            goes on as it is, and waits for a person.

        Raises:
            Unavailable: the store or the state server is away.
        """
        self._note_wiped(record, sentinel, now_ms)
        if not record.rebuild_when_wiped:
            return None
        following = Sentinel(secrets.token_hex(8), now_ms)
        store.replace_sentinel(*following)
        return following

    def notes(self, store_id: str) -> StoreNotes:
        """What is known of a store's present life.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            found = cast("dict[bytes, bytes]", self._client.hgetall(_notes_key(store_id)))
        return StoreNotes(
            wiped_ms=int(found[b"wiped_ms"]) if b"wiped_ms" in found else None,
            strays_due=found.get(b"strays_due", b"").decode(),
            beat_ms=int(found.get(b"beat_ms", b"0")),
        )

    def note_beat(self, store_id: str, beat_ms: int) -> None:
        """A beat was written: a store that shows a much older one later on was rolled back.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            self._client.hset(_notes_key(store_id), "beat_ms", str(beat_ms))

    def note_process(self, store_id: str, process: str, now_ms: int) -> bool:
        """Note which server process answers for a store; returns whether it is another one than before (rule 13).

        From then on, cursors that moved shortly before that one was last seen count as behind.

        Raises:
            Unavailable: the state server is away.
        """
        if not process:
            return False
        key, seen = keyspace.PROCESSES, f"{_notes_key(store_id)}"
        with state_errors():
            told = cast("bytes | None", self._client.hget(key, store_id))
            former = (told or b"").decode().rpartition(" ")[0]
            if former == process:
                self._client.hset(seen, "process_seen_ms", str(now_ms))
                return False
            seen_ms = cast("bytes | None", self._client.hget(seen, "process_seen_ms"))
            with self._client.pipeline(transaction=False) as pipe:
                pipe.hset(key, store_id, f"{process} {int(seen_ms or 0)}")
                pipe.hset(seen, "process_seen_ms", str(now_ms))
                pipe.execute()
        if former:
            _log.warning("store.process_changed", store_id=store_id)
        return bool(former)

    def note_strays(self, store_id: str) -> None:
        """The store must be compared with the logs.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            self._client.hset(_notes_key(store_id), "strays_due", secrets.token_hex(8))

    def strays_removed(self, store_id: str, due: str) -> None:
        """It has been, since that note was read; if it was noted once more meanwhile, it is still due.

        Raises:
            Unavailable: the state server is away.
        """
        text = (
            "if redis.call('HGET', KEYS[1], 'strays_due') == ARGV[1] then redis.call('HDEL', KEYS[1], 'strays_due') end"
        )
        with state_errors():
            self._client.eval(text, 1, _notes_key(store_id), due)

    def forget(self, store_id: str) -> None:
        """A store was removed: nothing is known of it any more.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors(), self._client.pipeline(transaction=False) as pipe:
            pipe.hdel(keyspace.INCARNATIONS, store_id)
            pipe.hdel(keyspace.PROCESSES, store_id)
            pipe.delete(_notes_key(store_id))
            pipe.execute()
        with self._lock:
            self._known.pop(store_id, None)

    def _note_wiped(self, record: StoreRecord, sentinel: Sentinel | None, now_ms: int) -> None:
        with state_errors():
            first = self._client.hsetnx(_notes_key(record.store_id), "wiped_ms", str(now_ms))
        if first:
            _log.error(
                "store.wiped",
                store_id=record.store_id,
                store=record.name,
                problem="it lost what was written to it" if sentinel is None else "it is in another state than we left",
                remedy="it is filled anew"
                if record.rebuild_when_wiped
                else f"run `segsync rebuild --store {record.store_id}`",
            )

    def _remember(self, store_id: str, incarnation: str) -> None:
        with self._lock:
            self._known[store_id] = incarnation


def _notes_key(store_id: str) -> str:
    return f"segsync:store:{{{store_id}}}"
