"""The sweeper: finds what nobody drains, leases whose owner stands still, and marks of drains that nobody runs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from worker.errors import Unavailable
from worker.log.batch import WakeUp
from worker.log.upkeep import SegmentStatus, StoreStatus
from worker.model import SegmentId
from worker.wiring import Wiring

# A drain renews every two seconds, or after the five that a request to its store may take; one that has not for so long
# is dead, frozen or cut off.
LEASE_SECONDS = 20.0
# Z: longer than any request to a store can take to land. With a lease, it stays under the SDK's 120 s of staleness.
SETTLE_SECONDS = 60.0
# A wake-up that has not led to a drain by then is sent again, then half as often each time: with a long queue the
# first is still on its way, and more of them would only make the queue longer.
WAKE_AGAIN_SECONDS = 4.0
MOST_WAKE_AGAIN_SECONDS = 60.0

_Key = tuple[str, ...]

_log = structlog.get_logger(__name__)


class _Hold(NamedTuple):
    """Why a log is not woken: its store's circuit is open, or its integration's brake is engaged.

    Attributes:
        key: which circuit or brake.
        probe_at: another text for each probe that there is to be.
        due: its time has come, and nobody probes.
    """

    key: _Key
    probe_at: str
    due: bool


@dataclass(slots=True)
class _Sweep:
    """One sweep: what holds logs back, and what it has found so far.

    Attributes:
        marks: circuit or brake -> a text that changes whenever it opens or closes, engages or is released.
        changed: those whose mark is another than at the last sweep: what holds nothing back now has done so since;
            and stores that people have changed.
        held: logs that would be woken, and what holds each back.
        done: logs to leave the index, with their tickets.
    """

    holds: dict[_Key, _Hold]
    marks: dict[_Key, str]
    changed: set[_Key]
    looked_at: set[_Key]
    due: list[WakeUp] = field(default_factory=list)
    held: list[tuple[WakeUp, list[_Hold]]] = field(default_factory=list)
    done: list[tuple[SegmentId, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Seen:
    """What was seen of a lease, a mark or a waiting log, and since when by this process's monotonic clock."""

    what: _Key
    since: float
    patience: float = WAKE_AGAIN_SECONDS


class Sweeper:
    """Remembers what it saw the last time; any number of them may run, each judging by its own clock (rule 4)."""

    def __init__(self, wiring: Wiring, clock: Callable[[], float] = time.monotonic) -> None:
        self._wiring = wiring
        self._clock = clock
        self._seen: dict[_Key, _Seen] = {}
        self._marks: dict[_Key, str] = {}
        self._probes_sent = 0

    def sweep(self, changed_stores: Collection[str] = ()) -> list[WakeUp]:
        """Look once at every log that the index says may be ahead.

        Args:
            changed_stores: stores that were made, changed or switched on: of what they miss, nobody has been told.

        Returns:
            The wake-ups to send. They ignore the flag "one outstanding": that one may be lost (rule 10). Of the logs
            of a store whose circuit is open, and of an integration whose brake is engaged, one is woken when it is time
            to probe; all of them, when it is over.

        What could not be looked at is logged, and looked at by the next sweep.

        Raises:
            Unavailable: the state server is away: nothing was looked at.
        """
        by_environment: dict[str, dict[SegmentId, str]] = defaultdict(dict)
        for segment, ticket in self._wiring.upkeep.ahead().items():
            by_environment[segment.environment_id][segment] = ticket
        stores = {found: [store.store_id for store in self._wiring.stores_of(found)] for found in by_environment}
        sweep = self._begin([store_id for found in stores.values() for store_id in found])
        sweep.changed |= {_store(store_id) for store_id in changed_stores}
        for environment_id, indexed in by_environment.items():
            gone = set(indexed)
            try:
                for status in self._wiring.upkeep.statuses_of(indexed, stores[environment_id]):
                    gone.discard(status.segment)
                    for store_id, store in status.stores.items():
                        self._look(status, store_id, store, sweep)
                    if all(store.settled for store in status.stores.values()):
                        sweep.done.append((status.segment, indexed[status.segment]))
                # Deleted, and every store is through it.
                sweep.done += ((segment, indexed[segment]) for segment in gone)
            except Unavailable as error:
                # Wake-ups that were claimed by then must be sent, and other environments looked at, all the same.
                _log.error("sweep.incomplete", environment_id=environment_id, error=str(error))
        self._send_probes(sweep)
        self._seen = {key: seen for key, seen in self._seen.items() if key in sweep.looked_at}
        self._marks = sweep.marks
        try:
            self._wiring.upkeep.remove_from_index(*sweep.done)
            self._wiring.upkeep.drop_cut_payloads()
        except Unavailable as error:
            _log.error("sweep.incomplete", error=str(error))
        return sweep.due

    def _begin(self, store_ids: list[str]) -> _Sweep:
        """Read what holds logs back, before any of them is looked at: what lets go later is seen by the next sweep."""
        holds: dict[_Key, _Hold] = {}
        marks: dict[_Key, str] = {}
        for store_id, circuit in self._wiring.circuits.read(store_ids).items():
            key = _circuit(store_id)
            marks[key] = str(circuit.version)
            if circuit.open:
                holds[key] = _Hold(key, str(circuit.retry_at_ms), circuit.due)
        for brake in self._wiring.brakes.list():
            key = _brake(brake.environment_id, brake.integration_key)
            marks[key] = str(brake.since_ms)
            holds[key] = _Hold(key, str(brake.next_probe_ms), brake.due)
        changed = {key for key, mark in self._marks.items() if marks.get(key) != mark}
        return _Sweep(holds, marks, changed, looked_at=set(holds))

    def _look(self, status: SegmentStatus, store_id: str, store: StoreStatus, sweep: _Sweep) -> None:
        upkeep, segment, due = self._wiring.upkeep, status.segment, False

        def stands_still(key: _Key, what: _Key, seconds: float) -> bool:
            sweep.looked_at.add(key)
            return self._stands_still(key, what) >= seconds

        where = (*map(str, segment), store_id)
        if store.lease and stands_still((*where, "lease"), (store.lease, store.beat), LEASE_SECONDS):
            _log.warning("lease.expired", segment=segment.ref, store_id=store_id)
            due |= upkeep.expire(segment, store_id, store.lease, store.beat)
        for mark in store.orphans:
            if stands_still((*where, "mark", mark.token), (mark.token,), SETTLE_SECONDS):
                _log.warning("drain.settled", segment=segment.ref, store_id=store_id)
                due |= upkeep.settle(segment, store_id, mark.token)
        wake_up = WakeUp(segment, store_id)
        may_hold = (_circuit(store_id), _brake(segment.environment_id, status.integration_key))
        holds = [sweep.holds[key] for key in may_hold if key in sweep.holds]
        if holds:
            if store.ahead and not store.lease:
                sweep.held.append((wake_up, holds))
            return
        if not store.lease and (store.ahead or store.orphans):
            key, what = (*where, "waiting"), (store.position, store.epoch)
            sweep.looked_at.add(key)
            if not sweep.changed.isdisjoint((*may_hold, _store(store_id))):
                # What held it back is over, and the wake-ups that were sent meanwhile led to nothing; or its store is
                # another now, and none was sent.
                self._seen[key] = _Seen(what, self._clock())
                due = True
            else:
                due |= self._patience_is_over(key, what)
        if due:
            sweep.due.append(wake_up)

    def _send_probes(self, sweep: _Sweep) -> None:
        """Wake one log for each circuit and brake whose time has come.

        A log that two of them hold back probes both, when both are due, and each has no other probe. It is another log
        each time: the first may be one that leads to nothing.
        """
        turn = self._probes_sent % max(1, len(sweep.held))
        in_turn = sweep.held[turn:] + sweep.held[:turn]
        probed: set[_Key] = set()
        for wake_up, holds in sorted(in_turn, key=lambda held: len(held[1])):
            if all(hold.due and hold.key not in probed and self._wants_probe(hold) for hold in holds):
                probed.update(hold.key for hold in holds)
                sweep.due.append(wake_up)
        for key in probed:
            self._note_probe(sweep.holds[key])
        self._probes_sent += len(probed)

    def _wants_probe(self, hold: _Hold) -> bool:
        """Whether no wake-up was sent for this probe, or so long ago that it must be lost."""
        seen = self._seen.get(hold.key)
        return seen is None or seen.what != (hold.probe_at,) or self._clock() - seen.since >= seen.patience

    def _note_probe(self, hold: _Hold) -> None:
        seen, what = self._seen.get(hold.key), (hold.probe_at,)
        again = seen is not None and seen.what == what
        patience = _longer(self._seen[hold.key].patience) if again else WAKE_AGAIN_SECONDS
        self._seen[hold.key] = _Seen(what, self._clock(), patience)

    def _stands_still(self, key: _Key, what: _Key) -> float:
        """For how many seconds this has been seen unchanged."""
        seen = self._seen.get(key)
        if seen is None or seen.what != what:
            seen = self._seen[key] = _Seen(what, self._clock())
        return self._clock() - seen.since

    def _patience_is_over(self, key: _Key, what: _Key) -> bool:
        if self._stands_still(key, what) < self._seen[key].patience:
            return False
        self._seen[key] = _Seen(what, self._clock(), _longer(self._seen[key].patience))
        return True


def _circuit(store_id: str) -> _Key:
    return ("circuit", store_id)


def _store(store_id: str) -> _Key:
    return ("store", store_id)


def _brake(environment_id: str, integration_key: str) -> _Key:
    return ("brake", environment_id, integration_key)


def _longer(patience: float) -> float:
    return min(patience * 2, MOST_WAKE_AGAIN_SECONDS)
