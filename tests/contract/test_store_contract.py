"""What every store promises (see ``SegmentStore``): in memory, on fakeredis, a real Redis server, moto's DynamoDB."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from ldclient.integrations import DynamoDB, Redis
from ldclient.interfaces import BigSegmentStore
from servers import FakeRedisServer, MotoServer, ValkeyServer, free_port

from worker.errors import Unavailable
from worker.model import DynamoDBStoreConfiguration, RedisStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores import SegmentStore, Sentinel
from worker.stores.dynamodb import DynamoDBStore
from worker.stores.layout import context_hash
from worker.stores.memory import MemoryStore
from worker.stores.redis import RedisStore
from worker.stores.redis_bulk import WINDOW

REF = "beta-users.g1"
OTHER_REF = "vip.g3"


@dataclass
class Subject:
    """A store under test, and what is needed to look at it from outside."""

    store: SegmentStore
    window: int
    leaves_anything: Callable[[str], bool]
    neighbour: SegmentStore | None = None  # the same place under another prefix, where there are prefixes
    sdk: BigSegmentStore | None = None

    def write(self, add: list[str], remove: list[str] | None = None, ref: str = REF) -> WriteCounts:
        with self.store.session() as session:
            return session.write(SegmentPatch(ref, add, remove or []), lambda: None)


ON_REDIS = [f"{server}{prefix}" for server in ("fakeredis", "redis") for prefix in ("", "-empty-prefix", "-prefix")]
READ_BY_SDKS = [*ON_REDIS, "dynamodb", "dynamodb-prefix"]


@pytest.fixture(params=["memory", *READ_BY_SDKS])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    kind, _, prefix = request.param.partition("-")
    redis_prefix = {"": "launchdarkly", "empty-prefix": "", "prefix": "ours"}[prefix]
    if kind == "memory":
        yield _memory()
    elif kind == "fakeredis":
        yield from _redis(request.getfixturevalue("fake_redis_server"), redis_prefix, window=50)  # it is slow
    elif kind == "redis":
        yield from _redis(request.getfixturevalue("valkey"), redis_prefix, window=WINDOW)
    else:
        yield request.getfixturevalue("dynamodb_subjects")("ours" if prefix else "")


def _memory() -> Subject:
    store = MemoryStore()
    return Subject(store, 2_000, lambda key: context_hash(key).encode() in store._included)


def _redis(server: FakeRedisServer | ValkeyServer, prefix: str, window: int) -> Iterator[Subject]:
    store = RedisStore(RedisStoreConfiguration(host=server.host, port=server.port, prefix=prefix), window=window)
    sdk = Redis.new_big_segment_store(url=server.url, prefix=prefix)
    # A prefix is no pattern: this one would match both others.
    neighbour = RedisStore(RedisStoreConfiguration(host=server.host, port=server.port, prefix="*"), window=window)
    client = server.client()
    client.flushall()
    yield Subject(
        store,
        window,
        lambda key: any(context_hash(key).encode() in name for name in client.scan_iter()),
        neighbour,
        sdk,
    )
    sdk.stop()  # type: ignore[no-untyped-call]
    client.close()
    store.close()
    neighbour.close()


@pytest.fixture(scope="module")
def dynamodb_subjects(moto_server: MotoServer) -> Iterator[Callable[[str], Subject]]:
    """The subject of a prefix, on an emptied table. Their clients last: they take longer to make than a test."""
    table = "store-contract"
    client = moto_server.client()
    moto_server.create_table(table)
    with ExitStack() as stack:
        stack.callback(client.close)
        subjects = {prefix: _dynamodb(moto_server, table, prefix, client, stack) for prefix in ("", "ours")}
        subjects[""].neighbour, subjects["ours"].neighbour = subjects["ours"].store, subjects[""].store

        def on_empty_table(prefix: str) -> Subject:
            client.delete_table(TableName=table)
            moto_server.create_table(table)
            return subjects[prefix]

        yield on_empty_table


def _dynamodb(moto: MotoServer, table: str, prefix: str, client: Any, stack: ExitStack) -> Subject:
    where = {"region_name": moto.region, "endpoint_url": moto.url}
    sdk = DynamoDB.new_big_segment_store(table, prefix=prefix, dynamodb_opts=where)
    stack.callback(sdk.stop)
    window = 5  # moto does some 200 updates a second
    store = DynamoDBStore(
        DynamoDBStoreConfiguration(tableName=table, region=moto.region, endpoint=moto.url, prefix=prefix),
        window=window,
    )
    stack.callback(store.close)
    return Subject(
        store,
        window,
        lambda key: any(item["key"]["S"] == context_hash(key) for item in client.scan(TableName=table)["Items"]),
        sdk=sdk,
    )


def test_an_added_member_is_included(subject: Subject) -> None:
    assert subject.write(["ann"]) == WriteCounts(1, 0)
    assert subject.store.included("ann") == {REF}
    assert subject.store.included("bob") == set()


def test_a_removed_member_is_not_included_any_more(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    assert subject.write([], ["ann"]) == WriteCounts(0, 1)
    assert subject.store.included("ann") == set()
    assert subject.store.included("bob") == {REF}


def test_one_patch_may_add_some_and_remove_others(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    assert subject.write(["eve", "dan"], ["ann"]) == WriteCounts(2, 1)
    assert [key for key in ("ann", "bob", "dan", "eve") if subject.store.included(key)] == ["bob", "dan", "eve"]


def test_counts_tell_what_really_changed(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    assert subject.write(["bob", "eve"], ["ann", "never-was"]) == WriteCounts(1, 1)


def test_a_patch_applied_twice_is_a_patch_applied_once(subject: Subject) -> None:
    subject.write(["bob"])
    subject.write(["ann"], ["bob"])
    assert subject.write(["ann"], ["bob"]) == WriteCounts(0, 0)
    assert (subject.store.included("ann"), subject.store.included("bob")) == ({REF}, set())


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
    assert subject.store.included("ann") == {REF, OTHER_REF}
    subject.write([], ["ann"])
    assert subject.store.included("ann") == {OTHER_REF}


@pytest.mark.parametrize("key", ["zoë@example.com", "名前", "𐍈🎉", "with space:and*glob\r\n", "\x00", " ", "x" * 3_000])
def test_any_text_is_a_context_key(subject: Subject, key: str) -> None:
    assert subject.write([key]) == WriteCounts(1, 0)
    assert subject.store.included(key) == {REF}


def test_freshness_is_unknown_until_it_is_set_and_then_what_was_set(subject: Subject) -> None:
    sentinel = subject.store.claim("ours", 1)
    assert subject.store.synchronized_on() is None
    assert subject.store.set_synchronized_on(1_750_000_000_000, sentinel)
    assert subject.store.set_synchronized_on(1_750_000_030_000, sentinel)
    assert subject.store.synchronized_on() == 1_750_000_030_000


def test_applying_a_patch_does_not_touch_freshness(subject: Subject) -> None:
    subject.write(["ann"])
    assert subject.store.synchronized_on() is None
    subject.store.set_synchronized_on(17, subject.store.claim("ours", 1))
    subject.write(["bob"], ["ann"])
    assert subject.store.synchronized_on() == 17


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
    assert subject.store.synchronized_on() is None
    assert subject.store.sentinel() is None


@pytest.mark.parametrize("theirs", ["theirs", "ours-too", "our", "OURS"])
def test_freshness_is_not_written_into_a_store_that_is_anothers(subject: Subject, theirs: str) -> None:
    subject.store.claim(theirs, 1)
    assert not subject.store.set_synchronized_on(1_750_000_000_000, Sentinel("ours", 2))
    assert subject.store.synchronized_on() is None
    assert subject.store.sentinel() == Sentinel(theirs, 1)


def test_freshness_comes_with_a_beat(subject: Subject) -> None:
    subject.store.claim("ours", 1_750_000_000_000)
    assert subject.store.set_synchronized_on(17, Sentinel("ours", 1_750_000_010_000))
    assert subject.store.sentinel() == Sentinel("ours", 1_750_000_010_000)
    assert subject.store.synchronized_on() == 17


def test_a_late_heartbeat_may_lower_freshness_but_never_the_beat(subject: Subject) -> None:
    subject.store.claim("ours", 1_750_000_000_000)
    subject.store.set_synchronized_on(1_750_000_020_000, Sentinel("ours", 1_750_000_020_000))
    assert subject.store.set_synchronized_on(1_750_000_010_000, Sentinel("ours", 1_750_000_010_000))
    assert subject.store.synchronized_on() == 1_750_000_010_000
    assert subject.store.sentinel() == Sentinel("ours", 1_750_000_020_000)


# --- everything at once


def everything(store: SegmentStore) -> dict[bytes, set[str]]:
    pages = list(store.scan())
    assert all(pages), "a page is empty"
    return {hashed: refs for page in pages for hashed, refs in page}


def hash_of(key: str) -> bytes:
    return context_hash(key).encode()


def test_a_scan_tells_who_is_in_what(subject: Subject) -> None:
    subject.write(["ann", "bob", "zoë 🎉"])
    subject.write(["ann", "eve"], ["bob"], ref=OTHER_REF)
    assert everything(subject.store) == {
        hash_of("ann"): {REF, OTHER_REF},
        hash_of("bob"): {REF},
        hash_of("zoë 🎉"): {REF},
        hash_of("eve"): {OTHER_REF},
    }


def test_a_scan_does_not_tell_of_those_who_were_removed(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    subject.write([], ["ann"])
    assert everything(subject.store) == {hash_of("bob"): {REF}}


def test_a_scan_of_many_tells_of_each(subject: Subject) -> None:
    members = [f"user-{number}" for number in range(subject.window * 3 + 1)]
    subject.write(members)
    assert everything(subject.store) == {hash_of(member): {REF} for member in members}


def test_a_scan_may_be_left_before_its_end(subject: Subject) -> None:
    subject.write([f"user-{number}" for number in range(subject.window * 2)])
    pages = subject.store.scan()
    next(pages)
    pages.close()  # type: ignore[attr-defined]
    assert subject.write(["ann"]) == WriteCounts(1, 0)


def test_a_store_with_everything_but_members_holds_none(subject: Subject) -> None:
    subject.store.set_synchronized_on(17, subject.store.claim("ours", 1))
    assert not subject.store.holds_members()
    assert everything(subject.store) == {}


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
    assert not neighbour.holds_members()
    assert everything(neighbour) == {}
    assert neighbour.sentinel() is None
    assert neighbour.includes(REF, [hash_of("ann")]) == [False]
    assert not neighbour.set_synchronized_on(18, Sentinel("ours", 1))
    with neighbour.session() as session:
        session.write(SegmentPatch(REF, ["bob"], []), lambda: None)
    assert everything(subject.store) == {hash_of("ann"): {REF}}


def test_membership_of_many_is_told_in_their_order(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    subject.write(["eve"], ref=OTHER_REF)
    asked = [hash_of(key) for key in ("eve", "bob", "never-was", "ann", "bob")]
    assert subject.store.includes(REF, asked) == [False, True, False, True, True]
    assert subject.store.includes(REF, []) == []


def test_membership_of_more_than_one_request_can_ask_for(subject: Subject) -> None:
    members = [f"user-{number}" for number in range(max(2 * subject.window, 205) + 1)]
    subject.write(members[::40])
    found = subject.store.includes(REF, [hash_of(member) for member in members])
    assert [member for member, is_in in zip(members, found, strict=True) if is_in] == members[::40]


def remove(subject: Subject, *keys: str, ref: str = REF) -> int:
    with subject.store.session() as session:
        return session.remove_hashes(ref, [hash_of(key) for key in keys], lambda: None)


def test_those_whose_keys_nobody_knows_can_be_removed_by_hash(subject: Subject) -> None:
    subject.write(["ann", "bob"])
    subject.write(["ann"], ref=OTHER_REF)
    assert remove(subject, "ann", "never-was") == 1
    assert everything(subject.store) == {hash_of("ann"): {OTHER_REF}, hash_of("bob"): {REF}}
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
        assert set(everything(subject.store)) == {hash_of(member) for member in members[subject.window * 2 :]}
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
    assert subject.store.included("ann") == {REF}


def test_a_check_of_a_store_that_is_well_finds_nothing_and_leaves_nothing(subject: Subject) -> None:
    assert subject.store.check() == []
    assert not subject.store.holds_members()
    assert subject.store.sentinel() is None
    subject.write(["ann"])
    subject.store.set_synchronized_on(17, subject.store.claim("ours", 1))
    assert subject.store.check() == []
    assert everything(subject.store) == {hash_of("ann"): {REF}}
    assert (subject.store.sentinel(), subject.store.synchronized_on()) == (Sentinel("ours", 1), 17)


# --- windows, sessions, connections


def test_a_large_patch_asks_before_each_window(subject: Subject) -> None:
    members = [f"user-{number}" for number in range(subject.window * 3 + 1)]
    asked: list[None] = []
    with subject.store.session() as session:
        counts = session.write(SegmentPatch(REF, members, ["never-was"]), lambda: asked.append(None))
    assert counts == WriteCounts(len(members), 0)
    assert len(asked) == 4
    assert subject.store.included(members[0]) == subject.store.included(members[-1]) == {REF}


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
        assert not subject.store.included(members[written])
        if windows:
            assert subject.store.included(members[written - 1]) == {REF}
        # Everything sent was answered: the session is fit for another write, with counts of its own.
        assert session.write(SegmentPatch(REF, ["late"], []), lambda: None) == WriteCounts(1, 0)


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
    assert subject.store.included("user-0") == subject.store.included("user-19") == set(refs)


def test_two_open_sessions_do_not_disturb_each_other(subject: Subject) -> None:
    with subject.store.session() as one, subject.store.session() as two:
        assert one.write(SegmentPatch(REF, ["ann", "bob"], []), lambda: None) == WriteCounts(2, 0)
        assert two.write(SegmentPatch(REF, [], ["ann"]), lambda: None) == WriteCounts(0, 1)
        assert one.write(SegmentPatch(REF, ["ann"], []), lambda: None) == WriteCounts(1, 0)
    assert subject.store.included("ann") == {REF}


def test_a_closed_store_opens_again_when_it_is_used(subject: Subject) -> None:
    subject.write(["ann"])
    subject.store.close()
    subject.store.close()
    assert subject.store.included("ann") == {REF}
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
def test_launchdarklys_sdk_reads_the_membership_that_was_written(subject: Subject) -> None:
    sdk = subject.sdk
    assert sdk is not None
    subject.write(["ann", "zoë 🎉", "gone"])
    subject.write(["ann"], ["gone"], ref=OTHER_REF)
    subject.write([], ["gone"])
    assert sdk.get_membership(context_hash("ann")) == {REF: True, OTHER_REF: True}
    assert sdk.get_membership(context_hash("zoë 🎉")) == {REF: True}
    assert sdk.get_membership(context_hash("gone")) is None
    assert sdk.get_membership(context_hash("never-was")) is None


@pytest.mark.parametrize("subject", READ_BY_SDKS, indirect=True)
def test_launchdarklys_sdk_reads_the_freshness_that_was_set(subject: Subject) -> None:
    sdk = subject.sdk
    assert sdk is not None
    assert sdk.get_metadata().last_up_to_date is None
    sentinel = subject.store.claim("ours", 1)
    assert sdk.get_metadata().last_up_to_date is None
    subject.store.set_synchronized_on(1_750_000_000_000, sentinel)
    assert sdk.get_metadata().last_up_to_date == 1_750_000_000_000


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


@pytest.fixture(params=["memory", "redis", "dynamodb"])
def unreachable(request: pytest.FixtureRequest) -> Iterator[SegmentStore]:
    if request.param == "memory":
        memory = MemoryStore()
        memory.away = True
        yield memory
        return
    store: SegmentStore
    if request.param == "redis":
        store = RedisStore(RedisStoreConfiguration(host="127.0.0.1", port=free_port()))
    else:
        region = request.getfixturevalue("moto_server").region
        endpoint = f"http://127.0.0.1:{free_port()}"
        store = DynamoDBStore(DynamoDBStoreConfiguration(tableName="any", region=region, endpoint=endpoint))
    yield store
    store.close()


def _write_somebody(store: SegmentStore) -> None:
    with store.session() as session:
        session.write(SegmentPatch(REF, ["zoe-77"], ["bob-78"]), lambda: None)


USES: dict[str, Callable[[SegmentStore], object]] = {
    "write": _write_somebody,
    "included": lambda store: store.included("zoe-77"),
    "includes": lambda store: store.includes(REF, [hash_of("zoe-77")]),
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
