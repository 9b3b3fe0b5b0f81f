"""Connections to the nodes of a Redis store, one to each: a lane. A store on one server has one lane.

A key goes down the lane of the node that serves its slot. MOVED and ASK say that a node has certainly not done what it
was asked, and who is to be asked instead: such a command may be sent again where it belongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import redis
from redis.exceptions import ResponseError

from worker.errors import Unavailable
from worker.model import MemberList
from worker.stores.layout import MEMBER_LISTS
from worker.stores.redis.addresses import Address, Pools
from worker.stores.redis.faults import code_of, has_answered
from worker.stores.redis.link import Command, Greeting, ask_all, read_all, send_all
from worker.stores.redis.slots import NOBODY, SlotMap, redirection_of, slot_of, slots_under

# A key that was sent so often to where it was said to be has not come to rest.
MOST_REDIRECTIONS: Final = 5


class Lane:
    """A connection to one node, from which nobody else reads meanwhile."""

    def __init__(self, address: Address, link: redis.Connection) -> None:
        self.address = address
        self.link = link
        self.greeting = Greeting(None, "", "")


class Lanes:
    """Connections of one use of a store: opened when they are needed, given back at the end by ``release``.

    Attributes:
        where: the node spoken to last: an error that is raised is its.
        unknown: nodes that others pointed to while the lanes were fixed.
        moved: some node no longer serves what the map says.
        slots: the map; None where a server has all keys.
        has_asked: something was sent.
    """

    def __init__(
        self,
        pools: Pools,
        addresses: Sequence[Address],
        slots: SlotMap | None = None,
        prefix: str = "",
        *,
        among_others: bool = False,
    ) -> None:
        """Lanes to one address without a map, where every key goes; or to all that a map names, and perhaps others.

        ``among_others``: another node may take over from any of them.
        """
        self.among_others = among_others
        self._serving = len(slots.primaries) if slots else 1
        self._pools = pools
        self._addresses = list(addresses)
        self._open: dict[Address, Lane] = {}
        self._fixed = False
        self._owners: tuple[int, ...] | list[int] | None = slots.owners if slots else None
        self._slots_of = {of: slots_under(prefix, of) for of in MEMBER_LISTS} if slots else None
        self.where = self._addresses[0]
        self.slots = slots
        self.has_asked = False
        self.unknown: set[Address] = set()
        self.moved = False

    @property
    def addresses(self) -> Sequence[Address]:
        """Every node that serves keys, or is about to."""
        return tuple(self._addresses)

    @property
    def spread(self) -> bool:
        """Whether this is a cluster, whose nodes have slots."""
        return self._owners is not None

    def all(self) -> list[Lane]:
        """A lane to every node that serves slots, or is about to."""
        return [self.at(address) for address in self._addresses]

    def serving(self) -> list[Lane]:
        """A lane to every node that serves slots."""
        return self.all()[: self._serving]

    def at(self, address: Address) -> Lane:
        """The lane to a node, opened now unless it is.

        Raises:
            Unavailable: the lanes are fixed, and this is none of them.
        """
        self.where = address
        if lane := self._open.get(address):
            return lane
        if self._fixed:
            self.unknown.add(address)
            message = f"Redis store {address}: it took over keys in this moment; the next try reaches it"
            raise Unavailable(message, dependency="store")
        lane = self._open[address] = Lane(address, self._pools.take(address))
        return lane

    def of(self, key: str) -> Lane:
        """The lane of a key.

        Raises:
            Unavailable: no node serves its slot.
        """
        if self._owners is None:
            return self.at(self._addresses[0])
        return self.at(self._addresses[self._owner(slot_of(key))])

    def split(self, hashes: Sequence[bytes], of: MemberList = "included") -> Iterable[tuple[Lane, Sequence[bytes]]]:
        """Context hashes by the lanes of their keys in a list, each in its order."""
        if self._owners is None or self._slots_of is None:
            return [(self.at(self._addresses[0]), hashes)] if hashes else []
        parts: dict[int, list[bytes]] = {}
        owners = self._owners
        for hashed, slot in zip(hashes, self._slots_of[of](hashes), strict=True):
            if (owner := owners[slot]) in parts:
                parts[owner].append(hashed)
            else:
                parts[self._owner(slot)] = [hashed]
        return [(self.at(self._addresses[owner]), part) for owner, part in parts.items()]

    def fix(self) -> None:
        """Open no more: who writes must be known beforehand."""
        self._fixed = True

    def redirection(self, lane: Lane, fault: BaseException) -> tuple[Lane, bool] | None:
        """Where an error reply points, and whether ASKING must go in front; None when it points nowhere.

        A slot that has moved is looked for there from now on.

        Raises:
            Unavailable: it points to a node that there is no lane to.
        """
        told = redirection_of(code_of(fault), str(fault), lane.address) if self._owners is not None else None
        if told is None:
            return None
        target = self.at(told.node)
        if not told.asking and self._owners is not None:
            self.moved = True
            if told.node not in self._addresses:
                self._addresses.append(told.node)
            if isinstance(self._owners, tuple):  # everybody's, until it changes
                self._owners = list(self._owners)
            self._owners[told.slot] = self._addresses.index(told.node)
        return target, told.asking

    def ask(self, key: str, *command: str | int | bytes) -> Any:
        """One command on a key, wherever it is; one reply.

        Raises:
            ResponseError: the reply, when it is an error that points to no other node.
            Unavailable: the key comes to no rest.
        """
        [reply] = self.ask_each([(key, command)])
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def ask_each(self, commands: Sequence[tuple[str, Command]]) -> list[Any]:
        """Commands on a key each, in one sweep over the nodes: to each its reply, or the error that answers it."""
        replies: list[Any] = [None] * len(commands)
        waiting = [(number, self.of(key), False) for number, (key, _) in enumerate(commands)]
        for _ in range(MOST_REDIRECTIONS):
            by_lane: dict[Lane, list[tuple[int, bool]]] = {}
            for number, lane, asking in waiting:
                by_lane.setdefault(lane, []).append((number, asking))
            told = self.sweep(
                {
                    lane: [*chain.from_iterable(_asked(commands[number][1], asking) for number, asking in numbers)]
                    for lane, numbers in by_lane.items()
                }
            )
            waiting = []
            for lane, numbers in by_lane.items():
                answers = iter(told[lane])
                for number, asking in numbers:
                    if asking:
                        next(answers)
                    replies[number] = reply = next(answers)
                    if isinstance(reply, ResponseError) and (target := self.redirection(lane, reply)):
                        waiting.append((number, *target))
            if not waiting:
                return replies
        raise self.restless()

    def sweep(self, commands: Mapping[Lane, Sequence[Command]], *, replace_dead: bool = False) -> dict[Lane, list[Any]]:
        """Send to all, then read from all; error replies are given, not raised.

        Args:
            commands: what each lane is asked.
            replace_dead: open a lane anew, once, that was idle and turns out to be closed: nothing here writes. One
                that only does not answer is not tried twice: a store that hangs must not cost twice the time.

        Raises:
            redis.RedisError: a node is away; every lane is closed.
        """
        replies: dict[Lane, list[Any]] = {}
        self.has_asked = True
        try:
            sent = [lane for lane, asked in commands.items() if self._sent(lane, asked, replace_dead)]
            for lane in sent:
                self.where = lane.address
                try:
                    replies[lane] = read_all(lane.link, len(commands[lane]))
                except redis.ConnectionError as fault:
                    if not replace_dead or has_answered(fault):
                        raise
            for lane in commands.keys() - replies.keys():
                self.where = lane.address
                lane.link.disconnect()
                lane.link.connect()
                replies[lane] = ask_all(lane.link, *commands[lane])
        except BaseException:
            self.disconnect()
            raise
        return replies

    def restless(self) -> Unavailable:
        """What to raise when keys are sent from node to node."""
        self.moved = True
        return Unavailable(
            f"Redis store {self.where}: its cluster is moving keys, and points from node to node; wait for that",
            dependency="store",
        )

    def disconnect(self) -> None:
        """Close every lane: replies may be outstanding."""
        for lane in self._open.values():
            lane.link.disconnect()

    def release(self) -> None:
        """Give every connection back; idempotent."""
        while self._open:
            address, lane = self._open.popitem()
            self._pools.give_back(address, lane.link)

    def _sent(self, lane: Lane, commands: Sequence[Command], replace_dead: bool) -> bool:
        self.where = lane.address
        try:
            send_all(lane.link, commands)
        except redis.ConnectionError as fault:
            if not replace_dead or has_answered(fault):
                raise
            return False
        return True

    def _owner(self, slot: int) -> int:
        assert self._owners is not None, "only a cluster has slots"
        if self._owners[slot] == NOBODY:
            raise Unavailable(
                f"Redis store {self.where}: no node of its cluster serves slot {slot}; see CLUSTER INFO",
                dependency="store",
            )
        return self._owners[slot]


def _asked(command: Command, asking: bool) -> list[Command]:
    return [("ASKING",), command] if asking else [command]
