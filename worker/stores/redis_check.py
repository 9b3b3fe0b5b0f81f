"""What is wrong with a Redis store, for the person who set it up."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import redis
from redis.exceptions import ResponseError

from worker.stores.layout import redis_include_key, redis_probe_keys, redis_sentinel_key, redis_synchronized_on_key
from worker.stores.redis_faults import reason_of
from worker.stores.redis_link import ask_all, told
from worker.stores.redis_metadata import FRESHNESS_SCRIPT
from worker.stores.redis_reads import glob_of

_MEMBER: Final = "segsync"
# If the server dies, or refuses to clear up, between the writing of a probe and its end.
_PROBE_MILLISECONDS: Final = 1_000


def find_faults(link: redis.Connection, prefix: str) -> list[str]:
    """What is wrong, a sentence each. The connection stands: the server is reachable and has let us in."""
    replication, memory, setting = ask_all(
        link, ("INFO", "replication"), ("INFO", "memory"), ("CONFIG", "GET", "maxmemory-policy")
    )
    role = told(replication).get("role", "master")
    if role != "master":
        return ["it is a replica, whose content another server decides; point the store at the primary"]
    return _refusals(link, prefix) + _evictions(memory, setting)


def _refusals(link: redis.Connection, prefix: str) -> list[str]:
    """Try every command that segsync needs, on keys that nobody reads and that are gone again afterwards."""
    context, string = redis_probe_keys(prefix)
    own = (redis_sentinel_key(prefix), redis_synchronized_on_key(prefix))
    tried: list[tuple[str | int, ...]] = [
        *(("GET", key) for key in own),
        # It writes nothing: nobody's incarnation is a probe.
        ("EVAL", FRESHNESS_SCRIPT, 2, *own, "probe", 0, 0),
        ("SADD", context, _MEMBER),
        ("SISMEMBER", context, _MEMBER),
        ("SMEMBERS", context),
        ("SREM", context, _MEMBER),
        ("SET", string, 1, "PX", _PROBE_MILLISECONDS),
        ("SCAN", 0, "MATCH", glob_of(redis_include_key(prefix, "")), "COUNT", 1),
    ]
    # Where DEL is refused, too, a set that SREM could not empty stays behind; no reader takes it for a context's.
    *replies, _ = ask_all(link, *tried, ("DEL", context, string))
    verbs: dict[str, list[str]] = defaultdict(list)
    for command, reply in zip(tried, replies, strict=True):
        if isinstance(reply, ResponseError):
            verbs[reason_of(reply)].append(str(command[0]))
    return [f"{', '.join(dict.fromkeys(refused))}: {reason}" for reason, refused in verbs.items()]


def _evictions(memory: object, setting: object) -> list[str]:
    """Policies that take keys without a time to live, as ours are. Many managed servers refuse CONFIG, but not INFO."""
    policy = told(memory if isinstance(memory, bytes) else None).get("maxmemory_policy", "")
    if not policy and isinstance(setting, list) and len(setting) > 1:
        policy = setting[1].decode()
    if not policy.startswith("allkeys"):
        return []
    return [f"its maxmemory-policy is {policy}: short of memory, it forgets members unseen; set it to noeviction"]
