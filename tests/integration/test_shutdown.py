"""Told to stop, every role is gone within ten seconds, whatever hangs; it lets its leases go, and nothing is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
import pytest
from deployment import Deployment, send
from servers import DURABLE, VOLATILE, ValkeyServer, wait_until
from workload import PATH, Workload, assert_store_holds

from worker.log.upkeep import StoreStatus

GONE_SECONDS = 10.0
STOPS_SECONDS = 5.0  # much, on a machine that is busy with other things
BATCHES = 60

StartValkey = Callable[..., ValkeyServer]
Deploy = Callable[..., Deployment]


@pytest.fixture(autouse=True)
def _hang_ups_are_not_ignored() -> Iterator[None]:
    """Also where nohup started the tests: a role that inherited that would go on, as it should."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def deploy(start_valkey: StartValkey, tmp_path: Path) -> Iterator[Deploy]:
    """Make a deployment of nobody yet, with workers of two processes, on a state server of its own."""
    made: list[Deployment] = []

    def make(kept: object = VOLATILE, **settings: str) -> Deployment:
        made.append(Deployment(start_valkey(kept), tmp_path, {"SEGSYNC_CONCURRENCY": "2", **settings}))
        return made[0]

    yield make
    for deployment in made:
        deployment.stop()


def accept(deployment: Deployment, batches: int = BATCHES) -> Workload:
    """Accept batches through a receiver, and end it; returns the model of what they amount to."""
    url = deployment.start_receiver()
    workload = Workload(deployment.environment_id, seed=7)
    headers = {"Authorization": deployment.writer_token, "Content-Type": "application/json"}
    with httpx2.Client(headers=headers, timeout=30) as client:
        for body in workload.bodies(batches):
            send(client, [url], PATH, body)
    stop(deployment.processes[-1])
    return workload


def cursors(deployment: Deployment) -> list[StoreStatus]:
    """Every store's cursor in every log."""
    wiring = deployment.wiring()
    try:
        stores = [store.store_id for store in wiring.stores_of(deployment.environment_id)]
        keys = wiring.segment_keys.registered(deployment.environment_id)
        statuses = wiring.upkeep.statuses(deployment.environment_id, keys, stores)
        return [store for status in statuses for store in status.stores.values()]
    finally:
        wiring.close()


def start_at_work(deployment: Deployment) -> subprocess.Popen[bytes]:
    """Start a worker; returns when it is in the midst of a drain."""
    worker = deployment.start("worker")
    wait_until(lambda: any(cursor.lease for cursor in cursors(deployment)), 30, "a worker that drains")
    return worker


def stop(
    process: subprocess.Popen[bytes], *numbers: signal.Signals, group: bool = False, may_be_cut_short: bool = False
) -> None:
    """Tell a process to stop, and see it go with all that it started."""
    family = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    for number in numbers or (signal.SIGTERM,):
        (os.killpg if group else os.kill)(process.pid, number)
        time.sleep(0.05)  # two signals of one kind at once are one
    try:
        code = process.wait(GONE_SECONDS)
        wait_until(lambda: are_gone(family), began + GONE_SECONDS - time.monotonic(), "its children gone")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    print(f"gone after {time.monotonic() - began:.1f} s, exit code {code}")
    assert code == 0 or (may_be_cut_short and code == 1)


def are_gone(family: list[psutil.Process]) -> bool:
    """Whether none of them runs; one that nobody has buried, in a container without an init, does not."""

    def is_gone(process: psutil.Process) -> bool:
        try:
            return bool(process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    return all(map(is_gone, family))


def continue_without_scheduler(deployment: Deployment, workload: Workload) -> None:
    """Nobody sweeps: what is left is found by the wake-ups alone, if none was lost."""
    deployment.start("worker")
    deployment.wait_until_applied(30)
    assert_store_holds(deployment.state.url, workload)


def recover(deployment: Deployment, workload: Workload, store: ValkeyServer | None = None) -> None:
    """With everybody back, what is left is found, after leases and wake-ups that nobody can vouch for have expired."""
    deployment.start("scheduler")
    deployment.start("worker")
    deployment.wait_until_applied(120)
    assert_store_holds((store or deployment.state).url, workload)


@pytest.mark.parametrize(
    ("numbers", "group"),
    [
        ((signal.SIGTERM,), False),
        ((signal.SIGTERM,), True),  # as systemd does it
        ((signal.SIGTERM, signal.SIGTERM), False),
        ((signal.SIGINT,), True),  # as a terminal does it
        ((signal.SIGHUP,), False),
    ],
)
def test_a_worker_at_work_lets_its_leases_go_and_the_next_one_goes_on_at_once(
    deploy: Deploy, numbers: tuple[signal.Signals, ...], *, group: bool
) -> None:
    deployment = deploy()
    workload = accept(deployment)
    worker = start_at_work(deployment)
    stop(worker, *numbers, group=group)
    left = cursors(deployment)
    assert not any(cursor.lease or cursor.marks for cursor in left)
    assert any(cursor.ahead for cursor in left), "it was done before it was told to stop: this shows nothing"
    continue_without_scheduler(deployment, workload)


def test_ctrl_c_twice_ends_a_worker_at_once(deploy: Deploy, start_valkey: StartValkey) -> None:
    store = start_valkey()
    deployment = deploy(SEGSYNC_STORE_URL=store.url)
    accept(deployment)
    worker = start_at_work(deployment)
    store.freeze()
    family = psutil.Process(worker.pid).children(recursive=True)
    os.killpg(worker.pid, signal.SIGINT)
    wait_until(lambda: "worker.stopping" in deployment.logs(), STOPS_SECONDS, "the first Ctrl-C taken")
    os.killpg(worker.pid, signal.SIGINT)
    assert worker.wait(STOPS_SECONDS) == 130  # after one alone it would go on waiting for the store, and end with 0
    wait_until(lambda: are_gone(family), STOPS_SECONDS)


def test_a_worker_whose_store_hangs_stops_in_time_without_its_leases(deploy: Deploy, start_valkey: StartValkey) -> None:
    store = start_valkey()
    deployment = deploy(SEGSYNC_STORE_URL=store.url)
    workload = accept(deployment)
    worker = start_at_work(deployment)
    store.freeze()
    stop(worker)
    assert not any(cursor.lease for cursor in cursors(deployment))
    store.thaw()
    recover(deployment, workload, store)


@pytest.mark.parametrize(("how", "for_seconds"), [("freeze", 0.0), ("freeze", 4.0), ("kill", 0.0), ("kill", 4.0)])
def test_a_worker_whose_state_server_is_away_stops_in_time(
    deploy: Deploy, start_valkey: StartValkey, how: str, for_seconds: float
) -> None:
    store = start_valkey()
    deployment = deploy(DURABLE, SEGSYNC_STORE_URL=store.url)
    workload = accept(deployment)
    worker = start_at_work(deployment)
    getattr(deployment.state, how)()
    time.sleep(for_seconds)
    stop(worker)
    if not for_seconds:
        deployment.state.thaw() if how == "freeze" else deployment.state.start()
        recover(deployment, workload, store)


def test_a_worker_whose_only_server_hangs_stops_in_time(deploy: Deploy) -> None:
    deployment = deploy()
    workload = accept(deployment)
    worker = start_at_work(deployment)
    deployment.state.freeze()
    # State, store and broker in one: each of them is waited for, one after the other.
    stop(worker, may_be_cut_short=True)
    deployment.state.thaw()
    recover(deployment, workload)


@pytest.mark.parametrize("role", ["worker", "scheduler"])
@pytest.mark.parametrize("how", ["freeze", "kill"])
def test_a_role_that_has_never_reached_its_broker_stops_in_time(
    deploy: Deploy, start_valkey: StartValkey, role: str, how: str
) -> None:
    broker = start_valkey()
    deployment = deploy(SEGSYNC_BROKER_URL=broker.url)
    getattr(broker, how)()
    process = deployment.start(role)
    # A server that is gone refuses, and Celery says so; one that hangs leaves it waiting, with nothing to say.
    wait_until(lambda: "Trying again" in deployment.logs() or has_connected_to(process, broker.port), 20)
    stop(process)


def has_connected_to(process: subprocess.Popen[bytes], port: int) -> bool:
    with suppress(psutil.Error):
        return any(each.raddr and each.raddr.port == port for each in psutil.Process(process.pid).net_connections())
    return False


@pytest.mark.parametrize("role", ["worker", "scheduler"])
@pytest.mark.parametrize("how", ["freeze", "kill"])
def test_a_role_whose_broker_is_away_stops_in_time(
    deploy: Deploy, start_valkey: StartValkey, role: str, how: str
) -> None:
    broker = start_valkey()
    deployment = deploy(SEGSYNC_BROKER_URL=broker.url)
    workload = accept(deployment)
    if role == "worker":
        process = start_at_work(deployment)
    else:
        process = deployment.start(role)
        wait_until(lambda: "ready." in deployment.logs(), 30, "a scheduler")
    getattr(broker, how)()
    time.sleep(4.0)  # it sweeps, or sends what is due, and finds nobody
    # Of a broker that hangs, a worker's processes and the worker itself take leave one after the other.
    stop(process, may_be_cut_short=how == "freeze")
    assert not any(cursor.lease for cursor in cursors(deployment))
    broker.thaw() if how == "freeze" else broker.start()
    recover(deployment, workload)


@pytest.mark.parametrize("who", ["state", "store"])
def test_a_scheduler_whose_servers_hang_stops_in_time(deploy: Deploy, start_valkey: StartValkey, who: str) -> None:
    store = start_valkey()
    deployment = deploy(SEGSYNC_STORE_URL=store.url)
    accept(deployment, 5)
    scheduler = deployment.start("scheduler")
    wait_until(lambda: "ready." in deployment.logs(), 30, "a scheduler")
    server = deployment.state if who == "state" else store
    server.freeze()
    time.sleep(4.0)
    stop(scheduler)
    server.thaw()


def test_a_process_of_the_pool_that_crashes_is_replaced_and_the_worker_goes_on(deploy: Deploy) -> None:
    deployment = deploy()
    worker = deployment.start("worker")

    def pool() -> set[int]:
        return {child.pid for child in psutil.Process(worker.pid).children()}

    wait_until(lambda: "ready." in deployment.logs() and len(pool()) == 2, 30, "a pool of two")
    before = pool()
    for pid in before:
        os.kill(pid, signal.SIGSEGV)
    wait_until(lambda: len(pool() - before) == 2, 20, "two new processes")
    workload = accept(deployment, 10)
    deployment.wait_until_applied(20)
    assert_store_holds(deployment.state.url, workload)
    stop(worker)


def test_every_process_of_the_pool_works_again_after_an_outage_in_the_midst_of_its_work(
    deploy: Deploy, start_valkey: StartValkey
) -> None:
    store = start_valkey()
    deployment = deploy(DURABLE, SEGSYNC_STORE_URL=store.url)
    accept(deployment)
    worker = start_at_work(deployment)
    os.kill(worker.pid, signal.SIGSTOP)  # everybody has failed by the time that it looks
    deployment.state.kill()
    time.sleep(1.0)
    os.kill(worker.pid, signal.SIGCONT)
    deployment.state.start()
    deployment.start("scheduler")
    deployment.wait_until_applied(120)

    def worked() -> dict[int, float]:
        return {child.pid: child.cpu_times().user for child in psutil.Process(worker.pid).children()}

    before = worked()

    def have_all_worked() -> bool:
        accept(deployment, 100)
        deployment.wait_until_applied(30)
        return all(seconds > before[pid] for pid, seconds in worked().items())

    wait_until(have_all_worked, 60, "work of every process of the pool")
    stop(worker)
    assert "pool.left" not in deployment.logs()


def test_a_process_of_the_pool_that_does_not_end_does_not_keep_the_worker(deploy: Deploy) -> None:
    deployment = deploy()
    worker = deployment.start("worker")
    pool = psutil.Process(worker.pid).children
    wait_until(lambda: "ready." in deployment.logs() and len(pool()) == 2, 30, "a pool of two")
    pool()[0].suspend()
    stop(worker)
    assert "pool.left" in deployment.logs()


MARKER = "person-of-the-fault"


def test_a_worker_whose_isolated_parser_is_at_work_stops_in_time_and_counts_no_crash(
    deploy: Deploy, tmp_path: Path
) -> None:
    log = tmp_path / "faults"
    deployment = deploy(
        PYTHONPATH=str(Path(__file__).parents[1] / "faults"),
        PYTHON_FAULTS_CRASH=MARKER,
        PYTHON_FAULTS_CRASH_IN="worker",
        PYTHON_FAULTS_HANG=MARKER,
        PYTHON_FAULTS_HANG_IN="isolated",
        PYTHON_FAULTS_UNLESS=str(tmp_path / "mended"),
        PYTHON_FAULTS_LOG=str(log),
    )
    url = deployment.start_receiver()
    body = {
        "environmentId": deployment.environment_id,
        "cohortId": "beta",
        "cohortName": "Beta",
        "contextKind": "user",
        "listData": {"add": [{"id": MARKER}], "remove": []},
    }
    headers = {"Authorization": deployment.writer_token}
    answer = httpx2.post(f"{url}/api/v2/segment-targets/rudderstack", json=body, headers=headers)
    assert answer.status_code == 204
    deployment.start("scheduler")
    worker = deployment.start("worker")
    # Its process dies of it, the lease expires, and the next one is careful.
    wait_until(lambda: log.exists() and "hang isolated" in log.read_text(), 60, "a hanging child")
    stop(worker)
    assert not any(cursor.lease for cursor in cursors(deployment))
    assert "batch.crashed" not in deployment.logs()
    (tmp_path / "mended").touch()
    deployment.start("worker")
    deployment.wait_until_applied(30)
    assert "batch.dead" not in deployment.logs()


class Partner:
    """One request whose body comes in two halves."""

    def __init__(self, deployment: Deployment, url: str, body: bytes) -> None:
        self._rest = body[len(body) // 2 :]
        self._connection = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=15)
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: segsync\r\nAuthorization: {deployment.writer_token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._connection.sendall(head.encode() + body[: len(body) // 2])

    def finish(self) -> int | None:
        """Send the rest; returns the status of the answer, None when there is none."""
        with suppress(OSError):
            self._connection.sendall(self._rest)
        return self.status()

    def status(self) -> int | None:
        try:
            answer = self._connection.recv(65_536)
        except OSError:
            return None
        finally:
            self._connection.close()
        return int(answer.split()[1]) if answer else None


def log_entries(deployment: Deployment) -> int:
    wiring = deployment.wiring()
    try:
        keys = wiring.segment_keys.registered(deployment.environment_id)
        return sum(status.batches for status in wiring.upkeep.statuses(deployment.environment_id, keys, []))
    finally:
        wiring.close()


def test_a_receiver_answers_what_is_in_flight_before_it_goes(deploy: Deploy) -> None:
    deployment = deploy()
    url = deployment.start_receiver()
    [body] = Workload(deployment.environment_id, seed=7).bodies(1)
    partner = Partner(deployment, url, body)
    statuses: list[int | None] = []
    later = threading.Timer(2.0, lambda: statuses.append(partner.finish()))
    later.start()
    stop(deployment.processes[-1])
    later.join()
    assert statuses == [204]
    assert log_entries(deployment) == 1


def test_a_receiver_does_not_wait_for_a_partner_that_stalls_and_stores_no_half(deploy: Deploy) -> None:
    deployment = deploy()
    url = deployment.start_receiver()
    [body] = Workload(deployment.environment_id, seed=7).bodies(1)
    partner = Partner(deployment, url, body)
    stop(deployment.processes[-1])
    assert partner.status() not in {200, 204}
    assert log_entries(deployment) == 0


TOLD_TWICE = """
import asyncio, os, signal, uvicorn
from worker.cli.receiver_server import ReceiverServer

async def nothing(scope, receive, send):
    pass

def tell():
    asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)

ReceiverServer(uvicorn.Config(nothing, lifespan="off", port=0), tell).run()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_receiver_that_is_told_to_stop_again_when_it_has_stopped_ends_as_if_told_once() -> None:
    ended = subprocess.run([sys.executable, "-c", TOLD_TWICE], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr


def test_a_receiver_whose_state_server_hangs_stops_in_time_and_nothing_lands_that_it_did_not_answer_for(
    deploy: Deploy,
) -> None:
    deployment = deploy()
    url = deployment.start_receiver()
    [warm, body] = Workload(deployment.environment_id, seed=7).bodies(2)
    assert Partner(deployment, url, warm).finish() == 204
    before = log_entries(deployment)
    stalled = Partner(deployment, url, body)
    deployment.state.freeze()
    partner = Partner(deployment, url, body)
    statuses: list[int | None] = []
    sending = threading.Thread(target=lambda: statuses.append(partner.finish()))
    sending.start()
    time.sleep(0.2)
    stop(deployment.processes[-1])
    sending.join()
    deployment.state.thaw()
    assert statuses[0] in {None, 503}
    assert stalled.status() not in {200, 204}
    assert log_entries(deployment) == before
