"""A segment's snapshot: who was decided how, up to a position, in compressed chunks (rules 18 and 19). Pure.

A chunk holds the decisions about up to 20,000 members, sorted by context key; the chunks of a snapshot follow one
another, and together cover every key there can be. A decision is (in or out, the position of the batch that decided
it). Decisions below the snapshot's floor forget their position, and who was out below it is forgotten whole: no batch
below the floor can come back, so nobody asks. There is always one chunk at least.

Members of both of the segment's lists are in it, by their names (names.py). A snapshot into which a replace was folded
remembers where that was, its ``reset``: whatever an earlier batch says of the included list is over, also of those whom
no chunk names any more, until the floor passes it (rule 20).

How a chunk is kept: chunk.py. How a snapshot follows from an older one: merging.py.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from worker.log.chunk import Chunk, Decision, read_chunk
from worker.log.names import excluded_range, is_excluded, split_sorted
from worker.log.position import order

_BELOW_FLOOR = (-1, -1)


class Changes:
    """What some batches decide, in whatever order they come: each member as the latest of them has it."""

    def __init__(self) -> None:
        self._net: dict[str, Decision] = {}
        self._sorted: list[str] | None = []
        self._latest = _BELOW_FLOOR

    def __len__(self) -> int:
        return len(self._net)

    def add(self, position: str, members: Mapping[str, bool]) -> None:
        """Take in one batch: context key -> True (add) or False (remove)."""
        here = order(position)
        decisions: dict[bool, Decision] = {True: (True, position), False: (False, position)}
        if here >= self._latest:  # in order, as logs are read
            self._latest = here
            self._net.update((key, decisions[include]) for key, include in members.items())
        else:
            for key, include in members.items():
                known = self._net.get(key)
                if known is None or order(known[1]) <= here:
                    self._net[key] = decisions[include]
        self._sorted = None

    def within(self, above: str, upto: str | None) -> Iterator[tuple[str, Decision]]:
        """Those with ``above < key <= upto``, sorted; without ``upto``, to the end."""
        if self._sorted is None:
            self._sorted = sorted(self._net)
        keys, net = self._sorted, self._net
        end = len(keys) if upto is None else bisect_right(keys, upto)
        return ((keys[i], net[keys[i]]) for i in range(bisect_right(keys, above), end))


NO_CHANGES = Changes()


def decisions_after(
    chunk: bytes, position: str, beside: Changes = NO_CHANGES, *, final: bool = True
) -> tuple[list[str], list[str]]:
    """Whom to add and whom to remove in a store that has applied everything up to a position: sorted names.

    Below the chunk's floor, that is everyone whom it knows; a store that is not empty then needs those removed whom no
    chunk names, too.

    Args:
        chunk: one of the snapshot's.
        position: of the store's cursor.
        beside: what batches beside the snapshot decide, all of them; the members in this chunk's reach are answered.
        final: whether it is the snapshot's last chunk; it reaches to the last key there is.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    held = read_chunk(chunk)
    from_ = order(position)
    everyone = from_ < order(held.floor)

    @cache
    def wanted(decision: Decision) -> bool:
        return everyone or order_of(decision[1]) > from_

    add: list[str] = []
    remove: list[str] = []
    for key, decision in _of_chunk(held, beside, final=final):
        if wanted(decision):
            (add if decision[0] else remove).append(key)
    return add, remove


def unpack_chunk(chunk: bytes) -> Iterator[tuple[str, bool, str]]:
    """Everyone whom it knows, sorted: context key, in or out, and the position that decided so ("": below the floor).

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    held = read_chunk(chunk)
    return ((key, include, position) for key, (include, position) in zip(held.keys, held.decisions, strict=True))


def decisions(chunk: bytes, beside: Changes = NO_CHANGES, *, final: bool = True) -> Iterable[tuple[str, Decision]]:
    """Every decision in a chunk's reach, sorted by context key; of two about a member, the later.

    Args:
        chunk: one of the snapshot's.
        beside: what batches beside the snapshot, or after it, decide.
        final: whether it is the snapshot's last chunk; it reaches to the last key there is.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    return _of_chunk(read_chunk(chunk), beside, final=final)


def reset_of(chunk: bytes) -> str:
    """Where a replace was folded into this chunk's snapshot; "" when none was, or no earlier batch can come any more.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    return read_chunk(chunk).reset


def members(chunk: bytes) -> tuple[list[str], list[str]]:
    """The context keys in it that the segment includes, and those that it excludes.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    held = read_chunk(chunk)
    return split_sorted([key for key, decision in zip(held.keys, held.decisions, strict=True) if decision[0]])


class Counts(NamedTuple):
    """How many members are included, and how many excluded; how many left one of the lists, and are remembered."""

    included: int
    excluded: int
    removed: int


def counts(chunk: bytes) -> Counts:
    """How many are in the chunk.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    held = read_chunk(chunk)
    first, beyond = excluded_range(held.keys)
    there = sum(decision[0] for decision in held.decisions)
    excluded = sum(decision[0] for decision in held.decisions[first:beyond])
    return Counts(there - excluded, excluded, len(held.decisions) - there)


@lru_cache(maxsize=1 << 16)
def order_of(position: str) -> tuple[int, int]:
    """A decision's position as it is compared: below the floor there is no order."""
    return order(position) if position else _BELOW_FLOOR


def _end(held: Chunk, *, final: bool) -> str | None:
    """The last key in a chunk's reach; None when it reaches to the last there is."""
    if final:
        return None
    return held.keys[-1] if held.keys else held.above


def _of_chunk(held: Chunk, beside: Changes, *, final: bool) -> Iterable[tuple[str, Decision]]:
    """A chunk's decisions and those beside it that are in its reach, sorted."""
    changes = beside.within(held.above, _end(held, final=final))
    merged = overlaid(held.keys, held.decisions, changes, held.reset)
    return merged.items() if len(merged) == len(held.keys) else in_order(merged)


def overlaid(
    keys: Sequence[str], decisions: Sequence[Decision], changes: Iterator[tuple[str, Decision]], reset: str
) -> dict[str, Decision]:
    """Decisions and changes; of two about a member, the later. What came before the reset is out (rule 20)."""
    merged = dict(zip(keys, decisions, strict=True))
    over = order_of(reset)
    for key, decision in changes:
        known = merged.get(key)
        here = order_of(decision[1])
        if here < over and not is_excluded(key):
            if known is None or order_of(known[1]) < over:
                merged[key] = (False, reset)
        elif known is None or order_of(known[1]) <= here:
            merged[key] = decision
    return merged


def in_order(merged: Mapping[str, Decision]) -> Iterator[tuple[str, Decision]]:
    """Decisions, sorted by name."""
    return ((key, merged[key]) for key in sorted(merged))
