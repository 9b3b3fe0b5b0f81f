"""Whether one context is in a segment, as SDKs would find it: read from a store."""

from __future__ import annotations

from typing import NamedTuple

from worker.errors import Unavailable
from worker.log.names import excluded_name, included_name
from worker.model import SegmentId
from worker.sync.truth import decisions_about
from worker.wiring import Wiring

_OUT = (False, "")


class Membership(NamedTuple):
    """In which lists of a segment a context stands."""

    included: bool
    excluded: bool


def membership(wiring: Wiring, segment: SegmentId, context_key: str) -> Membership:
    """Ask the environment's stores, oldest first, the first one that answers; the log where there is no store.

    Raises:
        Unavailable: no store answers, or the state server does not.
    """
    away: Unavailable | None = None
    for record in wiring.stores_of(segment.environment_id):
        store = wiring.stores.get(record.store_id)
        if store is None:
            continue
        if not wiring.circuits.allows(record.store_id):
            away = Unavailable(f"store {record.store_id} is away", dependency="store")
            continue
        try:
            found = Membership(
                included=store.includes_keys(segment.ref, [context_key])[0],
                excluded=store.includes_keys(segment.ref, [context_key], of="excluded")[0],
            )
        except Unavailable as error:
            if error.dependency == "state":
                raise
            wiring.circuits.failed(record.store_id, error)
            away = error
        else:
            wiring.circuits.abstained(record.store_id)  # that it can be read does not say that it takes writes
            return found
    if away is not None:
        raise away
    included, excluded = included_name(context_key), excluded_name(context_key)
    said = decisions_about(wiring, segment, {included, excluded})
    return Membership(said.get(included, _OUT)[0], said.get(excluded, _OUT)[0])
