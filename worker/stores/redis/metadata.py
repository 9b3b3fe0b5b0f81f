"""The keys of a Redis store that are not about one context: its freshness and its sentinel.

``OneSentinel`` is for stores that lie on one server, or in one slot of a cluster; ``cells`` for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from redis.exceptions import ResponseError

from worker.stores.layout import redis_sentinel_key, redis_synchronized_on_key
from worker.stores.redis.lanes import Lanes
from worker.stores.redis.link import read_sentinel, write_sentinel
from worker.stores.redis.slots import SlotMap
from worker.stores.segment_store import Sentinel

_CLAIM_SCRIPT: Final = """
local held = redis.call('GET', KEYS[1])
if held then return held end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
"""
# Sets the beat in KEYS[1] to ARGV[2], unless it is later already; ends with 0 if that is not of incarnation ARGV[1].
# Beats are compared as numbers and written as they came: Lua would write a number of this size as 1.75e+12.
_BEAT: Final = """
local held = redis.call('GET', KEYS[1])
local named = ARGV[1] .. ' '
if not held or string.sub(held, 1, #named) ~= named then return 0 end
if (tonumber(string.sub(held, #named + 1)) or 0) < tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], named .. ARGV[2])
end
"""
BEAT_SCRIPT: Final = f"{_BEAT}return 1\n"
FRESHNESS_SCRIPT: Final = f"{_BEAT}redis.call('SET', KEYS[2], ARGV[3])\nreturn 1\n"


class StoreSentinel(Protocol):
    """Where a store keeps its sentinel, and how it is read and written; see ``SegmentStore`` for what each promises."""

    def read_at_checkout(self, slots: SlotMap | None) -> Sequence[str]:
        """Keys whose values tell whether every node of the map still has what it had."""

    def told_at_checkout(self, values: Sequence[bytes | None]) -> Sentinel | None:
        """The sentinel that those values, in that order, amount to."""

    def read(self, lanes: Lanes) -> Sentinel | None:
        """The sentinel that is there."""

    def claim(self, lanes: Lanes, sentinel: Sentinel) -> Sentinel:
        """Leave a sentinel if there is none; return the one that is there then."""

    def replace(self, lanes: Lanes, sentinel: Sentinel) -> None:
        """Leave a sentinel in place of any other."""

    def write_freshness(self, lanes: Lanes, epoch_ms: int, sentinel: Sentinel) -> bool:
        """Write the freshness and the beat, only beside that sentinel."""


class OneSentinel:
    """One key, and scripts that are one step."""

    def __init__(self, prefix: str) -> None:
        self._key = redis_sentinel_key(prefix)
        self._freshness_key = redis_synchronized_on_key(prefix)

    def read_at_checkout(self, slots: SlotMap | None) -> Sequence[str]:  # noqa: ARG002 - wherever it lies
        """See ``StoreSentinel``."""
        return [self._key]

    def told_at_checkout(self, values: Sequence[bytes | None]) -> Sentinel | None:
        """See ``StoreSentinel``."""
        return read_sentinel(values[0])

    def read(self, lanes: Lanes) -> Sentinel | None:
        """See ``StoreSentinel``."""
        return read_sentinel(lanes.ask(self._key, "GET", self._key))

    def claim(self, lanes: Lanes, sentinel: Sentinel) -> Sentinel:
        """See ``StoreSentinel``."""
        held = read_sentinel(lanes.ask(self._key, "EVAL", _CLAIM_SCRIPT, 1, self._key, write_sentinel(sentinel)))
        assert held is not None, "the script returns one in either case"
        return held

    def replace(self, lanes: Lanes, sentinel: Sentinel) -> None:
        """See ``StoreSentinel``."""
        lanes.ask(self._key, "SET", self._key, write_sentinel(sentinel))

    def write_freshness(self, lanes: Lanes, epoch_ms: int, sentinel: Sentinel) -> bool:
        """See ``StoreSentinel``."""
        keys = self._key, self._freshness_key
        return bool(lanes.ask(self._key, "EVAL", FRESHNESS_SCRIPT, 2, *keys, *sentinel, epoch_ms))


def read_freshness(lanes: Lanes, prefix: str) -> int | None:
    """The freshness that SDKs read."""
    key = redis_synchronized_on_key(prefix)
    value: Any = lanes.ask(key, "GET", key)
    return None if value is None else int(value)


def proved_values(values: Sequence[Any]) -> list[Any]:
    """The same replies, none of which is an error.

    Raises:
        ResponseError: one is.
    """
    for value in values:
        if isinstance(value, ResponseError):
            raise value
    return list(values)
