"""What is wrong with a Redis store, for the person who set it up."""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

import redis
from redis.exceptions import ResponseError

from worker.stores.layout import (
    redis_cell_key,
    redis_probe_keys,
    redis_sentinel_key,
    redis_synchronized_on_key,
)
from worker.stores.redis.addresses import Address
from worker.stores.redis.cells import CELL_SLOTS as PROBED_SLOTS
from worker.stores.redis.faults import reason_of
from worker.stores.redis.link import ask_all, told
from worker.stores.redis.metadata import FRESHNESS_SCRIPT
from worker.stores.redis.reads import pattern_of_contexts
from worker.stores.redis.slots import SlotMap, has_hash_tag, slot_of, tags_in

_MEMBER: Final = "segsync"
# If the server dies, or refuses to clear up, between the writing of a probe and its end.
_PROBE_MILLISECONDS: Final = 1_000


class ProbedKeys(NamedTuple):
    """Which keys of a node to try.

    Attributes:
        own: of the sentinel and of the freshness, or others in their slot.
        contexts: sets, named like those of a context.
        string: another key.
        pattern: of all contexts' keys.
        in_a_cluster: commands of clusters are needed, too.
    """

    own: tuple[str, str]
    contexts: tuple[str, ...]
    string: str
    pattern: str
    in_a_cluster: bool = False


def keys_of_server(prefix: str) -> ProbedKeys:
    """Those of a store on one server."""
    own = redis_sentinel_key(prefix), redis_synchronized_on_key(prefix)
    return ProbedKeys(own, *redis_probe_keys(prefix), pattern_of_contexts(prefix))


def keys_of_node(prefix: str, slots: SlotMap, node: Address) -> ProbedKeys | None:
    """Those of a node of a cluster; None where it serves no slot that a key could be tried in."""
    if has_hash_tag(prefix):
        server = keys_of_server(prefix)
        serving = slots.primaries[slots.owners[slot_of(server.string)]]
        return server._replace(in_a_cluster=True) if serving == node else None
    slot = slots.first_owned(PROBED_SLOTS).get(node)
    if slot is None:
        return None
    tag = tags_in(frozenset(PROBED_SLOTS))[slot]
    contexts, string = redis_probe_keys(prefix, tag)
    own = redis_cell_key(prefix, tag), string
    return ProbedKeys(own, contexts, string, pattern_of_contexts(prefix), in_a_cluster=True)


def find_faults(link: redis.Connection, keys: ProbedKeys) -> list[str]:
    """What is wrong, a sentence each. The connection stands: the server is reachable and has let us in."""
    replication, memory, setting = ask_all(
        link, ("INFO", "replication"), ("INFO", "memory"), ("CONFIG", "GET", "maxmemory-policy")
    )
    role = told(replication).get("role", "master")
    if role != "master":
        return ["it is a replica, whose content another server decides; point the store at the primary"]
    return _refusals(link, keys) + _evictions(memory, setting)


def _refusals(link: redis.Connection, keys: ProbedKeys) -> list[str]:
    """Try every command that segsync needs, on keys that nobody reads and that are gone again afterwards."""
    own, contexts, string = keys.own, keys.contexts, keys.string
    tried: list[tuple[str | int, ...]] = [
        *(("GET", key) for key in own),
        # It writes nothing: nobody's incarnation is a probe.
        ("EVAL", FRESHNESS_SCRIPT, 2, *own, "probe", 0, 0),
        *((verb, key, _MEMBER) for key in contexts for verb in ("SADD", "SISMEMBER")),
        *(("SMEMBERS", key) for key in contexts),
        *(("SREM", key, _MEMBER) for key in contexts),
        ("SET", string, 1, "PX", _PROBE_MILLISECONDS),
        ("SCAN", 0, "MATCH", keys.pattern, "COUNT", 1),
    ]
    if keys.in_a_cluster:
        tried += [("CLUSTER", "NODES"), ("ASKING",)]
    # Where DEL is refused, too, a set that SREM could not empty stays behind; no reader takes it for a context's.
    replies = ask_all(link, *tried, *(("DEL", key) for key in (*contexts, string)))
    verbs: dict[str, list[str]] = defaultdict(list)
    for command, reply in zip(tried, replies, strict=False):
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
