"""What every store promises (see ``SegmentStore``), judged by what LaunchDarkly's Python SDK reads.

In memory, on fakeredis, Redis, Valkey, moto's DynamoDB and a stricter emulator, with and without prefix.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers import free_port

from contract.store_subjects import ON_REDIS, READ_BY_SDKS, REF, Subject
from worker.errors import Unavailable
from worker.model import DynamoDBStoreConfiguration, RedisStoreConfiguration, SegmentPatch, SegmentProfile, WriteCounts
from worker.stores import SegmentStore, Sentinel
from worker.stores.dynamodb import DynamoDBStore
from worker.stores.layout import context_hash
from worker.stores.memory import MemoryStore
from worker.stores.redis import RedisStore

OTHER_REF = "vip.g3"


def hash_of(key: str) -> bytes:
    return context_hash(key).encode()


def test_an_added_member_is_included(subject: Subject) -> None:
    assert subject.write(["ann"]) == WriteCounts(1, 0)
    assert subject.included("ann") == {REF}
    assert subject.included("bob") == set()


def test_a_removed_member_is_not_included_any_more(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    assert subject.write([], ["ann"]) == WriteCounts(0, 1)
    assert subject.included("ann") == set()
    assert subject.included("bob") == {REF}


def test_one_patch_may_add_some_and_remove_others(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    assert subject.write(["eve", "dan"], ["ann"]) == WriteCounts(2, 1)
    assert [key for key in ("ann", "bob", "dan", "eve") if subject.included(key)] == ["bob", "dan", "eve"]


def test_counts_tell_what_really_changed(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    assert subject.write(["bob", "eve"], ["ann", "never-was"]) == WriteCounts(1, 1)


def test_a_patch_applied_twice_is_a_patch_applied_once(subject: Subject) -> None:
    subject.write(["bob"])
    subject.write(["ann"], ["bob"])
    assert subject.write(["ann"], ["bob"]) == WriteCounts(0, 0)
    assert (subject.included("ann"), subject.included("bob")) == ({REF}, set())


def test_removing_a_member_who_is_not_there_leaves_nothing_behind(subject: Subject) -> None:
    assert subject.write([], ["never-was"]) == WriteCounts(0, 0)
    assert not subject.leaves_anything("never-was")


def test_an_empty_patch_writes_nothing_and_asks_nobody(subject: Subject) -> None:
    asked: list[None] = []
    with subject.store.session() as session:
        assert session.write(SegmentPatch(REF, [], []), lambda: asked.append(None)) == WriteCounts(0, 0)
    assert not asked


def test_a_context_can_be_in_several_segments(subject: Subject) -> None:
    subject.write(["ann"])
    subject.write(["ann"], ref=OTHER_REF)
    assert subject.included("ann") == {REF, OTHER_REF}
    subject.write([], ["ann"])
    assert subject.included("ann") == {OTHER_REF}


@pytest.mark.parametrize("key", ["zoë@example.com", "名前", "𐍈🎉", "with space:and*glob\r\n", "\x00", " ", "x" * 3_000])
def test_any_text_is_a_context_key(subject: Subject, key: str) -> None:
    assert subject.write([key]) == WriteCounts(1, 0)
    assert subject.included(key) == {REF}


def test_freshness_is_unknown_until_it_is_set_and_then_what_was_set(subject: Subject) -> None:
    sentinel = subject.store.claim("ours", 1)
    assert subject.synchronized_on() is None
    assert subject.store.set_synchronized_on(1_750_000_000_000, sentinel)
    assert subject.store.set_synchronized_on(1_750_000_030_000, sentinel)
    assert subject.synchronized_on() == 1_750_000_030_000


def test_applying_a_patch_does_not_touch_freshness(subject: Subject) -> None:
    subject.write(["ann"])
    assert subject.synchronized_on() is None
    subject.store.set_synchronized_on(17, subject.store.claim("ours", 1))
    subject.write(["bob"], ["ann"])
    assert subject.synchronized_on() == 17


# --- whose store it is


def test_a_store_that_nobody_has_claimed_has_no_sentinel(subject: Subject) -> None:
    subject.write(["ann"])
    assert subject.store.sentinel() is None
    with subject.store.session() as session:
        assert session.sentinel is None


def test_the_first_to_claim_a_store_has_it(subject: Subject) -> None:
    first = Sentinel("ours", 1_750_000_000_000)
    assert subject.store.claim(*first) == first
    assert subject.store.claim("theirs", 1_750_000_000_001) == first
    assert subject.store.sentinel() == first


def test_of_claims_at_the_same_time_one_wins_and_all_are_told_which(subject: Subject) -> None:
    names = [f"claim-{number}" for number in range(4)]
    ready = threading.Barrier(len(names), timeout=30)

    def claim(name: str) -> Sentinel:
        ready.wait()
        return subject.store.claim(name, 1)

    with ThreadPoolExecutor(len(names)) as threads:
        [winner] = set(threads.map(claim, names))
    assert subject.store.sentinel() == winner


def test_a_sentinel_can_be_replaced_whatever_is_there(subject: Subject) -> None:
    subject.store.replace_sentinel("first", 2_000)
    assert subject.store.sentinel() == Sentinel("first", 2_000)
    subject.store.replace_sentinel("second", 1_000)
    assert subject.store.sentinel() == Sentinel("second", 1_000)


def test_a_session_knows_the_sentinel_as_it_was_at_checkout(subject: Subject) -> None:
    subject.store.claim("ours", 1)
    with subject.store.session() as session:
        subject.store.replace_sentinel("theirs", 2)
        assert session.sentinel == Sentinel("ours", 1)
    with subject.store.session() as session:
        assert session.sentinel == Sentinel("theirs", 2)


def test_sessions_of_one_server_process_tell_the_same_process(subject: Subject) -> None:
    with subject.store.session() as one, subject.store.session() as other:
        assert one.process == other.process


def test_freshness_is_not_written_into_a_store_that_nobody_has_claimed(subject: Subject) -> None:
    assert not subject.store.set_synchronized_on(1_750_000_000_000, Sentinel("ours", 1))
    assert subject.synchronized_on() is None
    assert subject.store.sentinel() is None


@pytest.mark.parametrize("theirs", ["theirs", "ours-too", "our", "OURS"])
def test_freshness_is_not_written_into_a_store_that_is_anothers(subject: Subject, theirs: str) -> None:
    subject.store.claim(theirs, 1)
    assert not subject.store.set_synchronized_on(1_750_000_000_000, Sentinel("ours", 2))
    assert subject.synchronized_on() is None
    assert subject.store.sentinel() == Sentinel(theirs, 1)


def test_freshness_comes_with_a_beat(subject: Subject) -> None:
    subject.store.claim("ours", 1_750_000_000_000)
    assert subject.store.set_synchronized_on(17, Sentinel("ours", 1_750_000_010_000))
    assert subject.store.sentinel() == Sentinel("ours", 1_750_000_010_000)
    assert subject.synchronized_on() == 17


def test_a_late_heartbeat_may_lower_freshness_but_never_the_beat(subject: Subject) -> None:
    subject.store.claim("ours", 1_750_000_000_000)
    subject.store.set_synchronized_on(1_750_000_020_000, Sentinel("ours", 1_750_000_020_000))
    assert subject.store.set_synchronized_on(1_750_000_010_000, Sentinel("ours", 1_750_000_010_000))
    assert subject.synchronized_on() == 1_750_000_010_000
    assert subject.store.sentinel() == Sentinel("ours", 1_750_000_020_000)


# --- everything at once


def test_a_scan_tells_who_is_in_what(subject: Subject) -> None:
    subject.write(["ann", "bob", "zoë 🎉"])
    subject.write(["ann", "eve"], ["bob"], ref=OTHER_REF)
    assert subject.everything() == {
        hash_of("ann"): {REF, OTHER_REF},
        hash_of("bob"): {REF},
        hash_of("zoë 🎉"): {REF},
        hash_of("eve"): {OTHER_REF},
    }


def test_a_scan_does_not_tell_of_those_who_were_removed(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    subject.write([], ["ann"])
    assert subject.everything() == {hash_of("bob"): {REF}}


def test_a_scan_of_many_tells_of_each(subject: Subject) -> None:
    members = [f"user-{number}" for number in range(subject.window * 3 + 1)]
    subject.write(members)
    assert subject.everything() == {hash_of(member): {REF} for member in members}


def test_a_scan_may_be_left_before_its_end(subject: Subject) -> None:
    subject.write([f"user-{number}" for number in range(subject.window * 2)])
    pages = subject.store.scan()
    next(pages)
    pages.close()  # type: ignore[attr-defined]
    assert subject.write(["ann"]) == WriteCounts(1, 0)


def test_a_store_with_everything_but_members_holds_none(subject: Subject) -> None:
    subject.store.set_synchronized_on(17, subject.store.claim("ours", 1))
    assert not subject.store.holds_members()
    assert subject.everything() == {}


def test_a_store_holds_members_until_the_last_one_is_removed(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    assert subject.store.holds_members()
    subject.write([], ["ann"])
    assert subject.store.holds_members()
    subject.write([], ["bob"])
    assert not subject.store.holds_members()


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_another_prefix_is_another_store(subject: Subject) -> None:
    neighbour = subject.neighbour
    assert neighbour is not None
    subject.write(["ann"])
    subject.store.set_synchronized_on(17, subject.store.claim("ours", 1))
    assert not neighbour.store.holds_members()
    assert neighbour.everything() == {}
    assert neighbour.synchronized_on() is None
    assert neighbour.store.sentinel() is None
    assert neighbour.includes(["ann"]) == [False]
    assert not neighbour.store.set_synchronized_on(18, Sentinel("ours", 1))
    neighbour.write(["bob"])
    assert subject.synchronized_on() == 17
    assert subject.everything() == {hash_of("ann"): {REF}}


def test_membership_of_many_is_told_in_their_order(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    subject.write(["eve"], ref=OTHER_REF)
    assert subject.includes(["eve", "bob", "never-was", "ann", "bob"]) == [False, True, False, True, True]
    assert subject.includes([]) == []


def test_membership_of_more_than_one_request_can_ask_for(subject: Subject) -> None:
    members = [f"user-{number}" for number in range(max(2 * subject.window, 205) + 1)]
    subject.write(members[::40])
    found = subject.includes(members)
    assert [member for member, is_in in zip(members, found, strict=True) if is_in] == members[::40]


def remove(subject: Subject, *keys: str, ref: str = REF) -> int:
    with subject.store.session() as session:
        return session.remove_hashes(ref, [hash_of(key) for key in keys], lambda: None)


def test_those_whose_keys_nobody_knows_can_be_removed_by_hash(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    subject.write(["ann"], ref=OTHER_REF)
    assert remove(subject, "ann", "never-was") == 1
    assert subject.everything() == {hash_of("ann"): {OTHER_REF}, hash_of("bob"): {REF}}
    assert not subject.leaves_anything("never-was")
    assert remove(subject, "ann") == 0
    assert remove(subject) == 0


def test_removing_many_by_hash_asks_before_each_window_and_can_be_stopped(subject: Subject) -> None:
    members = [f"user-{number}" for number in range(subject.window * 3)]
    subject.write(members)
    permitted = iter(range(2))

    def before_window() -> None:
        if next(permitted, None) is None:
            raise StopHere

    with subject.store.session() as session:
        with pytest.raises(StopHere):
            session.remove_hashes(REF, [hash_of(member) for member in members], before_window)
        assert set(subject.everything()) == {hash_of(member) for member in members[subject.window * 2 :]}
        # Everything sent was answered: the session is fit for more.
        assert session.remove_hashes(REF, [hash_of(members[-1])], lambda: None) == 1
        assert session.write(SegmentPatch(REF, ["late"], []), lambda: None) == WriteCounts(1, 0)


@pytest.mark.parametrize("wrong", [b"", b"ann", b"x" * 43, b"x" * 45, "é".encode() * 22])
def test_what_is_no_context_hash_is_sent_nowhere(subject: Subject, wrong: bytes) -> None:
    subject.write(["ann"])
    with pytest.raises(ValueError, match="44"):
        subject.store.includes(REF, [hash_of("ann"), wrong])
    with subject.store.session() as session:
        with pytest.raises(ValueError, match="44"):
            session.remove_hashes(REF, [hash_of("ann"), wrong], lambda: None)
        assert session.write(SegmentPatch(REF, ["bob"], []), lambda: None) == WriteCounts(1, 0)
    assert subject.included("ann") == {REF}


def test_a_check_of_a_store_that_is_well_finds_nothing_and_leaves_nothing(subject: Subject) -> None:
    assert subject.store.check() == []
    assert not subject.store.holds_members()
    assert subject.store.sentinel() is None
    subject.write(["ann"])
    subject.store.set_synchronized_on(17, subject.store.claim("ours", 1))
    assert subject.store.check() == []
    assert subject.everything() == {hash_of("ann"): {REF}}
    assert (subject.store.sentinel(), subject.synchronized_on()) == (Sentinel("ours", 1), 17)


def test_stores_in_launchdarklys_layout_need_nothing_prepared(subject: Subject) -> None:
    def describe() -> SegmentProfile:
        raise AssertionError("somebody asked")

    with subject.store.session() as session:
        session.prepare(describe)
        assert not subject.store.holds_members()
        assert subject.store.sentinel() is None
        assert session.write(SegmentPatch(REF, ["ann"], []), lambda: None) == WriteCounts(1, 0)
    assert subject.everything() == {hash_of("ann"): {REF}}


def test_membership_is_told_by_context_key_whatever_the_key(subject: Subject) -> None:
    keys = ["zoë@example.com", "名前", " ", "\x00", "x" * 3_000]
    subject.write(keys[::2])
    assert subject.includes(keys) == [True, False, True, False, True]
    assert subject.includes(keys, OTHER_REF) == [False] * 5


def test_stores_in_launchdarklys_layout_can_tell_who_is_in_them(subject: Subject) -> None:
    assert subject.store.lists_members


# --- members whom a store does not take


def spoil(subject: Subject, *keys: str) -> None:
    """Leave something in these members' places that nothing can be added to."""
    assert subject.behind is not None
    for key in keys:
        subject.behind.spoil(context_hash(key))


def refused(counts: WriteCounts) -> list[str]:
    """Who was refused, as hashes; why is told without naming them."""
    for member in counts.refused:
        assert member.reason
        assert member.context_hash not in member.reason
    return sorted(member.context_hash for member in counts.refused)


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_a_member_whom_the_store_refuses_holds_nobody_up(subject: Subject) -> None:
    subject.write(["ann"])
    spoil(subject, "bob")
    counts = subject.write(["bob", "eve"], ["ann"])
    assert counts[:2] == (1, 1)
    assert refused(counts) == [context_hash("bob")]
    assert [subject.included(key) for key in ("ann", "eve")] == [set(), {REF}]


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_everybody_else_is_written_whichever_window_somebody_is_refused_in(subject: Subject) -> None:
    members = [f"user-{number}" for number in range(subject.window * 3)]
    odd = [members[0], members[subject.window + 1], members[-1]]
    spoil(subject, *odd)
    counts = subject.write(members)
    assert counts[:2] == (len(members) - 3, 0)
    assert refused(counts) == sorted(map(context_hash, odd))
    assert set(subject.everything()) == {hash_of(member) for member in members if member not in odd}
    # Nothing has changed since, but for those who are refused again.
    again = subject.write(members)
    assert again[:2] == (0, 0)
    assert refused(again) == refused(counts)


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_a_session_that_met_a_refused_member_is_fit_for_more(subject: Subject) -> None:
    spoil(subject, "bob")
    with subject.store.session() as session:
        assert session.write(SegmentPatch(REF, ["bob"], []), lambda: None)[:2] == (0, 0)
        assert session.write(SegmentPatch(REF, ["ann"], []), lambda: None) == WriteCounts(1, 0)
    assert subject.included("ann") == {REF}


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_whoever_was_refused_is_taken_once_what_was_in_the_way_is_gone(subject: Subject) -> None:
    assert subject.behind is not None
    spoil(subject, "ann")
    assert refused(subject.write(["ann"])) == [context_hash("ann")]
    subject.behind.clear(context_hash("ann"))
    assert subject.write(["ann"]) == WriteCounts(1, 0)
    assert subject.included("ann") == {REF}


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_those_who_can_be_removed_by_hash_are_whoever_else_cannot(subject: Subject) -> None:
    subject.write(["ann", "eve"])
    spoil(subject, "bob")
    assert remove(subject, "ann", "bob", "eve") == 2
    assert not subject.store.holds_members()


# --- windows, sessions, connections


def test_a_large_patch_asks_before_each_window(subject: Subject) -> None:
    members = [f"user-{number}" for number in range(subject.window * 3 + 1)]
    asked: list[None] = []
    with subject.store.session() as session:
        counts = session.write(SegmentPatch(REF, members, ["never-was"]), lambda: asked.append(None))
    assert counts == WriteCounts(len(members), 0)
    assert len(asked) >= 4
    assert subject.included(members[0]) == subject.included(members[-1]) == {REF}


class StopHere(Exception):
    """What a drain raises when its lease is gone."""


@pytest.mark.parametrize("windows", [0, 1, 2, 3])
def test_the_caller_can_stop_a_large_patch_between_windows(subject: Subject, windows: int) -> None:
    members = [f"user-{number}" for number in range(subject.window * 5)]
    permitted = iter(range(windows))

    def before_window() -> None:
        if next(permitted, None) is None:
            raise StopHere

    with subject.store.session() as session:
        with pytest.raises(StopHere):
            session.write(SegmentPatch(REF, members, []), before_window)
        written = subject.window * windows
        assert not subject.included(members[written])
        if windows:
            assert subject.included(members[written - 1]) == {REF}
        # Everything sent was answered: the session is fit for another write, with counts of its own.
        assert session.write(SegmentPatch(REF, ["late"], []), lambda: None) == WriteCounts(1, 0)


def test_patches_are_written_in_their_order_and_counted_together(subject: Subject) -> None:
    many = [f"user-{number}" for number in range(subject.window * 2)]
    patches = [
        SegmentPatch(REF, [*many, "ann", "bob"], []),
        SegmentPatch(REF, [], ["ann"]),
        SegmentPatch(REF, [], []),
        SegmentPatch(REF, ["ann"], ["bob"]),
    ]
    with subject.store.session() as session:
        counts = session.write_all(iter(patches), lambda: None)
        assert session.write_all(iter([]), lambda: None)[:2] == (0, 0)
    assert counts[:2] == (len(many) + 3, 2)
    assert subject.included("ann") == subject.included(many[-1]) == {REF}
    assert subject.included("bob") == set()


def test_what_making_a_patch_raises_ends_the_write_with_all_before_it_answered(subject: Subject) -> None:
    def patches() -> Iterator[SegmentPatch]:
        yield SegmentPatch(REF, ["ann"], [])
        raise StopHere

    with subject.store.session() as session:
        with pytest.raises(StopHere):
            session.write_all(patches(), lambda: None)
        assert subject.included("ann") == {REF}
        assert session.write(SegmentPatch(REF, ["bob"], []), lambda: None)[:2] == (1, 0)


def test_sessions_write_at_the_same_time(subject: Subject) -> None:
    def add(ref: str) -> None:
        with subject.store.session() as session:
            ready.wait()
            session.write(SegmentPatch(ref, [f"user-{number}" for number in range(20)], []), lambda: None)

    refs = [f"segment-{number}.g1" for number in range(4)]
    ready = threading.Barrier(len(refs), timeout=30)
    threads = [threading.Thread(target=add, args=(ref,)) for ref in refs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert subject.included("user-0") == subject.included("user-19") == set(refs)


def test_two_open_sessions_do_not_disturb_each_other(subject: Subject) -> None:
    with subject.store.session() as one, subject.store.session() as two:
        assert one.write(SegmentPatch(REF, ["ann", "bob"], []), lambda: None) == WriteCounts(2, 0)
        assert two.write(SegmentPatch(REF, [], ["ann"]), lambda: None) == WriteCounts(0, 1)
        assert one.write(SegmentPatch(REF, ["ann"], []), lambda: None) == WriteCounts(1, 0)
    assert subject.included("ann") == {REF}


def test_a_closed_store_opens_again_when_it_is_used(subject: Subject) -> None:
    subject.write(["ann"])
    subject.store.close()
    subject.store.close()
    assert subject.included("ann") == {REF}
    assert subject.write(["bob"]) == WriteCounts(1, 0)


@pytest.mark.parametrize("subject", ON_REDIS, indirect=True)
def test_nothing_lands_over_a_fenced_connection(subject: Subject) -> None:
    with subject.store.session() as session:
        assert session.connection is not None
        assert subject.store.fence(session.connection)
        with pytest.raises(Unavailable):
            session.write(SegmentPatch(REF, ["ann"], []), lambda: None)
    assert not subject.leaves_anything("ann")


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_launchdarklys_sdk_reads_nothing_of_those_who_are_in_nothing(subject: Subject) -> None:
    sdk = subject.sdk
    assert sdk is not None
    subject.write(["gone", "zoë 🎉"])
    subject.write([], ["gone"])
    assert sdk.get_membership(context_hash("zoë 🎉")) == {REF: True}
    assert sdk.get_membership(context_hash("gone")) is None
    assert sdk.get_membership(context_hash("never-was")) is None


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_whom_somebody_else_excludes_stays_excluded(subject: Subject) -> None:
    assert subject.behind is not None
    subject.behind.exclude(context_hash("ann"), OTHER_REF)
    assert subject.write(["ann", "bob"]) == WriteCounts(2, 0)
    assert subject.membership("ann") == {REF: True, OTHER_REF: False}
    assert subject.write([], ["ann"]) == WriteCounts(0, 1)
    assert subject.membership("ann") == {OTHER_REF: False}
    assert subject.both_lists() == {hash_of("ann"): (set(), {OTHER_REF}), hash_of("bob"): ({REF}, set())}


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_an_exclusion_alone_includes_nobody(subject: Subject) -> None:
    assert subject.behind is not None
    subject.behind.exclude(context_hash("ann"), REF)
    assert subject.store.holds_members()
    assert (subject.includes(["ann"]), subject.excludes(["ann"])) == ([False], [True])
    assert subject.write([], ["ann"]) == WriteCounts(0, 0)
    assert subject.membership("ann") == {REF: False}


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_launchdarklys_sdk_does_not_mind_the_sentinel(subject: Subject) -> None:
    sdk = subject.sdk
    assert sdk is not None
    sentinel = subject.store.claim("ours", 1_750_000_000_000)
    assert sdk.get_metadata().last_up_to_date is None  # on DynamoDB its item is there by now, without a time
    assert sdk.get_membership(context_hash("ann")) is None
    subject.write(["ann"])
    assert sdk.get_membership(context_hash("ann")) == {REF: True}
    subject.store.set_synchronized_on(1_750_000_000_000, sentinel._replace(beat_ms=1_750_000_010_000))
    assert sdk.get_metadata().last_up_to_date == 1_750_000_000_000
    subject.store.replace_sentinel("new", 1_750_000_020_000)
    assert sdk.get_metadata().last_up_to_date == 1_750_000_000_000
    assert sdk.get_membership(context_hash("ann")) == {REF: True}
    assert subject.store.check() == []
    assert sdk.get_metadata().last_up_to_date == 1_750_000_000_000


REDIS_URLS = {
    "redis": "redis://{0}",
    "cluster": "redis+cluster://{0},{0}",
    "sentinel": "redis+sentinel://{0},{0}/ours",
}


@pytest.fixture(params=["memory", "redis", "cluster", "sentinel", "dynamodb"])
def unreachable(request: pytest.FixtureRequest) -> Iterator[SegmentStore]:
    if request.param == "memory":
        memory = MemoryStore()
        memory.away = True
        yield memory
        return
    store: SegmentStore
    nowhere = f"127.0.0.1:{free_port()}"
    if request.param in REDIS_URLS:
        store = RedisStore(RedisStoreConfiguration.from_url(REDIS_URLS[request.param].format(nowhere)))
    else:
        region = request.getfixturevalue("moto_server").region
        endpoint = f"http://{nowhere}"
        store = DynamoDBStore(DynamoDBStoreConfiguration(tableName="any", region=region, endpoint=endpoint))
    yield store
    store.close()


def _write_somebody(store: SegmentStore) -> None:
    with store.session() as session:
        session.write(SegmentPatch(REF, ["zoe-77"], ["bob-78"]), lambda: None)


USES: dict[str, Callable[[SegmentStore], object]] = {
    "write": _write_somebody,
    "included": lambda store: store.included("zoe-77"),
    "excluded": lambda store: store.excluded("zoe-77"),
    "includes": lambda store: store.includes(REF, [hash_of("zoe-77")]),
    "includes_keys": lambda store: store.includes_keys(REF, ["zoe-77"]),
    "scan": lambda store: list(store.scan()),
    "holds_members": lambda store: store.holds_members(),
    "sentinel": lambda store: store.sentinel(),
    "claim": lambda store: store.claim("ours", 1),
    "replace_sentinel": lambda store: store.replace_sentinel("ours", 1),
    "synchronized_on": lambda store: store.synchronized_on(),
    "set_synchronized_on": lambda store: store.set_synchronized_on(1, Sentinel("ours", 1)),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_an_unreachable_store_is_unavailable_and_nothing_can_land(
    unreachable: SegmentStore, use: Callable[[SegmentStore], object]
) -> None:
    with pytest.raises(Unavailable) as raised:
        use(unreachable)
    assert raised.value.dependency == "store"
    assert raised.value.fault == "transient"
    assert not raised.value.fate_unknown
    assert "zoe-77" not in str(raised.value)


def test_the_check_of_an_unreachable_store_says_so_and_raises_nothing(unreachable: SegmentStore) -> None:
    [fault] = unreachable.check()
    assert "away" in fault or "cannot be reached" in fault
