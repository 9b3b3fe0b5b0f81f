"""What the scheduler sees to every minute: what has had its time, what an index lacks, stores to be compared."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from worker.errors import Unavailable
from worker.model import SegmentId, StoreRecord
from worker.processes import stop_requested
from worker.sync.audit import Audit
from worker.sync.compact import due
from worker.sync.deleting import close_deleted, deleted_statuses
from worker.sync.expire import expire_dead
from worker.sync.forget import forget_removed
from worker.wiring import Wiring

# Compactions handed out at a time: each is some seconds of a worker's, and the next minute hands out more.
MOST_COMPACTIONS = 50

_log = structlog.get_logger(__name__)


class Maintenance:
    """One scheduler's. Everything in it is safe to do twice, and by several schedulers at once."""

    def __init__(self, wiring: Wiring, wire_another: Callable[[], Wiring]) -> None:
        """Take the wiring of the scheduler, and what makes another one: for the thread that compares stores."""
        self._wiring = wiring
        self._wire_another = wire_another
        self._auditing: threading.Thread | None = None

    def run(self) -> list[SegmentId]:
        """Do what is due; what fails is logged, and tried again the next time.

        Returns:
            The segments that some worker should compact.
        """
        wiring = self._wiring
        for do in (self._expire, self._index_dead, lambda: forget_removed(wiring), self._close_deleted, self._audit):
            try:
                do()
            except Unavailable as error:
                _log.warning("maintenance.incomplete", error=str(error))
            except Exception:  # noqa: BLE001 - a bug in one of them must not keep the others from their work
                _log.exception("maintenance.bug")
        try:
            return due(wiring)[:MOST_COMPACTIONS]
        except Unavailable as error:
            _log.warning("maintenance.incomplete", error=str(error))
            return []

    def _expire(self) -> None:
        wiring = self._wiring
        expire_dead(wiring)
        retention_ms = wiring.settings.rejected_retention_seconds * 1000
        wiring.rejected.expire(wiring.upkeep.server_ms() - retention_ms)

    def _index_dead(self) -> None:
        """A worker that dies between burying a batch and noting it leaves a dead letter that nobody would find."""
        wiring = self._wiring
        for environment_id in wiring.directory.fresh().environments:
            keys = wiring.segment_keys.registered(environment_id)
            segments = [status.segment for status in wiring.upkeep.looked_at(environment_id, keys)]
            segments += [ending.segment for ending in wiring.closings.endings(environment_id)]
            wiring.dead_letters.reindex(wiring.compaction.read_dead(segments))

    def _close_deleted(self) -> None:
        close_deleted(self._wiring)

    def _audit(self) -> None:
        """Compare, in a thread of its own, the stores that may hold members of whom no log knows."""
        if self._auditing is not None and self._auditing.is_alive():
            return
        wiring = self._wiring
        stores = [store for store in wiring.directory.fresh().stores if store.on]
        wanted = [store for store in stores if self._ready_for_audit(store)]
        if wanted:
            self._auditing = threading.Thread(target=self._compare, args=(wanted,), name="audit", daemon=True)
            self._auditing.start()

    def _ready_for_audit(self, record: StoreRecord) -> bool:
        """Its strays are due, and what it lacks is in it again: removing goes last."""
        wiring = self._wiring
        if not wiring.incarnations.notes(record.store_id).strays_due:
            return False
        if not wiring.circuits.allows(record.store_id):
            return False
        wiring.circuits.abstained(record.store_id)
        keys = wiring.segment_keys.registered(record.environment_id)
        statuses = wiring.upkeep.looked_at(record.environment_id, keys, [record.store_id])
        # Of a generation that is being deleted it is told in its turn, or not at all; only then strays of it show.
        deleted = deleted_statuses(wiring, record.environment_id, [record.store_id])
        if any(not store.settled for status in deleted for store in status.stores.values()):
            return False
        return not any(
            status.trimmed != "0-0" and store.position == "0-0" and store.ahead
            for status in statuses
            for store in status.stores.values()
        )

    def _compare(self, records: list[StoreRecord]) -> None:
        try:
            wiring = self._wire_another()
            try:
                for record in records:
                    self._compare_one(wiring, record)
            finally:
                wiring.close()
        except Exception:  # noqa: BLE001 - in a thread of its own nobody would hear of it
            _log.exception("maintenance.bug")

    def _compare_one(self, wiring: Wiring, record: StoreRecord) -> None:
        try:
            due_now = wiring.incarnations.notes(record.store_id).strays_due
            found = Audit(wiring, record, repair=True, stopping=stop_requested).run()
            if not found.uncertain and not stop_requested():
                wiring.incarnations.strays_removed(record.store_id, due_now)
        except Unavailable as error:  # the others are compared all the same
            _log.warning("maintenance.incomplete", store_id=record.store_id, error=str(error))
            return
        _log.info(
            "store.compared",
            store_id=record.store_id,
            members=found.members,
            missing=found.missing,
            strays=found.strays,
            uncertain=len(found.uncertain),
        )
