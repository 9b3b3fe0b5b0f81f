"""Guards of stores: what shows that one lost something, and what may be passed over (rules 12 and 16)."""

from __future__ import annotations

from mutants.mutant import Mutant, in_file

_CLUSTER = ("tests/integration/test_store_redis_cluster.py", "tests/unit/stores/test_redis_slots.py")
_DYNAMODB = (
    "tests/unit/stores/test_dynamodb_plan.py",
    "tests/unit/stores/test_dynamodb_session.py",
    "tests/integration/test_store_dynamodb_writes.py",
)

MUTANTS: list[Mutant] = [
    *in_file(
        "worker/sync/asking.py",
        ("tests/unit/sync/test_audit_under_lease.py", "tests/unit/sync/test_audit.py"),
        ("strays are removed under a lease that lives", "hashes, before_window, of)", "hashes, lambda: None, of)"),
    ),
    *in_file(
        "worker/stores/redis/cells.py",
        _CLUSTER,
        ("a decision under way is no sentinel", "arbiter is None or arbiter.endswith(_UNDER_WAY):", "arbiter is None:"),
        (
            "a decision under way has no freshness",
            "held is None or arbiter.endswith(_UNDER_WAY) or held.incarnation",
            "held is None or held.incarnation",
        ),
        ("a cell that is gone shows", "len(held) < len(told) or ", ""),
        ("a cell that says something else shows", " or len({sentinel.incarnation for sentinel in held}) > 1", ""),
        ("the oldest beat is the store's", "return min(held, key", "return max(held, key"),
        ("of two claims one is let through", "if held ~= ARGV[1] then return held end", ""),
        (
            "a heartbeat that misses a cell says so to everybody",
            '            self._decide(lanes, arbiter, b"")\n',
            "",
        ),
        (
            "a beat is for one incarnation",
            "        if not all(proved_values(lanes.ask_each(beats))):\n",
            "        if not proved_values(lanes.ask_each(beats)):\n",
        ),
    ),
    *in_file(
        "worker/stores/redis/session.py",
        (*_CLUSTER, "tests/integration/test_cluster_failover.py"),
        ("a failover is another process", "sorted(told)).encode()", '"").encode()'),
        (
            "who was sent to another node is written there",
            "            if not self._moved:\n",
            "            if True:\n",
        ),
        (
            "in a cluster a patch waits for the answers about the one before it",
            "        if self._lanes.spread:\n            return write_in_turn(self, patches, before_window)\n",
            "",
        ),
    ),
    *in_file(
        "worker/stores/redis/session.py",
        ("tests/integration/test_store_redis_server.py",),
        (
            "a write ends when everything sent was answered",
            "            while self._sent and self._broken is None:\n",
            "            while False:\n",
        ),
        (
            "after a refusal nothing more is sent",
            "            if self._refusal is not None:\n                return\n",
            "",
        ),
        (
            "a refusal is told",
            "        if self._refusal is not None:\n            raise self._refusal\n",
            "",
        ),
        (
            "who waits for the last answers keeps the lease",
            "                before_window()\n                asked_at",
            "                asked_at",
        ),
    ),
    *in_file(
        "worker/stores/redis/bulk.py",
        ("tests/unit/stores/test_redis_replies.py",),
        (
            "replies are counted only where all of them are one or nought",
            '        if ones + replies.count(b":0\\r\\n") < count:\n            return None\n',
            "",
        ),
        ("replies that were counted are not counted again", "        del self._received[:size]\n", ""),
        (
            "what was received before it is parsed is parsed",
            "            self._reader.feed(bytes(self._received))\n",
            "",
        ),
        (
            "once replies are parsed none is waited for elsewhere",
            "        if self._reader is not None:\n            return None\n",
            "",
        ),
        ("the end of a connection is no reply", "        if not received:\n", "        if False:\n"),
    ),
    *in_file(
        "worker/stores/dynamodb/plan.py",
        _DYNAMODB,
        (
            "only who is as they shall be is passed over",
            "return found is not None and (found in (Found.IN, Found.ALONE)) is wanted",
            "return found is not None",
        ),
    ),
    *in_file(
        "worker/stores/dynamodb/changes.py",
        _DYNAMODB,
        ("only who is in is removed", "            ConditionExpression=words_of(change.wish).is_in,\n", ""),
    ),
    *in_file(
        "worker/stores/dynamodb/wishes.py",
        (*_DYNAMODB, "tests/contract/test_store_lists.py"),
        (
            "an item with other segments in it stays",
            'is_alone=f"{of} = :refs AND ',
            'is_alone=f"(attribute_exists({of}) OR {of} = :refs) AND ',
        ),
        (
            "an item of somebody who is in the other list of something stays",
            " = :refs AND attribute_not_exists({other})",
            " = :refs",
        ),
        ("who is removed from both lists need be in one alone", '" OR ".join(f"contains', '" AND ".join(f"contains'),
    ),
]
