"""A short run of the second half of `make fuzz`: mutated requests to a real receiver, on a real state server."""

from __future__ import annotations

from pathlib import Path

from fuzz import http
from servers import ValkeyServer


def test_no_request_of_any_kind_makes_the_receiver_answer_500_or_hang(valkey: ValkeyServer, tmp_path: Path) -> None:
    client = valkey.client()
    client.flushall()
    client.close()
    deployment = http.FuzzedDeployment(valkey, tmp_path)
    try:
        tally = http.run(3, range(2000), deployment, deployment.start_receiver())
    finally:
        deployment.stop()

    assert tally.problems == []
    assert {200, 204, 400, 401, 403, 404, 405, 413, 415} <= set(tally.statuses)
