"""The receiver while the state server is away: nothing is lost, nobody is told otherwise, and it recovers by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from servers import DURABLE, TcpProxy, ValkeyServer, wait_until
from starlette.testclient import TestClient

from worker.log import keyspace
from worker.model import RedisStoreConfiguration
from worker.receiver.app import create_receiver
from worker.receiver.appender import APPEND_WITHIN_SECONDS
from worker.records.records import Bootstrap, Records
from worker.settings import Settings

PATH = "/api/v2/segment-targets/rudderstack"


class Receiving:
    """A receiver on a state server that the test may kill."""

    def __init__(self, state: ValkeyServer, client: TestClient, made: Bootstrap) -> None:
        self.state = state
        self.made = made
        self._client = client

    def send(self, cohort: str = "c1", token: str | None = None) -> int:
        body: dict[str, Any] = {"environmentId": self.made.environment_id, "cohortId": cohort, "cohortName": "C"}
        headers = {"Authorization": token or str(self.made.writer_token)}
        return int(self._client.post(PATH, json=body, headers=headers).status_code)

    def ready(self) -> int:
        return int(self._client.get("/readyz").status_code)

    def log_length(self, cohort: str = "c1") -> int:
        client = self.state.client()
        try:
            key = keyspace.base(self.made.environment_id, f"rudderstack-{cohort}") + ":g1:log"
            return int(client.xlen(key))
        finally:
            client.close()


@pytest.fixture
def receiving(start_valkey: Callable[..., ValkeyServer]) -> Iterator[Receiving]:
    state = start_valkey(DURABLE)
    made = Records(state.client()).bootstrap(
        environment_id=None, store_configuration=RedisStoreConfiguration(host=state.host, port=state.port)
    )
    with TestClient(create_receiver(Settings(state_url=state.url))) as client:
        yield Receiving(state, client, made)


def test_while_the_state_server_is_away_payloads_are_answered_503(receiving: Receiving) -> None:
    assert receiving.send() == 204
    receiving.state.kill()
    assert receiving.send() == 503
    wait_until(lambda: receiving.ready() == 503, message="not ready")
    receiving.state.start()
    assert receiving.send() == 204
    wait_until(lambda: receiving.ready() == 200, message="ready again")


def test_a_state_server_that_restarts_at_once_costs_a_wait_and_no_error(receiving: Receiving) -> None:
    assert receiving.send() == 204
    receiving.state.kill()
    restart = threading.Timer(0.3, receiving.state.start)
    restart.start()
    assert receiving.send() == 204
    restart.join()
    assert receiving.log_length() == 2


def test_what_was_answered_204_is_there_after_a_kill_of_the_state_server(receiving: Receiving) -> None:
    accepted = 0
    stop = threading.Event()

    def keep_sending(_: int) -> int:
        count = 0
        while not stop.is_set():
            count += receiving.send() == 204
        return count

    with ThreadPoolExecutor(8) as pool:
        senders = [pool.submit(keep_sending, number) for number in range(8)]
        wait_until(lambda: receiving.log_length() > 200, message="a good many")
        receiving.state.kill()
        stop.set()
        receiving.state.start()
        accepted = sum(sender.result() for sender in senders)
    # What was appended but never answered may be there too: the partner will send it again.
    assert accepted <= receiving.log_length() <= accepted + 8


def test_requests_to_a_state_server_that_hangs_are_all_answered_in_time_and_nothing_of_them_lands_later(
    receiving: Receiving,
) -> None:
    assert receiving.send("known") == 204
    receiving.state.freeze()
    started = time.monotonic()
    with ThreadPoolExecutor(40) as pool:
        cohorts = ["known"] * 20 + [f"new-{number}" for number in range(20)]
        answers = list(pool.map(receiving.send, cohorts))
    took = time.monotonic() - started
    receiving.state.thaw()
    assert answers == [503] * 40
    assert took < APPEND_WITHIN_SECONDS + 5
    wait_until(lambda: receiving.send("known") == 204, message="a 204")
    assert [receiving.log_length(cohort) for cohort in ("known", "new-0", "new-19")] == [2, 0, 0]


def test_a_state_server_that_lost_what_it_took_last_without_anybody_noticing_gets_it_back(receiving: Receiving) -> None:
    """A replica that took over: it has all that was written before some moment, and a segment after its registry."""
    assert receiving.send() == 204
    segments = f"segsync:{{{receiving.made.environment_id}}}:segments"
    with receiving.state.client() as client:
        base = keyspace.base(receiving.made.environment_id, "rudderstack-c1")
        client.delete(segments, "segsync:manifests", *client.scan_iter(f"{base}:*"))
        assert receiving.send() == 204
        assert client.hkeys(segments) == [b"rudderstack-c1"]
        assert client.hlen("segsync:manifests") == 1


def test_a_state_server_that_is_nearly_full_takes_no_more_until_there_is_room(receiving: Receiving) -> None:
    with receiving.state.client() as client:
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", used + 1000)
        wait_until(lambda: receiving.send() == 429, message="a 429")
        client.config_set("maxmemory", 0)
        wait_until(lambda: receiving.send() == 204, message="a 204")


def test_one_record_that_this_version_cannot_read_does_not_stop_the_others_from_taking_effect(
    receiving: Receiving,
) -> None:
    with receiving.state.client() as client:
        client.hset("segsync:stores", "newer", "{}")
        Records(client).bootstrap(
            environment_id=None,
            store_configuration=RedisStoreConfiguration(host=receiving.state.host, port=receiving.state.port),
            writer_token="a-second-writer-token",
        )
        wait_until(lambda: receiving.send(token="a-second-writer-token") == 204, message="the new token to work")


def test_a_state_server_that_comes_back_empty_gets_the_registry_of_segments_again(receiving: Receiving) -> None:
    assert receiving.send() == 204
    client = receiving.state.client()
    receiving.state.kill()
    for file in receiving.state.directory.glob("appendonlydir/*"):
        file.unlink()
    assert receiving.send() == 503
    receiving.state.start()
    Records(client).bootstrap(
        environment_id=receiving.made.environment_id,
        store_configuration=RedisStoreConfiguration(host=receiving.state.host, port=receiving.state.port),
        writer_token=receiving.made.writer_token,
    )
    wait_until(lambda: receiving.send() == 204, 20, "a 204")
    segments = f"segsync:{{{receiving.made.environment_id}}}:segments"
    assert client.hkeys(segments) == [b"rudderstack-c1"]
    assert client.hlen("segsync:manifests") == 1
    client.close()


def test_a_state_server_that_is_a_replica_now_is_left_for_whom_its_address_means_now(
    start_valkey: Callable[..., ValkeyServer],
) -> None:
    former, promoted = start_valkey(DURABLE), start_valkey({**DURABLE, "repl-diskless-sync-delay": "0"})
    store = RedisStoreConfiguration(host=former.host, port=former.port)
    with former.client() as primary, promoted.client() as replica, TcpProxy((former.host, former.port)) as address:
        made = Records(primary).bootstrap(environment_id=None, store_configuration=store)
        with TestClient(create_receiver(Settings(state_url=f"redis://127.0.0.1:{address.port}"))) as client:
            receiving = Receiving(promoted, client, made)
            assert receiving.send() == 204
            replica.replicaof(former.host, str(former.port))
            wait_until(lambda: receiving.log_length() == 1, message="a replica that has it all")

            replica.replicaof("NO", "ONE")
            primary.replicaof(promoted.host, str(promoted.port))
            address.turn_to((promoted.host, promoted.port))

            wait_until(lambda: receiving.send() == 204, message="a 204")
            wait_until(lambda: receiving.send("new") == 204, message="a 204 for a segment that must be asked for")
            wait_until(lambda: receiving.ready() == 200, message="ready again")
            assert receiving.log_length("new") == 1
