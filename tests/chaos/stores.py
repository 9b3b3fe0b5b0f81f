"""What is in a store: raw, and as LaunchDarkly's SDK reads it."""

from __future__ import annotations

from collections.abc import Iterable

import redis
from ldclient.integrations import Redis

from chaos.checker import Membership, context_hash

_INCLUDED = "launchdarkly:big_segment_include:"
_SYNCHRONIZED_ON = "launchdarkly:big_segments_synchronized_on"


def read_store(client: redis.Redis) -> dict[str, set[str]]:
    """Everything that a store says: context hash -> segment refs; ``client`` replies with bytes."""
    keys = list(client.scan_iter(f"{_INCLUDED}*", count=10_000))
    content: dict[str, set[str]] = {}
    for start in range(0, len(keys), 5000):
        with client.pipeline(transaction=False) as pipe:
            for key in keys[start : start + 5000]:
                pipe.smembers(key)
            for key, refs in zip(keys[start : start + 5000], pipe.execute(), strict=True):
                content[key.decode().removeprefix(_INCLUDED)] = {ref.decode() for ref in refs}
    return content


def look(client: redis.Redis, people: Iterable[str]) -> tuple[int | None, list[set[str]]]:
    """In one step: the store's freshness in epoch milliseconds, and the segment refs of each of these people.

    Raises:
        redis.RedisError: the store is away.
    """
    with client.pipeline(transaction=True) as pipe:
        pipe.get(_SYNCHRONIZED_ON)
        for person in people:
            pipe.smembers(f"{_INCLUDED}{context_hash(person)}")
        fresh, *found = pipe.execute()
    return (None if fresh is None else int(fresh)), [{ref.decode() for ref in refs} for refs in found]


def check_sdk(name: str, url: str, people: Iterable[str], content: Membership) -> list[str]:
    """Hold what LaunchDarkly's SDK reads of these people against what the store should hold."""
    reader = Redis.new_big_segment_store(url=url)
    try:
        problems = []
        for person in people:
            membership = reader.get_membership(context_hash(person)) or {}
            found = {ref for ref, is_in in membership.items() if is_in}
            if found != set(content.get(context_hash(person), ())):
                problems.append(f"{name}: the SDK reads {sorted(found)} of {person}")
        return problems
    finally:
        reader.stop()  # type: ignore[no-untyped-call]
