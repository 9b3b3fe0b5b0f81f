"""Snapshots, in whatever portions they were made, say what folding all batches in order of position says."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.log import merging, snapshot
from worker.log.merging import Imported, merge
from worker.log.names import excluded_name, included_name, is_excluded
from worker.log.position import START, before, ms_of, order
from worker.log.snapshot import Changes, counts, decisions_after, members

# Keys of one length and of several, ASCII and not, some of which begin with others.
people = st.one_of(st.sampled_from(["ann-1", "bob-2", "cyd-3"]), st.text(min_size=1, max_size=2, alphabet="ab\0é😀"))
positions = st.builds("{}-{}".format, st.integers(1, 12), st.integers(0, 2))
Batches = dict[str, dict[str, bool]]
batches = st.dictionaries(positions, st.dictionaries(people, st.booleans(), max_size=6), max_size=10)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "CHUNK_MEMBERS", 3)


def decided(log: Batches, *, upto: str = "99-0") -> dict[str, tuple[bool, str]]:
    """The model: each member as the last batch that names it decides, and which one that was."""
    state: dict[str, tuple[bool, str]] = {}
    for position in sorted(log, key=order):
        if order(position) <= order(upto):
            state.update((key, (include, position)) for key, include in log[position].items())
    return state


def changes(log: Batches, chosen: Iterable[str]) -> Changes:
    found = Changes()
    for position in chosen:
        found.add(position, log[position])
    return found


def built(log: Batches, passes: list[list[str]], floor: str = START) -> list[bytes]:
    chunks: list[bytes] = []
    for chosen in passes:
        chunks = list(merge(chunks, changes(log, chosen), floor))
    return chunks


def write(store: set[str], chunks: list[bytes], position: str, beside: Changes = snapshot.NO_CHANGES) -> set[str]:
    """What a drain from that position makes of a store."""
    store = set(store)
    told: set[str] = set()
    for number, chunk in enumerate(chunks, 1):
        add, remove = decisions_after(chunk, position, beside, final=number == len(chunks))
        assert len({*add, *remove}) == len(add) + len(remove)
        assert told.isdisjoint((*add, *remove)), "each member belongs to one chunk"
        told.update(add, remove)
        store = (store | {*add}) - {*remove}
    return store


def present(state: dict[str, tuple[bool, str]]) -> set[str]:
    return {key for key, (include, _) in state.items() if include}


@given(batches, st.data())
def test_in_whatever_order_and_portions_batches_are_merged_the_latest_decides(
    log: Batches, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(list(log)))
    cut = data.draw(st.integers(0, len(log)))
    chunks = built(log, [shuffled[:cut], shuffled[cut:]])
    state = decided(log)
    assert [key for chunk in chunks for key in members(chunk)[0]] == sorted(present(state))
    there = [counts(chunk) for chunk in chunks]
    assert sum(each.included for each in there) == len(present(state))
    assert sum(each.removed for each in there) == len(state) - len(present(state))


@given(batches, positions)
def test_a_store_at_any_position_gets_what_was_decided_after_it_and_nothing_else(log: Batches, position: str) -> None:
    chunks = built(log, [list(log)])
    assert write(present(decided(log, upto=position)), chunks, position) == present(decided(log))
    told = [key for chunk in chunks for half in decisions_after(chunk, position) for key in half]
    assert sorted(told) == sorted(key for key, (_, at) in decided(log).items() if order(at) > order(position))


@given(batches, st.sets(positions, max_size=4), positions)
def test_batches_beside_a_snapshot_lose_to_later_decisions_and_win_over_earlier_ones(
    log: Batches, beside: set[str], position: str
) -> None:
    replayed = [at for at in log if at in beside]
    chunks = built(log, [[at for at in log if at not in beside]])
    assert write(set(), chunks, START, changes(log, replayed)) == present(decided(log))
    assert write(present(decided(log, upto=position)), chunks, position, changes(log, replayed)) == present(
        decided(log)
    )


@given(batches, st.integers(0, 13), st.lists(st.booleans(), min_size=10, max_size=10), positions)
def test_a_floor_forgets_who_was_out_below_it_and_nothing_that_a_batch_above_it_could_ask(
    log: Batches, floor_ms: int, early: list[bool], position: str
) -> None:
    """Batches below the floor are merged before it moves there; those at it or above it may come at any time."""
    floor = f"{floor_ms}-0"
    first = [at for at, chosen in zip(log, early, strict=False) if chosen or ms_of(at) < floor_ms]
    chunks = built(log, [first, []], floor)
    state = decided({at: log[at] for at in first})
    known = sum(sum(counts(chunk)) for chunk in chunks)
    assert known == sum(include or ms_of(at) >= floor_ms for include, at in state.values())
    late = [at for at in log if at not in first]
    assert write(set(), chunks, START, changes(log, late)) == present(decided(log))
    chunks = list(merge(chunks, changes(log, late), floor))
    assert {key for chunk in chunks for key in members(chunk)[0]} == present(decided(log))
    if ms_of(position) >= floor_ms:
        assert write(present(decided(log, upto=position)), chunks, position) == present(decided(log))


@given(batches, positions)
def test_below_the_floor_everyone_is_told_of(log: Batches, position: str) -> None:
    chunks = built(log, [list(log), []], "9-0")
    everyone = {key for chunk in chunks for key in members(chunk)[0]}
    told = {key for chunk in chunks for key in decisions_after(chunk, position)[0]}
    assert (ms_of(position) >= 9 or told == everyone) and told <= everyone  # noqa: PT018


@given(batches, st.data())
def test_merging_a_batch_again_changes_nothing(log: Batches, data: st.DataObject) -> None:
    chunks = built(log, [list(log)])
    again = data.draw(st.lists(st.sampled_from(sorted(log)), max_size=3)) if log else []
    assert list(merge(chunks, changes(log, again), START)) == chunks


# Names of both lists, and imports: who is in one, and whether everybody else is out.
names = st.one_of(people.map(included_name), people.map(excluded_name), st.just(included_name("\ufdd0x")))
named = st.dictionaries(positions, st.dictionaries(names, st.booleans(), max_size=6), max_size=8)
imports = st.dictionaries(
    st.builds("{}-9".format, st.integers(1, 12)), st.tuples(st.sets(people, max_size=8), st.booleans()), max_size=3
)
Imports = dict[str, tuple[set[str], bool]]


def after_imports(log: Batches, imported: Imports, *, upto: str = "99-0") -> set[str]:
    """The model: one thing after the other."""
    there: set[str] = set()
    for position in sorted([*log, *imported], key=order):
        if order(position) > order(upto):
            break
        if position in imported:
            keys, replaces = imported[position]
            there = {name for name in there if not replaces or is_excluded(name)} | set(map(included_name, keys))
        else:
            for name, include in log[position].items():
                (there.add if include else there.discard)(name)
    return there


def with_imports(log: Batches, imported: Imports, floor: str = START) -> list[bytes]:
    """What is merged at each import, and what is after the last."""
    chunks: list[bytes] = []
    waiting: Batches = {}
    for position in sorted([*log, *imported], key=order):
        if position not in imported:
            waiting[position] = log[position]
            continue
        keys, replaces = imported[position]
        ordered = sorted(map(included_name, keys))
        portions = iter([ordered[start : start + 2] for start in range(0, len(ordered), 2)])
        came = Imported(position, portions, ("included",) if replaces else ())
        chunks = list(merge(chunks, changes(waiting, waiting), START, came))
        waiting = {}
    return list(merge(chunks, changes(waiting, waiting), floor))


@given(named, imports, st.sets(positions, max_size=4), positions)
def test_imports_decide_at_their_place_whatever_is_replayed_around_them(
    log: Batches, imported: Imports, beside: set[str], position: str
) -> None:
    replayed = [at for at in log if at in beside]
    chunks = with_imports({at: said for at, said in log.items() if at not in beside}, imported)
    expected, late = after_imports(log, imported), changes(log, replayed)
    assert write(set(), chunks, START, late) == expected
    assert write(after_imports(log, imported, upto=position), chunks, position, late) == expected
    again = list(merge(chunks, late, START))
    assert write(set(), again, START) == expected
    everybody = [counts(chunk) for chunk in again]
    excluded = sum(map(is_excluded, expected))
    assert (sum(c.included for c in everybody), sum(c.excluded for c in everybody)) == (
        len(expected) - excluded,
        excluded,
    )


@given(named, imports, st.integers(0, 13), positions)
def test_a_floor_forgets_no_replace_that_a_batch_above_it_could_ask_about(
    log: Batches, imported: Imports, floor_ms: int, position: str
) -> None:
    floor = f"{floor_ms}-0"
    late = {at: said for at, said in log.items() if ms_of(at) >= floor_ms and ms_of(at) % 2}
    chunks = with_imports({at: said for at, said in log.items() if at not in late}, imported, floor)
    expected = after_imports(log, imported)
    assert write(set(), chunks, START, changes(log, late)) == expected
    if ms_of(position) >= floor_ms:
        assert write(after_imports(log, imported, upto=position), chunks, position, changes(log, late)) == expected


def test_a_snapshot_has_a_chunk_even_when_nobody_is_in_it() -> None:
    [chunk] = merge([], Changes(), START)
    assert (members(chunk), counts(chunk)) == (([], []), (0, 0, 0))
    beside = Changes()
    beside.add("5-0", {"ann": True})
    assert decisions_after(chunk, START, beside) == (["ann"], [])


def test_a_chunk_of_a_newer_format_is_refused() -> None:
    [chunk] = merge([], Changes(), START)
    with pytest.raises(ValueError, match="newer"):
        members(b"\x03" + chunk[1:])


@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_nothing_lies_between_a_position_and_the_one_before_it(ms: int, sequence: int, other: int, more: int) -> None:
    position, another = f"{ms}-{sequence}", f"{other}-{more}"
    assert order(before(position)) < order(position)
    assert not order(before(position)) < order(another) < order(position)


def test_nothing_comes_before_the_start() -> None:
    assert before(START) == START
