"""Members, written to LaunchDarkly's stand-in: what is sent, who is refused, and what a failure leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from launchdarkly_server import LaunchDarklyServer
from servers import wait_until

from worker.errors import Unavailable
from worker.model import SegmentId, SegmentPatch, SegmentProfile, WriteCounts
from worker.stores.launchdarkly import LaunchDarklyStore
from worker.stores.launchdarkly.session import MOST_BYTES, MOST_REFUSED_ALONE
from worker.stores.layout import context_hash

REF = "beta.g1"


def nothing() -> None:
    """What is called before a window, where that does not matter."""


def profile(*, fresh: bool = False, key: str = "beta", generation: int = 1, kind: str = "user") -> SegmentProfile:
    return SegmentProfile(SegmentId("env", key, generation), kind, "Beta users", fresh)


@pytest.fixture
def server() -> Iterator[LaunchDarklyServer]:
    with LaunchDarklyServer() as server:
        yield server


@pytest.fixture
def open_store(server: LaunchDarklyServer) -> Iterator[Callable[..., LaunchDarklyStore]]:
    opened: list[LaunchDarklyStore] = []

    def make(**options: Any) -> LaunchDarklyStore:
        opened.append(LaunchDarklyStore(server.configuration(), answer_timeout_s=10, **options))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., LaunchDarklyStore]) -> LaunchDarklyStore:
    """A store with a segment that was written to before."""
    made = open_store()
    with made.session() as session:
        session.prepare(lambda: profile(fresh=True))
    return made


def write(
    store: LaunchDarklyStore,
    add: list[str],
    remove: list[str] | None = None,
    before_window: Callable[[], None] = nothing,
) -> WriteCounts:
    with store.session() as session:
        session.prepare(profile)
        return session.write(SegmentPatch(REF, add, remove or []), before_window)


def people(count: int) -> list[str]:
    return [f"person-{number}" for number in range(count)]


def test_members_are_added_and_removed(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    write(store, ["ann", "bob"])
    write(store, ["cyd"], ["bob"])
    assert server.members("beta") == {"ann", "cyd"}


def test_the_counts_are_what_was_asked_for_and_say_so(store: LaunchDarklyStore) -> None:
    assert write(store, ["ann"], ["bob", "cyd"]) == WriteCounts(1, 2, exact=False)


def test_an_empty_patch_sends_nothing_and_is_exact(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    assert write(store, []) == WriteCounts(0, 0)
    assert server.count("POST", "/contexts") == 0


def test_a_request_holds_no_more_members_than_a_window(
    open_store: Callable[..., LaunchDarklyStore], store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    asked = []
    small = open_store(window=10)
    write(small, people(25), ["gone-1", "gone-2"], lambda: asked.append(server.count("POST", "/contexts")))
    assert server.members("beta") == set(people(25))
    assert asked == [0, 1, 2], "it asks before each request"
    sent = [seen.body["included"] for seen in server.requests if seen.path.endswith("/contexts")]
    assert [len(changes["add"]) + len(changes["remove"]) for changes in sent] == [10, 10, 7]


def test_a_request_of_long_keys_holds_fewer_of_them(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    long = [f"{number}-{'ä' * 40_000}" for number in range(20)]
    write(store, long)
    assert server.members("beta") == set(long)
    sent = [seen.body["included"]["add"] for seen in server.requests if seen.path.endswith("/contexts")]
    assert len(sent) > 1
    assert all(sum(len(key.encode()) for key in keys) <= MOST_BYTES for keys in sent)


def test_a_key_that_is_longer_than_a_request_may_be_is_sent_alone(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    huge = "x" * (MOST_BYTES + 1)
    write(store, ["ann", huge, "bob"])
    assert server.members("beta") == {"ann", huge, "bob"}


@pytest.mark.parametrize(
    "key", ["u/1", "..", ".", "a?b#c", "50%", "%2F", "a b", "ä€😀", "\x00", "\\", '"', "https://x/?a=b&c"]
)
def test_any_text_is_a_context_key(store: LaunchDarklyStore, server: LaunchDarklyServer, key: str) -> None:
    write(store, [key])
    assert server.members("beta") == {key}
    assert store.included(key) == {REF}
    assert store.includes_keys(REF, ["nobody", key, "no-one"]) == [False, True, False]
    write(store, [], [key])
    assert store.included(key) == set()


def test_a_stream_of_small_batches_costs_a_request_each(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    store.claim("ours", 1)
    write(store, ["ann"])
    before = len(server.requests)
    for person in people(10):
        write(store, [person])
    assert len(server.requests) - before == 10


@pytest.mark.parametrize("bad", [["bad-1"], ["bad-1", "bad-2", "bad-3"]])
def test_a_member_who_is_not_taken_holds_nobody_up(
    store: LaunchDarklyStore, server: LaunchDarklyServer, bad: list[str]
) -> None:
    server.refuses = lambda key: key.startswith("bad")
    good = people(100)
    counts = write(store, [*good[:50], *bad, *good[50:]], ["gone"])
    assert server.members("beta") == set(good)
    assert (counts.added, counts.removed, counts.exact) == (100, 1, False)
    assert {member.context_hash for member in counts.refused} == {context_hash(key) for key in bad}
    assert all("bad-" not in member.reason for member in counts.refused), "no key is told"


def test_one_who_is_not_taken_when_removed_holds_nobody_up_either(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    server.refuses = lambda key: key.startswith("bad")
    counts = write(store, ["ann"], ["bad-1", "bob"])
    assert counts[:2] == (1, 1)
    assert [member.context_hash for member in counts.refused] == [context_hash("bad-1")]


@pytest.mark.parametrize("bad_ones_first", [True, False])
def test_many_who_are_not_taken_do_not_look_like_a_segment_that_takes_nobody(
    store: LaunchDarklyStore, server: LaunchDarklyServer, bad_ones_first: bool
) -> None:
    server.refuses = lambda key: key.startswith("bad")
    good, bad = people(100), [f"bad-{number}" for number in range(200)]  # all together, as partners have them
    asked: list[int] = []
    counts = write(store, bad + good if bad_ones_first else good + bad, before_window=lambda: asked.append(1))
    assert server.members("beta") == set(good)
    assert len(counts.refused) == 200
    assert len(asked) >= server.count("POST", "/contexts"), "it asks before each request"


def test_a_few_who_are_all_refused_are_refused_and_nobody_else(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    server.refuses = lambda key: key.startswith("bad")
    assert len(write(store, ["bad-1", "bad-2"]).refused) == 2


def test_where_nobody_at_all_is_taken_a_person_must_see_to_it(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    server.refuses = lambda _: True
    with pytest.raises(Unavailable, match="segment beta takes nobody") as raised:
        write(store, people(1_000))
    assert (raised.value.fault, raised.value.fate_unknown) == ("item", False)
    assert server.count("POST", "/contexts") < 4 * MOST_REFUSED_ALONE, "that is found out soon"


def test_a_segment_that_is_no_big_one_any_more_is_not_searched_for_bad_members(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write(store, ["ann"])
    server.segments["beta"].unbounded = False
    with pytest.raises(Unavailable, match="segment beta is no big segment") as raised:
        write(store, people(100))
    assert raised.value.fault == "item"
    assert server.count("POST", "/contexts") == 2


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_after_a_servers_error_nobody_knows_whether_members_were_written(
    store: LaunchDarklyStore, server: LaunchDarklyServer, status: int
) -> None:
    server.answer_next(status, applied=True, matching="/contexts")
    with pytest.raises(Unavailable, match=f"it answered {status} .*may still land") as raised:
        write(store, ["ann"])
    assert (raised.value.fate_unknown, raised.value.fault) == (True, "transient")
    assert server.count("POST", "/contexts") == 1, "it is not sent again"


def test_nor_when_the_connection_is_cut(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    server.answer_next(None, applied=True, matching="/contexts")
    with pytest.raises(Unavailable, match="cannot be reached") as raised:
        write(store, ["ann"])
    assert raised.value.fate_unknown
    assert server.count("POST", "/contexts") == 1


def test_nor_when_no_answer_comes_in_time(server: LaunchDarklyServer, store: LaunchDarklyStore) -> None:
    impatient = LaunchDarklyStore(server.configuration(), answer_timeout_s=0.3)
    with impatient.session() as session:
        session.prepare(profile)
        server.hang("/contexts")
        with pytest.raises(Unavailable, match="no answer in time") as raised:
            session.write(SegmentPatch(REF, ["ann"], []), nothing)
    assert raised.value.fate_unknown
    server.release()
    wait_until(lambda: server.members("beta") == {"ann"}, message="the late request to land")
    impatient.close()


def test_what_before_window_raises_ends_a_write_after_what_was_sent_is_answered(
    open_store: Callable[..., LaunchDarklyStore], store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    calls = iter([None, None, KeyError("lost")])

    def lose() -> None:
        if fault := next(calls):
            raise fault

    with pytest.raises(KeyError, match="lost"):
        write(open_store(window=10), people(30), before_window=lose)
    assert server.members("beta") == set(people(20))


def test_a_throttled_request_goes_again_when_the_limit_begins_anew(
    open_store: Callable[..., LaunchDarklyStore], store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    server.limit(route=2, window_s=0.5)
    renewals = []
    write(open_store(window=5), people(25), before_window=lambda: renewals.append(1))
    assert server.members("beta") == set(people(25))
    assert server.throttled <= 1, "it holds back by itself, when it knows the limit"


def test_a_request_that_is_refused_without_any_header_goes_again(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    server.answer_next(429, matching="/contexts")
    write(store, ["ann"])
    assert server.members("beta") == {"ann"}


def test_a_limit_that_lasts_too_long_is_told_and_nothing_can_land(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    server.answer_next(429, matching="/contexts", headers={"Retry-After": "3000"})
    with pytest.raises(Unavailable, match="rate limit is used up") as raised:
        write(store, ["ann"])
    assert (raised.value.fate_unknown, raised.value.fault) == (False, "transient")


def test_a_clock_that_is_wrong_does_not_change_how_long_a_limit_is_waited_for(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    server.skew_s = 86_400
    server.limit(route=1, window_s=0.5)
    for person in people(3):
        write(store, [person])
    assert server.members("beta") == set(people(3))


def test_sessions_write_at_the_same_time(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    def add(letter: str) -> None:
        for number in range(20):
            write(store, [f"{letter}-{number}"])

    threads = [threading.Thread(target=add, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.members("beta") == {f"{letter}-{number}" for letter in "abcd" for number in range(20)}


def test_it_cannot_fence_and_says_so_in_advance(store: LaunchDarklyStore) -> None:
    with store.session() as session:
        assert (session.connection, session.process) == (None, "")
    assert not store.fence("anything")


def test_what_needs_a_list_of_members_it_does_not_do(store: LaunchDarklyStore) -> None:
    assert not store.lists_members
    uses: list[Callable[[], object]] = [store.scan, store.holds_members, lambda: store.includes(REF, [])]
    for use in uses:
        with pytest.raises(NotImplementedError):
            use()
    with store.session() as session, pytest.raises(NotImplementedError):
        session.remove_hashes(REF, [], nothing)


# --- the excluded list


def write_lists(store: LaunchDarklyStore, *lists: list[str]) -> WriteCounts:
    """Write a patch of these: added, removed, and the same of the excluded list."""
    with store.session() as session:
        session.prepare(profile)
        return session.write(SegmentPatch(REF, *lists), nothing)


def test_both_lists_are_written_by_one_request(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    write_lists(store, ["ann", "bob"], [], ["cyd", "dan"], [])
    counts = write_lists(store, ["cyd"], ["ann"], ["ann"], ["cyd", "eve"])
    assert counts == WriteCounts(1, 1, exact=False, added_excluded=1, removed_excluded=2)
    assert (server.members("beta"), server.excluded("beta")) == ({"bob", "cyd"}, {"ann", "dan"})
    assert server.count("POST", "/contexts") == 2


def test_a_list_that_nothing_is_said_of_is_left_out_of_the_request(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    write_lists(store, ["ann"], [], [], [])
    write_lists(store, [], [], [], ["bob"])
    sent = [seen.body for seen in server.requests if seen.path.endswith("/contexts")]
    assert sent == [{"included": {"add": ["ann"], "remove": []}}, {"excluded": {"add": [], "remove": ["bob"]}}]


def test_who_may_not_exclude_is_told_so_and_may_include(store: LaunchDarklyStore, server: LaunchDarklyServer) -> None:
    server.forbid("updateExcluded")
    with pytest.raises(Unavailable, match=r"give its role updateExcluded on proj/") as raised:
        write_lists(store, [], [], ["bob"], [])
    assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False)
    with pytest.raises(Unavailable, match="updateIncluded and updateExcluded on"):
        write_lists(store, ["ann"], [], ["bob"], [])
    write_lists(store, ["ann"], [], [], [])
    assert (server.members("beta"), server.excluded("beta")) == ({"ann"}, set())


def test_who_is_not_taken_is_told_once_for_each_list_that_it_is_in(
    store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    odd = {"person-3", "person-8", "no-4"}
    server.refuses = lambda key: key in odd
    not_people = [f"no-{number}" for number in range(10)]
    counts = write_lists(store, people(10), [], [*not_people, "person-3"], [])
    told = sorted((member.of, member.context_hash) for member in counts.refused)
    expected = {"included": ("person-3", "person-8"), "excluded": ("no-4", "person-3")}
    assert told == sorted((of, context_hash(key)) for of, keys in expected.items() for key in keys)
    assert counts[:2] == (8, 0)
    assert (counts.added_excluded, counts.removed_excluded) == (9, 0)
    assert (server.members("beta"), server.excluded("beta")) == (set(people(10)) - odd, set(not_people) - odd)


@pytest.mark.parametrize("taken", [True, False])
def test_of_one_change_in_each_list_the_one_that_is_taken_is_written(
    store: LaunchDarklyStore, server: LaunchDarklyServer, taken: bool
) -> None:
    server.refuses = lambda key: (key == "ann") is not taken
    write_lists(store, ["ann"], [], ["bob"], [])
    assert (server.members("beta"), server.excluded("beta")) == (({"ann"}, set()) if taken else (set(), {"bob"}))


def test_windows_hold_members_of_both_lists(
    open_store: Callable[..., LaunchDarklyStore], store: LaunchDarklyStore, server: LaunchDarklyServer
) -> None:
    gone = [f"gone-{number}" for number in range(7)]
    write_lists(open_store(window=10), people(12), gone, gone[:4], people(3))
    sent = [seen.body for seen in server.requests if seen.path.endswith("/contexts")]
    sizes = [sum(len(keys) for side in body.values() for keys in side.values()) for body in sent]
    assert sizes == [10, 10, 6]
    assert (server.members("beta"), server.excluded("beta")) == (set(people(12)), set(gone[:4]))


def test_memberships_are_told_of_either_list(store: LaunchDarklyStore) -> None:
    write_lists(store, ["ann", "bob"], [], ["bob", "cyd"], [])
    assert [store.included(key) for key in ("ann", "bob", "cyd", "dan")] == [{REF}, {REF}, set(), set()]
    assert [store.excluded(key) for key in ("ann", "bob", "cyd", "dan")] == [set(), {REF}, {REF}, set()]
    assert store.includes_keys(REF, ["ann", "bob", "cyd"], "excluded") == [False, True, True]
    assert store.includes_keys(REF, ["ann", "bob", "cyd"]) == [True, True, False]
