"""Rate limits: of the management API, shared by its receivers; of payloads, each receiver's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis
from servers import ValkeyServer
from starlette.testclient import TestClient
from sync_builders import Installation

from worker.api import rate_limits
from worker.api.rate_limits import Exceeded, RateLimits
from worker.asgi import create_service
from worker.receiver.ingest_limit import IngestLimit
from worker.receiver.refusals import Refused
from worker.records.directory import Token
from worker.settings import Settings

PROJECTS = "/api/v2/projects"
Start = Callable[..., TestClient]


@pytest.fixture
def installation(real_redis: redis.Redis) -> Installation:
    return Installation(real_redis)


@pytest.fixture
def start(installation: Installation, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start the service with some limits; windows are so long that none ends within a test."""
    monkeypatch.setattr(rate_limits, "WINDOW_SECONDS", 10_000)
    with ExitStack() as stack:

        def started(**limits: int) -> TestClient:
            settings = Settings.model_validate(
                {
                    "state_url": valkey.url,
                    "durability": "memory",
                    "api_rate_limit": 0,
                    "api_route_rate_limit": 0,
                    **limits,
                }
            )
            client = TestClient(
                create_service(settings),
                headers={"Authorization": str(installation.made.admin_token)},
                raise_server_exceptions=False,
            )
            return stack.enter_context(client)

        yield started


def test_every_answer_says_what_is_left(start: Start) -> None:
    client = start(api_rate_limit=7, api_route_rate_limit=3)
    headers = [client.get(PROJECTS).headers, client.get(f"{PROJECTS}/nothing").headers, client.get(PROJECTS).headers]
    assert [each["x-ratelimit-auth-token-remaining"] for each in headers] == ["6", "5", "4"]
    assert [each["x-ratelimit-route-remaining"] for each in headers] == ["2", "2", "1"]
    assert (headers[0]["x-ratelimit-auth-token-limit"], headers[0]["x-ratelimit-route-limit"]) == ("7", "3")
    assert headers[0]["x-ratelimit-reset"] == headers[0]["x-ratelimit-auth-token-reset"]
    assert int(headers[0]["x-ratelimit-reset"]) > time.time() * 1000


def test_limits_that_are_off_are_not_told(start: Start) -> None:
    told = {name for name in start(api_route_rate_limit=3).get(PROJECTS).headers if name.startswith("x-ratelimit")}
    assert told == {"x-ratelimit-route-limit", "x-ratelimit-route-remaining", "x-ratelimit-reset"}
    assert not [name for name in start().get(PROJECTS).headers if name.startswith("x-ratelimit")]


def test_beyond_a_limit_everything_is_429_with_the_time_to_come_again(start: Start) -> None:
    client = start(api_rate_limit=2)
    assert [client.get(PROJECTS).status_code for _ in range(2)] == [200, 200]
    answer = client.get("/api/v2/tokens")
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert 0 < int(answer.headers["retry-after"]) <= 10_000
    assert answer.headers["x-ratelimit-auth-token-remaining"] == "0"
    assert int(answer.headers["x-ratelimit-reset"]) <= (time.time() + int(answer.headers["retry-after"])) * 1000
    assert client.get("/api/v2/batches").status_code == 429


def test_one_route_used_up_leaves_the_others(start: Start) -> None:
    client = start(api_route_rate_limit=1)
    assert [client.get(f"{PROJECTS}/{key}").status_code for key in ("default", "default")] == [200, 429]
    assert client.get(PROJECTS).status_code == 200
    assert client.delete(f"{PROJECTS}/nothing").status_code == 404


def test_receivers_share_the_count(start: Start) -> None:
    one, another = start(api_rate_limit=2), start(api_rate_limit=2)
    assert [each.get(PROJECTS).status_code for each in (one, another, one, another)] == [200, 200, 429, 429]


def test_one_token_used_up_leaves_the_others(start: Start, installation: Installation) -> None:
    client = start(api_rate_limit=1)
    assert [client.get(PROJECTS).status_code for _ in range(2)] == [200, 429]
    other = {"Authorization": str(installation.made.writer_token)}
    assert client.get(PROJECTS, headers=other).status_code == 200


def test_who_has_no_token_is_not_counted(start: Start) -> None:
    client = start(api_rate_limit=1)
    for _ in range(3):
        answer = client.get(PROJECTS, headers={"Authorization": "segsync-nobody-knows-this"})
        assert answer.status_code == 401
        assert "x-ratelimit-auth-token-limit" not in answer.headers
    assert client.get(PROJECTS).status_code == 200


@pytest.mark.parametrize("seconds_into_the_window", [0.0, 4.2, 9.999])
def test_a_window_ends_when_it_is_said_to(real_redis: redis.Redis, seconds_into_the_window: float) -> None:
    now = 1_700_000_000 + seconds_into_the_window
    limits = RateLimits(real_redis, per_token=1, per_route=0, clock=lambda: now)
    token = Token(token_hash="h", name="n", role="reader", created_ms=0)
    limits._count(token.token_hash, "GET /")
    with pytest.raises(Exceeded) as exceeded:
        limits._count(token.token_hash, "GET /")
    assert exceeded.value.allowance.headers["X-Ratelimit-Reset"] == "1700000010000"
    now += int(exceeded.value.allowance.headers["Retry-After"])
    limits._count(token.token_hash, "GET /")
    limits.close()


def test_counts_are_gone_from_the_state_server_after_their_window(real_redis: redis.Redis) -> None:
    limits = RateLimits(real_redis, per_token=5, per_route=5)
    limits._count("h", "GET /")
    limits.close()
    assert [0 < real_redis.ttl(key) <= 10 for key in real_redis.scan_iter("*limits*")] == [True, True]


def test_payloads_beyond_their_limit_are_429_and_others_tokens_are_not_held_up(
    start: Start, installation: Installation
) -> None:
    client = start(ingest_rate_limit=2)
    path = "/api/v2/segment-targets/segment-audiences"
    assert [client.post(path, content=b"{}").status_code for _ in range(3)] == [400, 400, 429]
    other = {"Authorization": str(installation.made.writer_token)}
    assert client.post(path, content=b"{}", headers=other).status_code == 400


def test_the_limit_of_payloads_begins_anew_every_ten_seconds() -> None:
    now = 5.0
    limit = IngestLimit(1, clock=lambda: now)
    limit.count("a")
    with pytest.raises(Refused):
        limit.count("a")
    now = 15.0
    limit.count("a")
