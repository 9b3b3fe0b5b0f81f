"""Segment keys allotted to whoever may have them: all of a payload's, or none."""

from __future__ import annotations

from collections.abc import Callable

import redis

from worker.records.segment_keys import SegmentKeys, wished_keys

PLAIN, HASHED = wished_keys("amplitude", "a")


def only(*allowed: str) -> Callable[[str], bool]:
    return allowed.__contains__


def registry(client: redis.Redis) -> object:
    return [client.hgetall(f"segsync:{{env}}:{name}") for name in ("cohorts", "segments")]


def test_what_is_permitted_is_allotted_as_ever(redis_client: redis.Redis) -> None:
    keys = SegmentKeys(redis_client)
    assert keys.allot_where("env", "amplitude", ["a", "b"], lambda _: True) == "allotted"
    assert keys.find("env", "amplitude", ["a", "b"]) == ["amplitude-a", "amplitude-b"]
    assert SegmentKeys(redis_client).allot("env", "amplitude", ["a", "b"]) == ["amplitude-a", "amplitude-b"]


def test_one_that_is_not_permitted_keeps_the_others_from_theirs(redis_client: redis.Redis) -> None:
    keys = SegmentKeys(redis_client)
    assert keys.allot_where("env", "amplitude", ["a", "b"], only(PLAIN, HASHED)) == "refused"
    assert registry(redis_client) == [{}, {}]


def test_rights_do_not_change_which_key_a_cohort_gets(redis_client: redis.Redis) -> None:
    keys = SegmentKeys(redis_client)
    assert keys.allot_where("env", "amplitude", ["a"], only(HASHED)) == "refused"
    redis_client.hset("segsync:{env}:segments", PLAIN, "another")
    assert keys.allot_where("env", "amplitude", ["a"], only(PLAIN)) == "refused"
    assert keys.allot_where("env", "amplitude", ["a"], only(HASHED)) == "allotted"
    assert keys.find("env", "amplitude", ["a"]) == [HASHED]


def test_two_cohorts_of_one_payload_never_get_one_key(redis_client: redis.Redis) -> None:
    keys = SegmentKeys(redis_client)
    first, second = "a b", "a?b"  # neither is a key as it is, and both read alike
    assert keys.allot_where("env", "amplitude", [first, second, first], lambda _: True) == "allotted"
    assert len(set(keys.find("env", "amplitude", [first, second]))) == 2


def test_a_cohort_that_has_its_key_by_now_is_told(redis_client: redis.Redis) -> None:
    keys = SegmentKeys(redis_client)
    keys.allot("env", "amplitude", ["a"])
    assert keys.allot_where("env", "amplitude", ["b", "a"], lambda _: True) == "again"
    assert keys.find("env", "amplitude", ["b"]) == [None]


def test_what_was_found_is_remembered_and_what_was_not_is_asked_again(redis_client: redis.Redis) -> None:
    keys = SegmentKeys(redis_client)
    SegmentKeys(redis_client).allot("env", "amplitude", ["a"])
    keys.find("env", "amplitude", ["a", "b"])
    assert keys.remembered("env", "amplitude", ["a"]) == ["amplitude-a"]
    assert keys.remembered("env", "amplitude", ["a", "b"]) is None
