"""Folding many batches into one change is the same as applying them one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from worker.model import SegmentPatch
from worker.sync.fold import fold

people = st.text(min_size=1, max_size=2, alphabet="abé😀")
batches = st.lists(st.dictionaries(people, st.booleans(), max_size=6), max_size=8)


def apply(members: set[str], batch: dict[str, bool]) -> set[str]:
    return (members | {key for key, include in batch.items() if include}) - {
        key for key, include in batch.items() if not include
    }


few = st.integers(1, 4)


def write(members: set[str], patches: Iterable[SegmentPatch]) -> set[str]:
    for patch in patches:
        members = (members | set(patch.add)) - set(patch.remove)
    return members


@given(batches, st.sets(people), few, few)
def test_a_fold_changes_membership_as_the_batches_one_by_one_do(
    sent: list[dict[str, bool]], members: set[str], part: int, most: int
) -> None:
    one_by_one = members
    for batch in sent:
        one_by_one = apply(one_by_one, batch)
    assert write(members, fold("s.g1", sent)) == one_by_one
    assert write(members, fold("s.g1", sent, first_names=part, last_names=2 * part, most_names=most)) == one_by_one


@given(batches)
def test_few_names_are_folded_into_one_patch_which_has_each_once(sent: list[dict[str, bool]]) -> None:
    patches = list(fold("s.g1", sent))
    named = set().union(*sent)
    assert len(patches) == bool(named)
    assert sorted(name for patch in patches for name in patch.add + patch.remove) == sorted(named)


@given(batches, few, few)
def test_a_patch_has_each_member_once_and_no_more_than_the_bound_and_one_batch(
    sent: list[dict[str, bool]], part: int, most: int
) -> None:
    for patch in fold("s.g1", sent, first_names=part, last_names=2 * part, most_names=most):
        names = patch.add + patch.remove
        assert len(names) == len(set(names)) <= most - 1 + max(map(len, sent))


@given(batches, st.integers(0, 8), st.sets(people))
def test_folding_in_portions_or_twice_changes_nothing(sent: list[dict[str, bool]], cut: int, members: set[str]) -> None:
    once = write(members, fold("s", sent))
    assert write(write(members, fold("s", sent[:cut])), fold("s", sent[cut:])) == once
    assert write(write(members, fold("s", sent[:cut])), [*fold("s", sent), *fold("s", sent)]) == once


def test_batches_that_name_new_people_come_in_parts_and_those_that_name_the_same_do_not() -> None:
    new = [{f"{batch}-{number}": True for number in range(10)} for batch in range(9)]
    assert [len(patch.add) for patch in fold("s", new, first_names=20, last_names=20)] == [30, 30, 30]
    assert [len(patch.add) for patch in fold("s", new * 2, first_names=1000)] == [90]
    same = [dict.fromkeys(map(str, range(100)), True)] * 50
    assert [len(patch.add) for patch in fold("s", same, first_names=20, last_names=20)] == [100]


def test_a_cohort_that_is_sent_again_page_by_page_is_folded_from_its_second_time_on() -> None:
    pages = [{f"{page}-{number}": True for number in range(10)} for page in range(6)]
    assert [len(patch.add) for patch in fold("s", pages * 20, first_names=10, last_names=10)] == [20, 20, 20, 60]
    first_is_empty = [{}, *pages * 20]
    assert [len(patch.add) for patch in fold("s", first_is_empty, first_names=10, last_names=10)] == [20, 20, 20, 60]


def test_a_cohort_of_more_people_than_a_patch_may_have_is_passed_on_in_parts_of_that_size() -> None:
    pages = [{f"{page}-{number}": True for number in range(10)} for page in range(6)]
    patches = fold("s", pages * 3, first_names=10, last_names=10, most_names=40)
    assert [len(patch.add) for patch in patches] == [20, 20, 20, 40, 40, 40]


def test_a_patch_is_made_when_it_is_asked_for() -> None:
    seen: list[int] = []

    def sent() -> Iterator[dict[str, bool]]:
        for batch in range(9):
            seen.append(batch)
            yield {f"{batch}-{number}": True for number in range(10)}

    patches = fold("s", sent(), first_names=20)
    next(patches)
    assert seen == [0, 1, 2]
