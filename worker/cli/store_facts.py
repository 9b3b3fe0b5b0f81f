"""What is told of a store: where it is, how far it has applied the logs, and what keeps it from going on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.connection import environment_name, find_environment
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.incarnation import StoreNotes
    from worker.model import StoreRecord
    from worker.records.circuit import CircuitState
    from worker.wiring import Wiring

Store = Annotated[str, typer.Argument(metavar="ID|NAME", help="The store's id, or its name in the environment.")]
# What was accepted a moment ago is on its way: a store that follows a steady flow is not behind.
_MOMENT_SECONDS = 5.0


@dataclass(slots=True, frozen=True)
class Lag:
    """How far a store is behind the logs of its environment.

    Attributes:
        batches: of the segment whose log is furthest ahead.
        segment_key: that segment; None when nothing is ahead.
        segments: how many logs are ahead.
        seconds: age of the oldest batch that is not, or may not stay, in the store; 0 when there is none, and None
            when nothing is known of what the store has, as of one that is filled anew.
    """

    batches: int = 0
    segment_key: str | None = None
    segments: int = 0
    seconds: float | None = 0.0


@dataclass(slots=True, frozen=True)
class StoreFacts:
    """One store as the state server knows it; nobody has asked the store itself."""

    record: StoreRecord
    environment: str
    lag: Lag
    circuit: CircuitState
    notes: StoreNotes
    refused: int  # members whom it does not take

    @property
    def state(self) -> str:
        """In a word or a line: new, current, catching up, off, locked, away, or wiped."""
        record, wiped = self.record, self.notes.wiped_ms is not None
        if not record.on or record.locked:
            return f"locked: {_locked()}" if record.on else "off"
        if waits_for_rebuild(record, self.notes):
            return f"wiped: waits for `segsync rebuild --store {record.store_id}`"
        if self.circuit.open:
            return f"away: {self.circuit.reason}"
        if not self.notes.beat_ms:
            return "new"  # nobody has reached it yet
        if wiped or self.lag.seconds is None or self.lag.seconds > _MOMENT_SECONDS:
            return f"catching up, but for one segment: {self.circuit.of_one}" if self.circuit.of_one else "catching up"
        return "current"

    @property
    def _reason(self) -> str | None:
        if self.record.locked:
            return _locked()
        return self.circuit.reason if self.circuit.open else self.circuit.of_one or None

    def described(self) -> dict[str, Any]:
        """Everything, for JSON; secrets are masked."""
        record, lag, circuit = self.record, self.lag, self.circuit
        return {
            "id": record.store_id,
            "name": record.name,
            "environmentId": record.environment_id,
            "environment": self.environment,
            "kind": record.configuration.kind,
            "place": str(record.configuration),
            "on": record.on,
            "version": record.version,
            "rebuildWhenWiped": record.rebuild_when_wiped,
            "state": self.state.partition(":")[0].partition(",")[0],
            "reason": self._reason,
            "lag": {
                "batches": lag.batches,
                "seconds": lag.seconds,
                "segmentKey": lag.segment_key,
                "segmentsBehind": lag.segments,
            },
            "circuit": {
                "open": circuit.open,
                "fault": circuit.fault or None,
                "failures": circuit.failures,
                "sinceMs": circuit.since_ms,
                "retryAtMs": circuit.retry_at_ms,
            },
            "wipedMs": self.notes.wiped_ms,
            "refusedMembers": self.refused,
            "configuration": record.configuration.model_dump(mode="json"),  # passwords come out as asterisks
        }


def read_facts(wiring: Wiring, stores: Sequence[StoreRecord]) -> list[StoreFacts]:
    """The facts of these stores of one environment, in their order.

    Raises:
        Unavailable: the state server is away, or could not look at some segment.
    """
    if not stores:
        return []
    ids = [store.store_id for store in stores]
    circuits = wiring.circuits.read(ids)
    lags = _lags(wiring, stores[0].environment_id, ids)
    directory = wiring.directory.current
    return [
        StoreFacts(
            record=store,
            environment=environment_name(directory, store.environment_id),
            lag=lags[store.store_id],
            circuit=circuits[store.store_id],
            notes=wiring.incarnations.notes(store.store_id),
            refused=wiring.refused_members.count(store.store_id),
        )
        for store in stores
    ]


def find_store(wiring: Wiring, environment: str | None, wanted: str) -> StoreRecord:
    """The store with that id, or with that name in the environment; one id means one store in all of them.

    Raises:
        Misconfigured: there is none such, or it is not clear which environment is meant.
        Unavailable: the state server is away.
    """
    found = wiring.directory.fresh().store(wanted)
    if found is not None and environment is None:
        return found
    environment_id = find_environment(wiring, environment).environment_id
    stores = wiring.directory.current.stores_of(environment_id)
    for store in stores:
        if wanted and wanted in {store.store_id, store.name}:
            return store
    names = ", ".join(store.label for store in stores) or "none"
    raise Misconfigured(
        f"{environment_name(wiring.directory.current, environment_id)} has no store {wanted!r}; there are: {names}"
    )


def waits_for_rebuild(record: StoreRecord, notes: StoreNotes) -> str | None:
    """A sentence about a store that has lost its content and is not filled anew by itself; None of any other."""
    if notes.wiped_ms is None or record.rebuild_when_wiped:
        return None
    return (
        f"store {record.label} was wiped (noticed {moment(notes.wiped_ms)}) and waits for "
        f"`segsync rebuild --store {record.store_id}`"
    )


def moment(epoch_ms: int) -> str:
    """A time as people read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(epoch_ms / 1000))


def told(lag: Lag) -> str:
    """A lag as people read it."""
    if not lag.segments:
        return "0"
    age = "filling" if lag.seconds is None else f"{lag.seconds:,.1f} s"
    return f"{lag.batches:,} {'batch' if lag.batches == 1 else 'batches'}, {age}"


def _locked() -> str:
    from worker.records.secret_box import LOCKED

    return LOCKED


def _lags(wiring: Wiring, environment_id: str, store_ids: Sequence[str]) -> dict[str, Lag]:
    keys = wiring.segment_keys.registered(environment_id)
    now_ms = wiring.upkeep.server_ms()
    lags = {store_id: Lag() for store_id in store_ids}
    for status in wiring.upkeep.statuses(environment_id, keys, store_ids):
        for store_id, store in status.stores.items():
            if store.oldest_ms is None and not store.ahead:
                continue
            known = lags[store_id]
            worse = known.segment_key is None or store.batches_behind > known.batches
            age = max(0, now_ms - store.oldest_ms) / 1000 if store.oldest_ms else None
            lags[store_id] = Lag(
                batches=store.batches_behind if worse else known.batches,
                segment_key=status.segment.segment_key if worse else known.segment_key,
                segments=known.segments + 1,
                seconds=None if age is None or known.seconds is None else max(known.seconds, age),
            )
    return lags
