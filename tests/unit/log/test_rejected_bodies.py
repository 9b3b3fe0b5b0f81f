"""Bodies that were answered 400: kept under a quota, listed, decided once, and gone only when that is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
import redis
from servers import wait_until

from worker.log import rejected_bodies
from worker.log.entry import compress
from worker.log.position import ms_of, order
from worker.log.rejected_batch import Refusal
from worker.log.rejected_bodies import BASE, RejectedBodies
from worker.log.upkeep import Upkeep

FUTURE_MS = 10**15
QUOTA = 10**9


def refusal(batch_id: str, body: bytes = b'{"environmentId": 7}', **changes: str | None) -> Refusal:
    codec, data = compress(body)
    made = Refusal(
        batch_id=batch_id,
        integration_key="rudderstack",
        environment_id="env-1",
        reason="member_id",
        message="/batch/17/userId is missing",
        pointer="/batch/17/userId",
        parser_digest="d1",
        policy="reject",
        token_name="partner",
        length=len(body),
        codec=codec,
        data=data,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def keep(client: redis.Redis, *refusals: Refusal, quota: int = QUOTA) -> list[str | None]:
    return RejectedBodies(client).keep(refusals, quota_bytes=quota, not_after_ms=FUTURE_MS)


def listed(client: redis.Redis, **filters: object) -> list[str]:
    return [batch.batch_id for batch in RejectedBodies(client).list(**filters)]  # type: ignore[arg-type]


def wait_for_the_next_millisecond(client: redis.Redis) -> int:
    """Returns the millisecond that has begun."""
    before = Upkeep(client).server_ms()
    return wait_until(lambda: now if (now := Upkeep(client).server_ms()) > before else 0)


def logged(capsys: pytest.CaptureFixture[str], event: str) -> list[str]:
    said = capsys.readouterr()
    return [line for line in (said.out + said.err).splitlines() if event in line]


def everything(client: redis.Redis) -> dict[str, Any]:
    """Every key with its value."""
    readers: dict[bytes, Callable[[str], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    names = [key.decode() for key in cast("list[bytes]", client.keys("*"))]
    return {name: readers[cast("bytes", client.type(name))](name) for name in names}


def test_a_kept_body_is_read_back_with_everything_that_is_known_of_it(redis_client: redis.Redis) -> None:
    body = b"\x00\xff" * 1000
    before_ms = Upkeep(redis_client).server_ms()

    [position] = keep(redis_client, refusal("b1", body))

    kept = RejectedBodies(redis_client).read("b1")
    assert kept is not None
    assert kept.body() == body
    assert (kept.position, kept.refused_ms) == (position, ms_of(position or ""))
    assert before_ms <= kept.refused_ms <= Upkeep(redis_client).server_ms()
    assert (kept.integration_key, kept.environment_id, kept.policy, kept.token_name) == (
        "rudderstack",
        "env-1",
        "reject",
        "partner",
    )
    assert (kept.reason, kept.message, kept.pointer, kept.parser_digest, kept.length) == (
        "member_id",
        "/batch/17/userId is missing",
        "/batch/17/userId",
        "d1",
        2000,
    )
    assert (kept.status, kept.decided_by, kept.decided_ms) == ("rejected", "", None)


def test_a_body_without_a_pointer_or_an_environment_is_kept_as_well(redis_client: redis.Redis) -> None:
    keep(redis_client, refusal("b1", b"junk", pointer=None, environment_id="", policy="skip"))

    kept = RejectedBodies(redis_client).read("b1")

    assert kept is not None
    assert (kept.pointer, kept.environment_id, kept.policy, kept.body()) == (None, "", "skip", b"junk")


def test_what_is_not_there_is_read_as_none(redis_client: redis.Redis) -> None:
    assert RejectedBodies(redis_client).read("nobody") is None


def test_positions_are_unique_and_come_after_every_entry_of_their_millisecond(redis_client: redis.Redis) -> None:
    positions = keep(redis_client, *(refusal(f"b{number}") for number in range(50)))

    ordered = [order(position or "") for position in positions]
    assert len(set(ordered)) == 50
    assert ordered == sorted(ordered)
    assert min(sequence for _, sequence in ordered) > 10**12


def test_to_keep_one_twice_changes_nothing(redis_client: redis.Redis) -> None:
    first = keep(redis_client, refusal("b1"))
    before = everything(redis_client)

    assert keep(redis_client, refusal("b1", b"another body")) == first
    assert everything(redis_client) == before


def test_what_comes_after_its_sender_was_answered_is_not_kept(
    redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    late_ms = Upkeep(redis_client).server_ms() - 1

    assert RejectedBodies(redis_client).keep([refusal("b1")], quota_bytes=QUOTA, not_after_ms=late_ms) == [None]

    assert everything(redis_client) == {}
    assert len(logged(capsys, "rejected.not_kept")) == 1


@pytest.mark.parametrize("page", [1, 7, 1000])
def test_pages_of_any_size_hold_each_body_once_the_latest_first(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(rejected_bodies, "_PAGE", 3)  # smaller than what comes within a millisecond
    for start in range(0, 60, 20):
        keep(redis_client, *(refusal(f"b{number}") for number in range(start, start + 20)))
    bodies = RejectedBodies(redis_client)

    def pages() -> Iterator[str]:
        before: str | None = None
        while found := bodies.list(before=before, limit=page):
            assert len(found) <= page
            yield from (batch.batch_id for batch in found)
            before = found[-1].position

    assert list(pages()) == [f"b{number}" for number in reversed(range(60))]


def test_the_list_is_filtered_by_what_is_known_of_a_body(redis_client: redis.Redis) -> None:
    keep(
        redis_client,
        refusal("b1"),
        refusal("b2", integration_key="heap-inbound"),
        refusal("b3", environment_id="env-2"),
        refusal("b4", reason="malformed", environment_id=""),
    )
    RejectedBodies(redis_client).mark("b1", "discarded", "ann")

    assert listed(redis_client, integration_key="heap-inbound") == ["b2"]
    assert listed(redis_client, environment_id="env-2") == ["b3"]
    assert listed(redis_client, environment_id="") == ["b4"]
    assert listed(redis_client, reason="malformed", integration_key="rudderstack") == ["b4"]
    assert listed(redis_client, reason="malformed", integration_key="heap-inbound") == []
    assert listed(redis_client, status="discarded") == ["b1"]
    assert listed(redis_client, status="rejected", limit=2) == ["b4", "b3"]


def test_the_list_is_bounded_by_time_and_by_a_page_at_once(redis_client: redis.Redis) -> None:
    positions, begun = [], []
    for number in range(3):
        begun.append(wait_for_the_next_millisecond(redis_client))
        positions += keep(redis_client, refusal(f"b{number}"))
    refused = [ms_of(position or "") for position in positions]

    assert listed(redis_client, since_ms=refused[1]) == ["b2", "b1"]
    assert listed(redis_client, until_ms=refused[2]) == ["b1", "b0"]
    assert listed(redis_client, since_ms=refused[1], until_ms=refused[2]) == ["b1"]
    assert listed(redis_client, before=positions[1], until_ms=refused[2] + 1) == ["b0"]
    assert listed(redis_client, before=positions[2], until_ms=refused[1]) == ["b0"]


def test_a_body_is_decided_once_and_stays(redis_client: redis.Redis) -> None:
    keep(redis_client, refusal("b1"))
    bodies = RejectedBodies(redis_client)

    assert bodies.mark("b1", "replayed", "ann", "the manifest is mended")
    assert not bodies.mark("b1", "discarded", "bob")
    assert not bodies.mark("b1", "replayed", "bob")

    kept = bodies.read("b1")
    assert kept is not None
    assert (kept.status, kept.decided_by, kept.decided_why) == ("replayed", "ann", "the manifest is mended")
    assert kept.decided_ms is not None
    assert kept.body() == b'{"environmentId": 7}'
    assert bodies.totals().replayed == 1
    assert bodies.totals().discarded == 0


def test_to_decide_about_what_is_not_there_leaves_nothing_behind(redis_client: redis.Redis) -> None:
    assert not RejectedBodies(redis_client).mark("nobody", "discarded", "ann")
    assert everything(redis_client) == {}


def test_the_oldest_make_room_and_that_is_counted_and_said(
    redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    body = b"x" * 100
    keep(redis_client, refusal("b0", body))
    one = RejectedBodies(redis_client).totals().bytes
    capsys.readouterr()
    for number in range(1, 5):
        wait_for_the_next_millisecond(redis_client)
        keep(redis_client, refusal(f"b{number}", body), quota=one * 3)

    totals = RejectedBodies(redis_client).totals()
    assert listed(redis_client) == ["b4", "b3", "b2"]
    assert (totals.kept, totals.dropped, totals.waiting, totals.bytes) == (5, 2, 3, one * 3)
    assert [("b0" in line, "b1" in line) for line in logged(capsys, "rejected.dropped")] == [
        (True, False),
        (False, True),
    ]


def test_one_large_body_takes_the_room_of_many_small_ones_a_few_at_a_time(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rejected_bodies, "_AT_ONCE", 3)
    keep(redis_client, *(refusal(f"b{number}") for number in range(20)))
    quota = RejectedBodies(redis_client).totals().bytes
    large = bytes(range(256)) * (quota // 256 - 5)
    made = replace(refusal("large"), codec=b"", data=large, length=len(large))

    [position] = keep(redis_client, made, quota=quota)

    totals = RejectedBodies(redis_client).totals()
    assert position
    assert "large" in listed(redis_client)
    assert totals.bytes <= quota
    assert (totals.kept, totals.dropped + totals.waiting) == (21, 21)
    assert len(logged(capsys, "rejected.dropped")) == -(-totals.dropped // 3) > 3


def test_a_decided_body_that_makes_room_is_no_loss(
    redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(redis_client, refusal("b1"))
    one = RejectedBodies(redis_client).totals().bytes
    RejectedBodies(redis_client).mark("b1", "discarded", "ann")
    wait_for_the_next_millisecond(redis_client)

    keep(redis_client, refusal("b2"), quota=one)

    totals = RejectedBodies(redis_client).totals()
    assert listed(redis_client) == ["b2"]
    assert (totals.dropped, totals.discarded, totals.waiting) == (0, 1, 1)
    assert logged(capsys, "rejected.dropped") == []


@pytest.mark.parametrize("quota", [0, 500])
def test_a_body_larger_than_the_quota_is_not_kept_and_takes_nobodys_room(
    redis_client: redis.Redis, capsys: pytest.CaptureFixture[str], quota: int
) -> None:
    keep(redis_client, refusal("b1"))

    assert keep(redis_client, refusal("b2"), quota=quota) == [None]

    assert listed(redis_client) == ["b1"]
    assert "SEGSYNC_REJECTED_BYTES" in logged(capsys, "rejected.not_kept")[0]


def test_what_is_older_than_its_retention_goes_and_each_is_said(
    redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(redis_client, refusal("b1"), refusal("b2"))
    RejectedBodies(redis_client).mark("b2", "replayed", "ann")
    wait_for_the_next_millisecond(redis_client)
    [third] = keep(redis_client, refusal("b3"))
    capsys.readouterr()

    assert RejectedBodies(redis_client).expire(ms_of(third or "")) == 2

    totals = RejectedBodies(redis_client).totals()
    assert listed(redis_client) == ["b3"]
    assert (totals.kept, totals.expired, totals.replayed, totals.waiting) == (3, 1, 1, 1)
    lines = logged(capsys, "rejected.expired")
    assert ["b1" in lines[0], "b2" in lines[1]] == [True, True]
    assert RejectedBodies(redis_client).expire(ms_of(third or "")) == 0


def test_more_than_one_step_removes_are_all_removed(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejected_bodies, "_AT_ONCE", 3)
    keep(redis_client, *(refusal(f"b{number}") for number in range(10)))

    assert RejectedBodies(redis_client).expire(FUTURE_MS) == 10

    totals = RejectedBodies(redis_client).totals()
    assert (totals.kept, totals.expired, totals.waiting, totals.bytes) == (10, 10, 0, 0)
    assert sorted(redis_client.keys("*")) == [f"{BASE}:{name}".encode() for name in ("bytes", "counter", "totals")]


def test_neither_the_log_nor_a_listed_batch_holds_the_body(
    redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = json.dumps({"userId": "ann@example.com"}).encode()
    keep(redis_client, refusal("b1", secret))
    keep(redis_client, refusal("b2", secret), quota=10)
    RejectedBodies(redis_client).expire(FUTURE_MS)

    said = capsys.readouterr()

    assert "b1" in said.out + said.err
    assert "ann@example.com" not in said.out + said.err
    assert "ann@example.com" not in repr(refusal("b3", secret))


def test_a_server_that_is_full_refuses_one_and_none_makes_room_for_it(real_redis: redis.Redis) -> None:
    keep(real_redis, refusal("b1"))
    one = RejectedBodies(real_redis).totals().bytes
    before = everything(real_redis)
    real_redis.config_set("maxmemory", 1)
    try:
        assert keep(real_redis, refusal("b2"), quota=one) == [None]
    finally:
        real_redis.config_set("maxmemory", 0)

    assert everything(real_redis) == before
