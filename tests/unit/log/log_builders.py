"""Small batches and segments for the log's tests."""

from __future__ import annotations

import itertools
from typing import Any, cast

import redis

from worker.log import keyspace
from worker.log.append import Appends
from worker.log.batch import Batch, Target, WakeUp
from worker.log.compaction import Bounds, Compaction, Folded
from worker.log.lease import DrainLog, Lease
from worker.log.merging import merge
from worker.log.position import START
from worker.log.snapshot import Changes
from worker.model import Cohort, SegmentId

ENVIRONMENT = "0123456789abcdef01234567"
STORE = "store-1"
SEGMENT = SegmentId(ENVIRONMENT, "rudderstack-beta", 1)

_numbers = itertools.count(1)


def batch(
    body: bytes = b"{}",
    *,
    batch_id: str | None = None,
    kind: str = "user",
    keys: tuple[str, ...] = (SEGMENT.segment_key,),
    stores: tuple[str, ...] = (STORE,),
    members: dict[str, bool] | None = None,
    not_after_ms: int = 10**15,
) -> Batch:
    """A batch for the segments with these keys."""
    cohorts = [Cohort(key.removeprefix("rudderstack-"), members=dict(members or {})) for key in keys]
    return Batch(
        batch_id=batch_id or f"batch-{next(_numbers)}",
        environment_id=ENVIRONMENT,
        context_kind=kind,
        integration_key="rudderstack",
        parser_digest="d1",
        body=body,
        targets=[Target(key, cohort) for key, cohort in zip(keys, cohorts, strict=True)],
        store_ids=stores,
        not_after_ms=not_after_ms,
    )


def append(client: redis.Redis, *batches: Batch) -> list[list[WakeUp]]:
    """Append, and expect every batch to be accepted."""
    outcomes = Appends(client).append(batches)
    accepted = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert len(accepted) == len(batches), outcomes
    return accepted


def take(client: redis.Redis, *, connection: str = "c1", segment: SegmentId = SEGMENT, store: str = STORE) -> Lease:
    """Take the lease, and expect to get it."""
    lease = DrainLog(client).take(segment, store, connection=connection)
    assert isinstance(lease, Lease), lease
    return lease


def bodies(lease: Lease) -> list[bytes]:
    """What a drain would read next."""
    return [entry.content() for entry in lease.read(most_bytes=1 << 20, most_entries=100)]


def drain_all(client: redis.Redis, *, store: str = STORE, segment: SegmentId = SEGMENT) -> None:
    """Apply everything that waits, as a drain that only pretends to write."""
    lease = take(client, store=store, segment=segment)
    entries = lease.read(most_bytes=1 << 20, most_entries=1000)
    lease.advance(entries[-1], 0)
    lease.release(clean=True)


def last(client: redis.Redis, segment: SegmentId = SEGMENT) -> str:
    """The position of the last entry."""
    return cast("bytes", client.hget(f"{keyspace.prefix(segment)}:head", "last")).decode()


def commit_snapshot(client: redis.Redis, *people: str, **options: Any) -> str:
    """Put a snapshot that has these people in the place of everything, or up to a position; returns its token."""
    token, verdict = offer_snapshot(client, *people, **options)
    assert verdict == "committed"
    return token


def offer_snapshot(
    client: redis.Redis,
    *people: str,
    segment: SegmentId = SEGMENT,
    stores: tuple[str, ...] = (STORE,),
    holding: tuple[str, ...] | None = None,
    upto: str = "",
    follows: str = "",
    floor: str = START,
    passed: tuple[str, ...] = (),
    late: dict[str, str] | None = None,
) -> tuple[str, str]:
    """As ``commit_snapshot``, and perhaps refused: its token, and the verdict."""
    compaction, changes, position = Compaction(client), Changes(), upto or last(client, segment)
    changes.add(position, dict.fromkeys(people, True))
    draft = compaction.draft(segment)
    for chunk in merge([], changes, floor):
        draft.add(chunk)
    folded = Folded(follows=follows, position=position, floor=floor, entries=1, passed=passed, late=late or {})
    bounds = Bounds(horizon_ms=10**13, limit_ms=0, store_ids=stores)
    return draft.token, compaction.commit(draft, folded, bounds, stores if holding is None else holding)
