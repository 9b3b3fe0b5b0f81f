"""What is known of an import: its record, as ``Jobs`` keeps it, and how far each store is with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import redis

from worker.log import keyspace
from worker.log.imports import ImportMode
from worker.log.position import START, order
from worker.log.upkeep import NO_LIFE, read_lives
from worker.model import SegmentId
from worker.state import state_errors

# How long an import that is over can be asked about.
RECORD_SECONDS = 30 * 86_400
ImportStatus = Literal["preparing", "in_progress", "complete", "stopped"]


@dataclass(slots=True)
class ImportRecord:
    """One import.

    Attributes:
        created_ms: when its file was there; ``finished_ms`` when it was over, 0 before.
        size_bytes: of the file, which has so many ``pieces``.
        by: who wanted it.
        message: why it was stopped; "" otherwise. It names a line of the file, and never repeats what is in it.
        lines, keys: how many have been read so far; ``keys`` are without doubles once it is in the log.
        position: of its entry in the log; "" while it is not there.
        stores: of each store that is on, which share it has written, 0 to 1; filled in while it is in progress.
    """

    import_id: str
    segment: SegmentId
    mode: ImportMode
    status: ImportStatus
    created_ms: int
    file_name: str
    size_bytes: int
    pieces: int
    by: str
    message: str
    lines: int
    keys: int
    position: str
    finished_ms: int
    stores: dict[str, float] = field(default_factory=dict)


def unpack_record(import_id: str, found: Mapping[str, str]) -> ImportRecord:
    """The record of an import."""
    return ImportRecord(
        import_id=import_id,
        segment=SegmentId(found["environment_id"], found["segment_key"], int(found["generation"])),
        mode=cast("ImportMode", found["mode"]),
        status=cast("ImportStatus", found["status"]),
        created_ms=int(found["created_ms"]),
        file_name=found["file_name"],
        size_bytes=int(found["size_bytes"]),
        pieces=int(found["pieces"]),
        by=found["by"],
        message=found.get("message", ""),
        lines=int(found.get("lines", 0)),
        keys=int(found.get("keys", 0)),
        position=found.get("position", ""),
        finished_ms=int(found.get("finished_ms", 0)),
    )


def read_shares(client: redis.Redis, segment: SegmentId, position: str, store_ids: Sequence[str]) -> dict[str, float]:
    """Which share of what leads up to an import's position each store has written: 0 to 1, and 1 when it has all.

    While an import is written, chunk by chunk of the snapshot that it is folded into, it is the share of the chunks.

    Raises:
        Unavailable: the state server is away.
    """
    prefix = keyspace.prefix(segment)
    lives = read_lives(client, store_ids)
    with state_errors(), client.pipeline(transaction=True) as pipe:
        pipe.hmget(f"{prefix}:head", "snapshot", "trimmed")
        for store_id in store_ids:
            pipe.hmget(f"{prefix}:cursor:{store_id}", "position", "base", "base_chunks", "incarnation")
        (token, trimmed), *cursors = pipe.execute()
        chunks = client.llen(f"{prefix}:snapshot:{token.decode()}") if token else 0
    folded = order((trimmed or START.encode()).decode()) >= order(position)
    shares: dict[str, float] = {}
    for store_id, cursor in zip(store_ids, cursors, strict=True):
        at, base, done, made_for = (None if part is None else part.decode() for part in cursor)
        life = lives.get(store_id, NO_LIFE).incarnation
        if made_for and life and made_for != life:  # rule 12
            shares[store_id] = 0.0
        elif order(at or START) >= order(position):
            shares[store_id] = 1.0
        elif folded and chunks and token and base == token.decode():
            # Short of 1: the cursor moves after the last chunk.
            shares[store_id] = min(int(done or 0) / chunks, 0.99)
        else:
            shares[store_id] = 0.0
    return shares
