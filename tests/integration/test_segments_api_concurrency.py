"""Patches of one segment at the same time, over two receivers: what one has said, no other undoes unseen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from management_api import managed
from servers import ValkeyServer

G = "/segments/default/production"
PATCHES = 30
SEMANTIC = "application/json; domain-model=launchdarkly.semanticpatch"


def test_no_patch_of_a_segment_undoes_what_another_has_said_and_the_rest_are_answered_409(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    with managed(valkey, tmp_path) as api:
        made = api.request("POST", G, 201, json={"key": "s", "name": "S", "tags": ["first"], "description": "d"})
        urls = [api.url, api.deployment.start_receiver()]

        def patch(number: int) -> int:
            # Whoever is refused must not have added a member, either.
            added = {"kind": "addBigSegmentIncludedTargets", "values": [f"member-{number}"]}
            answer = httpx2.patch(
                f"{urls[number % 2]}/api/v2{G}/s",
                json={"instructions": [added, {"kind": "addTags", "values": [f"t{number}"]}]},
                headers={"Authorization": api.admin_token, "Content-Type": SEMANTIC},
                timeout=60,
            )
            assert answer.status_code in {200, 409}, answer.text
            return answer.status_code

        with ThreadPoolExecutor(PATCHES) as pool:
            statuses = list(pool.map(patch, range(PATCHES)))
        end = api.request("GET", f"{G}/s", 200)

    assert made["version"] == 1
    won = {f"t{number}" for number, status in enumerate(statuses) if status == 200}
    assert {*end["tags"]} == {"first", *won}
    assert end["version"] == 1 + 2 * len(won)  # what is said, and the entry of the log
    assert won
    assert len(won) < PATCHES
