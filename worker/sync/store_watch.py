"""Which stores people have just made, changed or switched on: they are seen to at once, and not when their turn comes.

The heartbeat would find what they miss within ten seconds, and the sweeper wait for another four before it wakes it,
for it cannot tell what nobody has been told of from what somebody is about to do.
"""

from __future__ import annotations

from worker.wiring import Wiring


class StoreWatch:
    """Remembers the records of the last look; any number of them may run."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._known: dict[str, int] | None = None
        self._ripening: set[str] = set()

    def changed(self) -> set[str]:
        """The stores that had been changed by the last call, are on, and are not told of by any other call.

        By the last call and not by this one: for two seconds, the time between two calls, workers may go by the record
        that they have read, and be woken in vain. Nothing counts as changed at first.

        Raises:
            Unavailable: the state server is away; what has changed is told by a later call.
        """
        found = {store.store_id: store.version for store in self._wiring.directory.fresh(0.0).stores if store.on}
        ripe = self._ripening & found.keys()
        known = found if self._known is None else self._known
        self._ripening = {store_id for store_id, version in found.items() if known.get(store_id) != version}
        self._known = found
        return ripe - self._ripening
