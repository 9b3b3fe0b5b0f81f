"""Payloads that several segments share: which logs refer to one."""

from __future__ import annotations

from typing import cast

import redis

from worker.log import keyspace
from worker.model import SegmentId
from worker.state import state_errors


def logs_of_payload(client: redis.Redis, batch_id: str) -> set[SegmentId]:
    """The logs that hold an entry of a batch of several segments; empty for a batch of one.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        names = cast("set[bytes]", client.smembers(f"{keyspace.payload(batch_id)}:logs"))
    return {keyspace.segment_of(name.decode()) for name in names}
