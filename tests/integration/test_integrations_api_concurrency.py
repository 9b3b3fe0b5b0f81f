"""Fifty JSON Patches at once on one integration, over two receivers: of those at the same moment one wins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from management_api import managed
from servers import ValkeyServer

BASE = "/integration-capabilities/big-segment-store"
PATCHES = 50


def test_versions_rise_by_those_that_succeeded_and_the_end_is_one_of_the_serial_orders(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    with managed(valkey, tmp_path) as api:
        headers = {"Authorization": api.admin_token, "LD-API-Version": "beta"}
        config = {"host": "h", "password": "a-password-of-ours"}
        made = api.request("POST", f"{BASE}/default/production/redis", 201, headers=headers, json={"config": config})
        path, urls = made["_links"]["self"]["href"], [api.url, api.deployment.start_receiver()]

        def patch(number: int) -> httpx2.Response:
            patch = [
                {"op": "add", "path": "/tags/-", "value": f"t{number}"},
                {"op": "replace", "path": "/name", "value": f"by {number}"},
            ]
            return httpx2.patch(urls[number % 2] + path, json=patch, headers=headers, timeout=60)

        with ThreadPoolExecutor(PATCHES) as pool:
            answers = list(pool.map(patch, range(PATCHES)))
        end = api.request("GET", path.removeprefix("/api/v2"), 200, headers=headers)

    won = {answer.json()["version"]: answer.json() for answer in answers if answer.status_code == 200}
    lost = [answer for answer in answers if answer.status_code != 200]
    assert {answer.status_code for answer in lost} <= {409}
    assert {answer.json()["code"] for answer in lost} <= {"optimistic_locking_error"}
    assert len(won) + len(lost) == PATCHES
    assert sorted(won) == list(range(2, len(won) + 2))
    tags: list[str] = []
    for version in sorted(won):
        [added] = set(won[version]["tags"]) - set(tags)
        tags.append(added)
        assert won[version]["tags"] == tags
        assert won[version]["name"] == f"by {added[1:]}"
    assert end == won[max(won)]
    # None of them would be no test.
    assert won
    assert lost
