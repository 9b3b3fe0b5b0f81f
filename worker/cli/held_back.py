"""What holds batches back: brakes that are on, and stores that are away."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from worker.cli.connection import environment_name
from worker.cli.store_facts import moment

if TYPE_CHECKING:
    from worker.records.brake import BrakeState
    from worker.wiring import Wiring


def held_back(wiring: Wiring, environment_ids: Collection[str]) -> list[str]:
    """A sentence for each brake that is on, and each store that is away, in these environments.

    Raises:
        Unavailable: the state server is away.
    """
    return [*braked(wiring, environment_ids), *_stores_away(wiring, environment_ids)]


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


def _stores_away(wiring: Wiring, environment_ids: Collection[str]) -> list[str]:
    stores = [
        store for store in wiring.directory.fresh().stores if store.on and store.environment_id in environment_ids
    ]
    circuits = wiring.circuits.read([store.store_id for store in stores])
    return [
        f"store {store.name} is away since {moment(circuit.since_ms or 0)}: {circuit.reason}; "
        f"it is tried again by itself, and at once after `segsync store check {store.name}` finds it well"
        for store in stores
        if (circuit := circuits[store.store_id]).open
    ]
