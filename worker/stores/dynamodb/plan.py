"""Which members a patch need not write, because the table has them already as they should be: found out by reading.

Partners send whole cohorts again, of which nearly everybody is in already. On demand, a write unit costs as much as
five read units, and a consistent read of one item is one unit, so reading first pays where more than a fifth of the
members need no write; read by Query, in hash order, thirty items and more share a unit, and it pays much sooner. What
decides is therefore how many are right already, and how many of the partition's items are the patch's. Both are
estimated: the hashes are uniform, so any stretch of the partition is like all of it.

A read that was taken before the writes of the same patch stays true until they are sent: one drain at a time moves a
segment's members in a store, under its lease, and drains of other segments change other refs. Bytes of a dead
predecessor may still land in between, on a member who was passed over as right: they are covered as they are where
nothing is read, as its open mark outlives its lease, and the rewind after Z folds, reads and writes once more (rule 7).
Only consistent reads are taken (rule 16).

Reading is an economy, never a need: where the table is short of read capacity, who was not read is written.
"""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

# Patches of fewer members are written straight: what a read could save is not worth waiting for it.
FEWEST_TO_READ: Final = 4
# Patches from this size on may be a notable part of the partition: a look at a stretch of it costs two or three units.
FEWEST_TO_PROBE: Final = 1_000
PROBE_ITEMS: Final = 64
# So many members whose state is known tell how it is with the others.
_ENOUGH_KNOWN: Final = 10
_SAMPLE: Final = 25
_WRITE_COSTS_READS: Final = 5
# Reading must save more than it costs, and by a margin: it is also time, and the estimate is one.
_MARGIN: Final = 1.25
# Some 250 kB and 60 units at a time: SDKs read this partition, too.
_PAGE_ITEMS: Final = 2_000
# What one BatchGetItem may ask for, at a unit for each.
BATCH: Final = 100
_UNITS_OF_ONE: Final = 1.0
# What a Query is estimated to cost for each member, below which it is taken: the estimate may be off by a third.
_QUERY_PAYS: Final = 0.7
# How long the partition is taken for as large as it was: a small share of it does not pay for a look each time.
_ESTIMATE_HOLDS_S: Final = 60.0

_ALPHABET: Final = "+/0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # base64's, as DynamoDB sorts
_RANKS: Final = {ord(letter): rank for rank, letter in enumerate(_ALPHABET)}


class Found(Enum):
    """How a context's item stands to one list of a segment."""

    OUT = auto()  # it is not in the list, or there is no item
    BLANK = auto()  # it includes and excludes nothing at all: what removals of older versions have left
    IN = auto()
    ALONE = auto()  # it is in the list, and there is nothing else in it that an SDK reads


class Page(NamedTuple):
    """A stretch of the partition.

    Attributes:
        found: every item of it.
        last: its last sort key; None where the partition ends.
        units: what reading it cost.
    """

    found: dict[bytes, Found]
    last: bytes | None
    units: float


class ReadingGivenUp(Exception):
    """Raised when the table is too short of read capacity for reading to be of use."""


class ItemReader(Protocol):
    """Consistent reads of one list of a segment."""

    def query(self, after: bytes, items: int) -> Page:
        """The next items of the partition behind a sort key. Raises ReadingGivenUp."""

    def get(self, hashes: Sequence[bytes]) -> dict[bytes, Found]:
        """What is found of some, and at least one, of a hundred contexts at most. Raises ReadingGivenUp."""


class PartitionCost:
    """What a Query of the whole partition costs in read units, as it was estimated a while ago; one for each store."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._estimate: tuple[float, float] | None = None

    def note(self, units: float) -> None:
        """It was estimated now."""
        self._estimate = units, self._clock()

    def is_dear(self, members: int) -> bool:
        """Whether it is known to cost more than asking for so many members, one unit each."""
        if self._estimate is None or self._clock() - self._estimate[1] > _ESTIMATE_HOLDS_S:
            return False
        return self._estimate[0] >= _UNITS_OF_ONE * members


def find_members(
    reader: ItemReader,
    wanted: dict[bytes, bool],
    *,
    everybody: bool,
    chance: random.Random,
    partition: PartitionCost | None = None,
) -> dict[bytes, Found]:
    """Read those members of a patch that it pays to read.

    Args:
        reader: reads the table.
        wanted: context hash -> whether it shall be in the list; in the patch's order.
        everybody: read all of them, whether it pays or not.
        chance: picks whom to look at first.
        partition: what was found out of it by earlier patches.

    Returns:
        What is known: of some, of all, or of nobody.
    """
    known = _Known(wanted)
    if len(wanted) >= FEWEST_TO_READ:
        with suppress(ReadingGivenUp):  # the rest is written unread
            _Reading(reader, known, partition or PartitionCost(), everybody=everybody, chance=chance).run()
    return known.found


def is_right(found: Found | None, wanted: bool) -> bool:
    """Whether a member is known to be as it shall be."""
    return found is not None and (found in (Found.IN, Found.ALONE)) is wanted


def place_of(sort_key: bytes) -> float:
    """Where a context hash lies in the partition: 0 is its beginning, 1 its end."""
    place = 0.0
    for number, byte in enumerate(sort_key[:8], start=1):
        place += _RANKS.get(byte, 0) / 64**number
    return place


def pays(share: float, units: float) -> bool:
    """Whether to read members at so many units each, when this share of them is right already."""
    return share * _WRITE_COSTS_READS > units * _MARGIN


class _Known:
    """What was read of the members so far."""

    def __init__(self, wanted: dict[bytes, bool]) -> None:
        self.wanted = wanted
        self.found: dict[bytes, Found] = {}
        self._right = 0

    @property
    def share(self) -> float:
        """How many of those who are known are right already."""
        return self._right / len(self.found) if self.found else 0.0

    def note(self, hashed: bytes, found: Found) -> None:
        """A member was read; the probe's are read once more by a Query that passes over them."""
        wanted = self.wanted[hashed]
        self._right += is_right(found, wanted) - is_right(self.found.get(hashed), wanted)
        self.found[hashed] = found

    def unknown(self) -> list[bytes]:
        """Whom nothing is known of, in the patch's order."""
        return [hashed for hashed in self.wanted if hashed not in self.found]


class _Reading:
    def __init__(
        self, reader: ItemReader, known: _Known, partition: PartitionCost, *, everybody: bool, chance: random.Random
    ) -> None:
        self._reader = reader
        self._known = known
        self._partition = partition
        self._everybody = everybody
        self._chance = chance
        self._sorted: list[bytes] = []

    def run(self) -> None:
        known, members = self._known, len(self._known.wanted)
        worth_a_look = members >= FEWEST_TO_PROBE and not self._partition.is_dear(members)
        query_units = self._probe() if worth_a_look else None
        if len(known.found) < _ENOUGH_KNOWN and not self._everybody:
            self._get(self._chance.sample(known.unknown(), min(_SAMPLE, members // 4)))
        units = _UNITS_OF_ONE if query_units is None else min(_UNITS_OF_ONE, query_units)
        if not self._everybody and not pays(known.share, units):
            return
        if units < _QUERY_PAYS:
            self._query()
        # In the patch's order: neighbours in hash order lie in one physical partition.
        rest = known.unknown()
        for start in range(0, len(rest), BATCH):
            if not self._everybody and not pays(known.share, _UNITS_OF_ONE):
                return  # fewer are right than it seemed
            self._get(rest[start : start + BATCH])

    def _probe(self) -> float:
        """Look at a stretch of the partition that begins at a random member.

        Returns:
            What a Query of all of it would cost, in units for each member.
        """
        self._sorted = sorted(self._known.wanted)
        start = self._chance.randrange(len(self._sorted))
        begin = self._sorted[start]
        page = self._reader.query(begin, PROBE_ITEMS)
        self._learn(page, start + 1)
        stretch = (1.0 if page.last is None else place_of(page.last)) - place_of(begin)
        whole_units = page.units / max(stretch, 1e-9)
        self._partition.note(whole_units)
        return whole_units / len(self._sorted)

    def _learn(self, page: Page, start: int) -> int:
        """Note who of the members, from one on, lies in a page; returns the first one behind it."""
        end = len(self._sorted) if page.last is None else bisect_right(self._sorted, page.last)
        for hashed in self._sorted[start:end]:
            self._known.note(hashed, page.found.get(hashed, Found.OUT))
        return end

    def _query(self) -> None:
        """Read along the partition for as long as it costs less than asking for each."""
        at, units, after = 0, 0.0, self._sorted[0][:-1]
        while at < len(self._sorted):
            page = self._reader.query(after, _PAGE_ITEMS)
            at, units = self._learn(page, at), units + page.units
            if page.last is None or units > _UNITS_OF_ONE * at:
                return
            after = page.last

    def _get(self, hashes: Sequence[bytes]) -> None:
        while hashes:
            found = self._reader.get(hashes)
            for hashed, each in found.items():
                self._known.note(hashed, each)
            hashes = [hashed for hashed in hashes if hashed not in found]
