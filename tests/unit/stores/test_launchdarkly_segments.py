"""Segments in LaunchDarkly: created, adopted, replaced, and found to have lost their members."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from launchdarkly_server import LaunchDarklyServer

from worker.errors import Unavailable
from worker.model import SegmentId, SegmentPatch, SegmentProfile, WriteCounts
from worker.stores.launchdarkly import LaunchDarklyStore
from worker.stores.launchdarkly.preparation import KNOWN_S

SENTINEL = "segsync-sentinel"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[LaunchDarklyServer]:
    with LaunchDarklyServer() as server:
        yield server


@pytest.fixture
def store(server: LaunchDarklyServer, clock: Clock) -> Iterator[LaunchDarklyStore]:
    store = LaunchDarklyStore(server.configuration(), answer_timeout_s=10, clock=clock)
    store.claim("ours", 1)
    yield store
    store.close()


def write(
    store: LaunchDarklyStore,
    *add: str,
    fresh: bool = False,
    key: str = "beta",
    generation: int = 1,
    kind: str = "user",
    name: str = "Beta users",
) -> WriteCounts:
    """What a drain does: prepare, then write."""
    segment = SegmentId("env", key, generation)
    with store.session() as session:
        session.prepare(lambda: SegmentProfile(segment, kind, name, fresh))
        return session.write(SegmentPatch(segment.ref, list(add), []), lambda: None)


def test_a_segment_that_is_missing_is_created_as_a_big_one(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "ann", fresh=True, generation=3, kind="device")
    made = server.segments["beta"]
    assert (made.name, made.unbounded, made.context_kind) == ("Beta users", True, "device")
    assert made.tags == ["segsync", "segsync-g3"]
    assert "segsync" in made.description
    assert made.included == {"ann"}


def test_a_segment_without_a_name_is_named_by_its_key(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    write(store, "ann", fresh=True, name="")
    assert server.segments["beta"].name == "beta"


def test_a_very_long_name_is_cut(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    write(store, "ann", fresh=True, name="n" * 1_000)
    assert server.segments["beta"].name == "n" * 256


def test_a_segment_that_somebody_made_a_moment_ago_is_taken_as_it_is(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    server.answer_next(404, method="GET", matching="/beta")
    server.put("beta", tags=["segsync", "segsync-g1"], included={"bob"})
    write(store, "ann", fresh=True)
    assert server.members("beta") == {"ann", "bob"}


@pytest.mark.parametrize("status", [400, 409])
def test_however_launchdarkly_says_that_the_key_is_taken(
    store: LaunchDarklyStore, server: LaunchDarklyServer, status: int
) -> None:
    server.answer_next(404, method="GET", matching="/beta")
    server.answer_next(status, method="POST", applied=True)
    write(store, "ann", fresh=True)
    assert server.members("beta") == {"ann"}


def test_a_creation_that_is_refused_is_no_loss(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    server.answer_next(400, method="POST")
    with pytest.raises(Unavailable, match=r"it answered 400 \(invalid_request\): .*big segments are part of") as raised:
        write(store, "ann", fresh=True)
    assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False)
    assert store.sentinel() is not None


def test_a_segment_of_ours_is_filled_anew_without_being_replaced(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "ann", fresh=True)
    made = server.segments["beta"]
    write(store, "bob", fresh=True)
    assert server.segments["beta"] is made
    assert server.members("beta") == {"ann", "bob"}


def test_a_segment_that_others_made_is_adopted_and_nothing_is_added_to_it(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    theirs = server.put("beta", tags=["terraform"], description="by hand", included={"zoe"})
    write(store, "ann", fresh=True)
    write(store, "bob")
    assert (theirs.tags, theirs.description) == (["terraform"], "by hand")
    assert server.members("beta") == {"ann", "bob", "zoe"}
    assert store.includes_keys("beta.g1", ["ann", "cyd"]) == [True, False]
    assert store.included("ann") == set(), "nobody can tell of which generation it is"


@pytest.mark.parametrize("fresh", [True, False])
def test_one_that_is_no_big_segment_is_left_alone(
    store: LaunchDarklyStore, server: LaunchDarklyServer, fresh: bool
) -> None:
    server.put("beta", unbounded=False)
    with pytest.raises(Unavailable, match="segment beta is no big segment") as raised:
        write(store, "ann", fresh=fresh)
    assert (raised.value.fault, raised.value.fate_unknown) == ("item", False)


def test_one_of_another_context_kind_is_left_alone(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    server.put("beta", context_kind="device")
    with pytest.raises(Unavailable, match=r"segment beta is of context kind device, .* of user") as raised:
        write(store, "ann", fresh=True)
    assert raised.value.fault == "item"
    assert server.members("beta") == set()


def test_one_of_an_earlier_generation_is_replaced_with_its_members(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "ann", fresh=True, generation=1)
    write(store, "bob", fresh=True, generation=2)
    assert server.members("beta") == {"bob"}
    assert server.segments["beta"].tags == ["segsync", "segsync-g2"]
    assert store.included("bob") == {"beta.g2"}
    assert store.includes_keys("beta.g1", ["ann", "bob"]) == [False, False]


def test_one_of_an_earlier_generation_that_is_in_use_is_for_a_person_to_see_to(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "ann", fresh=True)
    server.answer_next(409, method="DELETE")
    with pytest.raises(Unavailable, match="segment beta is in the way, and cannot be deleted") as raised:
        write(store, "bob", fresh=True, generation=2)
    assert raised.value.fault == "item"


def test_an_old_generations_drain_writes_nothing_any_more(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    write(store, "bob", fresh=True, generation=2)
    assert write(store, "ann", generation=1) == WriteCounts(0, 0)
    assert server.members("beta") == {"bob"}
    assert store.sentinel() is not None


def test_generations_that_count_from_the_beginning_again_are_for_a_person_to_see_to(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "bob", fresh=True, generation=2)
    with pytest.raises(Unavailable, match="segment beta is of generation 2 there, and of 1 here") as raised:
        write(store, "ann", fresh=True, generation=1)
    assert (raised.value.fault, raised.value.fate_unknown) == ("item", False)
    assert server.members("beta") == {"bob"}


def test_a_segment_that_was_deleted_behind_our_back_takes_the_sentinel_with_it(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "ann", fresh=True)
    server.delete("beta")
    with pytest.raises(Unavailable, match="segment beta was deleted or replaced there") as raised:
        write(store, "bob")
    assert (raised.value.fault, raised.value.fate_unknown) == ("transient", False)
    assert SENTINEL not in server.segments
    with store.session() as session:
        assert session.sentinel is None


def test_so_it_does_when_the_process_has_not_seen_it_before(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    with pytest.raises(Unavailable, match="segment beta was deleted"):
        write(store, "bob")
    assert store.sentinel() is None
    assert "beta" not in server.segments, "who finds it missing does not create it without its members"


def test_a_sentinel_that_came_in_its_place_meanwhile_stays(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    with store.session() as session:
        store.replace_sentinel("next", 2)
        with pytest.raises(Unavailable, match="segment beta was deleted"):
            session.prepare(lambda: SegmentProfile(SegmentId("env", "beta", 1), "user", "", fresh=False))
    sentinel = store.sentinel()
    assert sentinel is not None
    assert sentinel.incarnation == "next"


def test_a_segment_that_goes_before_anybody_was_in_it_is_no_loss(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    with store.session() as session:
        session.prepare(lambda: SegmentProfile(SegmentId("env", "beta", 1), "user", "", fresh=True))
        server.delete("beta")
        with pytest.raises(Unavailable, match="it is created once more"):
            session.write(SegmentPatch("beta.g1", ["ann"], []), lambda: None)
    assert store.sentinel() is not None


def test_one_that_goes_in_the_middle_of_its_first_drain_is(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    with store.session() as session:
        session.prepare(lambda: SegmentProfile(SegmentId("env", "beta", 1), "user", "", fresh=True))
        session.write(SegmentPatch("beta.g1", ["ann"], []), lambda: None)
        server.delete("beta")
        with pytest.raises(Unavailable, match="segment beta was deleted"):
            session.write(SegmentPatch("beta.g1", ["bob"], []), lambda: None)
    assert store.sentinel() is None


@pytest.mark.parametrize("tags", [[], ["segsync", "segsync-g1"]], ids=["by hand", "as ours"])
def test_one_that_was_deleted_and_made_again_is_noticed_by_who_has_seen_the_former(
    store: LaunchDarklyStore, server: LaunchDarklyServer, clock: Clock, tags: list[str]
) -> None:
    write(store, "ann", fresh=True)
    server.put("beta", tags=tags)
    clock.now += KNOWN_S
    with pytest.raises(Unavailable, match="segment beta was deleted or replaced"):
        write(store, "bob")
    assert store.sentinel() is None


def test_one_that_the_next_life_has_made_is_not_taken_for_a_loss(
    store: LaunchDarklyStore, server: LaunchDarklyServer, clock: Clock
) -> None:
    write(store, "ann", fresh=True)
    server.put("beta", tags=["segsync", "segsync-g1"])  # another process did, after it had found the loss
    store.replace_sentinel("next", 2)
    clock.now += KNOWN_S
    write(store, "bob")
    assert server.members("beta") == {"bob"}


def test_who_fills_a_segment_from_nothing_looks_whether_it_is_there(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "ann", fresh=True)
    server.delete("beta")
    write(store, "bob", fresh=True)
    assert server.members("beta") == {"bob"}


def test_one_of_an_earlier_generation_in_the_place_of_ours_is_a_loss(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    server.put("beta", tags=["segsync", "segsync-g1"], included={"ann"})
    with pytest.raises(Unavailable, match="segment beta was deleted or replaced"):
        write(store, "bob", generation=2)
    assert server.members("beta") == {"ann"}


def test_one_that_launchdarkly_shows_as_deleted_is_gone(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    server.put("beta", tags=["segsync", "segsync-g1"], deleted=True)
    with pytest.raises(Unavailable, match="segment beta was deleted"):
        write(store, "bob")


def test_an_environment_that_goes_before_anybody_was_in_it_is_a_matter_of_configuration(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    with store.session() as session:
        session.prepare(lambda: SegmentProfile(SegmentId("env", "beta", 1), "user", "", fresh=True))
        server.environment = "another"
        with pytest.raises(Unavailable, match="no project default with an environment production"):
            session.write(SegmentPatch("beta.g1", ["ann"], []), lambda: None)


def test_a_missing_environment_is_no_lost_segment(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    write(store, "ann", fresh=True)
    server.environment = "another"
    with pytest.raises(Unavailable, match="no project default with an environment production") as raised:
        write(store, "bob")
    assert raised.value.fault == "configuration"
    server.environment = "production"
    assert store.sentinel() is not None


def test_a_context_is_looked_for_in_every_segment_of_ours(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    for number in range(45):  # more than two pages
        write(store, *(["ann"] if number % 3 == 0 else ["bob"]), fresh=True, key=f"cohort-{number}")
    server.put("theirs", included={"ann"})
    server.put("odd", tags=["segsync"], included={"ann"})
    server.put("standard", unbounded=False, tags=["segsync", "segsync-g1"])
    assert store.included("ann") == {f"cohort-{number}.g1" for number in range(0, 45, 3)}


def test_a_segment_that_goes_while_a_context_is_looked_for_has_nobody(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "ann", fresh=True)
    server.answer_next(404, matching="/contexts/ann")
    assert store.included("ann") == set()


def test_of_a_segment_that_is_not_there_nobody_is_a_member(store: LaunchDarklyStore) -> None:
    assert store.includes_keys("never.g1", ["ann", "bob"]) == [False, False]
    assert store.includes_keys("never.g1", []) == []


# --- deleted here


def test_a_dropped_segment_is_deleted_and_one_that_is_gone_already_is_as_good(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "ann", fresh=True)
    write(store, "bob", fresh=True, key="gamma")
    store.drop_segment("beta.g1")
    assert "beta" not in server.segments
    assert server.members("gamma") == {"bob"}
    store.drop_segment("beta.g1")
    server.delete("gamma")
    store.drop_segment("gamma.g1")
    assert store.sentinel() is not None, "nothing is lost of what shall be gone"


def test_a_segment_that_went_while_it_was_being_dropped_is_gone(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "ann", fresh=True)
    server.answer_next(404, method="DELETE", applied=True)
    store.drop_segment("beta.g1")
    assert "beta" not in server.segments


def test_the_key_of_a_dropped_segment_comes_back_as_the_next_generation(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "ann", fresh=True)
    store.drop_segment("beta.g1")
    write(store, "bob", fresh=True, generation=2)
    assert server.segments["beta"].tags == ["segsync", "segsync-g2"]
    assert server.members("beta") == {"bob"}


def test_what_is_remembered_of_a_dropped_segment_is_forgotten(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "ann", fresh=True)
    store.drop_segment("beta.g1")
    server.put("beta")  # which is not taken for one that was deleted and replaced
    write(store, "bob")
    assert server.count("GET", "/beta") == 3, "it is looked at again, however soon"


def test_a_later_generation_is_not_dropped_with_an_earlier_one(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, "ann", fresh=True, generation=2)
    store.drop_segment("beta.g1")
    assert server.members("beta") == {"ann"}
    store.drop_segment("beta.g2")
    assert "beta" not in server.segments


def test_a_segment_that_somebody_else_has_made_is_theirs_to_delete(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    server.put("beta")
    write(store, "ann", fresh=True)
    store.drop_segment("beta.g1")
    assert "beta" in server.segments


@pytest.mark.parametrize(("status", "fault", "lost"), [(409, "item", False), (503, "transient", True)])
def test_a_segment_that_cannot_be_dropped_now_is_dropped_by_the_next_try(
    store: LaunchDarklyStore, server: LaunchDarklyServer, status: int, fault: str, lost: bool
) -> None:
    write(store, "ann", fresh=True)
    server.answer_next(status, method="DELETE")
    with pytest.raises(Unavailable) as raised:
        store.drop_segment("beta.g1")
    assert (raised.value.fault, raised.value.fate_unknown) == (fault, lost)
    store.drop_segment("beta.g1")
    assert "beta" not in server.segments


def test_who_may_not_delete_segments_is_told_so(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    write(store, "ann", fresh=True)
    server.forbid("deleteSegment")
    with pytest.raises(Unavailable, match="give its role deleteSegment on"):
        store.drop_segment("beta.g1")


def test_a_store_that_is_not_there_drops_nothing(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    server.environment = "elsewhere"
    with pytest.raises(Unavailable, match="there is no project"):
        store.drop_segment("beta.g1")
