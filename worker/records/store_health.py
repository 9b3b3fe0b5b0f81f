"""How each store was when the heartbeat last saw it: what is told of a store without asking it, or walking its logs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from worker.model import StoreConfiguration, StoreRecord
from worker.records.place import places_of
from worker.state import state_errors


@dataclass(slots=True, frozen=True)
class StoreHealth:
    """One store as the heartbeat last saw it; times are epoch milliseconds by the state server's clock, 0 is never.

    Attributes:
        fresh_ms: how fresh its cursors say it is; 0 while nobody knows what it has, as when it is being filled.
        synchronized_ms: what was last written to it as ``synchronizedOn``.
        withheld: the last time, it was told nothing, for it was wiped or may hold what it should not.
    """

    fresh_ms: int = 0
    synchronized_ms: int = 0
    withheld: bool = False

    @property
    def filled(self) -> bool:
        """Whether it has everything, but for what its lag tells."""
        return self.fresh_ms > 0 and self.synchronized_ms > 0 and not self.withheld


class StoreHealths:
    """The heartbeat's notes: ``segsync:health:{STORE}``, a hash.

    Each is of a place: of a store that was moved since, it says nothing. Fields: fresh_ms and fresh_at (the place),
    synchronized_ms and synchronized_at, withheld.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def note_looks(self, looks: Sequence[tuple[StoreRecord, int]]) -> None:
        """How fresh the cursors say that these stores are; 0 where nobody knows.

        Raises:
            Unavailable: the state server is away; some are noted, or none.
        """
        with state_errors(), self._client.pipeline(transaction=False) as pipe:
            for record, fresh_ms in looks:
                mapping = {"fresh_ms": str(fresh_ms), "fresh_at": _place(record.configuration)}
                pipe.hset(_key(record.store_id), mapping=cast("Any", mapping))
            pipe.execute()

    def note_told(self, record: StoreRecord, synchronized_ms: int | None) -> None:
        """What was written to the store as ``synchronizedOn``; None when it was told nothing.

        Raises:
            Unavailable: the state server is away; it is noted or not.
        """
        mapping = {"withheld": "1"}
        if synchronized_ms is not None:
            place = _place(record.configuration)
            mapping = {"withheld": "0", "synchronized_ms": str(synchronized_ms), "synchronized_at": place}
        with state_errors():
            self._client.hset(_key(record.store_id), mapping=cast("Any", mapping))

    def read(self, records: Sequence[StoreRecord]) -> dict[str, StoreHealth]:
        """The health of these stores by id, in one round trip.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors(), self._client.pipeline(transaction=False) as pipe:
            for record in records:
                pipe.hgetall(_key(record.store_id))
            found: list[Any] = pipe.execute()
        return {
            record.store_id: _health(fields, _place(record.configuration))
            for record, fields in zip(records, found, strict=True)
        }

    def forget(self, store_id: str) -> None:
        """The store was removed: nothing is known of it any more.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            self._client.delete(_key(store_id))


def _health(fields: Mapping[bytes, bytes], place: str) -> StoreHealth:
    def at_this_place(name: str) -> int:
        here = fields.get(f"{name}_at".encode()) == place.encode()
        return int(fields.get(f"{name}_ms".encode(), b"0")) if here else 0

    return StoreHealth(
        fresh_ms=at_this_place("fresh"),
        synchronized_ms=at_this_place("synchronized"),
        withheld=fields.get(b"withheld") == b"1",
    )


def _place(configuration: StoreConfiguration) -> str:
    """A word for where a store is: no secrets, for what can be guessed of them must not be kept either."""
    places = sorted(map(repr, places_of(configuration)))
    return hashlib.sha256("\n".join(places).encode()).hexdigest()[:16]


def _key(store_id: str) -> str:
    return f"segsync:health:{{{store_id}}}"
