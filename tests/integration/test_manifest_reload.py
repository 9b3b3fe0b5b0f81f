"""Manifests that change while receivers and workers run: both follow, each batch by the one it was accepted under."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from deployment import deployed
from servers import ValkeyServer, wait_until

RELOADED_WITHIN_SECONDS = 5.0


def manifest(member_id_path: str) -> str:
    parser = {
        "environmentIdPath": "/env",
        "cohortIdPath": "/cohort",
        "cohortNamePath": "/cohort",
        "addMemberArrayPath": "/add",
        "removeMemberArrayPath": "/remove",
        "memberArrayParser": {"memberIdPath": member_id_path},
    }
    return json.dumps({"name": "Acme", "capabilities": {"syncedSegment": {"requestParser": parser}}})


def test_receivers_and_workers_follow_a_changed_manifest_within_five_seconds(
    start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    overlay = tmp_path / "manifests"
    overlay.mkdir()
    (overlay / "acme.json").write_text(manifest("/id"))
    settings = {"SEGSYNC_MANIFESTS": str(overlay), "SEGSYNC_DURABILITY": "memory"}
    with deployed(start_valkey(), tmp_path, workers=0, settings=settings) as deployment:
        urls = [deployment.start_receiver() for _ in range(2)]
        headers = {"Authorization": deployment.writer_token}

        def statuses(body: dict[str, Any], key: str = "acme") -> set[int]:
            body = {"env": deployment.environment_id, "cohort": "c", **body}
            return {
                httpx2.post(f"{url}/api/v2/segment-targets/{key}", json=body, headers=headers).status_code
                for url in urls
            }

        def within_time(condition: Callable[[], bool], message: str) -> None:
            wait_until(condition, RELOADED_WITHIN_SECONDS, message)

        # No worker runs yet: what is accepted now is applied after the manifest has changed.
        assert statuses({"add": [{"id": "ann", "email": "ann@x"}, {"id": "bob", "email": "bob@x"}]}) == {204}

        (overlay / "acme.json").write_text(manifest("/email"))
        within_time(lambda: statuses({"add": [{"email": "cleo@x"}]}) == {204}, "the changed manifest")
        assert statuses({"remove": [{"id": "bob"}]}) == {400}

        (overlay / "second.json").write_text(manifest("/id"))
        within_time(lambda: statuses({"add": [{"id": "dan"}]}, "second") == {204}, "the new manifest")

        (overlay / "acme.json").write_text("{")
        within_time(lambda: statuses({"add": []}) == {503}, "the broken manifest")
        assert "acme" in httpx2.get(f"{urls[0]}/readyz").json()["broken_manifests"]
        assert statuses({"add": [{"id": "eve"}]}, "second") == {204}

        # What was accepted is applied all the same, by the parser it was accepted under; workers need no file for it.
        (overlay / "second.json").unlink()
        within_time(lambda: statuses({"add": []}, "second") == {404}, "the manifest that is gone")
        worker = deployment.start("worker")
        deployment.wait_until_applied()
        assert worker.poll() is None

        wiring = deployment.wiring()
        try:
            [record] = wiring.stores_of(deployment.environment_id)
            store = wiring.stores.get(record.store_id)
            assert store is not None
            found = {key: set(store.included(key)) for key in ("ann", "bob", "cleo@x", "dan", "eve", "ann@x")}
        finally:
            wiring.close()
        assert found == {
            "ann": {"acme-c.g1"},
            "bob": {"acme-c.g1"},
            "cleo@x": {"acme-c.g1"},
            "dan": {"second-c.g1"},
            "eve": {"second-c.g1"},
            "ann@x": set(),
        }

        (overlay / "acme.json").write_text(manifest("/email"))
        within_time(lambda: statuses({"remove": [{"email": "cleo@x"}]}) == {204}, "the mended manifest")
