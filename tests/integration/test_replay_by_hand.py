"""The classic accident: a batch that was left out is brought back by hand, after others have decided about its people.

Whoever only applies the old batch again puts Ann back into a segment that she has left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from deployment import Deployment, deployed
from ldclient.integrations import Redis
from servers import ValkeyServer, wait_until

from worker.stores.layout import context_hash

FAULTS = Path(__file__).parents[1] / "faults"
# Until it is certain that the worker is dead, and three children after it.
DEAD_WITHIN_SECONDS = 90.0
RELOADED_WITHIN_SECONDS = 10.0
SEGMENT = "acme-vips.g1"


def manifest(member_id_path: str = "/id") -> str:
    parser = {
        "environmentIdPath": "/env",
        "cohortIdPath": "/cohort",
        "cohortNamePath": "/cohort",
        "addMemberArrayPath": "/add",
        "removeMemberArrayPath": "/remove",
        "memberArrayParser": {"memberIdPath": member_id_path},
    }
    return json.dumps({"name": "Acme", "capabilities": {"syncedSegment": {"requestParser": parser}}})


class Partner:
    """Tells of its cohort, as partners do: once, and what is answered 400 never again."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._url = deployment.start_receiver() + "/api/v2/segment-targets/acme"

    def send(self, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> int:
        people = {"add": [{"id": person} for person in add], "remove": [{"id": person} for person in remove]}
        body = {"env": self._deployment.environment_id, "cohort": "vips", **people}
        return httpx2.post(self._url, json=body, headers={"Authorization": self._deployment.writer_token}).status_code


def members(state: ValkeyServer, *people: str) -> set[str]:
    """Who of these people is in the segment, for LaunchDarkly's SDK."""
    store: Any = Redis.new_big_segment_store(url=state.url)
    found = {person: store.get_membership(context_hash(person)) for person in people}
    store.stop()
    return {person for person, refs in found.items() if refs and refs.get(SEGMENT)}


def listed(deployment: Deployment, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(deployment.command("batches", "list", "--json", *options))["items"]
    return found


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    directory = tmp_path / "manifests"
    directory.mkdir()
    (directory / "acme.json").write_text(manifest())
    return directory


def test_ann_who_left_stays_out_when_the_batch_that_added_her_and_crashed_its_parser_is_replayed(
    start_valkey: Callable[..., ValkeyServer], manifests: Path, tmp_path: Path
) -> None:
    state, mended = start_valkey(), tmp_path / "mended"
    settings = {
        "SEGSYNC_MANIFESTS": str(manifests),
        "SEGSYNC_DURABILITY": "memory",
        "PYTHONPATH": str(FAULTS),
        "PYTHON_FAULTS_CRASH": "crash-me",
        "PYTHON_FAULTS_UNLESS": str(mended),
    }
    with deployed(state, tmp_path, workers=1, settings=settings) as deployment:
        partner = Partner(deployment)
        assert partner.send(add=("ann", "bob", "crash-me")) == 204
        assert partner.send(add=("cyd",), remove=("ann",)) == 204
        wait_until(lambda: listed(deployment), DEAD_WITHIN_SECONDS, "the first batch dead")
        [batch] = listed(deployment)
        assert (batch["status"], batch["reason"], batch["segmentKey"]) == ("dead", "crashed", "acme-vips")
        deployment.wait_until_applied()
        people = ("ann", "bob", "crash-me", "cyd")
        assert members(state, *people) == {"cyd"}

        # As long as the fault is there, so is the dead letter.
        shown = json.loads(deployment.command("batches", "show", batch["id"], "--json"))
        assert (shown["replay"]["possible"], shown["replay"]["reason"]) == (False, "crashed")
        mended.touch()
        shown = json.loads(deployment.command("batches", "show", batch["id"], "--json"))
        [target] = shown["replay"]["segments"]
        assert (target["added"], target["decidedLater"]) == (2, 1)

        said = deployment.command("batches", "replay", "--reason", "crashed", "--yes", "--wait")
        assert "1 batch replayed, into 1 segment" in said
        assert members(state, *people) == {"bob", "crash-me", "cyd"}
        assert listed(deployment) == []
        deployment.command("verify")


def test_ann_who_left_stays_out_when_the_batch_that_added_her_and_was_refused_under_a_broken_manifest_is_replayed(
    start_valkey: Callable[..., ValkeyServer], manifests: Path, tmp_path: Path
) -> None:
    state = start_valkey()
    settings = {"SEGSYNC_MANIFESTS": str(manifests), "SEGSYNC_DURABILITY": "memory"}
    with deployed(state, tmp_path, workers=1, settings=settings) as deployment:
        partner = Partner(deployment)

        def write(text: str, answer: int) -> None:
            (manifests / "acme.json").write_text(text)
            wait_until(lambda: partner.send(add=("cyd",)) == answer, RELOADED_WITHIN_SECONDS, f"{answer}")

        write(manifest("/email"), 400)  # mended wrongly
        assert partner.send(add=("ann", "bob")) == 400
        write(manifest(), 204)
        assert partner.send(remove=("ann",)) == 204
        deployment.wait_until_applied()
        people = ("ann", "bob", "cyd")
        assert members(state, *people) == {"cyd"}
        batch = max(listed(deployment, "--limit", "10000"), key=lambda each: int(each["bytes"]))
        assert (batch["status"], batch["reason"], batch["pointer"]) == ("rejected", "member_id", "/add/0/email")

        def effect() -> tuple[int, int]:
            shown = json.loads(deployment.command("batches", "replay", batch["id"], "--dry-run", "--json"))
            total = shown["preview"]["total"]
            return total["added"], total["decidedLater"]

        # The receiver tells of a mended manifest right after it has taken it over.
        wait_until(lambda: effect() != (0, 0), RELOADED_WITHIN_SECONDS, "a replay that knows of the mended manifest")
        assert effect() == (1, 1)
        deployment.command("batches", "replay", batch["id"], "--yes", "--wait")
        assert members(state, *people) == {"bob", "cyd"}
        deployment.command("batches", "replay", "--all", "--yes", "--wait")  # whatever else was refused meanwhile
        assert members(state, *people) == {"bob", "cyd"}
        assert listed(deployment) == []
        deployment.command("verify")
