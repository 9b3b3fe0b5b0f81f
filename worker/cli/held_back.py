"""What holds batches back: brakes that are on, and stores that are away, wiped or off."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from worker.cli.connection import environment_name
from worker.cli.store_facts import moment, waits_for_rebuild

if TYPE_CHECKING:
    from worker.model import StoreRecord
    from worker.records.brake_states import BrakeState
    from worker.wiring import Wiring


def held_back(wiring: Wiring, environment_ids: Collection[str]) -> list[str]:
    """A sentence for each brake that is on, and each store that is away or waits for a rebuild, in these environments.

    Raises:
        Unavailable: the state server is away.
    """
    stores = [store for store in _stores(wiring, environment_ids) if store.on]
    return [*braked(wiring, environment_ids), *_waiting_for_rebuild(wiring, stores), *_away(wiring, stores)]


def not_followed(wiring: Wiring, environment_ids: Collection[str]) -> list[str]:
    """A sentence for each store of these environments that is off, and each environment that has no store.

    Nobody waits for those, so they hold nothing back; but nothing shows how far they are behind either.

    Raises:
        Unavailable: the state server is away.
    """
    stores = _stores(wiring, environment_ids)
    storeless = set(environment_ids) - {store.environment_id for store in stores}
    directory = wiring.directory.current
    return [
        *(
            f"store {store.name} is off, and how far it is behind is not counted here; "
            f"`segsync store on {store.name}` lets it catch up"
            for store in stores
            if not store.on
        ),
        *(
            f"{name} has no store; `segsync store add` gives it one"
            for name in sorted(environment_name(directory, environment_id) for environment_id in storeless)
        ),
    ]


def braked(wiring: Wiring, environment_ids: Collection[str]) -> list[str]:
    """A sentence for each brake that is on in these environments.

    Raises:
        Unavailable: the state server is away.
    """
    return [_told(wiring, state) for state in wiring.brakes.list() if state.environment_id in environment_ids]


def _told(wiring: Wiring, state: BrakeState) -> str:
    where = environment_name(wiring.directory.current, state.environment_id)
    return (
        f"{state.integration_key} in {where} is braked since {moment(state.since_ms)}: {state.dead} of its last "
        f"{state.of} batches died ({state.reason or 'no reason is known'}), so nothing of it is applied until a probe "
        f"succeeds; `segsync brake release {state.integration_key}` ends it"
    )


def _stores(wiring: Wiring, environment_ids: Collection[str]) -> list[StoreRecord]:
    return [store for store in wiring.directory.fresh().stores if store.environment_id in environment_ids]


def _waiting_for_rebuild(wiring: Wiring, stores: Sequence[StoreRecord]) -> list[str]:
    found = (waits_for_rebuild(store, wiring.incarnations.notes(store.store_id)) for store in stores)
    return [sentence for sentence in found if sentence is not None]


def _away(wiring: Wiring, stores: Sequence[StoreRecord]) -> list[str]:
    circuits = wiring.circuits.read([store.store_id for store in stores])
    return [
        f"store {store.name} is away since {moment(circuit.since_ms or 0)}: {circuit.reason}; "
        f"it is tried again by itself, and at once after `segsync store check {store.name}` finds it well"
        for store in stores
        if (circuit := circuits[store.store_id]).open
    ]
