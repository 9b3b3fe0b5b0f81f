"""Folding many batches into one change is the same as applying them one after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.sync.fold import fold

people = st.text(min_size=1, max_size=2, alphabet="abé😀")
batches = st.lists(st.dictionaries(people, st.booleans(), max_size=6), max_size=8)


def apply(members: set[str], batch: dict[str, bool]) -> set[str]:
    return (members | {key for key, include in batch.items() if include}) - {
        key for key, include in batch.items() if not include
    }


@given(batches, st.sets(people))
def test_a_fold_changes_membership_as_the_batches_one_by_one_do(sent: list[dict[str, bool]], members: set[str]) -> None:
    one_by_one = members
    for batch in sent:
        one_by_one = apply(one_by_one, batch)
    patch = fold("s.g1", sent)
    assert (members | set(patch.add)) - set(patch.remove) == one_by_one


@given(batches)
def test_a_fold_names_each_member_once(sent: list[dict[str, bool]]) -> None:
    patch = fold("s.g1", sent)
    assert sorted(patch.add + patch.remove) == sorted(set().union(*sent) if sent else set())


@given(batches, st.integers(0, 8), st.sets(people))
def test_folding_in_portions_or_twice_changes_nothing(sent: list[dict[str, bool]], cut: int, members: set[str]) -> None:
    whole, first, second = fold("s", sent), fold("s", sent[:cut]), fold("s", sent[cut:])

    def write(state: set[str], *patches: object) -> set[str]:
        for patch in patches:
            state = (state | set(patch.add)) - set(patch.remove)  # type: ignore[attr-defined]
        return state

    once = write(members, whole)
    assert write(members, first, second) == once
    assert write(members, first, whole, whole) == once
