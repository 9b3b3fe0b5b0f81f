"""The heartbeat: tells each store how fresh it is, never more than is true (rule 21), and receivers what is pending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import chain

import structlog

from worker.errors import Unavailable
from worker.log.pending import Pending, write_pending
from worker.log.upkeep import NO_LIFE, Life, SegmentStatus, read_lives
from worker.model import SegmentId, StoreRecord
from worker.records.store_health import StoreHealths
from worker.stores import SegmentStore
from worker.stores.segment_store import Sentinel
from worker.sync.deleting import deleted_statuses
from worker.wiring import Wiring

# How long one beat waits for the stores. One that hangs longer is left behind, and skipped until it has answered.
PATIENCE_SECONDS = 1.0
_MOST_AT_ONCE = 16

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Seen:
    """What a look at one store's cursors showed.

    Attributes:
        fresh_ms: how fresh the store is; 0 when nobody knows what it has.
        life: the life of the store that this is true of.
        current: it has applied everything.
    """

    record: StoreRecord
    fresh_ms: int
    now_ms: int
    life: Life
    current: bool = True


@dataclass(slots=True)
class _Looked:
    stores: dict[str, _Seen] = field(default_factory=dict)
    pending: Pending | None = None


class Heartbeat:
    """Writes ``synchronizedOn`` of every store that is on. Up to sixteen stores that hang delay themselves alone."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._healths = StoreHealths(wiring.client)
        self._pool = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="heartbeat")
        self._under_way: dict[str, Future[None]] = {}

    def beat(self) -> None:
        """Write how fresh each store is, and how much each environment's most current store has still to apply.

        Fresh is a store as of the accept time of the oldest batch whose effect may not be in it, or not stay there;
        else as of the time before the look. Every registered segment is looked at, not those in the index: the index
        is a hint, and what it misses would be claimed as applied. What it did miss is entered (rule 11, the slow walk).

        A store that has lost its sentinel is told nothing (rule 12); nor is one that may hold members of whom no log
        knows.

        Raises:
            Unavailable: the state server is away, or could not look at some segment. The environments that it could
                not look at whole keep their freshness: it ages, and SDKs see that.
        """
        failure: Unavailable | None = None
        pending: dict[str, Pending] = {}
        seen_stores: list[_Seen] = []
        for environment_id in self._wiring.directory.fresh().environments:
            try:
                looked = self._look(environment_id)
            except Unavailable as error:
                failure = error
            else:
                if looked.pending is not None:
                    pending[environment_id] = looked.pending
                seen_stores += looked.stores.values()
                for seen in looked.stores.values():
                    self._start(seen)
        if pending or failure is None:  # of environments that were removed, nothing waits, also of the last one
            write_pending(self._wiring.client, pending)
        self._healths.note_looks([(seen.record, seen.fresh_ms) for seen in seen_stores])
        wait(self._under_way.values(), timeout=PATIENCE_SECONDS)
        if failure is not None:
            raise failure

    def _look(self, environment_id: str) -> _Looked:
        wiring = self._wiring
        records = wiring.stores_of(environment_id)
        store_ids = [record.store_id for record in records]
        now_ms = wiring.upkeep.server_ms()
        lives = read_lives(wiring.client, store_ids)
        stores = {
            record.store_id: _Seen(record, now_ms, now_ms, lives.get(record.store_id, NO_LIFE)) for record in records
        }
        waiting: list[SegmentId] = []
        behind: list[SegmentStatus] = []
        keys = wiring.segment_keys.registered(environment_id)
        try:
            for status in chain(
                wiring.upkeep.statuses(environment_id, keys, store_ids),
                # After those that live: what is deleted meanwhile is in one of the two. Until a store is through the
                # deletion, it holds members of a segment that has none.
                deleted_statuses(wiring, environment_id, store_ids),
            ):
                _note(stores, status)
                if not all(store.settled for store in status.stores.values()):
                    waiting.append(status.segment)
                    behind.append(status)
        finally:
            # Also when a segment could not be looked at: the others are found all the same.
            self._enter_missing(waiting)
        return _Looked(stores, _pending(behind, now_ms))

    def _enter_missing(self, waiting: list[SegmentId]) -> None:
        indexed = self._wiring.upkeep.ahead() if waiting else {}
        missing = [segment for segment in waiting if segment not in indexed]
        if missing:
            self._wiring.upkeep.index(missing, ticket=str(self._wiring.upkeep.server_ms()))

    def _start(self, seen: _Seen) -> None:
        under_way = self._under_way.get(seen.record.store_id)
        if under_way is None or under_way.done():
            self._under_way[seen.record.store_id] = self._pool.submit(self._write, seen)

    def _write(self, seen: _Seen) -> None:
        wiring, store_id = self._wiring, seen.record.store_id
        try:
            if not wiring.circuits.allows(store_id):
                return
            told = self._tell(seen)
            if told is not None:
                self._healths.note_told(seen.record, seen.fresh_ms if told else None)
            # That it takes a number does not show that it takes members: where some wait, a drain finds out.
            (wiring.circuits.succeeded if seen.current else wiring.circuits.abstained)(store_id)
        except Unavailable as error:
            _log.warning("store.away", store_id=store_id, error=str(error))
            try:
                wiring.circuits.failed(store_id, error)
            except Unavailable as worse:
                _log.warning("state.away", error=str(worse))
        except Exception:  # noqa: BLE001 - in a thread of a pool nobody would hear of it
            _log.exception("heartbeat.bug", store_id=store_id)

    def _tell(self, seen: _Seen) -> bool | None:
        """Whether the store was told; None when this beat has found nothing out."""
        wiring, record = self._wiring, seen.record
        store = wiring.stores.get(record.store_id)
        if store is None:
            return None
        with store.session() as session:
            sentinel, process = session.sentinel, session.process
        changed = wiring.incarnations.note_process(record.store_id, process, seen.now_ms)
        if changed or (process and seen.life.process not in {"", process}):
            return None  # what was seen of its cursors is not true of this one
        incarnation = self._incarnation(seen, store, sentinel)
        if incarnation is None or not seen.fresh_ms:
            return False
        if store.set_synchronized_on(seen.fresh_ms, Sentinel(incarnation, seen.now_ms)):
            wiring.incarnations.note_beat(record.store_id, seen.now_ms)
            return True
        _log.error("store.sentinel_lost", store_id=record.store_id)
        return False

    def _incarnation(self, seen: _Seen, store: SegmentStore, sentinel: Sentinel | None) -> str | None:
        """Whose life the store leads; None where it may not claim freshness: wiped, rolled back, to be compared."""
        incarnations, record = self._wiring.incarnations, seen.record
        notes = incarnations.notes(record.store_id)
        if notes.wiped_ms is not None and not record.rebuild_when_wiped:
            return None
        if sentinel is not None and incarnations.is_rolled_back(sentinel, notes):
            sentinel = incarnations.end(record, store, sentinel, seen.now_ms)
            if sentinel is None:
                return None
        found = incarnations.confirm(record, store, sentinel, lambda: seen.now_ms)
        return None if notes.strays_due or (seen.life.incarnation or found) != found else found


def _note(stores: Mapping[str, _Seen], status: SegmentStatus) -> None:
    for store_id, store in status.stores.items():
        seen = stores[store_id]
        if store.oldest_ms is not None:
            seen.fresh_ms = min(seen.fresh_ms, store.oldest_ms)
        if not store.settled:
            seen.current = False
        if store.incarnation and not seen.life.incarnation:
            seen.fresh_ms = 0  # it was made for a life of which nothing is known any more


def _pending(behind: Sequence[SegmentStatus], now_ms: int) -> Pending:
    """What the most current store of the environment has not applied: one that is dark must not hold up the others."""
    size, oldest = 0, None
    for status in behind:
        stores = list(status.stores.values())
        size += min((store.bytes_behind for store in stores), default=status.bytes)
        times = [store.oldest_ms for store in stores]
        if times and None not in times:
            latest = max(time for time in times if time is not None)
            oldest = latest if oldest is None else min(oldest, latest)
    return Pending(size, oldest, now_ms)
