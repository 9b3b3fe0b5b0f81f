"""Durability by replicas: a 2xx means that a replica has the payload, and without one nobody is told so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from msgspec.structs import replace
from servers import VOLATILE, ValkeyServer, wait_until
from starlette.testclient import TestClient

from worker.errors import Unavailable
from worker.log import keyspace
from worker.log.append import REPLICAS_WITHIN_MS, Appends
from worker.log.batch import Batch, Target
from worker.model import Cohort, RedisStoreConfiguration
from worker.receiver.app import create_receiver
from worker.records.records import Bootstrap, Records
from worker.settings import Settings

ENVIRONMENT = "env-1"
SETTINGS = {**VOLATILE, "repl-diskless-sync-delay": "0"}


class Replicated:
    """A primary with a replica, and a receiver on it."""

    def __init__(self, primary: ValkeyServer, replica: ValkeyServer, http: TestClient) -> None:
        self.primary = primary
        self.replica = replica
        self.http = http

    def send(self, *cohorts: str) -> int:
        members = [{"userId": "ann", "cohortId": cohort, "cohortName": "C", "value": True} for cohort in cohorts]
        body: dict[str, Any] = {"environmentId": ENVIRONMENT, "batch": members}
        return self.http.post("/api/v2/segment-targets/amplitude", json=body).status_code

    def log_length(self, server: ValkeyServer, cohort: str = "c") -> int:
        with server.client() as client:
            return int(client.xlen(keyspace.base(ENVIRONMENT, f"amplitude-{cohort}") + ":g1:log"))


def online(primary: ValkeyServer) -> bool:
    with primary.client() as client:
        return bool(client.info("replication").get("slave0", {}).get("state") == "online")


@pytest.fixture
def pair(start_valkey: Callable[..., ValkeyServer]) -> tuple[ValkeyServer, ValkeyServer]:
    primary, replica = start_valkey(SETTINGS), start_valkey(SETTINGS)
    with replica.client() as client:
        client.replicaof(primary.host, primary.port)
    wait_until(lambda: online(primary), 20, "the replica to be online")
    return primary, replica


@pytest.fixture
def made(pair: tuple[ValkeyServer, ValkeyServer]) -> Bootstrap:
    primary, _ = pair
    with primary.client(decode_responses=False) as client:
        return Records(client).bootstrap(
            environment_id=ENVIRONMENT,
            store_configuration=RedisStoreConfiguration(host=primary.host, port=primary.port),
        )


@pytest.fixture
def replicated(pair: tuple[ValkeyServer, ValkeyServer], made: Bootstrap) -> Iterator[Replicated]:
    primary, replica = pair
    settings = Settings(state_url=primary.url, durability="replica")
    with TestClient(create_receiver(settings), headers={"Authorization": str(made.writer_token)}) as http:
        yield Replicated(primary, replica, http)


def test_what_was_answered_204_is_on_the_replica_by_then(replicated: Replicated) -> None:
    for sent in range(1, 101):
        assert replicated.send("c") == 204
        assert replicated.log_length(replicated.replica) == sent


def test_what_was_answered_204_survives_the_loss_of_the_primary(replicated: Replicated) -> None:
    assert [replicated.send("c", "d") for _ in range(20)] == [204] * 20

    replicated.primary.kill()

    with replicated.replica.client() as client:
        client.replicaof("NO", "ONE")
    assert [replicated.log_length(replicated.replica, cohort) for cohort in "cd"] == [20, 20]


@pytest.mark.parametrize("cohorts", [("c",), ("c", "d")], ids=["one segment", "several segments"])
def test_while_the_replica_does_not_confirm_payloads_are_answered_503_in_time(
    replicated: Replicated, cohorts: tuple[str, ...]
) -> None:
    assert replicated.send(*cohorts) == 204
    replicated.replica.freeze()
    started = time.monotonic()
    assert replicated.send(*cohorts) == 503
    assert REPLICAS_WITHIN_MS / 1000 <= time.monotonic() - started < REPLICAS_WITHIN_MS / 1000 + 1
    replicated.replica.thaw()
    wait_until(lambda: replicated.send(*cohorts) == 204, message="a 204")


def test_the_batches_of_a_group_share_one_wait_for_the_replica(pair: tuple[ValkeyServer, ValkeyServer]) -> None:
    primary, replica = pair
    several = [Target("k", Cohort("c")), Target("l", Cohort("d"))]
    batches = [
        Batch(f"b{number}", ENVIRONMENT, "user", "amplitude", "d", b"{}", targets, [], 10**15)
        for number, targets in enumerate([several[:1], several, several, several])
    ]
    with primary.client() as client:
        Appends(client).append([replace(batches[1], batch_id="before")])
        replica.freeze()
        started = time.monotonic()
        outcomes = Appends(client, replicas=1).append(batches)
    replica.thaw()
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert time.monotonic() - started < 2 * REPLICAS_WITHIN_MS / 1000


def test_a_payload_that_is_refused_for_its_own_fault_is_400_without_a_replica_as_well(replicated: Replicated) -> None:
    path = "/api/v2/segment-targets/rudderstack"
    body = {"environmentId": ENVIRONMENT, "cohortId": "c", "cohortName": "C"}
    assert replicated.http.post(path, json=body).status_code == 204
    replicated.replica.freeze()
    assert replicated.http.post(path, json=body | {"contextKind": "device"}).status_code == 400
    replicated.replica.thaw()


def test_a_repeated_append_waits_for_the_replica_though_it_writes_nothing(
    pair: tuple[ValkeyServer, ValkeyServer],
) -> None:
    """The first try's answer may have been lost: then the second one, on a new connection, finds the entry there."""
    primary, replica = pair
    batch = Batch("b", ENVIRONMENT, "user", "amplitude", "d", b"{}", [Target("k", Cohort("c"))], [], 10**15)
    client: redis.Redis = primary.client()
    assert Appends(client, replicas=1).append([batch]) == [[]]
    replica.freeze()
    Appends(client).append([batch])
    client.close()

    with primary.client() as anew:
        [outcome] = Appends(anew, replicas=1).append([batch])

    replica.thaw()
    assert isinstance(outcome, Unavailable)
    assert "0 of 1 replicas" in str(outcome)


def test_a_receiver_says_that_it_has_no_replica(start_valkey: Callable[..., ValkeyServer]) -> None:
    state = start_valkey(SETTINGS)
    with state.client(decode_responses=False) as client:
        Records(client).bootstrap(
            environment_id=ENVIRONMENT, store_configuration=RedisStoreConfiguration(host=state.host, port=state.port)
        )
    with TestClient(create_receiver(Settings(state_url=state.url, durability="replica"))) as http:
        [sentence] = http.get("/readyz").json()["broken_promises"]
    assert "has 0 replicas online" in sentence
