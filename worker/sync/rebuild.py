"""Writing a store anew from the logs, as a person wishes (rule 14): cursors are made void, and drains do the writing.

Which logs a rebuild is about, and which cursors it has made void, is noted in the state server, so that who begins it
again goes on with it. ``segsync:rebuild:{STORE}`` is a hash, log name -> the position that the store is to come to, or
empty while the cursor is not void yet; it is forgotten a day after anybody has looked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import structlog

from worker.errors import Misconfigured
from worker.log import keyspace
from worker.log.batch import WakeUp
from worker.log.late import void_cursor
from worker.model import SegmentId, StoreRecord
from worker.state import state_errors
from worker.sync.audit import Audit, Comparison
from worker.sync.following import Following
from worker.wiring import Wiring

KEPT_SECONDS = 86_400
_AT_ONCE = 500
# Publishing one takes a millisecond; the sweeper finds the others in the index.
MOST_WAKE_UPS = 300

_log = structlog.get_logger(__name__)


@dataclass(slots=True, frozen=True)
class Begun:
    """What a rebuild is about.

    Attributes:
        segments: how many.
        continued: it goes on with one that was begun before.
        after_wipe: the store had lost its content, and waited for this.
    """

    segments: int
    continued: bool
    after_wipe: bool


class Rebuild:
    """One store's. Any number of people may run it at the same time: it is the same one.

    Args:
        wiring: of this process.
        record: the store.
        segment_keys: these segments only; None for all of its environment.
    """

    def __init__(self, wiring: Wiring, record: StoreRecord, segment_keys: Sequence[str] | None = None) -> None:
        self._wiring = wiring
        self._record = record
        self._segment_keys = segment_keys
        self._key = f"segsync:rebuild:{{{record.store_id}}}"

    def begin(self, *, anew: bool = False) -> Begun:
        """Note which segments it is about. ``anew``: also those that are done, of one that was begun before.

        Raises:
            Misconfigured: the store is off, or has lost everything and not all of it is wanted; or there is no such
                segment.
            Unavailable: the store, where it had lost its content, or the state server is away.
        """
        record, wiring = self._record, self._wiring
        if not record.on:
            raise Misconfigured(f"{record.name} is off, so nothing is written to it: `segsync store on {record.name}`")
        after_wipe = self._begin_life()
        lasts = self._lasts()
        with state_errors(), wiring.client.pipeline(transaction=True) as pipe:
            pipe.hlen(self._key)
            for segment in lasts:
                (pipe.hset if anew or after_wipe else pipe.hsetnx)(self._key, keyspace.log_name(segment), "")
            pipe.expire(self._key, KEPT_SECONDS)
            known = pipe.execute()[0]
        _log.info("rebuild.begun", store_id=record.store_id, segments=len(lasts), continued=bool(known))
        return Begun(len(lasts), bool(known), after_wipe)

    def void(self, progress: Callable[[int], object] = lambda _done: None) -> list[WakeUp]:
        """Make the cursors void that are not yet; returns wake-ups, the caller's to send, not all that are due.

        Raises:
            Unavailable: the state server is away; doing it again goes on with those that are left.
        """
        wiring, store_id = self._wiring, self._record.store_id
        lasts = self._lasts()
        noted = self._noted()
        waiting = [segment for segment in lasts if noted.get(segment) == ""]
        due: list[WakeUp] = []
        for start in range(0, len(waiting), _AT_ONCE):
            portion = waiting[start : start + _AT_ONCE]
            for segment in portion:
                if void_cursor(wiring.client, segment, store_id) and len(due) < MOST_WAKE_UPS:
                    due.append(WakeUp(segment, store_id))
            wiring.upkeep.index(portion, ticket=f"rebuild-{wiring.upkeep.server_ms()}")
            with state_errors():
                self._wiring.client.hset(
                    self._key, mapping={keyspace.log_name(segment): lasts[segment] for segment in portion}
                )
            progress(start + len(portion))
        return due

    def follow(self) -> Following:
        """What is left for the workers to do."""
        return Following(
            self._wiring,
            {segment: target for segment, target in self._noted().items() if target},
            [self._record.store_id],
        )

    def touch(self) -> None:
        """Say that somebody looks.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            self._wiring.client.expire(self._key, KEPT_SECONDS)

    def finish(self, progress: Callable[[int], object] = lambda _done: None) -> Comparison:
        """Compare the store with the logs when everything is written, and remove whom no log knows of.

        Raises:
            Unavailable: the store or the state server is away; what was removed stays so.
        """
        wiring, store_id = self._wiring, self._record.store_id
        due = wiring.incarnations.notes(store_id).strays_due
        noted = self._noted()
        everything = self._segment_keys is None
        keys = None if everything else sorted({segment.segment_key for segment in noted})
        found = Audit(wiring, self._record, repair=True, progress=progress).run(keys)
        if everything and not found.uncertain:
            wiring.incarnations.strays_removed(store_id, due)
        with state_errors():
            wiring.client.delete(self._key)
        _log.info(
            "rebuild.done",
            store_id=store_id,
            segments=found.segments,
            members=found.members,
            missing=found.missing,
            strays=found.strays,
            uncertain=len(found.uncertain),
        )
        return found

    def _begin_life(self) -> bool:
        """Where the store waits for a person after it lost its content: begin to fill it."""
        record, wiring = self._record, self._wiring
        if record.rebuild_when_wiped or wiring.incarnations.notes(record.store_id).wiped_ms is None:
            return False
        if self._segment_keys is not None:
            raise Misconfigured(f"{record.name} has lost its content: leave --segment out, all of it must be written")
        store = wiring.stores.get(record.store_id)
        if store is None:
            raise Misconfigured(f"{record.name} is gone, or off")
        wiring.incarnations.begin(record, store, store.sentinel(), wiring.upkeep.server_ms())
        return True

    def _lasts(self) -> dict[SegmentId, str]:
        """The segments that are wanted, and the end of each one's log."""
        environment_id = self._record.environment_id
        keys = (
            self._wiring.segment_keys.registered(environment_id) if self._segment_keys is None else self._segment_keys
        )
        found = {status.segment: status.last for status in self._wiring.upkeep.statuses(environment_id, keys, ())}
        if self._segment_keys is not None:
            missing = set(self._segment_keys) - {segment.segment_key for segment in found}
            if missing:
                raise Misconfigured(f"there is no segment {', '.join(sorted(missing))}")
        return found

    def _noted(self) -> dict[SegmentId, str]:
        with state_errors():
            found = cast("dict[bytes, bytes]", self._wiring.client.hgetall(self._key))
        return {keyspace.segment_of(name.decode()): target.decode() for name, target in found.items()}
