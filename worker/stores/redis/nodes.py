"""The server of a store that has one at a time: named by its address, or by Redis Sentinels as a service's primary.

``cluster`` is for stores that have several.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, NamedTuple, Protocol

from worker.errors import Unavailable
from worker.stores.redis.addresses import Address, Pools
from worker.stores.redis.discovery import Discovery
from worker.stores.redis.faults import DRIVER_ERRORS, has_answered
from worker.stores.redis.lanes import Lane, Lanes
from worker.stores.redis.link import GREETING, Command, read_greeting
from worker.stores.redis.slots import SlotMap

REPLICA: Final = "slave"  # the word of the protocol


class Keys(Protocol):
    """Which keys a checkout reads."""

    def read_at_checkout(self, slots: SlotMap | None) -> Sequence[str]:
        """The keys; in a cluster, at least one on each node of the map."""


class Nodes(Protocol):
    """The servers that a store is on, and connections to them. Safe between threads.

    Its methods raise ``Unavailable``, or an error of the driver about ``where``.
    """

    @property
    def among_others(self) -> bool:
        """Whether another node may take over from one."""

    def where(self) -> Address:
        """The server that was spoken to last, or is spoken to first."""

    def lanes(self) -> AbstractContextManager[Lanes]:
        """Connections for a few commands."""

    def greeted(self, keys: Keys) -> AbstractContextManager[tuple[Lanes, list[Any]]]:
        """Connections for a session: each alive and greeted; and what the keys hold."""

    def close(self) -> None:
        """Close what nobody uses; idempotent."""


class Greeted(NamedTuple):
    """What greeting all lanes brought: the values of the keys, or the errors that answer them; and CLUSTER SLOTS."""

    values: list[Any]
    slots: Any


def greet(lanes: Lanes, keys: Sequence[str]) -> Greeted:
    """Prove with one round trip that every lane lives, replacing it once, and learn who is at its ends.

    Raises:
        redis.RedisError: a node is away.
        ResponseError: a key cannot be read, which is never taken for "there is none".
    """
    asked: dict[Lane, list[Command]] = {lane: list(GREETING) for lane in lanes.all()}
    first = next(iter(asked))
    if lanes.spread:
        asked[first].append(("CLUSTER", "SLOTS"))
    of_keys = [lanes.of(key) for key in keys]
    for key, lane in zip(keys, of_keys, strict=True):
        asked[lane].append(("GET", key))
    told = {lane: iter(replies) for lane, replies in lanes.sweep(asked, replace_dead=True).items()}
    for lane, replies in told.items():
        lane.greeting = read_greeting([next(replies) for _ in GREETING])
    slots = next(told[first]) if lanes.spread else None
    return Greeted([next(told[lane]) for lane in of_keys], slots)


class OneServer:
    """A server that is named by its address, whatever role it is in."""

    among_others = False

    def __init__(self, pools: Pools, address: Address) -> None:
        self._pools = pools
        self._address = address

    def where(self) -> Address:
        """See ``Nodes``."""
        return self._address

    @contextmanager
    def lanes(self) -> Iterator[Lanes]:
        """See ``Nodes``."""
        lanes = Lanes(self._pools, [self._address])
        try:
            yield lanes
        finally:
            lanes.release()

    @contextmanager
    def greeted(self, keys: Keys) -> Iterator[tuple[Lanes, list[Any]]]:
        """See ``Nodes``."""
        with self.lanes() as lanes:
            yield lanes, greet(lanes, keys.read_at_checkout(None)).values

    def close(self) -> None:
        """See ``Nodes``."""
        self._pools.close()


class DiscoveredServer:
    """The primary of a service, asked for when it is not known, is away or turns out to be a replica."""

    among_others = True

    def __init__(self, pools: Pools, discovery: Discovery, named: Address) -> None:
        self._pools = pools
        self._discovery = discovery
        self._last = named
        self._primary: Address | None = None

    def where(self) -> Address:
        """See ``Nodes``."""
        return self._last

    @contextmanager
    def lanes(self) -> Iterator[Lanes]:
        """See ``Nodes``. Whatever goes wrong, the next who comes asks where the primary is."""
        primary = self._primary or self._discovery.primary()  # another thread may forget it in between
        self._primary = primary
        with self._used(Lanes(self._pools, [primary], among_others=True)) as lanes:
            yield lanes

    @contextmanager
    def greeted(self, keys: Keys) -> Iterator[tuple[Lanes, list[Any]]]:
        """See ``Nodes``. Asks once more for the primary, where the one that was told is none, or is away."""
        first = self._primary or self._discovery.primary()
        lanes, values = self._greet(first, keys)
        if lanes is None:
            second = self._discovery.primary(but=first)
            lanes, values = self._greet(second, keys, last=True)
        assert lanes is not None, "the last greeting raises where it fails"
        self._primary = lanes.where
        with self._used(lanes):
            yield lanes, values

    def close(self) -> None:
        """See ``Nodes``."""
        self._pools.close()
        self._discovery.close()

    @contextmanager
    def _used(self, lanes: Lanes) -> Iterator[Lanes]:
        self._last = lanes.where
        try:
            yield lanes
        except BaseException:
            self._primary = None
            raise
        finally:
            lanes.release()

    def _greet(self, address: Address, keys: Keys, *, last: bool = False) -> tuple[Lanes | None, list[Any]]:
        """Lanes, unless that is no primary that answers; then the ``last`` try raises."""
        self._last, self._primary = address, None
        lanes = Lanes(self._pools, [address], among_others=True)
        try:
            greeted = greet(lanes, keys.read_at_checkout(None))
        except DRIVER_ERRORS as fault:
            lanes.release()
            if last or has_answered(fault):
                raise
            return None, []
        except BaseException:
            lanes.release()
            raise
        if lanes.at(address).greeting.role != REPLICA:
            return lanes, greeted.values
        lanes.release()
        if last:
            message = (
                f"Redis store {address}: Redis Sentinel takes it for the primary, and it is a replica; wait a moment"
            )
            raise Unavailable(message, dependency="store")
        return None, []
