"""Backpressure over HTTP: what waits for the stores is bounded, before anything is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from servers import ValkeyServer, wait_until
from starlette.testclient import TestClient

from worker.log.pending import PENDING, Pending, write_pending
from worker.log.upkeep import Upkeep
from worker.model import RedisStoreConfiguration
from worker.receiver import app
from worker.records.directory import Environment
from worker.records.records import Records
from worker.records.tables import ENVIRONMENTS, write_record
from worker.settings import Settings

PATH = "/api/v2/segment-targets/rudderstack"


@dataclass
class Receiving:
    http: TestClient
    redis: redis.Redis

    def send(self, environment_id: str = "env-1", **changes: Any) -> Any:
        body = {"environmentId": environment_id, "cohortId": "c", "cohortName": "C", **changes}
        return self.http.post(PATH, json=body)

    def measure(self, size: int, *, waited_s: int = 0, old_s: int = 0) -> None:
        """What the scheduler would write of the first environment."""
        now_ms = Upkeep(self.redis).server_ms() - old_s * 1000
        idle = Pending(0, None, now_ms)
        write_pending(self.redis, {"env-1": Pending(size, now_ms - waited_s * 1000, now_ms), "env-2": idle})

    def wait_for(self, status: int, environment_id: str = "env-1") -> Any:
        return wait_until(
            lambda: answer if (answer := self.send(environment_id)).status_code == status else None,
            message=f"a {status}",
        )

    def stored(self) -> int:
        return sum(self.redis.xlen(key) for key in self.redis.keys("*:log"))


@pytest.fixture
def start(
    start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Receiving]]:
    """Start a receiver with these bounds."""
    monkeypatch.setattr(app, "REFRESH_SECONDS", 0.02)
    started: list[TestClient] = []

    def receive(**bounds: int) -> Receiving:
        server = start_valkey()
        client = server.client(decode_responses=False)
        store = RedisStoreConfiguration(host=server.host, port=server.port)
        made = Records(client).bootstrap(environment_id="env-1", store_configuration=store)
        other = Environment(environment_id="env-2", environment_key="other", project_key="default", name="Other")
        write_record(client, ENVIRONMENTS, "env-2", other.model_dump_json())
        settings = Settings(state_url=server.url, durability="memory", **bounds)  # type: ignore[arg-type]
        http = TestClient(app.create_receiver(settings), headers={"Authorization": str(made.writer_token)})
        started.append(http)
        return Receiving(http.__enter__(), client)

    yield receive
    for http in started:
        http.__exit__(None, None, None)


def test_beyond_the_bound_of_an_environment_payloads_are_429_and_nothing_of_them_is_stored(
    start: Callable[..., Receiving],
) -> None:
    receiving = start(most_pending_bytes=10_000)
    receiving.measure(10_001)
    receiving.wait_for(429)
    stored = receiving.stored()

    answer = receiving.send()

    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert "SEGSYNC_MOST_PENDING_BYTES=10000" in answer.json()["message"]
    assert int(answer.headers["Retry-After"]) > 0
    assert int(answer.headers["X-Ratelimit-Reset"]) > time.time() * 1000
    assert receiving.stored() == stored
    assert receiving.send("env-2").status_code == 204
    receiving.measure(9000)
    receiving.wait_for(204)


def test_beyond_the_bound_in_all_every_environment_is_answered_429(start: Callable[..., Receiving]) -> None:
    receiving = start(most_pending_bytes_in_all=10_000)
    receiving.measure(10_001)
    receiving.wait_for(429, "env-2")

    assert "SEGSYNC_MOST_PENDING_BYTES_IN_ALL=10000" in receiving.send("env-2").json()["message"]


@pytest.mark.parametrize("name", ["most_pending_seconds", "most_pending_seconds_in_all"])
def test_beyond_the_longest_wait_payloads_are_answered_429(start: Callable[..., Receiving], name: str) -> None:
    receiving = start(**{name: 30})
    receiving.measure(1, waited_s=31)
    answer = receiving.wait_for(429)
    assert f"SEGSYNC_{name.upper()}=30" in answer.json()["message"]
    receiving.measure(1, waited_s=29)
    receiving.wait_for(204)


def test_what_a_receiver_accepts_counts_before_the_scheduler_has_seen_it(start: Callable[..., Receiving]) -> None:
    receiving = start(most_pending_bytes=10_000)
    receiving.measure(1000)
    sent = 0
    while receiving.send(padding="x" * 1000).status_code == 204:
        sent += 1
        assert sent < 20
    assert receiving.send().status_code == 429
    assert sent >= 7


def test_a_receiver_with_a_backlog_stays_ready_and_names_it(start: Callable[..., Receiving]) -> None:
    receiving = start(most_pending_bytes=10_000, most_pending_bytes_in_all=10_000)
    receiving.measure(10_001)
    receiving.wait_for(429)

    ready = receiving.http.get("/readyz")

    assert (ready.status_code, ready.json()["status"], ready.json()["problems"]) == (200, "ready", [])
    assert [sentence.split(" is ")[0] for sentence in ready.json()["backlog"]] == [
        "what waits of all environments together",
        "what waits of environment env-1",
    ]


def test_figures_that_nobody_renews_are_not_believed(start: Callable[..., Receiving]) -> None:
    receiving = start(most_pending_bytes=10_000)
    receiving.measure(10_001, old_s=50)
    receiving.wait_for(429)
    receiving.measure(10_001, old_s=61)
    receiving.wait_for(204)


def test_without_a_scheduler_s_figures_payloads_are_taken(start: Callable[..., Receiving]) -> None:
    receiving = start(most_pending_bytes=1, most_pending_bytes_in_all=1)
    assert [receiving.send().status_code for _ in range(3)] == [204] * 3
    assert receiving.redis.exists(PENDING) == 0


def test_a_body_that_is_wrong_is_answered_400_beyond_its_environment_s_bound_as_well(
    start: Callable[..., Receiving],
) -> None:
    receiving = start(most_pending_bytes=10_000)
    receiving.measure(10_001)
    receiving.wait_for(429)
    assert receiving.send(contextKind="multi").status_code == 400
    assert receiving.send("elsewhere").status_code == 403
