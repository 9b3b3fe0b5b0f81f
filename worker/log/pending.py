"""How much each environment has accepted and not applied: measured by the heartbeat, obeyed by the receivers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import redis

from worker.state import state_errors

_PENDING = "segsync:pending"  # hash: environment id -> "bytes oldest_ms measured_ms"; oldest_ms is "-" when nothing is


class Pending(NamedTuple):
    """What the most current store of an environment has not applied yet.

    Attributes:
        bytes: of log entries.
        oldest_ms: when the oldest of them was accepted; None when there is none.
        measured_ms: when this was so, by the state server's clock.
    """

    bytes: int
    oldest_ms: int | None
    measured_ms: int


def write_pending(client: redis.Redis, measured: Mapping[str, Pending]) -> None:
    """Publish the figures of these environments.

    Raises:
        Unavailable: the state server is away.
    """
    texts = {
        environment_id: f"{found.bytes} {'-' if found.oldest_ms is None else found.oldest_ms} {found.measured_ms}"
        for environment_id, found in measured.items()
    }
    with state_errors():
        client.hset(_PENDING, mapping=texts)  # type: ignore[arg-type]  # keys are str


def read_pending(client: redis.Redis) -> dict[str, Pending]:
    """The figures last published, by environment id.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        found = cast("dict[bytes, bytes]", client.hgetall(_PENDING))
    return {environment_id.decode(): _unpack(text.decode()) for environment_id, text in found.items()}


def _unpack(text: str) -> Pending:
    size, oldest, measured = text.split(" ")
    return Pending(int(size), None if oldest == "-" else int(oldest), int(measured))
