"""Where a Redis Cluster keeps a key: its hash slot, and the nodes that serve the slots.

A member's key is ``{prefix}:big_segment_include:{hash}``, or ``exclude``, in another slot: the CRC of what stands
before the hash is taken once for each list, and continued over each hash. Where the prefix has a hash tag, every key of
the store lies in the tag's slot.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from itertools import count
from typing import Any, Final, NamedTuple

from worker.model import MemberList
from worker.stores.layout import redis_context_key, redis_include_key
from worker.stores.redis.addresses import Address

SLOTS: Final = 16_384
# Nobody serves a slot with this owner.
NOBODY: Final = -1


def slot_of(key: str) -> int:
    """The slot of a key, by its hash tag if it has one."""
    name = key.encode()
    return crc_hqx(_hash_tag(name) or name, 0) % SLOTS


def has_hash_tag(prefix: str) -> bool:
    """Whether all keys of a store with this prefix lie in one slot."""
    return bool(_hash_tag(redis_include_key(prefix, "").encode()))


def slots_under(prefix: str, of: MemberList = "included") -> Callable[[Iterable[bytes]], list[int]]:
    """A function from context hashes to the slots of their keys in a list."""
    key = redis_context_key(prefix, "", of).encode()
    if tag := _hash_tag(key):
        slot = crc_hqx(tag, 0) % SLOTS
        return lambda hashes: [slot for _ in hashes]
    begun = crc_hqx(key, 0)
    return lambda hashes: [crc_hqx(hashed, begun) % SLOTS for hashed in hashes]


@cache
def tags_in(slots: frozenset[int]) -> dict[int, str]:
    """For each of these slots a hash tag that lies in it: the smallest number, the same for ever and everywhere."""
    found: dict[int, str] = {}
    for number in count():
        slot = crc_hqx(b"%d" % number, 0) % SLOTS
        if slot in slots and slot not in found:
            found[slot] = str(number)
            if len(found) == len(slots):
                break
    return found


class SlotMap(NamedTuple):
    """Who serves which slot.

    Attributes:
        primaries: the nodes that serve any.
        owners: for each slot the index of its primary; ``NOBODY`` where it has none.
        replicas: other nodes that can be asked for the map.
    """

    primaries: tuple[Address, ...]
    owners: tuple[int, ...]
    replicas: tuple[Address, ...]

    @property
    def whole(self) -> bool:
        """Whether every slot has an owner."""
        return NOBODY not in self.owners

    def serves_as(self, other: SlotMap | None) -> bool:
        """Whether both say the same of every slot; their replicas do not matter."""
        return self is other or (other is not None and (self.primaries, self.owners) == (other.primaries, other.owners))

    def first_owned(self, slots: Collection[int]) -> dict[Address, int]:
        """The first of these slots that each primary serves; one that serves none of them is left out."""
        firsts: dict[Address, int] = {}
        for slot in slots:
            if self.owners[slot] != NOBODY:
                firsts.setdefault(self.primaries[self.owners[slot]], slot)
        return firsts


def read_slot_map(reply: Sequence[Any], asked: Address) -> SlotMap:
    """The map in a reply to CLUSTER SLOTS; a node whose host is not told is reached where this one was."""
    owned = {}
    replicas: set[Address] = set()
    for first, last, primary, *others in reply:
        owned[first, last] = _address(primary, asked)
        replicas.update(_address(other, asked) for other in others)
    primaries = tuple(sorted(set(owned.values())))
    indices = {primary: index for index, primary in enumerate(primaries)}
    owners = [NOBODY] * SLOTS
    for (first, last), primary in owned.items():
        owners[first : last + 1] = [indices[primary]] * (last + 1 - first)
    return SlotMap(primaries, tuple(owners), tuple(sorted(replicas.difference(primaries))))


class Redirection(NamedTuple):
    """The answer of a node that does not serve a slot, or no longer has that key: certainly nothing was applied.

    Attributes:
        slot: of the key.
        node: who is to be asked instead.
        asking: only for this time, and it must be told so.
    """

    slot: int
    node: Address
    asking: bool


def redirection_of(code: str | None, text: str, asked: Address) -> Redirection | None:
    """What an error reply with this code says, if it is one of those two; ``text`` has the code in front, or not."""
    if code not in ("MOVED", "ASK"):
        return None
    slot, node = text.removeprefix(f"{code} ").split(" ")[:2]
    host, _, port = node.rpartition(":")
    return Redirection(int(slot), Address(_host(host, asked), int(port)), asking=code == "ASK")


def _address(node: Sequence[Any], asked: Address) -> Address:
    host = (node[0] or b"").decode()
    if host == "?" and len(node) > 3:  # noqa: PLR2004 - further names: of a node that has no host name, the address
        further = dict(zip(node[3][::2], node[3][1::2], strict=True))
        host = further.get(b"ip", b"").decode()
    return Address(_host(host, asked), int(node[1]))


def _host(told: str, asked: Address) -> str:
    # "?" is the word of a node that would rather tell a name, and has none to tell.
    return told.strip("[]") if told not in ("", "?") else asked.host


def _hash_tag(key: bytes) -> bytes:
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    return key[start + 1 : end] if end > 0 else b""
