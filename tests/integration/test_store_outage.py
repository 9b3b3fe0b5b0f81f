"""Stores that are away under load: they alone are behind, partners notice nothing, SDKs are told, and all recovers."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
from deployment import deployed
from ldclient import Context
from ldclient.client import LDClient
from ldclient.config import BigSegmentsConfig, Config
from ldclient.integrations import Files, Redis
from servers import DURABLE, TcpProxy, ValkeyServer, wait_until
from workload import refs_by_hash

from worker.cli.demo import demo_flags
from worker.manifest.examples import Change, example
from worker.stores.layout import context_hash

# Longer than the SDK believes in an old store; the minute with SEGSYNC_TEST_OUTAGE_SECONDS=60.
OUTAGE_SECONDS = float(os.environ.get("SEGSYNC_TEST_OUTAGE_SECONDS", "25"))
STALE_AFTER_SECONDS = 20
PER_SECOND = 60
PEOPLE = 2000
# A payload is applied within a second; the rest is for a machine that does other things, too.
CURRENT_WITHIN_SECONDS = 5.0
RECOVERED_WITHIN_SECONDS = 90.0
INTEGRATION = "rudderstack"
COHORTS = 5
SEGMENTS = [f"{INTEGRATION}-c{cohort}" for cohort in range(COHORTS)]


class Partner:
    """Sends random changes at a steady pace, as often as it is let; remembers every answer."""

    def __init__(self, url: str, environment_id: str, token: str) -> None:
        self.answers: Counter[int] = Counter()
        self._url = f"{url}/api/v2/segment-targets/{INTEGRATION}"
        self._environment_id = environment_id
        self._client = httpx2.Client(headers={"Authorization": token}, timeout=15)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_all, daemon=True)

    @contextmanager
    def sending(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(30)
            self._client.close()

    def send(self, cohort: int, add: list[str], remove: list[str]) -> int:
        """One request, and its answer; an error of the connection is one, too."""
        [body] = example(INTEGRATION, Change(self._environment_id, f"c{cohort}", f"Cohort {cohort}", add, remove))
        status = self._client.post(self._url, json=body).status_code
        self.answers[status] += 1
        return status

    def _send_all(self) -> None:
        dice = Random(5)
        while not self._stop.wait(1 / PER_SECOND):
            people = [f"person-{person}" for person in dice.sample(range(PEOPLE), 20)]
            self.send(dice.randrange(COHORTS), people[:10], people[10:])


class Sdk:
    """LaunchDarkly's client on one store, asked again and again about a stranger to it, whom it cannot remember."""

    def __init__(self, url: str, flags: Path) -> None:
        self.said: list[str] = []
        store = Redis.new_big_segment_store(url=url)
        self._client = LDClient(
            Config(
                "sdk-key-of-nobody",
                update_processor_class=Files.new_data_source(paths=[str(flags)]),
                send_events=False,
                big_segments=BigSegmentsConfig(store=store, stale_after=STALE_AFTER_SECONDS, status_poll_interval=1),
            )
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(30)
        self._client.close()  # type: ignore[no-untyped-call]

    def says(self, status: str) -> bool:
        return bool(self.said) and self.said[-1] == status

    def _ask(self) -> None:
        number = 0
        while not self._stop.wait(0.3):
            number += 1
            stranger = Context.create(f"stranger-{number}")
            reason: Any = self._client.variation_detail(SEGMENTS[0], stranger, default=False).reason
            status = str(reason.get("bigSegmentsStatus"))
            if not self.says(status):
                self.said.append(status)


def lags(partner: Partner, store: ValkeyServer, seconds: float) -> list[float]:
    """For so long, add one person after another, and see how long each takes to get into a store."""
    found: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sent = time.monotonic()
        arrival = arrive(partner, f"witness-{len(found)}", [store], CURRENT_WITHIN_SECONDS)
        found.append(arrival - sent)
        time.sleep(0.2)
    return found


def arrive(partner: Partner, person: str, stores: Sequence[ValkeyServer], within_seconds: float) -> float:
    """Add somebody to every segment; returns when that was seen in the last of these stores."""
    for cohort in range(COHORTS):
        while partner.send(cohort, [person], []) != 204:
            time.sleep(0.1)
    refs = {f"{segment}.g1".encode() for segment in SEGMENTS}
    for store in stores:
        with store.client(socket_timeout=5) as client:
            key = f"launchdarkly:big_segment_include:{context_hash(person)}"
            wait_until(partial(lambda client, key: client.smembers(key) == refs, client, key), within_seconds, person)
    return time.monotonic()


@pytest.mark.timeout(400)
def test_stores_that_are_away_are_behind_alone_and_sdks_are_told_until_they_are_back(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, behind_path, stopped = start_valkey(DURABLE), start_valkey(DURABLE), start_valkey(DURABLE)
    stores = {"there": there, "cut": behind_path, "stopped": stopped}
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps(demo_flags(SEGMENTS)))
    with ExitStack() as stack:
        path = stack.enter_context(TcpProxy((behind_path.host, behind_path.port)))
        deployment = stack.enter_context(deployed(there, tmp_path, workers=0))
        deployment.add_store("cut", path.port)
        deployment.add_store("stopped", stopped.port)
        for _ in range(2):
            deployment.start("worker")
        partner = Partner(deployment.start_receiver(), deployment.environment_id, deployment.writer_token)
        sdks = {name: Sdk(server.url, flags) for name, server in stores.items()}
        for sdk in sdks.values():
            stack.callback(sdk.close)

        def everywhere(status: str) -> bool:
            return all(sdk.says(status) for sdk in sdks.values())

        with partner.sending():
            wait_until(partial(everywhere, "HEALTHY"), 40, "three stores in use")
            for sdk in sdks.values():
                sdk.said[:-1] = []

            path.cut()
            stopped.stop()
            found = lags(partner, there, OUTAGE_SECONDS)
            told = {name: sdk.said[-1] for name, sdk in sdks.items()}
            path.restore()
            stopped.start()
            back = time.monotonic()
            caught_up = arrive(partner, "witness-back", list(stores.values()), RECOVERED_WITHIN_SECONDS) - back
            wait_until(partial(everywhere, "HEALTHY"), RECOVERED_WITHIN_SECONDS, "every SDK satisfied")
            healthy = time.monotonic() - back
        deployment.wait_until_applied()

        assert told == {"there": "HEALTHY", "cut": "STALE", "stopped": "STORE_ERROR"}
        assert set(partner.answers) <= {204, 429}
        assert sdks["there"].said == ["HEALTHY"]
        assert sdks["cut"].said == ["HEALTHY", "STALE", "HEALTHY"]
        assert set(sdks["stopped"].said) <= {"HEALTHY", "STORE_ERROR", "STALE"}  # stale for a moment, when it is back
        with there.client() as one, behind_path.client() as two, stopped.client() as three:
            content = refs_by_hash(one)
            assert content == refs_by_hash(two) == refs_by_hash(three)
            assert len(content) > len(found)
    with capsys.disabled():
        print(
            f"\n  two of three stores away for {OUTAGE_SECONDS:g} s: {partner.answers.total():,} payloads answered "
            f"{dict(partner.answers)}; the third at most {max(found):.2f} s behind; caught up {caught_up:.1f} s, "
            f"healthy {healthy:.1f} s after their return"
        )
