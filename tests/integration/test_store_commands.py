"""Several stores of one environment, added, paused, lost and removed by command while payloads keep arriving."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from deployment import Deployment, deployed, send
from servers import ValkeyServer, wait_until
from workload import PATH, Workload, assert_store_holds, refs_by_hash

from worker.records.tables import FORGOTTEN
from worker.sync.forget import GRACE_SECONDS, forget_removed

BATCHES = 100_000  # more than can be sent: the partner stops when the test is over
FOLLOW_SECONDS = 5.0  # within so long, every process follows a change of the records


class Partner:
    """Sends one payload after the other, except while it is held."""

    def __init__(self, url: str, token: str, workload: Workload) -> None:
        self.sent = 0
        self.failure: BaseException | None = None
        self._url, self._token, self._workload = url, token, workload
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is sent, and nothing is on its way."""
        with self._turn:
            yield
        self.check()

    def send_more(self, batches: int) -> None:
        """Return when so many more have been accepted."""
        goal = self.sent + batches

        def there() -> bool:
            self.check()
            return self.sent >= goal

        wait_until(there, 60, f"{batches} more batches")

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        headers = {"Authorization": self._token, "Content-Type": "application/json"}
        try:
            with httpx2.Client(headers=headers, timeout=10) as client:
                bodies = self._workload.bodies(BATCHES)
                while not self._over.wait(0.005):  # so long, the turn is another's who wants it
                    with self._turn:
                        send(client, [self._url], PATH, next(bodies))
                        self.sent += 1
        except BaseException as error:  # noqa: BLE001 - told by check(), in the test's own thread
            self.failure = error


class Stores:
    """The stores as the commands show them."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def run(self, *arguments: str) -> Any:
        """`segsync store … --json`."""
        return json.loads(self._deployment._run("store", *arguments, "--json"))

    def state(self, name: str) -> str:
        return str(self.run("show", name)["state"])

    def wait_for(self, name: str, state: str, seconds: float) -> float:
        """Returns after how many seconds the store was in that state."""
        began = time.monotonic()
        wait_until(lambda: self.state(name) == state, seconds, f"{name} {state}; {self._deployment.logs()[-3000:]}")
        return time.monotonic() - began

    def wait_until_applied(self, name: str, seconds: float) -> None:
        """Wait until nothing that was accepted is missing in the store."""
        wait_until(lambda: self.run("show", name)["lag"]["segmentsBehind"] == 0, seconds, f"{name} has everything")


@dataclass
class Scene:
    """An environment with two stores, both on and current, and a partner that goes on sending."""

    deployment: Deployment
    state: ValkeyServer
    first: ValkeyServer
    second: ValkeyServer
    partner: Partner
    stores: Stores
    workload: Workload
    second_id: str

    def both_hold_everything(self) -> None:
        """Everything that was accepted is in both stores, and nothing else."""
        with self.partner.held():
            self.first_holds_everything()
            self.stores.wait_until_applied("second", 60)
            assert_store_holds(self.second.url, self.workload)

    def first_holds_everything(self) -> None:
        """Everything that was accepted is in the first store; nothing is sent meanwhile."""
        self.stores.wait_until_applied("redis", 20)
        assert_store_holds(self.first.url, self.workload)

    def second_stays_as_it_is(self) -> None:
        """Batches are accepted and applied to the first store, and the second does not change."""
        before = content(self.second)
        self.partner.send_more(50)
        with self.partner.held():
            self.first_holds_everything()
            assert content(self.second) == before
            assert before != content(self.first)


@pytest.fixture
def scene(start_valkey: Callable[..., ValkeyServer], tmp_path: Path) -> Iterator[Scene]:
    """Two stores; the second was added by command after the first payloads."""
    state, first, second = (start_valkey() for _ in range(3))
    settings = {"SEGSYNC_DURABILITY": "memory", "SEGSYNC_STORE_URL": first.url}
    with deployed(state, tmp_path, workers=2, settings=settings) as deployment:
        workload = Workload(deployment.environment_id, seed=4, batch_members=50, people=300)
        stores = Stores(deployment)
        partner = Partner(deployment.start_receiver(), deployment.writer_token, workload)
        try:
            partner.send_more(50)
            added = stores.run("add", "second", "--redis-url", second.url)
            assert added["state"] == "new"
            print(f"a new store was current after {stores.wait_for('second', 'current', 60):.1f} s")
            with second.client() as reader:
                # Of batches that are some seconds old, a store that fills itself is as current as one that has them.
                wait_until(lambda: reader.dbsize() > 100, 60, "it has members")
            yield Scene(deployment, state, first, second, partner, stores, workload, added["id"])
        finally:
            partner.stop()


def test_a_new_store_fills_itself_while_payloads_keep_arriving_and_follows(scene: Scene) -> None:
    scene.both_hold_everything()
    scene.partner.send_more(50)
    scene.both_hold_everything()


def test_a_store_that_is_off_stays_as_it_is_while_the_other_follows_and_catches_up_once_it_is_on(scene: Scene) -> None:
    said = time.monotonic()
    scene.stores.run("off", "second")
    follow(said)
    scene.second_stays_as_it_is()
    shown = scene.stores.run("show", "second")
    assert shown["state"] == "off"
    assert shown["lag"]["batches"] > 0

    scene.stores.run("on", "second")
    print(f"a store that was off was current after {scene.stores.wait_for('second', 'current', 60):.1f} s")
    scene.both_hold_everything()


def test_a_dark_store_does_not_delay_the_other_and_catches_up(scene: Scene) -> None:
    scene.second.freeze()
    scene.stores.wait_for("second", "away", 60)
    for _ in range(3):
        scene.partner.send_more(50)
        with scene.partner.held():
            scene.stores.wait_until_applied("redis", 5)
            assert_store_holds(scene.first.url, scene.workload)
        listed = {store["name"]: store["state"] for store in scene.stores.run("list")}
        assert listed == {"redis": "current", "second": "away"}

    scene.second.thaw()
    print(f"a store that was dark was current after {scene.stores.wait_for('second', 'current', 90):.1f} s")
    scene.both_hold_everything()


def test_a_removed_store_keeps_its_content_is_not_written_and_is_forgotten(scene: Scene) -> None:
    scene.both_hold_everything()
    said = time.monotonic()
    scene.stores.run("remove", "second", "--yes")
    follow(said)
    scene.second_stays_as_it_is()
    assert content(scene.second)

    forget(scene)
    scene.partner.send_more(50)
    with scene.partner.held():
        scene.first_holds_everything()
    assert keys_of(scene.state, scene.second_id) == set()


def follow(began: float) -> None:
    """Wait until every process must have followed what was said then."""
    wait_until(lambda: time.monotonic() - began >= FOLLOW_SECONDS, FOLLOW_SECONDS + 1)


def forget(scene: Scene) -> None:
    """Do what the scheduler does when the minute is over."""
    assert keys_of(scene.state, scene.second_id)
    with scene.state.client() as client:
        client.zincrby(FORGOTTEN, -GRACE_SECONDS * 1000, scene.second_id)
    wiring = scene.deployment.wiring()
    try:
        assert forget_removed(wiring) == 1
    finally:
        wiring.close()


def content(server: ValkeyServer) -> dict[bytes, set[bytes]]:
    with server.client() as client:
        return refs_by_hash(client)


def keys_of(state: ValkeyServer, store_id: str) -> set[bytes]:
    with state.client() as client:
        return set(client.scan_iter(f"*{store_id}*"))
