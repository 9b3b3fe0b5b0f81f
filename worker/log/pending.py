"""What waits in the logs of each environment, as the scheduler last saw it: by that, receivers know when to say 429.

``segsync:pending`` is a hash, environment id -> "bytes oldest_ms measured_ms"; "-" stands for no oldest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import redis

from worker.state import state_errors

PENDING = "segsync:pending"
_NONE = "-"


@dataclass(slots=True, frozen=True)
class Pending:
    """What one environment's logs hold and its stores have not applied.

    Attributes:
        bytes: the size of those entries.
        oldest_ms: accept time of the oldest of them; None when nothing waits.
        measured_ms: when that was seen, by the state server's clock.
    """

    bytes: int
    oldest_ms: int | None
    measured_ms: int


def write_pending(client: redis.Redis, pending: Mapping[str, Pending]) -> None:
    """Put these figures, by environment id, in place of all former ones.

    Raises:
        Unavailable: the state server is away, or is full: the former figures stay, or these are there.
    """
    with state_errors(), client.pipeline(transaction=True) as pipe:
        pipe.delete(PENDING)
        if pending:
            pipe.hset(
                PENDING, mapping=cast("Any", {environment_id: _pack(each) for environment_id, each in pending.items()})
            )
        pipe.execute()


def read_pending(client: redis.Redis) -> dict[str, Pending]:
    """The latest figures by environment id; none where no scheduler has written any.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        found = cast("dict[bytes, bytes]", client.hgetall(PENDING))
    return {environment_id.decode(): _unpack(text.decode()) for environment_id, text in found.items()}


def _pack(pending: Pending) -> str:
    oldest = _NONE if pending.oldest_ms is None else pending.oldest_ms
    return f"{pending.bytes} {oldest} {pending.measured_ms}"


def _unpack(text: str) -> Pending:
    size, oldest, measured, *_ = text.split(" ")  # a newer scheduler may tell more
    return Pending(int(size), None if oldest == _NONE else int(oldest), int(measured))
