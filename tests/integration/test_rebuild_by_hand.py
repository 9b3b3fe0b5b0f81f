"""A store that lost its content and waits for a person is written anew by command, while payloads keep arriving."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2
from deployment import Deployment, deployed, send
from servers import ValkeyServer, wait_until
from workload import PATH, Workload, assert_store_holds

BATCHES = 100_000  # more than can be sent


def test_a_wiped_store_is_written_anew_by_command_and_holds_what_was_accepted(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    state, store = start_valkey(), start_valkey()
    with deployed(state, tmp_path, workers=2, settings={"SEGSYNC_DURABILITY": "memory"}) as deployment:
        deployment.command("store", "add", "second", "--redis-url", store.url, "--no-rebuild-when-wiped")
        url = deployment.start_receiver()
        workload = Workload(deployment.environment_id, seed=3, batch_members=50, people=300)
        bodies = workload.bodies(BATCHES)
        over = threading.Event()

        def send_some(count: int) -> None:
            with httpx2.Client(headers={"Authorization": deployment.writer_token}, timeout=10) as client:
                for _ in range(count):
                    if over.is_set():
                        return
                    send(client, [url], PATH, next(bodies))

        send_some(200)
        deployment.wait_until_applied()
        with store.client() as client:
            client.flushall()
        send_some(20)
        wait_until(lambda: state_of(deployment, "second") == "wiped", 60, "the wiped store noticed")

        partner = threading.Thread(target=send_some, args=(BATCHES,))
        partner.start()
        try:
            rebuilt = json.loads(deployment.command("rebuild", "--store", "second", "--json"))
        finally:
            over.set()
            partner.join()
        assert (rebuilt["afterWipe"], rebuilt["segments"], rebuilt["missing"]) == (True, 20, 0)
        deployment.wait_until_applied()
        assert_store_holds(store.url, workload)
        assert_store_holds(state.url, workload)
        found = json.loads(deployment.command("verify", "--json"))["environments"][0]
        assert (found["ok"], found["lost"]) == (True, 0)


def state_of(deployment: Deployment, name: str) -> str:
    return str(json.loads(deployment.command("store", "show", name, "--json"))["state"])
