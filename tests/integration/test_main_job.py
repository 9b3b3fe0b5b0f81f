"""The main job at volume, through two receivers and three workers: order, counts and nothing lost, also when killed."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import msgspec
import pytest
import redis
from deployment import Deployment, deployed, send
from servers import DURABLE, ValkeyServer, wait_until

from worker.log.segments import read_segments
from worker.stores.layout import context_hashes

COHORTS = 20
BATCHES = 1000
MEMBERS = 1000
PEOPLE = 5000  # of each cohort: every one of them is added and removed many times over
PATH = "/api/v2/segment-targets/segment-audiences"

StartValkey = Callable[..., ValkeyServer]


@dataclass
class Workload:
    """Batches for several cohorts in a fixed random order, and the plain model of what they amount to."""

    environment_id: str
    seed: int
    members: list[set[str]] = field(default_factory=lambda: [set() for _ in range(COHORTS)])

    def bodies(self, batches: int) -> Iterator[bytes]:
        """Each body once; the model has it applied when it is yielded."""
        dice = random.Random(self.seed)
        for _ in range(batches):
            cohort = dice.randrange(COHORTS)
            batch = []
            for person in dice.sample(range(PEOPLE), MEMBERS):
                key, value = f"person-{person:05}-of-{cohort}", dice.random() < 0.5
                (self.members[cohort].add if value else self.members[cohort].discard)(key)
                batch.append(
                    {"userId": key, "cohortId": f"cohort-{cohort}", "cohortName": f"Cohort {cohort}", "value": value}
                )
            yield msgspec.json.encode({"environmentId": self.environment_id, "contextKind": "user", "batch": batch})


def refs_by_hash(client: redis.Redis) -> dict[bytes, set[bytes]]:
    """Everything in the store: context hash -> segment refs."""
    keys = list(client.scan_iter("launchdarkly:big_segment_include:*", count=10_000))
    found: dict[bytes, set[bytes]] = {}
    for start in range(0, len(keys), 5000):
        with client.pipeline(transaction=False) as pipe:
            for key in keys[start : start + 5000]:
                pipe.smembers(key)
            found.update(
                (key.rpartition(b":")[2], refs)
                for key, refs in zip(keys[start : start + 5000], pipe.execute(), strict=True)
            )
    return found


def assert_store_holds(state: ValkeyServer, workload: Workload) -> None:
    """The store's membership is the model's: nobody missing, nobody too many."""
    expected: dict[bytes, set[bytes]] = {}
    for cohort, people in enumerate(workload.members):
        for context_hash in context_hashes(sorted(people)):
            expected.setdefault(context_hash, set()).add(f"segment-audiences-cohort-{cohort}.g1".encode())
    client = state.client(socket_timeout=30)
    found = refs_by_hash(client)
    client.close()
    wrong = [
        context_hash
        for context_hash in expected.keys() | found.keys()
        if expected.get(context_hash) != found.get(context_hash)
    ]
    assert not wrong, f"{len(wrong)} of {len(expected)} contexts are wrong"


def assert_counts_are_exact(deployment: Deployment, workload: Workload) -> None:
    """The segments' member counts are the model's, and say that they are exact."""
    wiring = deployment.wiring()
    keys = [f"segment-audiences-cohort-{cohort}" for cohort in range(COHORTS)]
    segments = read_segments(wiring.client, deployment.environment_id, keys)
    wiring.close()
    assert [segment.members for segment in segments] == [len(people) for people in workload.members]
    assert all(segment.members_exact for segment in segments)


def kill_workers_in_the_middle_of_a_drain(deployment: Deployment) -> None:
    """Freeze every worker at a moment when one of them holds a lease, kill them all, start as many anew."""
    wiring = deployment.wiring()
    stores = [store.store_id for store in wiring.stores_of(deployment.environment_id)]

    def leases() -> bool:
        keys = wiring.segment_keys.registered(deployment.environment_id)
        statuses = wiring.upkeep.statuses(deployment.environment_id, keys, stores)
        return any(store.lease for status in statuses for store in status.stores.values())

    def frozen_in_a_drain() -> bool:
        for worker in deployment.workers:
            deployment.signal(worker, signal.SIGSTOP)
        if leases():
            return True
        for worker in deployment.workers:
            deployment.signal(worker, signal.SIGCONT)
        return False

    wait_until(frozen_in_a_drain, 30, "a worker frozen while it drains")
    wiring.close()
    for worker in deployment.workers:
        deployment.kill(worker)
        deployment.start("worker")


@pytest.fixture
def deployment(start_valkey: StartValkey, tmp_path: Path) -> Iterator[Deployment]:
    """Three workers on a state server that keeps what it answers, as `segsync up` has it."""
    with deployed(start_valkey(DURABLE), tmp_path, workers=3) as started:
        yield started


@pytest.mark.timeout(300)
def test_a_thousand_batches_over_twenty_cohorts_end_as_sent(deployment: Deployment) -> None:
    urls = [deployment.start_receiver(), deployment.start_receiver()]
    workload = Workload(deployment.environment_id, seed=1)
    with httpx2.Client(headers={"Authorization": deployment.writer_token}, timeout=30) as client:
        for number, body in enumerate(workload.bodies(BATCHES)):
            answer = client.post(urls[number % 2] + PATH, content=body)
            assert answer.status_code == 204, answer.text
    deployment.wait_until_applied()
    assert_store_holds(deployment.state, workload)
    assert_counts_are_exact(deployment, workload)


@pytest.mark.timeout(300)
def test_nothing_accepted_is_lost_or_reordered_when_a_worker_and_the_state_server_are_killed(
    deployment: Deployment,
) -> None:
    urls = [deployment.start_receiver(), deployment.start_receiver()]
    workload = Workload(deployment.environment_id, seed=2)
    with httpx2.Client(headers={"Authorization": deployment.writer_token}, timeout=30) as client:
        for number, body in enumerate(workload.bodies(BATCHES)):
            if number in {BATCHES // 4, BATCHES // 2}:
                kill_workers_in_the_middle_of_a_drain(deployment)
            if number == BATCHES * 3 // 4:
                deployment.state.kill()
                deployment.state.start()
            send(client, urls, PATH, body)
    deployment.wait_until_applied(150)
    assert_store_holds(deployment.state, workload)
    assert "lease.expired" in deployment.logs()
