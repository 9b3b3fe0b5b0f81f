"""The Redis store on a real cluster: everything of the seam, slots that move under it, nodes that die and come back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from cluster_proxy import ClusterProxy
from ldclient.integrations import Redis
from redis_cluster import RedisCluster
from servers import redis_binary, wait_until

from worker.errors import Unavailable
from worker.model import RedisStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.layout import (
    context_hash,
    context_hashes,
    redis_include_key,
    redis_sentinel_key,
    redis_synchronized_on_key,
)
from worker.stores.redis import RedisStore
from worker.stores.redis.bulk import WINDOW
from worker.stores.redis.cells import CELL_SLOTS, SentinelCells
from worker.stores.redis.lanes import Lane, Lanes
from worker.stores.redis.session import RedisWriteSession
from worker.stores.redis.slots import slot_of, slots_under
from worker.stores.segment_store import Sentinel

REF = "beta-users.g1"
PREFIX = "launchdarkly"
MEMBERS = [f"user-{number}" for number in range(3 * WINDOW + 1)]
OpenStore = Callable[..., RedisStore]
# A killed primary is followed within a few seconds, on a machine that does nothing else.
FAILOVER_S = 60


@pytest.fixture(scope="module", params=["valkey", "redis"])
def shared_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """One cluster for those who leave its nodes as they are: of Valkey's server, and of Redis' own."""
    binary = redis_binary() if request.param == "redis" else None
    with RedisCluster(tmp_path_factory.mktemp("shared-cluster"), binary=binary) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: RedisCluster) -> RedisCluster:
    """The shared cluster, emptied."""
    shared_cluster.flush()
    return shared_cluster


@pytest.fixture
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster whose nodes may be killed."""
    with RedisCluster(tmp_path_factory.mktemp("own-cluster")) as cluster:
        yield cluster


@pytest.fixture
def open_store() -> Iterator[OpenStore]:
    """Open stores on a cluster: ``open_store(cluster, prefix=…)``; all are closed afterwards."""
    with ExitStack() as stores:

        def open_store(cluster: RedisCluster, prefix: str = PREFIX, **options: Any) -> RedisStore:
            store = RedisStore(RedisStoreConfiguration.from_url(cluster.url, prefix), **options)
            stores.callback(store.close)
            return store

        yield open_store


@pytest.fixture
def store(cluster: RedisCluster, open_store: OpenStore) -> RedisStore:
    return open_store(cluster)


def add(session: RedisWriteSession, *members: str) -> WriteCounts:
    return session.write(SegmentPatch(REF, list(members), []), lambda: None)


def write(store: RedisStore, add: list[str], remove: list[str] | None = None) -> WriteCounts:
    with store.session() as session:
        return session.write(SegmentPatch(REF, add, remove or []), lambda: None)


def process_of(store: RedisStore) -> str:
    with store.session() as session:
        return session.process


def all_in(store: RedisStore) -> set[bytes]:
    return {hashed for page in store.scan() for hashed, refs, _ in page if REF in refs}


def until_it_answers(use: Callable[[], Any], timeout_s: float = FAILOVER_S) -> Any:
    """Try until the store is not away any more; nothing else may go wrong meanwhile."""
    answers: list[Any] = []

    def answered() -> bool:
        try:
            answers.append(use())
        except Unavailable as fault:
            if fault.fault != "transient":
                raise
            return False
        return True

    wait_until(answered, timeout_s, "the store answers")
    return answers[0]


# --- everything on three nodes


@pytest.mark.parametrize("prefix", [PREFIX, "{tagged}", "a{b}:c"])
def test_members_on_three_nodes_are_written_read_scanned_and_removed_as_on_one(
    cluster: RedisCluster, open_store: OpenStore, prefix: str
) -> None:
    store = open_store(cluster, prefix)
    nodes = {cluster.owner(slot_of(redis_include_key(prefix, hashed.decode()))) for hashed in context_hashes(MEMBERS)}
    assert len(nodes) == (3 if prefix == PREFIX else 1)
    assert not store.holds_members()
    assert write(store, MEMBERS) == WriteCounts(len(MEMBERS), 0)
    assert write(store, MEMBERS[:10], MEMBERS[10:20]) == WriteCounts(0, 10)
    assert store.holds_members()
    expected = [member not in MEMBERS[10:20] for member in MEMBERS]
    assert store.includes_keys(REF, MEMBERS) == expected
    assert all_in(store) == set(context_hashes(MEMBERS[:10] + MEMBERS[20:]))
    assert (store.included(MEMBERS[0]), store.included(MEMBERS[10])) == ({REF}, set())
    with store.session() as session:
        assert session.remove_hashes(REF, context_hashes(MEMBERS), lambda: None) == len(MEMBERS) - 10
    assert not store.holds_members()


def test_launchdarklys_sdk_reads_what_lies_on_three_nodes(cluster: RedisCluster, store: RedisStore) -> None:
    write(store, MEMBERS[:20])
    assert store.set_synchronized_on(1_750_000_000_000, store.claim("ours", 1))
    with ClusterProxy(cluster) as proxy:
        sdk = Redis.new_big_segment_store(url=proxy.url, prefix=PREFIX)
        assert all(sdk.get_membership(context_hash(member)) == {REF: True} for member in MEMBERS[:20])
        assert sdk.get_membership(context_hash("never-was")) is None
        assert sdk.get_metadata().last_up_to_date == 1_750_000_000_000
        sdk.stop()  # type: ignore[no-untyped-call]


def test_a_window_asks_once_for_all_nodes(store: RedisStore) -> None:
    asked: list[None] = []
    with store.session() as session:
        assert session.write(SegmentPatch(REF, MEMBERS, []), lambda: asked.append(None)).added == len(MEMBERS)
    assert len(asked) == 4


def test_any_node_that_is_named_leads_to_all(cluster: RedisCluster) -> None:
    replica = cluster.replica_of(cluster.primaries()[0])
    store = RedisStore(RedisStoreConfiguration.from_url(f"redis+cluster://127.0.0.1:1,127.0.0.1:{replica}"))
    assert write(store, MEMBERS[:10]).added == 10
    assert store.check() == []
    store.close()


def test_a_check_looks_at_every_node_and_leaves_nothing(cluster: RedisCluster, store: RedisStore) -> None:
    assert store.check() == []
    assert all(cluster.ask(port, "DBSIZE") == 0 for port in cluster.primaries())
    forgetful = cluster.primaries()[1:]
    for port in forgetful:
        cluster.ask(port, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        faults = store.check()
        assert all("allkeys-lru" in fault for fault in faults)
        assert {port for port in forgetful if any(str(port) in fault for fault in faults)} == set(forgetful)
        assert len(faults) == len(forgetful)
    finally:
        for port in cluster.primaries():
            cluster.ask(port, "CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_a_member_whose_key_holds_another_type_is_refused_alone(cluster: RedisCluster, store: RedisStore) -> None:
    spoilt = MEMBERS[:: len(MEMBERS) // 5]
    with cluster.client() as client:
        for member in spoilt:
            client.set(redis_include_key(PREFIX, context_hash(member)), "not a set")
    counts = write(store, MEMBERS)
    assert counts.added == len(MEMBERS) - len(spoilt)
    assert {member.context_hash for member in counts.refused} == {context_hash(member) for member in spoilt}
    assert all_in(store) == set(context_hashes(MEMBERS)) - set(context_hashes(spoilt))


def test_a_store_that_is_no_cluster_says_so_and_a_cluster_that_is_taken_for_one_server_too(
    cluster: RedisCluster, valkey: Any, real_redis: redis.Redis
) -> None:
    single = RedisStore(RedisStoreConfiguration(mode="cluster", host=valkey.host, port=valkey.port))
    with pytest.raises(Unavailable, match="no node of a cluster") as raised:
        write(single, ["ann"])
    assert raised.value.fault == "configuration"
    single.close()
    taken = RedisStore(RedisStoreConfiguration(host=cluster.host, port=cluster.primaries()[0]))
    with pytest.raises(Unavailable, match=r"redis\+cluster://") as raised:
        write(taken, MEMBERS)
    assert raised.value.fault == "configuration"
    taken.close()


# --- fencing


def test_fencing_kills_the_connections_to_every_node_and_no_others(store: RedisStore) -> None:
    with store.session() as innocent, store.session() as victim:
        assert victim.connection is not None
        assert victim.connection.count(", ") == 2
        assert store.fence(victim.connection)
        for member in MEMBERS[:20]:
            with pytest.raises(Unavailable):
                add(victim, member)
        assert add(innocent, *MEMBERS[:20]).added == 20


def test_fencing_is_not_certain_while_one_node_is_away(own_cluster: RedisCluster, open_store: OpenStore) -> None:
    store = open_store(own_cluster)
    with store.session() as session:
        connection = session.connection or ""
    own_cluster.kill(own_cluster.primaries()[1])
    assert not store.fence(connection)


# --- whose store it is


def keys_of_the_sentinel(cluster: RedisCluster) -> set[bytes]:
    with cluster.client() as client:
        return set(client.scan_iter(f"{redis_sentinel_key(PREFIX)}*", target_nodes="primaries"))


def test_every_primary_has_the_sentinel(cluster: RedisCluster, store: RedisStore) -> None:
    store.claim("ours", 5)
    assert len(keys_of_the_sentinel(cluster)) == len(CELL_SLOTS) + 1
    for port in cluster.primaries():
        assert int(cluster.ask(port, "DBSIZE")) > 80
    with store.session() as session:
        assert session.sentinel == store.sentinel() == Sentinel("ours", 5)


def test_a_prefix_with_a_hash_tag_has_one_sentinel(cluster: RedisCluster, open_store: OpenStore) -> None:
    store = open_store(cluster, "{tagged}")
    store.claim("ours", 5)
    with cluster.client() as client:
        assert set(client.scan_iter(target_nodes="primaries")) == {b"{tagged}:segsync_sentinel"}


@pytest.mark.parametrize("number", range(3))
def test_a_primary_that_lost_what_it_had_is_noticed_at_checkout(
    cluster: RedisCluster, store: RedisStore, number: int
) -> None:
    sentinel = store.claim("ours", 5)
    assert store.set_synchronized_on(17, sentinel)
    cluster.ask(cluster.primaries()[number], "FLUSHALL")
    with store.session() as session:
        assert session.sentinel is None
    assert store.sentinel() is None
    assert not store.set_synchronized_on(18, sentinel)
    assert store.claim("new", 6) == store.claim("newer", 7) == store.sentinel() == Sentinel("new", 6)
    assert not store.set_synchronized_on(18, sentinel)
    assert store.set_synchronized_on(18, Sentinel("new", 8))
    with store.session() as session:
        assert session.sentinel == Sentinel("new", 8)


def test_a_primary_that_went_back_to_a_copy_makes_the_store_as_old_as_that_copy(
    cluster: RedisCluster, store: RedisStore
) -> None:
    sentinel = store.claim("ours", 5)
    for beat_ms, port in enumerate(cluster.primaries(), 10):
        assert store.set_synchronized_on(18, sentinel._replace(beat_ms=20 * beat_ms))
        for key in cluster.ask(port, "KEYS", f"{redis_sentinel_key(PREFIX)}:*"):
            cluster.ask(port, "SET", key, f"ours {beat_ms}")
        with store.session() as session:
            assert session.sentinel == store.sentinel() == Sentinel("ours", beat_ms)


def test_one_cell_that_is_gone_is_noticed_by_a_heartbeat_and_from_then_on_by_everybody(
    cluster: RedisCluster, store: RedisStore, open_store: OpenStore
) -> None:
    sentinel = store.claim("ours", 5)
    gone = SentinelCells(PREFIX)._cells[CELL_SLOTS[17]]
    with cluster.client() as client:
        client.delete(gone)
    assert not store.set_synchronized_on(18, sentinel)
    assert store.synchronized_on() is None
    with open_store(cluster).session() as session:
        assert session.sentinel is None
    assert store.claim("new", 6) == Sentinel("new", 6)
    assert store.set_synchronized_on(18, Sentinel("new", 7))


@pytest.mark.parametrize("each", [2, 1], ids=["amid the cells", "after them"])
def test_a_claim_that_was_cut_short_is_none_and_the_next_one_counts(
    cluster: RedisCluster, store: RedisStore, each: int
) -> None:
    cells = SentinelCells(PREFIX)
    with cluster.client() as client:
        client.set(cells._arbiter, "half-claimed 5?")
        for key in list(cells._cells.values())[::each]:
            client.set(key, "half-claimed 5")
    with store.session() as session:
        assert session.sentinel is None
    assert store.sentinel() is None
    assert not store.set_synchronized_on(18, Sentinel("half-claimed", 6))
    assert store.claim("mine", 7) == store.sentinel() == Sentinel("mine", 7)


def test_what_an_overtaken_claim_writes_late_is_taken_for_nobodys(cluster: RedisCluster, store: RedisStore) -> None:
    cells = SentinelCells(PREFIX)
    with cluster.client() as client:
        client.set(cells._arbiter, "overtaken 5?")
        store.claim("mine", 7)
        client.set(next(iter(cells._cells.values())), "overtaken 5")
    assert store.sentinel() is None
    assert store.claim("next", 8) == store.sentinel() == Sentinel("next", 8)


def test_of_claims_at_the_same_time_after_a_loss_one_wins_and_all_are_told_which(
    cluster: RedisCluster, store: RedisStore
) -> None:
    def claim(name: str) -> Sentinel:
        ready.wait()
        return store.claim(name, 1)

    store.claim("ours", 5)
    for turn in range(5):
        cluster.ask(cluster.primaries()[turn % 3], "FLUSHALL")
        names = [f"claim-{turn}-{number}" for number in range(4)]
        ready = threading.Barrier(len(names), timeout=30)
        with ThreadPoolExecutor(len(names)) as threads:
            [winner] = set(threads.map(claim, names))
        assert winner.incarnation in names
        assert store.sentinel() == winner


# --- slots that move


@pytest.fixture
def redirections(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a node was heard to say MOVED, or ASK."""
    counted = {"MOVED": 0, "ASK": 0}
    follow = Lanes.redirection

    def count(lanes: Lanes, lane: Lane, fault: BaseException) -> Any:
        found = follow(lanes, lane, fault)
        if found is not None:
            counted["ASK" if found[1] else "MOVED"] += 1
        return found

    monkeypatch.setattr(Lanes, "redirection", count)
    return counted


def test_members_in_a_slot_that_moves_are_followed_by_ask_and_then_by_moved(
    cluster: RedisCluster, open_store: OpenStore, redirections: dict[str, int]
) -> None:
    store = open_store(cluster, "{tagged}")
    store.claim("ours", 5)
    slot = slot_of("{tagged}")
    write(store, MEMBERS[:1000])
    target = next(port for port in cluster.primaries() if port != cluster.owner(slot))
    with store.session() as session:
        move = cluster.move_slot(slot, target)
        next(move)  # some keys have gone
        assert 0 < int(cluster.ask(target, "CLUSTER", "COUNTKEYSINSLOT", slot)) < 1001
        counts = session.write(SegmentPatch(REF, MEMBERS[500:], MEMBERS[:500]), lambda: None)
        assert (counts.added, counts.removed) == (len(MEMBERS) - 1000, 500)
        assert redirections["ASK"] > 500
        assert redirections["MOVED"] == 0
        asked = redirections["ASK"]
        assert store.includes_keys(REF, MEMBERS) == [number >= 500 for number in range(len(MEMBERS))]
        assert redirections["ASK"] > asked
        assert store.included(MEMBERS[-1]) == {REF}
        with pytest.raises(Unavailable, match="moving"):
            list(store.scan())
        with store.session() as during:
            assert during.sentinel == Sentinel("ours", 5)
        for _ in move:
            pass
        assert session.write(SegmentPatch(REF, MEMBERS[:100], []), lambda: None) == WriteCounts(100, 0)
        assert redirections["MOVED"] == 100
        # From then on it is known.
        assert session.write(SegmentPatch(REF, MEMBERS[:100], []), lambda: None) == WriteCounts(0, 0)
        assert redirections["MOVED"] == 100
    assert all_in(store) == set(context_hashes(MEMBERS[:100] + MEMBERS[500:]))
    assert store.sentinel() == Sentinel("ours", 5)


def test_the_later_of_two_patches_holds_though_both_are_sent_on_to_another_node(
    cluster: RedisCluster, open_store: OpenStore, redirections: dict[str, int]
) -> None:
    store = open_store(cluster, "{tagged}")
    slot, members = slot_of("{tagged}"), MEMBERS[:200]
    write(store, members)
    with store.session() as session:
        for _ in cluster.move_slot(slot, next(port for port in cluster.primaries() if port != cluster.owner(slot))):
            pass
        patches = [SegmentPatch(REF, [], members), SegmentPatch(REF, members[:100], [])]
        assert session.write_all(patches, lambda: None) == WriteCounts(100, 200)
    assert redirections["MOVED"] == 200
    assert store.includes_keys(REF, members) == [number < 100 for number in range(200)]


def test_both_lists_follow_their_keys_into_a_slot_that_moves(
    cluster: RedisCluster, open_store: OpenStore, redirections: dict[str, int]
) -> None:
    store = open_store(cluster, "{tagged}")
    slot, members = slot_of("{tagged}"), MEMBERS[:400]
    with store.session() as session:
        session.write(SegmentPatch(REF, members[:200], [], members[:200], []), lambda: None)
        move = cluster.move_slot(slot, next(port for port in cluster.primaries() if port != cluster.owner(slot)))
        next(move)
        counts = session.write(SegmentPatch(REF, members[200:], members[:100], [], members[100:300]), lambda: None)
        assert counts == WriteCounts(200, 100, removed_excluded=100)
        assert redirections["ASK"] > 0
        for _ in move:
            pass
        assert session.write(SegmentPatch(REF, [], [], members[300:], []), lambda: None).added_excluded == 100
        assert redirections["MOVED"] == 100
    assert store.includes_keys(REF, members) == [number >= 100 for number in range(400)]
    assert store.includes_keys(REF, members, "excluded") == [not 100 <= number < 300 for number in range(400)]


def test_while_slots_move_to_and_fro_everything_is_written_and_the_sentinel_stays(
    cluster: RedisCluster, store: RedisStore, redirections: dict[str, int]
) -> None:
    sentinel = store.claim("ours", 5)
    members = MEMBERS[:2000]
    moving = sorted(
        set(slots_under(PREFIX)(context_hashes(members[:20]))) | {64, slot_of(redis_synchronized_on_key(PREFIX))}
    )
    over = threading.Event()

    def move_all() -> None:
        try:
            for _ in range(2):
                for slot in moving:
                    target = next(port for port in cluster.primaries() if port != cluster.owner(slot))
                    for _ in cluster.move_slot(slot, target):
                        pass
        finally:
            over.set()

    with ThreadPoolExecutor(1) as threads:
        moved = threads.submit(move_all)
        turns = 0
        while not over.is_set() or turns % 2:
            patch = (
                SegmentPatch(REF, members, []) if turns % 2 == 0 else SegmentPatch(REF, members[1000:], members[:1000])
            )

            def apply(patch: SegmentPatch = patch) -> None:
                with store.session() as session:
                    assert session.sentinel == sentinel
                    session.write(patch, lambda: None)

            until_it_answers(apply)
            assert until_it_answers(lambda: store.set_synchronized_on(17, sentinel))
            turns += 1
        moved.result()
    assert redirections["MOVED"] + redirections["ASK"] > 0
    write(store, members[1000:], members[:1000])
    assert all_in(store) == set(context_hashes(members[1000:]))
    assert store.sentinel() == sentinel


def test_a_node_that_is_given_its_first_slot_is_met_at_the_next_checkout(
    own_cluster: RedisCluster, open_store: OpenStore
) -> None:
    store = open_store(own_cluster, "{tagged}")
    newcomer = own_cluster.join()
    with store.session() as session:
        add(session, *MEMBERS[:100])
        move = own_cluster.move_slot(slot_of("{tagged}"), newcomer)
        next(move)
        with pytest.raises(Unavailable, match="next try") as raised:
            add(session, *MEMBERS[100:200])
        assert (raised.value.fault, raised.value.fate_unknown) == ("transient", False)
    # The sentinel may be there by now as well: who has never seen a write fail meets the newcomer, too.
    fresh = open_store(own_cluster, "{tagged}")
    assert until_it_answers(lambda: write(fresh, MEMBERS[:100])) is not None
    with store.session() as session:
        assert add(session, *MEMBERS[100:200]).added > 0
        for _ in move:
            pass
        assert add(session, *MEMBERS[200:300]).added == 100
    wait_until(own_cluster.is_well, 30)
    assert all_in(store) == set(context_hashes(MEMBERS[:300]))


# --- nodes that die


def test_a_replica_that_takes_over_is_another_process_and_is_written_to(
    own_cluster: RedisCluster, open_store: OpenStore
) -> None:
    store = open_store(own_cluster)
    sentinel = store.claim("ours", 5)
    write(store, MEMBERS[:100])
    before = process_of(store)
    assert process_of(store) == before
    primary = own_cluster.primaries()[0]
    replica = own_cluster.replica_of(primary)
    with store.session() as session:
        own_cluster.ask(replica, "CLUSTER", "FAILOVER")
        wait_until(lambda: own_cluster.role(replica) == "master", FAILOVER_S)
        wait_until(lambda: own_cluster.role(primary) == "slave", FAILOVER_S)
        # The lanes are those of the former primaries: the new one is met at the next checkout.
        with pytest.raises(Unavailable) as raised:
            add(session, *MEMBERS)
        assert raised.value.fault == "transient"
    counts = until_it_answers(lambda: write(store, MEMBERS))
    assert counts.added > 0
    assert process_of(store) not in {"", before}
    assert store.sentinel() == sentinel
    assert all_in(store) == set(context_hashes(MEMBERS))


def test_a_primary_killed_in_a_write_leaves_an_unknown_fate_and_the_same_store_finds_its_replica(
    own_cluster: RedisCluster, open_store: OpenStore
) -> None:
    store = open_store(own_cluster)
    sentinel = store.claim("ours", 5)
    before = process_of(store)
    killed = own_cluster.primaries()[1]
    windows = iter(range(100))

    def kill_after_the_first() -> None:
        if next(windows) == 1:
            own_cluster.kill(killed)

    with store.session() as session:
        with pytest.raises(Unavailable) as raised:
            session.write(SegmentPatch(REF, MEMBERS, []), kill_after_the_first)
        assert (raised.value.fault, raised.value.fate_unknown) == ("transient", True)
        with pytest.raises(Unavailable) as raised:
            add(session, "ann")
        assert raised.value.fate_unknown
    until_it_answers(lambda: write(store, MEMBERS))
    assert process_of(store) not in {"", before}
    assert until_it_answers(lambda: store.set_synchronized_on(17, sentinel))
    assert all_in(store) == set(context_hashes(MEMBERS))
    own_cluster.servers[killed].start()
    wait_until(own_cluster.is_well, FAILOVER_S)
    assert write(store, MEMBERS) == WriteCounts(0, 0)
    assert store.check() == []


def test_a_primary_that_comes_back_without_its_data_has_lost_the_sentinel(
    own_cluster: RedisCluster, open_store: OpenStore
) -> None:
    store = open_store(own_cluster)
    sentinel = store.claim("ours", 5)
    write(store, MEMBERS)
    primary = own_cluster.primaries()[2]
    own_cluster.kill(own_cluster.replica_of(primary))
    own_cluster.kill(primary)
    own_cluster.servers[primary].start()

    def sentinel_at_checkout() -> Sentinel | None:
        with store.session() as session:
            return session.sentinel

    assert until_it_answers(sentinel_at_checkout) is None
    assert not until_it_answers(lambda: store.set_synchronized_on(17, sentinel))
    assert 0 < len(all_in(store)) < len(MEMBERS)


def test_a_store_that_has_met_the_cluster_needs_none_of_the_nodes_that_are_named(own_cluster: RedisCluster) -> None:
    named = own_cluster.primaries()[0]
    store = RedisStore(RedisStoreConfiguration.from_url(f"redis+cluster://127.0.0.1:{named}"))
    write(store, MEMBERS[:100])
    own_cluster.kill(named)
    assert until_it_answers(lambda: write(store, MEMBERS[100:200])) == WriteCounts(100, 0)
    assert until_it_answers(lambda: write(store, MEMBERS[:200])).removed == 0
    store.close()


def test_a_user_of_the_cluster_with_just_what_it_needs(cluster: RedisCluster) -> None:
    needed = "+sadd +srem +smembers +sismember +scan +get +set +del +eval +asking +cluster|slots +cluster|nodes"
    for _, port, _ in cluster.nodes:
        cluster.ask(port, "ACL", "SETUSER", "limited", "on", ">pass", "~launchdarkly:*", *needed.split())
    url = cluster.url.replace("://", "://limited:pass@")
    store = RedisStore(RedisStoreConfiguration.from_url(url))
    assert store.check() == []
    assert write(store, MEMBERS).added == len(MEMBERS)
    assert store.set_synchronized_on(17, store.claim("ours", 1))
    assert all_in(store) == set(context_hashes(MEMBERS))
    with store.session() as session:
        assert session.connection is None
    for _, port, _ in cluster.nodes:
        cluster.ask(port, "ACL", "SETUSER", "limited", "-cluster|slots")
    store.close()
    with pytest.raises(Unavailable, match="NOPERM") as raised:
        write(store, MEMBERS)
    assert raised.value.fault == "configuration"
    for _, port, _ in cluster.nodes:
        cluster.ask(port, "ACL", "DELUSER", "limited")


def test_what_the_nodes_refuse_during_a_failover_passes_by_itself(
    own_cluster: RedisCluster, open_store: OpenStore
) -> None:
    store = open_store(own_cluster)
    primary = own_cluster.primaries()[0]
    own_cluster.kill(own_cluster.replica_of(primary))
    own_cluster.kill(primary)
    survivor = own_cluster.primaries()[0]
    wait_until(lambda: b"cluster_state:fail" in own_cluster.ask(survivor, "CLUSTER", "INFO"), FAILOVER_S)
    for use in (
        lambda: write(store, MEMBERS),
        store.sentinel,
        lambda: store.claim("ours", 1),
        lambda: store.included("ann"),
    ):
        with pytest.raises(Unavailable) as raised:
            use()
        assert raised.value.fault == "transient"
    assert len(store.check()) == 1
