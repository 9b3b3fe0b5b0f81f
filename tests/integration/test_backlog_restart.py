"""A backlog that is far larger than what fits in one go: it survives a restart of everything, and drains at speed."""

from __future__ import annotations

import multiprocessing
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import cast

import msgspec
import pytest
import redis
from deployment import Deployment
from servers import DURABLE, ValkeyServer, wait_until
from workload import refs_by_hash

from worker.log.append import Appends
from worker.log.batch import Batch, Target
from worker.log.parsers import parser_entry
from worker.manifest.catalog import load_catalog
from worker.manifest.examples import Change, example
from worker.manifest.manifest import Manifest
from worker.model import Cohort
from worker.stores.layout import context_hashes

# 200,000 batches over 2,000 segments with BACKLOG_SEGMENTS=2000: three minutes, so CI takes a part.
SEGMENTS = int(os.environ.get("BACKLOG_SEGMENTS", "400"))
BATCHES_EACH = 100
INTEGRATION = "rudderstack"
PEOPLE = 200
MEMBERS = 6
# As receivers group what arrives together.
GROUP = 250
FILLERS = 2

Membership = dict[str, set[str]]


def fill(url: str, environment_id: str, store_ids: list[str], filler: int) -> Membership:
    """Append one filler's share of the backlog; returns what it amounts to: segment key -> members."""
    manifest = load_catalog()[INTEGRATION]
    assert isinstance(manifest, Manifest)
    parser = parser_entry(manifest.parser.digest, manifest.parser.text)
    dice, members, group = Random(filler), cast("Membership", {}), cast("list[Batch]", [])
    with redis.Redis.from_url(url, socket_timeout=30) as client:
        appends = Appends(client)
        for _ in range(BATCHES_EACH):
            for number in range(filler, SEGMENTS, FILLERS):
                key = f"{INTEGRATION}-c{number}"
                chosen = [f"person-{person}" for person in dice.sample(range(PEOPLE), MEMBERS)]
                add, remove = chosen[: MEMBERS // 2], chosen[MEMBERS // 2 :]
                members.setdefault(key, set()).update(add)
                members[key].difference_update(remove)
                [body] = example(INTEGRATION, Change(environment_id, f"c{number}", f"Cohort {number}", add, remove))
                group.append(
                    Batch(
                        batch_id=uuid.uuid4().hex,
                        environment_id=environment_id,
                        context_kind="user",
                        integration_key=INTEGRATION,
                        parser_digest=manifest.parser.digest,
                        body=msgspec.json.encode(body),
                        targets=[Target(key, Cohort(f"c{number}"))],
                        store_ids=store_ids,
                        not_after_ms=10**15,
                        prerequisites=[parser],
                    )
                )
                if len(group) == GROUP:
                    assert not any(isinstance(outcome, Exception) for outcome in appends.append(group))
                    group.clear()
        assert not any(isinstance(outcome, Exception) for outcome in appends.append(group))
    return members


def fill_from_all(deployment: Deployment) -> Membership:
    wiring = deployment.wiring()
    store_ids = [store.store_id for store in wiring.stores_of(deployment.environment_id)]
    wiring.close()
    members: Membership = {}
    with ProcessPoolExecutor(FILLERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        url, environment_id = deployment.state.url, deployment.environment_id
        for share in [pool.submit(fill, url, environment_id, store_ids, filler) for filler in range(FILLERS)]:
            members |= share.result()
    return members


def waiting(deployment: Deployment) -> Iterator[int]:
    """Again and again: how many batches are not applied."""
    wiring = deployment.wiring()
    try:
        stores = [store.store_id for store in wiring.stores_of(deployment.environment_id)]
        keys = wiring.segment_keys.registered(deployment.environment_id)
        while True:
            time.sleep(0.25)  # each look costs the state server as much as some drains
            statuses = wiring.upkeep.statuses(deployment.environment_id, keys, stores)
            yield sum(store.batches_behind for status in statuses for store in status.stores.values())
    finally:
        wiring.close()


@pytest.mark.timeout(300)
def test_a_backlog_over_thousands_of_segments_survives_a_restart_of_everything_and_drains_at_full_speed(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = start_valkey(DURABLE)
    store = start_valkey()
    deployment = Deployment(state, tmp_path, {"SEGSYNC_CONCURRENCY": "2", "SEGSYNC_STORE_URL": store.url})
    try:
        began = time.monotonic()
        members = fill_from_all(deployment)
        filled = time.monotonic()
        state.kill()
        state.start()
        restarted = time.monotonic()
        left = waiting(deployment)
        assert next(left) == SEGMENTS * BATCHES_EACH

        for role in ("scheduler", "worker"):
            deployment.start(role)
        wait_until(lambda: next(left) < SEGMENTS * BATCHES_EACH, 60, "the first drain")
        first, rest = time.monotonic(), next(left)
        wait_until(lambda: next(left) == 0, 200, "the backlog drained")
        drained = time.monotonic()
        deployment.wait_until_applied()
    finally:
        deployment.stop()

    expected: dict[bytes, set[bytes]] = {}
    for key, people in members.items():
        for context_hash in context_hashes(people):
            expected.setdefault(context_hash, set()).add(f"{key}.g1".encode())
    with store.client() as client:
        assert refs_by_hash(client) == expected
    with capsys.disabled():
        print(
            f"\n  {SEGMENTS * BATCHES_EACH:,} batches over {SEGMENTS:,} segments: appended in {filled - began:.1f} s, "
            f"server killed and back in {restarted - filled:.1f} s, first drain after {first - restarted:.1f} s, "
            f"drained in {drained - first:.1f} s: {rest / (drained - first):,.0f} batches a second"
        )
