"""The nodes of a Redis Cluster: which of them has which slots, learned anew whenever it turns out to have changed.

The map comes from CLUSTER SLOTS of any node that is named or was ever told of. Every checkout asks for it again in the
round trip that it makes anyway, so that a failover or a moved slot is known before anything is written; what moves
after that, MOVED and ASK tell. A node that they point to and that has no slots yet, as it is just being given its
first, gets a lane at the next checkout.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from redis.exceptions import ResponseError

from worker.errors import Unavailable
from worker.model import RedisStoreConfiguration
from worker.stores.redis.addresses import Address, Pools, addresses_of
from worker.stores.redis.faults import DRIVER_ERRORS, has_answered, unavailable
from worker.stores.redis.lanes import Lanes
from worker.stores.redis.link import ask
from worker.stores.redis.nodes import REPLICA, Greeted, Keys, greet
from worker.stores.redis.slots import SlotMap, read_slot_map, redirection_of

# A checkout that met so many maps which were not true gives up: the next try is another worker's, or later.
_MOST_MAPS: Final = 3
# All nodes together are asked for no longer than this; those that are up answer at once.
_LEARN_TIMEOUT_S: Final = 6.0


class Cluster:
    """See ``Nodes``."""

    among_others = True

    def __init__(self, configuration: RedisStoreConfiguration, pools: Pools) -> None:
        self._pools = pools
        self._prefix = configuration.prefix
        self._named = addresses_of(configuration)
        self._last = self._named[0]
        self._slots: SlotMap | None = None
        self._is_true = False
        self._newcomers: set[Address] = set()
        self._turns = itertools.count()
        self._last_told: tuple[Any, Address, SlotMap] | None = None

    def where(self) -> Address:
        """See ``Nodes``."""
        return self._last

    def slots(self) -> SlotMap:
        """The map as it was when it was last looked at; learned now, if there is none.

        Raises:
            Unavailable: no node tells it.
        """
        return self._slots if self._slots and self._is_true else self._learn()

    @contextmanager
    def lanes(self) -> Iterator[Lanes]:
        """See ``Nodes``. Whatever goes wrong, the next who comes learns the map anew."""
        slots = self.slots()
        with self._used(Lanes(self._pools, slots.primaries, slots, self._prefix, among_others=True)) as lanes:
            yield lanes

    @contextmanager
    def greeted(self, keys: Keys) -> Iterator[tuple[Lanes, list[Any]]]:
        """See ``Nodes``. All of them are primaries, and the map is what a node said in the same moment."""
        lanes, values = self._check_out(keys)
        with self._used(lanes):
            yield lanes, values

    def close(self) -> None:
        """See ``Nodes``."""
        self._pools.close()

    @contextmanager
    def _used(self, lanes: Lanes) -> Iterator[Lanes]:
        try:
            yield lanes
        except BaseException:
            self._is_true = False
            raise
        finally:
            if lanes.moved:
                self._is_true = False
            self._newcomers |= lanes.unknown
            self._last = lanes.where
            lanes.release()

    def _check_out(self, keys: Keys) -> tuple[Lanes, list[Any]]:
        slots = self.slots()
        for _ in range(_MOST_MAPS):
            newcomers = [address for address in self._newcomers if address not in slots.primaries]
            lanes = Lanes(self._pools, [*slots.primaries, *newcomers], slots, self._prefix, among_others=True)
            try:
                following = self._greet(lanes, slots, keys)
            except BaseException:
                self._newcomers |= lanes.unknown
                lanes.disconnect()
                lanes.release()
                raise
            if not isinstance(following, SlotMap):
                self._slots, self._is_true, self._newcomers = slots, True, set(newcomers)
                return lanes, following
            lanes.release()
            slots = following
        message = f"Redis store {self._last}: its cluster's nodes are changing places; wait for that"
        raise Unavailable(message, dependency="store")

    def _greet(self, lanes: Lanes, slots: SlotMap, keys: Keys) -> list[Any] | SlotMap:
        """The values of the keys; or another map, where this one is not true."""
        wanted = keys.read_at_checkout(slots)
        try:
            greeted = greet(lanes, wanted)
        except DRIVER_ERRORS as fault:
            # A primary that is away has perhaps been followed by another already. It may have been a newcomer, too.
            self._last = lanes.where
            self._newcomers.discard(lanes.where)
            lanes.disconnect()
            following = None if has_answered(fault) else self._learn()
            if following is None or (following.serves_as(slots) and lanes.where in slots.primaries):
                raise
            return following
        self._last = lanes.where
        following = self._told(greeted, slots, lanes)
        if following is not None:
            return following
        lanes.fix()
        return [self._value(lanes, key, value) for key, value in zip(wanted, greeted.values, strict=True)]

    def _told(self, greeted: Greeted, slots: SlotMap, lanes: Lanes) -> SlotMap | None:
        """The map that the nodes tell of, if it is another one."""
        first = lanes.all()[0]
        if isinstance(greeted.slots, ResponseError):
            raise greeted.slots
        following = self._read(greeted.slots, first.address)
        replicas = [lane.address for lane in lanes.all() if lane.greeting.role == REPLICA]
        self._newcomers.difference_update(replicas)
        if not following.serves_as(slots):
            return following
        moved = any(_has_moved(value, first.address) for value in greeted.values)
        return self._learn() if replicas or moved else None

    def _read(self, told: Any, by: Address) -> SlotMap:
        """The map that a node tells; the same object as the last one, where it tells the same."""
        last = self._last_told
        if last is None or last[:2] != (told, by):
            last = self._last_told = (told, by, read_slot_map(told, by))
        return last[2]

    def _value(self, lanes: Lanes, key: str, value: Any) -> Any:
        if isinstance(value, ResponseError):
            if lanes.redirection(lanes.of(key), value) is not None:
                return lanes.ask(key, "GET", key)
            raise value
        return value

    def _learn(self) -> SlotMap:
        """The map, by the first node that tells it; another one is asked first each time, as some may be behind."""
        known = self._slots
        candidates = list(dict.fromkeys([*(known.primaries + known.replicas if known else ()), *self._named]))
        start = next(self._turns) % len(candidates)
        ends_at = time.monotonic() + _LEARN_TIMEOUT_S
        faults: list[Unavailable] = []
        for address in candidates[start:] + candidates[:start]:
            if faults and time.monotonic() > ends_at:
                break
            try:
                with self._pools.connection(address) as link:
                    slots = self._read(ask(link, "CLUSTER", "SLOTS"), address)
            except DRIVER_ERRORS as fault:
                faults.append(_not_told(fault, address))
                continue
            if slots.primaries:
                self._slots, self._is_true = slots, True
                return slots
            message = f"Redis store {address}: no node of its cluster serves any slot; see CLUSTER INFO"
            faults.append(Unavailable(message, dependency="store"))
        raise max(faults, key=lambda fault: fault.fault == "configuration")


def _has_moved(value: Any, asked: Address) -> bool:
    return (
        isinstance(value, ResponseError)
        and (told := redirection_of(getattr(value, "status_code", None), str(value), asked)) is not None
        and not told.asking
    )


def _not_told(fault: BaseException, address: Address) -> Unavailable:
    if "cluster support disabled" in str(fault):
        message = f"Redis store {address}: it is no node of a cluster; its URL is redis://, its mode is standalone"
        return Unavailable(message, dependency="store", fault="configuration")
    return unavailable(fault, str(address), among_nodes=True)
