"""The whole machine on a Redis Cluster whose primaries die: what SDKs read is what was accepted, at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from cluster_proxy import ClusterProxy
from ldclient.integrations import Redis
from redis_cluster import RedisCluster
from servers import ValkeyServer, wait_until
from sync_builders import Installation

from worker.errors import Unavailable
from worker.model import RedisStoreConfiguration, StoreRecord
from worker.stores.layout import context_hash, redis_include_key
from worker.stores.redis import RedisStore
from worker.stores.redis.slots import slot_of
from worker.sync.audit import Audit
from worker.sync.drain import Drained, drain
from worker.sync.freshness import Heartbeat

PREFIX = "launchdarkly"
PEOPLE = [f"user-{number}" for number in range(600)]
FAILOVER_S = 90


class ClusterInstallation(Installation):
    """The builders' installation, with a real store in place of the one in memory."""

    cluster: RedisCluster

    def _open(self, record: StoreRecord) -> RedisStore:  # type: ignore[override]  # noqa: ARG002
        return RedisStore(RedisStoreConfiguration.from_url(self.cluster.url, PREFIX))

    @property
    def record(self) -> StoreRecord:
        found = self.wiring.directory.fresh().store(self.store_id)
        assert found is not None
        return found

    @property
    def redis_store(self) -> RedisStore:
        found = self.wiring.stores.get(self.store_id)
        assert isinstance(found, RedisStore)
        return found

    def drain(self) -> Drained:
        """One drain; the circuit of the store never keeps it from trying."""
        self.wiring.circuits.reset(self.store_id)
        return drain(self.wiring, self.segment(), self.store_id)

    def drain_all(self) -> int:
        """Drain until nothing waits, through whatever passes by itself; how many batches that were."""
        batches = 0

        def idle() -> bool:
            nonlocal batches
            done = self.drain()
            assert done.outcome in {"applied", "idle", "away", "lost"}, done
            batches += done.batches
            return done.outcome == "idle"

        wait_until(idle, FAILOVER_S, "nothing waits")
        return batches

    def until_store_answers(self) -> None:
        def answers() -> bool:
            try:
                with self.redis_store.session():
                    return True
            except Unavailable as fault:
                if fault.fault != "transient":
                    raise
                return False

        wait_until(answers, FAILOVER_S, "the store answers")

    def agrees(self) -> bool:
        compared = Audit(self.wiring, self.record).run()
        return compared.agrees and not compared.uncertain


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def installation(cluster: RedisCluster, start_valkey: Callable[..., ValkeyServer]) -> Iterator[ClusterInstallation]:
    with start_valkey().client(decode_responses=False) as client:
        made = type("OnThisCluster", (ClusterInstallation,), {"cluster": cluster})(client)
        yield made
        made.wiring.stores.close()


@pytest.fixture
def read_by_sdk(cluster: RedisCluster, installation: ClusterInstallation) -> Iterator[Callable[[], set[str]]]:
    """Who is in the segment, asked of LaunchDarkly's SDK."""
    with ClusterProxy(cluster) as proxy:
        sdk = Redis.new_big_segment_store(url=proxy.url, prefix=PREFIX)

        def members() -> set[str]:
            ref = installation.segment().ref
            return {person for person in PEOPLE if (sdk.get_membership(context_hash(person)) or {}).get(ref)}

        yield members
        sdk.stop()  # type: ignore[no-untyped-call]


def port_of(cluster: RedisCluster, person: str) -> int:
    return cluster.owner(slot_of(redis_include_key(PREFIX, context_hash(person))))


def test_a_cohort_is_synced_through_the_death_of_a_primary(
    cluster: RedisCluster, installation: ClusterInstallation, read_by_sdk: Callable[[], set[str]]
) -> None:
    expected: set[str] = set()
    killed = cluster.primaries()[0]
    away = threading.Event()

    def accept(number: int) -> None:
        add = {PEOPLE[(number * 37 + offset) % len(PEOPLE)] for offset in range(40)}
        remove = {PEOPLE[(number * 53 + offset) % len(PEOPLE)] for offset in range(300, 320)} - add
        installation.accept(add=tuple(sorted(add)), remove=tuple(sorted(remove)))
        expected.difference_update(remove)
        expected.update(add)

    def kill_soon() -> None:
        away.wait(30)
        cluster.kill(killed)

    killer = threading.Thread(target=kill_soon)
    killer.start()
    outcomes = []
    for number in range(60):
        accept(number)
        if number == 20:
            away.set()
        outcomes.append(installation.drain().outcome)
    killer.join()
    assert "applied" in outcomes[:20]
    assert "away" in outcomes[20:]
    installation.drain_all()
    assert cluster.role(cluster.replica_of(killed)) == "master"
    assert read_by_sdk() == expected
    # With its node back, whatever a drain left open is known not to land any more.
    cluster.servers[killed].start()
    wait_until(cluster.is_well, FAILOVER_S)
    installation.drain_all()
    wait_until(installation.agrees, FAILOVER_S, "the audit")
    assert read_by_sdk() == expected


def test_what_a_primary_acknowledged_and_lost_is_folded_again_by_the_trail_of_apply_times(
    cluster: RedisCluster, installation: ClusterInstallation, read_by_sdk: Callable[[], set[str]]
) -> None:
    installation.accept(add=tuple(PEOPLE[:100]))
    assert installation.drain_all() == 1
    primary = port_of(cluster, "user-7")
    replica = cluster.replica_of(primary)
    incarnation = installation.redis_store.sentinel()
    wait_until(cluster.is_well)
    cluster.servers[replica].freeze()
    cluster.ask(primary, "CLIENT", "KILL", "TYPE", "replica")
    installation.accept(add=tuple(PEOPLE[100:200]), remove=("user-7",))
    assert installation.drain_all() == 1
    assert "user-7" not in read_by_sdk()
    cluster.kill(primary)
    cluster.servers[replica].thaw()
    wait_until(lambda: cluster.role(replica) == "master", FAILOVER_S, "the replica takes over")
    installation.until_store_answers()
    lost = read_by_sdk()
    assert "user-7" in lost  # acknowledged, and gone
    assert not set(PEOPLE[100:200]) <= lost
    assert installation.redis_store.sentinel() == incarnation  # no shard is lost: nothing is filled anew
    # Nothing was accepted since; but another process answers.
    assert installation.drain_all() == 2
    assert read_by_sdk() == set(PEOPLE[:200]) - {"user-7"}
    assert installation.agrees()


def test_a_shard_that_comes_back_empty_begins_another_life_of_the_store_and_is_filled_two_ways(
    cluster: RedisCluster, installation: ClusterInstallation, read_by_sdk: Callable[[], set[str]]
) -> None:
    installation.accept(add=tuple(PEOPLE[:200]))
    installation.accept(remove=tuple(PEOPLE[:20]))
    installation.drain_all()
    before = installation.redis_store.sentinel()
    primary = port_of(cluster, "user-100")
    stray = next(person for person in PEOPLE[300:] if port_of(cluster, person) != primary)
    cluster.kill(cluster.replica_of(primary))
    cluster.kill(primary)
    cluster.servers[primary].start()
    installation.until_store_answers()
    with cluster.client() as client:  # somebody whom no log knows
        client.sadd(redis_include_key(PREFIX, context_hash(stray)), installation.segment().ref)
    lost = read_by_sdk()
    assert "user-100" not in lost
    assert stray in lost
    assert installation.redis_store.sentinel() is None
    assert installation.drain_all() == 2
    after = installation.redis_store.sentinel()
    assert before is not None
    assert after is not None
    assert after.incarnation != before.incarnation
    # Those who were in the shards that stayed were not forgotten either: the store is to be compared both ways.
    assert installation.wiring.incarnations.notes(installation.store_id).strays_due
    assert Audit(installation.wiring, installation.record, repair=True).run().strays == 1
    installation.drain_all()
    assert read_by_sdk() == set(PEOPLE[20:200])
    assert installation.agrees()


def test_a_heartbeat_claims_nothing_for_a_cluster_with_a_lost_shard(
    cluster: RedisCluster, installation: ClusterInstallation
) -> None:
    heartbeat = Heartbeat(installation.wiring)

    def beats() -> bool:
        installation.wiring.circuits.reset(installation.store_id)
        heartbeat.beat()
        return installation.redis_store.synchronized_on() is not None

    installation.accept(add=tuple(PEOPLE[:200]))
    installation.drain_all()
    wait_until(beats, 30, "the first freshness")
    told = installation.redis_store.synchronized_on()
    cluster.ask(port_of(cluster, "user-100"), "FLUSHALL")
    heartbeat.beat()
    assert installation.redis_store.synchronized_on() in {told, None}
    assert installation.drain_all() == 1
    assert installation.agrees()
