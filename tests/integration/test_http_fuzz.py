"""A short run of the second half of `make fuzz`: mutated requests to a real receiver, on a real state server."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import http
from fuzz.http import Answer
from fuzz.wire import Mutated
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


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, "application/json", b'{"code":"internal_error"}'),
        Answer(502, "application/json", b"{}"),
        Answer(400, "text/plain", b"Bad Request"),
        Answer(400, "text/plain", b'{"code":"x"}'),
        Answer(400, "application/json", b'{"message":"Traceback (most recent call last)"}'),
        Answer(204, "application/json", b"{}"),
        Answer(0, "", b""),
    ],
)
def test_an_answer_that_a_partner_should_not_get_is_found(answer: Answer) -> None:
    assert http.problem(Mutated("rudderstack", "/"), answer)


@pytest.mark.parametrize("status", [400, 401, 429, 503])
def test_an_error_that_says_why_is_none(status: int) -> None:
    assert http.problem(Mutated("rudderstack", "/"), Answer(status, "application/json", b'{"message":"why"}')) is None
