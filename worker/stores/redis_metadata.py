"""The two keys of a Redis store that are not about one context: its freshness and its sentinel."""

from __future__ import annotations

from typing import Any, Final

import redis

from worker.stores.layout import redis_sentinel_key, redis_synchronized_on_key
from worker.stores.redis_link import ask, read_sentinel, write_sentinel
from worker.stores.segment_store import Sentinel

_CLAIM_SCRIPT: Final = """
local held = redis.call('GET', KEYS[1])
if held then return held end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
"""
# Beats are compared as numbers and written as they came: Lua would write a number of this size as 1.75e+12.
FRESHNESS_SCRIPT: Final = """
local held = redis.call('GET', KEYS[1])
local named = ARGV[1] .. ' '
if not held or string.sub(held, 1, #named) ~= named then return 0 end
if (tonumber(string.sub(held, #named + 1)) or 0) < tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], named .. ARGV[2])
end
redis.call('SET', KEYS[2], ARGV[3])
return 1
"""


def read(link: redis.Connection, prefix: str) -> Sentinel | None:
    """The sentinel that is there."""
    return read_sentinel(ask(link, "GET", redis_sentinel_key(prefix)))


def claim(link: redis.Connection, prefix: str, sentinel: Sentinel) -> Sentinel:
    """Leave a sentinel if there is none, in one step; return the one that is there then."""
    held = read_sentinel(ask(link, "EVAL", _CLAIM_SCRIPT, 1, redis_sentinel_key(prefix), write_sentinel(sentinel)))
    assert held is not None, "the script returns one in either case"
    return held


def replace(link: redis.Connection, prefix: str, sentinel: Sentinel) -> None:
    """Leave a sentinel in place of any other."""
    ask(link, "SET", redis_sentinel_key(prefix), write_sentinel(sentinel))


def read_freshness(link: redis.Connection, prefix: str) -> int | None:
    """The freshness that SDKs read."""
    value: Any = ask(link, "GET", redis_synchronized_on_key(prefix))
    return None if value is None else int(value)


def write_freshness(link: redis.Connection, prefix: str, epoch_ms: int, sentinel: Sentinel) -> bool:
    """Write it and the beat, in one step and only beside that sentinel; see ``SegmentStore``."""
    keys = redis_sentinel_key(prefix), redis_synchronized_on_key(prefix)
    return bool(ask(link, "EVAL", FRESHNESS_SCRIPT, 2, *keys, *sentinel, epoch_ms))
