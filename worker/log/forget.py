"""Forgetting a store that was removed: nothing in the logs tells of it any more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import redis
import structlog

from worker.log import keyspace
from worker.log.scripts import run_pipeline, script
from worker.model import SegmentId
from worker.state import refused

_PIPELINE = 500

_log = structlog.get_logger(__name__)


def forget_cursors(
    client: redis.Redis,
    environment_id: str,
    segment_keys: Sequence[str],
    store_id: str,
    *,
    counted_members: bool,
    ending: Iterable[SegmentId] = (),
) -> int:
    """Delete the store's cursors and open marks from these segments, in the present generation and in ending ones.

    Args:
        client: of the state server.
        environment_id: whose segments they are.
        segment_keys: of segments that exist or not.
        store_id: of a store that nobody drains into any more.
        counted_members: its replies counted the members. Another store does so from now on, which had applied more
            or less by then: the counts are marked approximate (rule 22).
        ending: deleted generations that are not closed yet; of those that are, nothing is left.

    Returns:
        How many keys were deleted.

    Raises:
        Unavailable: the state server is away, or could not forget it in some of the segments; doing it again finishes
            it.
    """
    deleted, refusals = 0, []
    generations: dict[str, list[int]] = {}
    for segment in ending:
        generations.setdefault(segment.segment_key, []).append(segment.generation)
    for start in range(0, len(segment_keys), _PIPELINE):
        portion = segment_keys[start : start + _PIPELINE]
        queue = partial(_queue, environment_id, portion, store_id, "1" if counted_members else "0", generations)
        for key, reply in zip(portion, run_pipeline(client, queue, "forget"), strict=True):
            if isinstance(reply, Exception):
                _log.error("segment.unusable", environment_id=environment_id, segment_key=key, error=str(reply))
                refusals.append(reply)
            else:
                deleted += int(reply)
    if refusals:
        raise refused(refusals[0])
    return deleted


def _queue(  # noqa: PLR0917 - one call's facts
    environment_id: str,
    segment_keys: Sequence[str],
    store_id: str,
    counted: str,
    generations: Mapping[str, Sequence[int]],
    pipe: Any,
) -> None:
    for key in segment_keys:
        told = (store_id, counted, *generations.get(key, ()))
        pipe.evalsha(script("forget").sha, 1, keyspace.base(environment_id, key), *told)
