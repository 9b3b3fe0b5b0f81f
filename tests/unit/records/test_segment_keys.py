"""Which key a cohort's segment gets."""

from __future__ import annotations

import re

import redis
from hypothesis import given
from hypothesis import strategies as st

from worker.records.segment_keys import SegmentKeys, wished_keys
from worker.registry import registration, segments_key

LAUNCHDARKLYS_RULE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


def test_a_plain_cohort_id_gives_a_plain_key(redis_client: redis.Redis) -> None:
    assert SegmentKeys(redis_client).allot("env", "amplitude", ["aud_2ab"])[0] == "amplitude-aud_2ab"


def test_a_cohort_keeps_its_key(redis_client: redis.Redis) -> None:
    first = SegmentKeys(redis_client).allot("env", "amplitude", ["Power users ✨"])[0]
    assert SegmentKeys(redis_client).allot("env", "amplitude", ["Power users ✨"])[0] == first
    assert re.fullmatch(r"amplitude-Power-users-[0-9a-f]{10}", first)


def test_two_cohorts_that_would_share_a_key_get_two(redis_client: redis.Redis) -> None:
    keys = SegmentKeys(redis_client)
    assert keys.allot("env", "a", ["b-c"])[0] == "a-b-c"
    assert re.fullmatch(r"a-b-c-[0-9a-f]{10}", keys.allot("env", "a-b", ["c"])[0])


def test_two_cohorts_that_differ_only_in_what_a_key_cannot_hold_get_two(redis_client: redis.Redis) -> None:
    keys = SegmentKeys(redis_client)
    assert len({keys.allot("env", "amplitude", [cohort])[0] for cohort in ("a b", "a  b", "a/b", "a-b")}) == 4


def test_environments_do_not_share_allotments(redis_client: redis.Redis) -> None:
    keys = SegmentKeys(redis_client)
    assert keys.allot("one", "a", ["b-c"])[0] == "a-b-c"
    assert keys.allot("two", "a-b", ["c"])[0] == "a-b-c"


def test_even_a_cohort_named_like_anothers_fallback_gets_a_key_of_its_own(redis_client: redis.Redis) -> None:
    keys = SegmentKeys(redis_client)
    [_, fallback] = wished_keys("a-b", "c")
    keys.allot("env", "a", ["b-c"])[0]
    keys.allot("env", fallback.partition("-")[0], [fallback.partition("-")[2]])
    assert keys.allot("env", "a-b", ["c"])[0] == f"{fallback}-2"


def test_cohorts_are_remembered_only_together(redis_client: redis.Redis) -> None:
    keys = SegmentKeys(redis_client)
    keys.allot("env", "a", ["1", "2"])
    assert keys.remembered("env", "a", ["2", "1"]) == ["a-2", "a-1"]
    assert keys.remembered("env", "a", ["1", "3"]) is None
    keys.forget()
    assert keys.remembered("env", "a", ["1"]) is None


def test_a_cohort_that_a_receiver_registered_again_keeps_its_key(redis_client: redis.Redis) -> None:
    key, field, value = registration("env", "a", "1", "a-1")
    redis_client.hset(key, field, value)
    assert SegmentKeys(redis_client).allot("env", "a", ["1"]) == ["a-1"]


def test_a_cohort_whose_registration_alone_was_lost_is_registered_again_by_who_asks_for_its_key(
    redis_client: redis.Redis,
) -> None:
    keys = SegmentKeys(redis_client)
    keys.allot("env", "a", ["1"])
    redis_client.delete(segments_key("env"))
    assert keys.allot("env", "a", ["1"]) == ["a-1"]
    assert keys.registered("env") == ["a-1"]


def test_every_allotted_key_is_registered(redis_client: redis.Redis) -> None:
    keys = SegmentKeys(redis_client)
    keys.allot("env", "a", ["1"])[0]
    keys.allot("env", "a", ["2"])[0]
    assert sorted(keys.registered("env")) == ["a-1", "a-2"]


@given(st.text(min_size=1), st.text(min_size=1))
def test_every_wished_key_is_one_that_launchdarkly_takes(integration_key: str, cohort_id: str) -> None:
    for key in wished_keys(integration_key, cohort_id):
        assert LAUNCHDARKLYS_RULE.fullmatch(key)
        assert len(key) <= 256
