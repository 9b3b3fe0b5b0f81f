"""The two lists of a segment in every store: each is written, read and removed from without touching the other.

Judged by what LaunchDarkly's Python SDK reads, for which who is in both lists is included.
"""

from __future__ import annotations

import pytest

from contract.store_subjects import READ_BY_SDKS, REF, Subject
from worker.model import SegmentPatch, WriteCounts
from worker.stores.layout import context_hash

OTHER_REF = "vip.g3"
NOTHING = WriteCounts(0, 0)


def hash_of(key: str) -> bytes:
    return context_hash(key).encode()


def remove_excluded(subject: Subject, *keys: str) -> int:
    with subject.store.session() as session:
        return session.remove_hashes(REF, [hash_of(key) for key in keys], lambda: None, "excluded")


def test_an_excluded_member_is_excluded_and_nothing_else(subject: Subject) -> None:
    assert subject.write([], exclude=["ann"]) == WriteCounts(0, 0, added_excluded=1)
    assert subject.membership("ann") == {REF: False}
    assert subject.includes(["ann", "bob"]) == [False, False]
    assert subject.excludes(["ann", "bob"]) == [True, False]
    assert subject.excludes(["ann"], OTHER_REF) == [False]
    assert subject.membership("bob") == {}


def test_who_is_excluded_no_more_leaves_nothing_behind(subject: Subject) -> None:
    subject.write([], exclude=["ann", "bob"])
    assert subject.write([], unexclude=["ann", "never-was"]) == WriteCounts(0, 0, removed_excluded=1)
    assert (subject.membership("ann"), subject.membership("bob")) == ({}, {REF: False})
    assert not subject.leaves_anything("ann")
    assert not subject.leaves_anything("never-was")


def test_one_patch_may_change_both_lists(subject: Subject) -> None:
    subject.write(["ann", "bob"], exclude=["cyd", "dan"])
    counts = subject.write(["eve"], ["ann"], exclude=["fay", "gil"], unexclude=["cyd"])
    assert counts == WriteCounts(1, 1, added_excluded=2, removed_excluded=1)
    assert subject.both_lists() == {
        hash_of("bob"): ({REF}, set()),
        hash_of("eve"): ({REF}, set()),
        hash_of("dan"): (set(), {REF}),
        hash_of("fay"): (set(), {REF}),
        hash_of("gil"): (set(), {REF}),
    }


def test_who_is_in_both_lists_is_included_for_sdks_and_stays_excluded_once_removed(subject: Subject) -> None:
    assert subject.write(["ann"], exclude=["ann"]) == WriteCounts(1, 0, added_excluded=1)
    assert subject.membership("ann") == {REF: True}
    assert (subject.includes(["ann"]), subject.excludes(["ann"])) == ([True], [True])
    assert subject.both_lists() == {hash_of("ann"): ({REF}, {REF})}
    assert subject.write([], ["ann"]) == WriteCounts(0, 1)
    assert subject.membership("ann") == {REF: False}


def test_one_patch_moves_members_from_one_list_to_the_other(subject: Subject) -> None:
    subject.write(["ann", "bob"], exclude=["cyd"])
    counts = subject.write(["cyd"], ["ann"], exclude=["ann"], unexclude=["cyd"])
    assert counts == WriteCounts(1, 1, added_excluded=1, removed_excluded=1)
    assert [subject.membership(key) for key in ("ann", "bob", "cyd")] == [{REF: False}, {REF: True}, {REF: True}]
    assert (subject.includes(["ann", "cyd"]), subject.excludes(["ann", "cyd"])) == ([False, True], [True, False])


def test_the_last_of_both_lists_leaves_nothing_behind(subject: Subject) -> None:
    subject.write(["ann", "bob"], exclude=["ann", "cyd"])
    counts = subject.write([], ["ann", "bob"], unexclude=["ann", "cyd"])
    assert counts == WriteCounts(0, 2, added_excluded=0, removed_excluded=2)
    assert not any(subject.leaves_anything(key) for key in ("ann", "bob", "cyd"))
    assert not subject.store.holds_members()
    assert subject.both_lists() == {}


def test_a_patch_of_both_lists_applied_twice_is_a_patch_applied_once(subject: Subject) -> None:
    subject.write(["ann", "bob"], exclude=["bob", "cyd"])
    for counts in (WriteCounts(1, 1, added_excluded=1, removed_excluded=1), NOTHING):
        assert subject.write(["cyd"], ["ann"], exclude=["ann"], unexclude=["bob"]) == counts
        assert subject.both_lists() == {
            hash_of("ann"): (set(), {REF}),
            hash_of("bob"): ({REF}, set()),
            hash_of("cyd"): ({REF}, {REF}),
        }


def test_counts_of_each_list_tell_what_really_changed_in_it(subject: Subject) -> None:
    subject.write(["ann"], exclude=["bob"])
    counts = subject.write(["ann", "bob"], ["cyd"], exclude=["ann", "bob"], unexclude=["cyd"])
    assert counts == WriteCounts(1, 0, added_excluded=1)


def test_an_exclusion_is_one_segments_alone(subject: Subject) -> None:
    subject.write([], exclude=["ann"])
    subject.write(["ann"], ref=OTHER_REF)
    assert subject.membership("ann") == {REF: False, OTHER_REF: True}
    subject.write([], exclude=["ann"], ref=OTHER_REF)
    assert subject.membership("ann") == {REF: False, OTHER_REF: True}
    assert subject.store.excluded("ann") == {REF, OTHER_REF}
    subject.write([], ["ann"], unexclude=["ann"], ref=OTHER_REF)
    assert subject.membership("ann") == {REF: False}


def test_a_store_holds_members_as_long_as_anybody_is_excluded(subject: Subject) -> None:
    subject.write([], exclude=["ann"])
    assert subject.store.holds_members()
    subject.write([], unexclude=["ann"])
    assert not subject.store.holds_members()


def test_what_is_in_the_included_list_alone_says_nothing_of_the_excluded_one(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    subject.write([], ["ann"])
    assert subject.excludes(["ann", "bob"]) == [False, False]
    assert subject.store.excluded("bob") == set()
    assert subject.both_lists() == {hash_of("bob"): ({REF}, set())}
    if subject.behind is not None:
        assert not [name for name in subject.behind.names(context_hash("bob")) if "exclude" in name]


def test_many_of_both_lists_are_written_told_and_removed(subject: Subject) -> None:
    size = max(subject.window * 2 + 1, 12)
    members = [f"user-{number}" for number in range(size)]
    included, excluded = members[: size * 2 // 3], members[size // 3 :]
    asked: list[None] = []
    with subject.store.session() as session:
        counts = session.write(SegmentPatch(REF, included, [], excluded, []), lambda: asked.append(None))
    assert counts == WriteCounts(len(included), 0, added_excluded=len(excluded))
    assert len(asked) >= 2
    assert subject.includes(members) == [member in set(included) for member in members]
    assert subject.excludes(members) == [member in set(excluded) for member in members]
    assert subject.both_lists() == {
        hash_of(member): ({REF} if member in set(included) else set(), {REF} if member in set(excluded) else set())
        for member in members
    }
    # Whoever was in both stays excluded; whoever was excluded alone is included now.
    counts = subject.write(members[-2:], included, unexclude=members[-2:])
    assert counts == WriteCounts(2, len(included), removed_excluded=2)
    assert {key: refs for key, refs in subject.both_lists().items() if refs[0]} == {
        hash_of(member): ({REF}, set()) for member in members[-2:]
    }
    assert subject.write([], members[-2:], unexclude=excluded) == WriteCounts(0, 2, removed_excluded=len(excluded) - 2)
    assert not subject.store.holds_members()


class StopHere(Exception):
    """What a drain raises when its lease is gone."""


def test_the_caller_can_stop_a_patch_of_both_lists_between_windows(subject: Subject) -> None:
    members = [f"user-{number}" for number in range(subject.window * 2)]
    permitted = iter(range(3))

    def before_window() -> None:
        if next(permitted, None) is None:
            raise StopHere

    with subject.store.session() as session:
        with pytest.raises(StopHere):
            session.write(SegmentPatch(REF, members, [], [f"no-{member}" for member in members], []), before_window)
        assert subject.both_lists()
        # Everything sent was answered: the session is fit for another write, with counts of its own.
        late = SegmentPatch(REF, ["late"], [], ["late"], [])
        assert session.write(late, lambda: None) == WriteCounts(1, 0, added_excluded=1)


def test_strays_are_removed_from_the_excluded_list_alone(subject: Subject) -> None:
    subject.write(["ann"], exclude=["ann", "bob", "cyd"])
    subject.write([], exclude=["bob"], ref=OTHER_REF)
    assert remove_excluded(subject, "ann", "bob", "cyd", "never-was") == 3
    assert subject.both_lists() == {hash_of("ann"): ({REF}, set()), hash_of("bob"): (set(), {OTHER_REF})}
    assert not any(subject.leaves_anything(key) for key in ("cyd", "never-was"))
    assert remove_excluded(subject, "ann", "bob") == 0
    with subject.store.session() as session:
        assert session.remove_hashes(REF, [hash_of("ann")], lambda: None) == 1
    assert not subject.leaves_anything("ann")


def test_dropping_a_segment_leaves_other_segments_and_their_members(subject: Subject) -> None:
    subject.write(["ann"], exclude=["bob"])
    subject.store.drop_segment(OTHER_REF)
    subject.store.drop_segment("never-was.g7")
    assert subject.both_lists() == {hash_of("ann"): ({REF}, set()), hash_of("bob"): (set(), {REF})}


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_another_prefix_excludes_nobody_here(subject: Subject) -> None:
    neighbour = subject.neighbour
    assert neighbour is not None
    subject.write([], exclude=["ann"])
    assert not neighbour.store.holds_members()
    assert neighbour.both_lists() == {}
    assert neighbour.excludes(["ann"]) == [False]
    neighbour.write([], exclude=["bob"])
    assert subject.both_lists() == {hash_of("ann"): (set(), {REF})}


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_a_member_whom_the_store_does_not_exclude_holds_nobody_up_and_is_told_once(subject: Subject) -> None:
    assert subject.behind is not None
    subject.behind.spoil(context_hash("ann"), "excluded")
    subject.behind.spoil(context_hash("bob"), "excluded")
    counts = subject.write(["eve"], exclude=["ann", "eve"], unexclude=["bob"])
    assert (counts.added, counts.removed, counts.added_excluded, counts.removed_excluded) == (1, 0, 1, 0)
    # An emulator may make of a removal from what is no set a removal from nothing.
    assert (
        {context_hash("ann")}
        <= {member.context_hash for member in counts.refused}
        <= set(map(context_hash, ("ann", "bob")))
    )
    assert all(member.reason and member.context_hash not in member.reason for member in counts.refused)
    assert subject.both_lists() == {hash_of("eve"): ({REF}, {REF})}
    subject.behind.clear(context_hash("ann"))
    assert subject.write([], exclude=["ann"]) == WriteCounts(0, 0, added_excluded=1)


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_a_member_refused_in_both_lists_is_told_once_for_each(subject: Subject) -> None:
    assert subject.behind is not None
    subject.behind.spoil(context_hash("ann"), "excluded")
    subject.behind.spoil(context_hash("ann"), "included")
    counts = subject.write(["ann", "eve"], exclude=["ann", "eve"])
    assert counts[:2] == (1, 0)
    assert counts.added_excluded == 1
    told = sorted((member.context_hash, member.of) for member in counts.refused)
    assert told == [(context_hash("ann"), "excluded"), (context_hash("ann"), "included")]
