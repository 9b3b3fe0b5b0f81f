"""Which members are read before they are written, and that reading changes what is written, never what comes of it."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.stores.dynamodb.changes import Change, Step, change_of, likely_removal
from worker.stores.dynamodb.plan import (
    FEWEST_TO_PROBE,
    FEWEST_TO_READ,
    Found,
    Page,
    PartitionCost,
    ReadingGivenUp,
    find_members,
    is_right,
    pays,
    place_of,
)
from worker.stores.layout import context_hashes

OURS, THEIRS = "ours.g1", "theirs.g1"
ITEMS_IN_A_UNIT = 35


@dataclass
class Item:
    included: set[str] = field(default_factory=set)
    excluded: set[str] = field(default_factory=set)


Table = dict[bytes, Item]


class Reader:
    """An ``ItemReader`` of a table that is a dictionary, with what DynamoDB would charge."""

    def __init__(self, table: Table, *, short_after: int | None = None, chunks: int = 100) -> None:
        self.units = 0.0
        self.asked: list[bytes] = []
        self._table = table
        self._sorted = sorted(table)
        self._requests_left = short_after
        self._chunks = chunks

    def query(self, after: bytes, items: int) -> Page:
        self._count()
        start = bisect_right(self._sorted, after)
        page = self._sorted[start : start + items]
        units = float(max(1, -(-len(page) // ITEMS_IN_A_UNIT)))
        self.units += units
        last = page[-1] if len(page) == items else None
        return Page({name: self._found(name) for name in page}, last, units)

    def get(self, hashes: Sequence[bytes]) -> dict[bytes, Found]:
        self._count()
        assert 0 < len(hashes) <= 100
        told = hashes[: self._chunks]
        self.asked += told
        self.units += len(told)
        return {hashed: self._found(hashed) for hashed in told}

    def _count(self) -> None:
        if self._requests_left is not None:
            if self._requests_left == 0:
                raise ReadingGivenUp
            self._requests_left -= 1

    def _found(self, name: bytes) -> Found:
        item = self._table.get(name)
        if item is None:
            return Found.OUT
        if OURS in item.included:
            return Found.ALONE if len(item.included) == 1 and not item.excluded else Found.IN
        return Found.OUT if item.included or item.excluded else Found.BLANK


def hashes(count: int, name: str = "user") -> list[bytes]:
    return context_hashes(f"{name}-{number}" for number in range(count))


def members(names: list[bytes]) -> Table:
    return {name: Item({OURS}) for name in names}


def read(
    table: Table, add: Sequence[bytes], remove: Sequence[bytes] = (), *, everybody: bool = False, seed: int = 1
) -> tuple[Reader, dict[bytes, bool], int]:
    """Plan a patch; returns the reader, what was wanted, and how many requests to write are left."""
    reader = Reader(table)
    wanted = dict.fromkeys(add, True) | dict.fromkeys(remove, False)
    found = find_members(reader, wanted, everybody=everybody, chance=random.Random(seed))
    left = [change_of(hashed, "included", wanted=want, found=found.get(hashed)) for hashed, want in wanted.items()]
    return reader, wanted, sum(change is not None for change in left)


def write(table: Table, change: Change) -> int:
    """Do what the requests of a change do, step by step; returns their number."""
    hashed, requests = change.hashed.encode(), 0
    while True:
        requests += 1
        item = table.get(hashed)
        if change.step is Step.ADD:
            table.setdefault(hashed, Item()).included.add(OURS)
            return requests
        if change.step is Step.REMOVE_ITEM:
            if item is not None and item.included == {OURS} and not item.excluded:
                del table[hashed]
                return requests
            change.step = Step.REMOVE
        elif change.step is Step.REMOVE:
            if item is None or OURS not in item.included:
                return requests
            item.included.discard(OURS)
            if item.included or item.excluded:
                return requests
            change.step = Step.TIDY
        else:
            if item is not None and not item.included and not item.excluded:
                del table[hashed]
            return requests


ITEMS = st.builds(
    Item, st.sets(st.sampled_from([OURS, THEIRS, "others.g1"])), st.sets(st.sampled_from([THEIRS]), max_size=1)
)
NAMES = hashes(3 * FEWEST_TO_PROBE)


@given(data=st.data())
def test_planning_never_changes_the_outcome(data: st.DataObject) -> None:
    """Whatever is in the table, however reading goes, and wherever it ends for lack of capacity."""
    size = data.draw(st.sampled_from([1, 3, 4, 10, 50, 300, FEWEST_TO_PROBE, 2 * FEWEST_TO_PROBE]))
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    kinds = data.draw(st.lists(st.none() | ITEMS, min_size=1, max_size=4))
    table: Table = {}
    for name in NAMES:
        kind = chance.choice(kinds)
        if kind is not None:
            table[name] = Item(set(kind.included), set(kind.excluded))
    patch = chance.sample(NAMES, size)
    cut = data.draw(st.integers(0, size))
    wanted = dict.fromkeys(patch[:cut], True) | dict.fromkeys(patch[cut:], False)
    expected = {name: (set(item.included), set(item.excluded)) for name, item in table.items()}
    for hashed, want in wanted.items():
        included, _ = expected.setdefault(hashed, (set(), set()))
        included.add(OURS) if want else included.discard(OURS)

    reader = Reader(
        table,
        short_after=data.draw(st.none() | st.integers(0, 5)),
        chunks=data.draw(st.sampled_from([1, 40, 100])),
    )
    found = find_members(reader, wanted, everybody=data.draw(st.booleans()), chance=chance)
    removal = likely_removal(each for hashed, each in found.items() if not wanted[hashed])
    for hashed, want in wanted.items():
        change = change_of(hashed, "included", wanted=want, found=found.get(hashed), removal=removal)
        if change is not None:
            write(table, change)

    assert {name: (item.included, item.excluded) for name, item in table.items() if item != Item()} == {
        name: sets for name, sets in expected.items() if sets != (set(), set())
    }
    # Nobody who was removed leaves an empty item, nor one who was never there.
    assert not [name for name in patch[cut:] if table.get(name) == Item() and name in found]


def test_a_few_members_are_written_straight() -> None:
    names = hashes(FEWEST_TO_READ - 1)
    reader, _, left = read(members(names), names)
    assert (reader.units, left) == (0, len(names))


@pytest.mark.parametrize("size", [4, 25, 100, 999, 1_000, 20_000])
def test_a_patch_that_was_sent_before_costs_no_write(size: int) -> None:
    names = hashes(size)
    reader, _, left = read(members(names), names)
    assert left == 0
    assert reader.units <= size
    assert len(reader.asked) == len(set(reader.asked))  # nobody is asked for twice


@pytest.mark.parametrize(("others", "most_units"), [(0, 0.05), (4_000, 0.1), (100_000, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_a_cohort_that_is_sent_again_is_read_in_the_cheaper_way(others: int, most_units: float, seed: int) -> None:
    names = hashes(2_000)
    reader, _, left = read(members(names) | members(hashes(others, "other")), names, seed=seed)
    assert left == 0
    # A look at the partition comes on top, and a page that showed that Query is the dearer way.
    assert reader.units <= most_units * len(names) + 100


def test_a_partition_that_is_known_to_be_large_is_not_looked_at_again_for_a_while() -> None:
    names, now = hashes(1_000), [0.0]
    table, partition = members(names) | members(hashes(60_000, "other")), PartitionCost(lambda: now[0])
    for wait_s, looks in ((0, True), (50, False), (20, True), (0, False)):
        now[0] += wait_s
        reader, wanted = Reader(table), dict.fromkeys(names, True)
        found = find_members(reader, wanted, everybody=False, chance=random.Random(1), partition=partition)
        assert all(is_right(found[name], wanted=True) for name in names)
        assert (reader.units > len(reader.asked)) == looks


@pytest.mark.parametrize("others", [0, 20_000])
@pytest.mark.parametrize("seed", range(3))
def test_a_first_sync_reads_next_to_nothing(others: int, seed: int) -> None:
    names = hashes(10_000)
    reader, _, left = read(members(hashes(others, "other")), names, seed=seed)
    assert left == len(names)
    assert reader.units <= 30


def test_members_who_left_and_are_sent_again_as_removed_cost_no_write() -> None:
    names = hashes(5_000)
    reader, _, left = read(members(hashes(5_000, "other")), [], names)
    assert left == 0
    assert reader.units <= 0.1 * len(names)


def test_of_a_patch_in_which_few_are_right_the_rest_is_not_asked_for() -> None:
    names = hashes(900)
    reader, _, left = read(members(names[:30]), names)
    assert reader.units <= 25 + 100
    assert left >= len(names) - 30


def test_a_sample_that_was_too_hopeful_is_corrected_on_the_way() -> None:
    names = hashes(900)

    class Lucky(random.Random):
        def sample(self, population: Sequence[bytes], k: int) -> list[bytes]:  # type: ignore[override]
            return list(population[:k])

    reader = Reader(members(names[:25]))
    find_members(reader, dict.fromkeys(names, True), everybody=False, chance=Lucky())
    assert reader.units <= 25 + 200


def test_everybody_is_read_where_it_is_asked_for() -> None:
    names = hashes(500)
    wanted = dict.fromkeys(names, True)
    assert find_members(Reader({}), wanted, everybody=True, chance=random.Random(1)).keys() == wanted.keys()


def test_a_query_that_turns_out_dear_is_left_for_asking_for_each() -> None:
    """The patch's items lie thick where the partition was looked at, and thin elsewhere."""
    everybody = sorted(hashes(100_000))
    names = everybody[:1_000] + everybody[1_000::200]
    random.Random(3).shuffle(names)
    for seed in range(5):
        reader, _, left = read(members(everybody), names, seed=seed)
        assert left == 0
        assert reader.units <= 1.2 * len(names) + 100


def test_where_hashes_lie_in_the_partition_is_told_by_their_text() -> None:
    names = sorted(hashes(10_000))
    places = [place_of(name) for name in names]
    assert places == sorted(places)
    assert all(abs(place - number / 10_000) < 0.03 for number, place in enumerate(places))


@pytest.mark.parametrize(
    ("share", "units", "worth_it"),
    [(0.0, 0.01, False), (0.01, 1.0, False), (0.2, 1.0, False), (0.3, 1.0, True), (0.05, 0.03, True)],
)
def test_reading_pays_when_it_saves_more_than_it_costs(share: float, units: float, worth_it: bool) -> None:
    assert pays(share, units) is worth_it


@pytest.mark.parametrize(
    ("found", "add", "remove"),
    [
        (None, Step.ADD, Step.REMOVE),
        (Found.OUT, Step.ADD, None),
        (Found.BLANK, Step.ADD, Step.TIDY),
        (Found.IN, None, Step.REMOVE),
        (Found.ALONE, None, Step.REMOVE_ITEM),
    ],
)
def test_what_was_read_of_a_member_decides_how_it_is_written(
    found: Found | None, add: Step | None, remove: Step | None
) -> None:
    [hashed] = hashes(1)
    for included, step in ((True, add), (False, remove)):
        change = change_of(hashed, "included", wanted=included, found=found, together=True)
        assert (None if change is None else change.step) == step
        assert change is None or change.together is (found is not None and step is not Step.TIDY)
        assert is_right(found, included) is (step is None or step is Step.TIDY)


def test_somebody_who_was_not_read_is_removed_as_others_are() -> None:
    assert likely_removal([Found.ALONE, Found.ALONE, Found.IN]) is Step.REMOVE_ITEM
    assert likely_removal([Found.ALONE, Found.OUT]) is Step.REMOVE
    assert likely_removal([]) is Step.REMOVE
