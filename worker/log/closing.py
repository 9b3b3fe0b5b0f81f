"""Logs of deleted generations: listed until every store is through them, and nothing of them is left.

``segsync:closing`` is a zset, log name -> the time, by the state server's clock in ms, after which its deletion cannot
land any more. A log is entered before its segment is deleted, so that no deletion is ever forgotten; one that is
listed and lives after that time was never deleted, and is taken out.

A generation is deleted by the last entry of its log (``imports.final_import``): with it, the segment's context kind,
name and counts go, and the next batch begins the generation after it. The log is then drained like any other. When
every store has applied that entry, ten minutes ago, the generation is **closed**: its log, snapshot and cursors go. Its
dead letters stay, to be looked at, until they have had their time; then it is **forgotten**.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import redis

from worker.log import keyspace
from worker.log.scripts import script
from worker.model import SegmentId
from worker.state import state_errors

CLOSING = "segsync:closing"


class Ending(NamedTuple):
    """A generation that is deleted, or about to be; ``not_after_ms``: see the module."""

    segment: SegmentId
    not_after_ms: int


class Closings:
    """The list, and the steps. Safe between threads, as far as the client is."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def add(self, segment: SegmentId, not_after_ms: int) -> None:
        """Enter a log, before its segment is deleted; of several times, the latest stands.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            self._client.zadd(CLOSING, {keyspace.log_name(segment): not_after_ms}, gt=True)

    def endings(self, environment_id: str | None = None) -> list[Ending]:
        """All of them, or those of one environment.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            found = cast("list[tuple[bytes, float]]", self._client.zrange(CLOSING, 0, -1, withscores=True))
        endings = [Ending(keyspace.segment_of(name.decode()), int(score)) for name, score in found]
        return [each for each in endings if environment_id in {None, each.segment.environment_id}]

    def remove(self, ending: Ending) -> None:
        """Take a log out: nothing of it is left, or it was not deleted after all.

        Unless it was entered anew since the list was read: then somebody is about to delete it once more.

        Raises:
            Unavailable: the state server is away.
        """
        text = "if redis.call('ZSCORE', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('ZREM', KEYS[1], ARGV[1]) end"
        with state_errors():
            self._client.eval(text, 1, CLOSING, keyspace.log_name(ending.segment), ending.not_after_ms)

    def present(self, segment: SegmentId) -> tuple[int, bool]:
        """The segment's latest generation, and whether that lives.

        Raises:
            Unavailable: the state server is away.
        """
        base = keyspace.base(segment.environment_id, segment.segment_key)
        with state_errors():
            found = cast("list[bytes | None]", self._client.hmget(f"{base}:segment", "generation", "context_kind"))
        return int(found[0] or 0), found[1] is not None

    def may_close(self, segment: SegmentId, store_ids: Sequence[str]) -> bool:
        """Whether ``close`` would close it now.

        Raises:
            Unavailable: the state server is away.
        """
        return self._close(segment, "0", store_ids) == "closed"

    def close(self, segment: SegmentId, store_ids: Sequence[str]) -> bool:
        """Give back what a deleted generation takes, if each of these stores has applied its last entry for good.

        Raises:
            Unavailable: the state server is away; it may be closed.
        """
        return self._close(segment, "1", store_ids) == "closed"

    def _close(self, segment: SegmentId, really: str, store_ids: Sequence[str]) -> str:
        base = keyspace.base(segment.environment_id, segment.segment_key)
        [verdict] = script("delete_close")(self._client, base, segment.generation, really, *store_ids)
        return cast("bytes", verdict).decode()

    def forget(self, segment: SegmentId, *, with_dead: bool = False) -> bool:
        """Forget a generation that is closed; returns False while dead letters, or payloads that it shares, are left.

        ``with_dead``: also its dead letters.

        Raises:
            Unavailable: the state server is away; it may be forgotten.
        """
        base = keyspace.base(segment.environment_id, segment.segment_key)
        return bool(script("delete_forget")(self._client, base, segment.generation, "1" if with_dead else "0"))


def deleted_ms(client: redis.Redis, environment_id: str, segment_keys: Sequence[str]) -> dict[str, int]:
    """When each of these segments was last deleted, in ms; those that never were are left out.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors(), client.pipeline(transaction=False) as pipe:
        for key in segment_keys:
            pipe.hget(f"{keyspace.base(environment_id, key)}:segment", "deleted_ms")
        replies = cast("list[bytes | None]", pipe.execute())
    return {key: int(found) for key, found in zip(segment_keys, replies, strict=True) if found is not None}


def closed_generations(client: redis.Redis, environment_id: str, segment_keys: Sequence[str]) -> list[SegmentId]:
    """The generations of these segments that were deleted and closed, ever: no store should hold anything of them.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors(), client.pipeline(transaction=False) as pipe:
        for key in segment_keys:
            pipe.smembers(f"{keyspace.base(environment_id, key)}:closed")
        replies = cast("list[set[bytes]]", pipe.execute())
    return [
        SegmentId(environment_id, key, int(generation))
        for key, found in zip(segment_keys, replies, strict=True)
        for generation in sorted(found, key=int)
    ]
