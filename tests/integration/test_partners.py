"""Every bundled manifest: a partner's payload in and its opposite, and LaunchDarkly's SDK follows each time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from deployment import Deployment, deployed
from ldclient import Context
from ldclient.client import LDClient
from ldclient.config import BigSegmentsConfig, Config
from ldclient.integrations import Files, Redis
from servers import VOLATILE, ValkeyServer, wait_until

from worker.cli.demo import demo_flags
from worker.manifest.catalog import load_catalog
from worker.manifest.examples import Change, example, example_keys

COHORT = "4711"


class Partners:
    """A running deployment, and the SDK that reads what it writes."""

    def __init__(self, deployment: Deployment, directory: Path) -> None:
        self.deployment = deployment
        self.url = deployment.start_receiver()
        flags = directory / "flags.json"
        flags.write_text(json.dumps(demo_flags([f"{key}-{COHORT}" for key in example_keys()])))
        store = Redis.new_big_segment_store(url=deployment.state.url, prefix="launchdarkly")
        self.sdk = LDClient(
            Config(
                "sdk-key-of-nobody",
                update_processor_class=Files.new_data_source(paths=[str(flags)]),
                send_events=False,
                # No cache: the SDK would answer for five seconds what it has read before.
                big_segments=BigSegmentsConfig(store=store, context_cache_time=0.001, status_poll_interval=0.1),
            )
        )

    def send(self, key: str, *, add: list[str], remove: list[str]) -> None:
        change = Change(self.deployment.environment_id, COHORT, "Cohort 4711", add, remove)
        for body in example(key, change):
            headers = {"Authorization": self.deployment.writer_token}
            answer = httpx2.post(f"{self.url}/api/v2/segment-targets/{key}", json=body, headers=headers)
            assert answer.status_code in {200, 204}, answer.text

    def sees(self, key: str, *people: str) -> set[str]:
        """Which of these people the SDK finds in the partner's segment; the store must count as fresh."""
        found = set()
        for person in people:
            detail = self.sdk.variation_detail(f"{key}-{COHORT}", Context.create(person), default=False)
            if detail.value:
                found.add(person)
            if detail.reason.get("bigSegmentsStatus") != "HEALTHY":
                return {f"the store is {detail.reason}"}
        return found


@pytest.fixture(scope="module")
def partners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Partners]:
    directory = tmp_path_factory.mktemp("partners")
    state = ValkeyServer(directory / "valkey", VOLATILE).start()
    with deployed(state, directory, workers=1, settings={"SEGSYNC_DURABILITY": "memory"}) as deployment:
        started = Partners(deployment, directory)
        yield started
        started.sdk.close()  # type: ignore[no-untyped-call]
    state.stop()


def test_every_bundled_manifest_has_an_example() -> None:
    assert set(example_keys()) == set(load_catalog())
    assert len(example_keys()) == 13


@pytest.mark.parametrize("key", example_keys())
def test_members_of_a_partners_cohort_come_and_go(partners: Partners, key: str) -> None:
    ann, bob, cyd = (f"{name}-of-{key}" for name in ("ann", "bob", "cyd"))
    partners.send(key, add=[ann, bob], remove=[])
    wait_until(lambda: partners.sees(key, ann, bob, cyd) == {ann, bob}, 15, f"both in: {partners.sees(key, ann, bob)}")
    partners.send(key, add=[], remove=[ann, bob])
    wait_until(lambda: partners.sees(key, ann, bob, cyd) == set(), 15, "both out")
    partners.send(key, add=[bob, cyd], remove=[ann])
    wait_until(lambda: partners.sees(key, ann, bob, cyd) == {bob, cyd}, 15, "one back, one new")
