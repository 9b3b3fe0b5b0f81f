"""A state server that is full, or refuses writes: payloads are answered 503, and nothing of them is stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import redis
from servers import VOLATILE, ValkeyServer, wait_until
from starlette.testclient import TestClient

from worker.errors import Unavailable
from worker.log.append import Appends
from worker.log.batch import Batch, Target
from worker.model import Cohort, RedisStoreConfiguration
from worker.receiver import state_server
from worker.receiver.app import create_receiver
from worker.records.records import Bootstrap, Records
from worker.registry import registration
from worker.settings import Settings

ENVIRONMENT = "env-1"
PATH = "/api/v2/segment-targets/amplitude"
COHORTS = {"one segment": ("c",), "several segments": ("c", "d", "e")}


@contextmanager
def full(server: ValkeyServer, client: redis.Redis) -> Iterator[None]:
    client.config_set("maxmemory", 1)
    yield
    client.config_set("maxmemory", 0)


@contextmanager
def without_its_replicas(server: ValkeyServer, client: redis.Redis) -> Iterator[None]:
    client.config_set("min-replicas-to-write", 1)
    yield
    client.config_set("min-replicas-to-write", 0)


@contextmanager
def without_its_disk(server: ValkeyServer, client: redis.Redis) -> Iterator[None]:
    in_the_way = server.directory / "dump.rdb" / "a file"
    in_the_way.parent.unlink(missing_ok=True)
    in_the_way.parent.mkdir()
    in_the_way.touch()
    client.config_set("save", "3600 1")
    client.bgsave()
    wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", message="a failed save")
    yield
    client.config_set("save", "")
    in_the_way.unlink()
    in_the_way.parent.rmdir()
    client.bgsave()
    wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok", message="a save")


@contextmanager
def demoted(server: ValkeyServer, client: redis.Redis) -> Iterator[None]:
    client.config_set("replica-serve-stale-data", "yes")
    client.replicaof("127.0.0.1", "1")
    yield
    client.replicaof("NO", "ONE")


REFUSING = {"OOM": full, "NOREPLICAS": without_its_replicas, "MISCONF": without_its_disk, "READONLY": demoted}


def stored(client: redis.Redis) -> dict[str, Any]:
    """Every key, and what it holds, but for the segments themselves, which may be there without an entry."""
    keys = [key.decode() for key in cast("list[bytes]", client.keys("segsync:*"))]
    return {key: client.dump(key) for key in keys if not key.endswith(":segment")}


def payload(cohorts: tuple[str, ...]) -> dict[str, Any]:
    members = [{"userId": "ann", "cohortId": cohort, "cohortName": "C", "value": True} for cohort in cohorts]
    return {"environmentId": ENVIRONMENT, "batch": members}


@pytest.fixture
def state(start_valkey: Callable[..., ValkeyServer]) -> ValkeyServer:
    return start_valkey(VOLATILE)


@pytest.fixture
def client(state: ValkeyServer) -> Iterator[redis.Redis]:
    with state.client(decode_responses=False) as opened:
        yield opened


@pytest.fixture
def made(state: ValkeyServer, client: redis.Redis) -> Bootstrap:
    store = RedisStoreConfiguration(host=state.host, port=state.port)
    return Records(client).bootstrap(environment_id=ENVIRONMENT, store_configuration=store)


@pytest.fixture
def http(state: ValkeyServer, made: Bootstrap, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(state_server, "FULL", float("inf"))  # else a full server is not even asked
    settings = Settings(state_url=state.url, durability="memory")
    with TestClient(create_receiver(settings), headers={"Authorization": str(made.writer_token)}) as started:
        yield started


@pytest.mark.parametrize("refusal", REFUSING)
@pytest.mark.parametrize("cohorts", COHORTS.values(), ids=COHORTS.keys())
def test_a_server_that_refuses_writes_gets_503_answered_and_keeps_nothing(
    http: TestClient, state: ValkeyServer, client: redis.Redis, cohorts: tuple[str, ...], refusal: str
) -> None:
    for known in (False, True):
        before = stored(client)
        with REFUSING[refusal](state, client):
            answer = http.post(PATH, json=payload(cohorts))
            assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
            assert int(answer.headers["Retry-After"]) > 0
            assert stored(client) == before, known
        wait_until(lambda: http.post(PATH, json=payload(cohorts)).status_code == 204, message="a 204")
        wait_until(lambda: client.llen("segsync:celery:segsync.drain") == len(cohorts), message="the wake-ups")


@pytest.mark.parametrize("refusal", REFUSING)
def test_as_long_as_a_server_refuses_writes_the_receiver_is_not_ready_and_says_why(
    http: TestClient, state: ValkeyServer, client: redis.Redis, refusal: str
) -> None:
    with REFUSING[refusal](state, client):
        wait_until(lambda: http.get("/readyz").status_code == 503, message="not ready")
        [problem] = http.get("/readyz").json()["problems"]
        assert problem.startswith("no payload can be stored: state server refused")
    wait_until(lambda: http.get("/readyz").status_code == 200, message="ready")


@pytest.mark.parametrize("size", [20_000, 200_000])
def test_a_server_that_a_payload_itself_fills_up_has_all_of_it_or_nothing(client: redis.Redis, size: int) -> None:
    outcomes = set()
    for room in range(0, 5 * size, size // 5):
        client.config_set("maxmemory", 0)
        client.flushall()
        members = {os.urandom(8).hex(): True for _ in range(size // 16)}
        targets = [Target(f"k{number}", Cohort(f"c{number}", members=members)) for number in range(3)]
        small = Batch("small", ENVIRONMENT, "user", "amplitude", "d", b"{}", [Target("k", Cohort("c"))], [], 10**15)
        Appends(client).append([small])
        for target in targets:  # as whoever allots their keys does
            client.hset(*registration(ENVIRONMENT, "amplitude", target.cohort.cohort_id, target.segment_key))
        before = stored(client)
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + room)
        large = Batch("large", ENVIRONMENT, "user", "amplitude", "d", os.urandom(size), targets, ["store"], 10**15)

        [outcome] = Appends(client).append([large])

        client.config_set("maxmemory", 0)
        lengths = [client.xlen(f"segsync:{{{ENVIRONMENT}/k{number}}}:g1:log") for number in range(3)]
        outcomes.add(type(outcome))
        if isinstance(outcome, Unavailable):
            assert lengths == [0, 0, 0]
            assert stored(client) == before
        else:
            assert lengths == [1, 1, 1]
    assert outcomes == {Unavailable, list}
