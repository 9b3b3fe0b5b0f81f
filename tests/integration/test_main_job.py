"""The main job at volume, through two receivers and three workers: order, counts and nothing lost, also when killed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from deployment import Deployment, deployed, everything_applied, send
from servers import DURABLE, ValkeyServer, wait_until
from up_process import UpProcess
from workload import COHORTS, PATH, Workload, assert_store_holds

from worker.log.segments import read_segments
from worker.settings import Settings
from worker.wiring import Wiring

BATCHES = 1000

StartValkey = Callable[..., ValkeyServer]


def assert_counts_are_exact(deployment: Deployment, workload: Workload) -> None:
    """The segments' member counts are the model's, and say that they are exact."""
    wiring = deployment.wiring()
    keys = [f"segment-audiences-cohort-{cohort}" for cohort in range(COHORTS)]
    segments = read_segments(wiring.client, deployment.environment_id, keys)
    wiring.close()
    assert [segment.members for segment in segments] == [len(people) for people in workload.members]
    assert all(segment.members_exact for segment in segments)


def kill_workers_in_the_middle_of_a_drain(deployment: Deployment, feed: Callable[[], object]) -> None:
    """Freeze every worker at a moment when one of them holds a lease, kill them all, start as many anew.

    Until it is met, ``feed`` gives them more to do.
    """
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
        feed()
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
    assert_store_holds(deployment.state.url, workload)
    assert_counts_are_exact(deployment, workload)


@pytest.mark.timeout(300)
def test_nothing_accepted_is_lost_or_reordered_when_a_worker_and_the_state_server_are_killed(
    deployment: Deployment,
) -> None:
    urls = [deployment.start_receiver(), deployment.start_receiver()]
    workload = Workload(deployment.environment_id, seed=2)
    with httpx2.Client(headers={"Authorization": deployment.writer_token}, timeout=30) as client:
        more = workload.bodies(10_000)
        for number, body in enumerate(workload.bodies(BATCHES)):
            send(client, urls, PATH, body)
            if number in {BATCHES // 4, BATCHES // 2}:
                kill_workers_in_the_middle_of_a_drain(deployment, lambda: send(client, urls, PATH, next(more)))
            if number == BATCHES * 3 // 4:
                deployment.state.kill()
                deployment.state.start()
    deployment.wait_until_applied(150)
    assert_store_holds(deployment.state.url, workload)
    assert "lease.expired" in deployment.logs()


@pytest.mark.timeout(300)
def test_segsync_up_loses_nothing_when_its_server_and_its_worker_are_killed_under_load(tmp_path: Path) -> None:
    up = UpProcess(tmp_path / "data")
    try:
        facts = up.ready()
        workload = Workload(facts["environment_id"], seed=3)
        with httpx2.Client(headers={"Authorization": facts["writer_token"]}, timeout=30) as client:
            for number, body in enumerate(workload.bodies(200)):
                if number in {50, 150}:
                    up.child("worker").kill()
                if number == 100:
                    up.child("server").kill()
                send(client, [facts["url"]], PATH, body)
        wiring = Wiring(Settings(state_url=facts["state_url"]))
        wait_until(lambda: everything_applied(wiring, facts["environment_id"]), 120, "everything applied")
        wiring.close()
        assert_store_holds(facts["store"]["url"], workload)
        assert up.end() == 0
        assert up.descendants() == []
    finally:
        up.clean_up()
