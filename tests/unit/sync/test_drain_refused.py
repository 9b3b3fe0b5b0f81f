"""Members whom a store does not take hold nobody up: they are noted apart until the store takes them after all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from made_builders import change_by_hand
from sync_builders import FaultySession, FaultyStore, Installation

from worker.errors import Unavailable
from worker.log.refused_members import Refusal
from worker.log.segments import read_segments
from worker.model import RefusedMember, SegmentPatch, SegmentProfile, WriteCounts
from worker.stores.layout import context_hash
from worker.stores.memory import MemorySession
from worker.stores.segment_store import BeforeWindow, Describe
from worker.sync.drain import Drained, drain
from worker.sync.forget import forget_removed

REASON = "its item is full"


class PickyStore(FaultyStore):
    """Takes all but these, and those in the excluded list.

    ``exact`` as a store that does not tell what it changed; ``profiles`` as it was told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refuses: set[str] = set()
        self.refuses_excluded: set[str] = set()
        self.exact = True
        self.profiles: list[SegmentProfile] = []

    @contextmanager
    def session(self) -> Iterator[MemorySession]:
        with super().session():
            yield PickySession(self)


class PickySession(FaultySession):
    def __init__(self, store: PickyStore) -> None:
        super().__init__(store)
        self._picky = store

    def prepare(self, describe: Describe) -> None:
        self._picky.profiles.append(describe())

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        refused = [key for key in (*patch.add, *patch.remove) if key in self._picky.refuses]
        both = (*patch.add_excluded, *patch.remove_excluded)
        refused_excluded = [key for key in both if key in self._picky.refuses_excluded]
        taken = SegmentPatch(
            patch.segment_ref,
            [key for key in patch.add if key not in refused],
            [key for key in patch.remove if key not in refused],
            [key for key in patch.add_excluded if key not in refused_excluded],
            [key for key in patch.remove_excluded if key not in refused_excluded],
        )
        counts = super().write(taken, before_window)
        told = [RefusedMember(context_hash(key), REASON) for key in refused]
        told += (RefusedMember(context_hash(key), REASON, "excluded") for key in refused_excluded)
        return counts._replace(refused=tuple(told), exact=self._picky.exact)


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client, store_type=PickyStore)


@pytest.fixture
def store(installation: Installation) -> PickyStore:
    found = installation.store
    assert isinstance(found, PickyStore)
    return found


def apply(installation: Installation) -> Drained:
    return drain(installation.wiring, installation.segment(), installation.store_id)


def refused(installation: Installation) -> list[Refusal]:
    return installation.wiring.refused_members.listed(installation.store_id)


def test_a_member_whom_the_store_refuses_holds_nobody_up(installation: Installation, store: PickyStore) -> None:
    store.refuses = {"ann"}
    installation.accept(add=("ann", "bob"))
    done = apply(installation)

    assert (done.outcome, done.added, done.refused) == ("applied", 1, 1)
    assert store.included("bob") == {installation.segment().ref}
    [noted] = refused(installation)
    assert (noted.segment, noted.context_hash, noted.reason) == (installation.segment(), context_hash("ann"), REASON)
    assert apply(installation).outcome == "idle"


def test_what_is_noted_names_no_context_key(installation: Installation, store: PickyStore) -> None:
    store.refuses = {"ann@example.com"}
    installation.accept(add=("ann@example.com",))
    apply(installation)

    kept = installation.client.hgetall(f"segsync:refused:{{{installation.store_id}}}")
    assert context_hash("ann@example.com") in str(kept)
    assert "ann@example" not in str(kept)


def test_a_member_leaves_the_list_when_the_store_takes_it(installation: Installation, store: PickyStore) -> None:
    store.refuses = {"ann", "bob"}
    installation.accept(add=("ann", "bob"))
    apply(installation)
    store.refuses = {"bob"}
    installation.accept(add=("ann", "bob"))
    apply(installation)

    assert [each.context_hash for each in refused(installation)] == [context_hash("bob")]


def test_a_write_that_does_not_get_through_leaves_the_list_as_it_is(
    installation: Installation, store: PickyStore
) -> None:
    store.refuses = {"ann"}
    installation.accept(add=("ann",))
    apply(installation)
    installation.accept(add=("ann", "bob"))
    store.failure = Unavailable("no answer", dependency="store")
    assert apply(installation).outcome == "away"

    assert [each.context_hash for each in refused(installation)] == [context_hash("ann")]


def test_a_write_of_others_leaves_the_list_as_it_is(installation: Installation, store: PickyStore) -> None:
    store.refuses = {"ann"}
    installation.accept(add=("ann",))
    apply(installation)
    installation.accept(add=("bob",))
    apply(installation)
    installation.accept("other", add=("ann",))

    assert len(refused(installation)) == 1


def test_a_write_into_one_list_says_nothing_of_a_refusal_in_the_other(
    installation: Installation, store: PickyStore
) -> None:
    store.refuses_excluded = {"ann"}
    installation.accept(add=("bob",))
    change_by_hand(installation, add_excluded=("ann",))
    apply(installation)
    installation.accept(add=("ann",))
    apply(installation)
    assert [(each.context_hash, each.of) for each in refused(installation)] == [(context_hash("ann"), "excluded")]

    store.refuses, store.refuses_excluded = {"ann"}, set()
    installation.accept(remove=("ann",))
    change_by_hand(installation, remove_excluded=("ann",))
    apply(installation)
    assert [(each.context_hash, each.of) for each in refused(installation)] == [(context_hash("ann"), "included")]


def test_a_store_that_is_forgotten_takes_its_list_along(installation: Installation, store: PickyStore) -> None:
    store.refuses = {"ann"}
    installation.accept(add=("ann",))
    apply(installation)
    installation.client.zadd("segsync:forgotten", {installation.store_id: 1})
    assert forget_removed(installation.wiring) == 1

    assert refused(installation) == []


def test_a_store_is_told_of_the_segment_once_in_each_drain(installation: Installation, store: PickyStore) -> None:
    installation.accept(add=("ann",))
    apply(installation)
    installation.accept(add=("bob",))
    apply(installation)

    first, second = store.profiles
    assert first == SegmentProfile(installation.segment(), "user", "Beta", fresh=True)
    assert second == first._replace(fresh=False)


def test_a_batch_without_members_prepares_its_segment_all_the_same(
    installation: Installation, store: PickyStore
) -> None:
    installation.accept()
    apply(installation)

    assert [profile.segment for profile in store.profiles] == [installation.segment()]


@pytest.mark.parametrize("exact", [True, False])
def test_a_count_is_exact_where_the_store_tells_what_it_changed(
    installation: Installation, store: PickyStore, exact: bool
) -> None:
    store.exact = exact
    installation.accept(add=("ann", "bob"))
    apply(installation)

    [segment] = read_segments(installation.client, installation.environment_id, ["rudderstack-beta"])
    assert (segment.members, segment.members_exact) == (2, exact)
