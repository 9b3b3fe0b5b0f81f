"""Entries beside the stream: batches that come to a log at a position of their own (rule 17)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import redis

from worker.log import keyspace
from worker.log.batch import WakeUp
from worker.log.scripts import script
from worker.model import SegmentId
from worker.state import state_errors

# gone: another generation lives. below: nobody knows any more who was decided since. not dead: it is done already.
# taken: another batch lies there.
Refused = Literal["gone", "below", "not dead", "taken"]


def insert_entry(
    client: redis.Redis,
    segment: SegmentId,
    position: str,
    *,
    batch_id: str,
    fields: Sequence[str | bytes],
    store_ids: Sequence[str],
    of_dead: bool,
) -> list[WakeUp] | Refused:
    """Put an entry into a log at its own position, and take every cursor back to just before it, in one step.

    Doing it again changes nothing.

    Args:
        client: the state server.
        segment: the log.
        position: where.
        batch_id: whose entry it is.
        fields: as ``entry.pack_fields`` gives them.
        store_ids: all stores of the environment, whether on or off.
        of_dead: it is the dead entry at that position that comes to life.

    Returns:
        The wake-ups that are due, and now the caller's to send; or why nothing was changed.

    Raises:
        Unavailable: the state server is away; it may be inserted.
    """
    base = keyspace.base(segment.environment_id, segment.segment_key)
    told = (segment.generation, position, batch_id, "1" if of_dead else "0", len(fields), *fields, *store_ids)
    verdict, *due = script("insert")(client, base, *told)
    if verdict != b"inserted":
        return cast("Refused", verdict.decode())
    return [WakeUp(segment, store_id.decode()) for store_id in due]


def is_inserted(client: redis.Redis, segment: SegmentId, position: str, batch_id: str) -> bool:
    """Whether the batch lies there already.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        return client.hget(f"{keyspace.prefix(segment)}:late:{position}", "b") == batch_id.encode()


def void_cursor(client: redis.Redis, segment: SegmentId, store_id: str) -> bool:
    """Take a store's cursor back to the beginning: everything is folded into the store again (rule 14).

    Returns:
        Whether a wake-up is due, and now the caller's to send.

    Raises:
        Unavailable: the state server is away; it may be done.
    """
    base = keyspace.base(segment.environment_id, segment.segment_key)
    return bool(script("void")(client, base, segment.generation, store_id))
