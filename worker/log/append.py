"""Accept: append batches to their segments' logs, many in one round trip, each atomically (rules 1 and 2)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import NoScriptError

from worker.errors import InvalidBatch
from worker.log import entry, keyspace
from worker.log.scripts import load, script
from worker.model import Cohort, SegmentId
from worker.state import state_errors


@dataclass(slots=True, frozen=True)
class Target:
    """One cohort of a batch and the segment that it became."""

    segment_key: str
    cohort: Cohort


@dataclass(slots=True, frozen=True)
class Batch:
    """One accepted request, on its way into the log.

    Attributes:
        batch_id: unique; an append that is repeated with it changes nothing.
        body: the request's bytes, decoded from any content encoding, otherwise unchanged.
        store_ids: the environment's stores, each of which has a cursor of its own.
    """

    batch_id: str
    environment_id: str
    context_kind: str
    integration_key: str
    parser_digest: str
    body: bytes
    targets: Sequence[Target]
    store_ids: Sequence[str]


@dataclass(slots=True, frozen=True)
class WakeUp:
    """A hint that a store may be behind a log. Losing one costs time, never data."""

    segment: SegmentId
    store_id: str


class Appends:
    """Appends to the logs. Not safe between threads: one appender per process owns one of these."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def append(self, batches: Sequence[Batch]) -> list[list[WakeUp] | InvalidBatch]:
        """Append each batch to the log of every segment that it names.

        Batches of one segment go through one pipeline, in the order given: one round trip, and one flush of the
        server's append-only file, for all. A batch of several segments takes three round trips of its own.

        Returns:
            Per batch: the wake-ups that its append made due, or InvalidBatch when a segment has another kind.

        Raises:
            Unavailable: the state server is away, or refused one of the batches: some of them may be in the log.
                Appending all of them again is safe within a minute.
        """
        with state_errors():
            try:
                return self._append(batches)
            except NoScriptError:
                load(self._client, "append", "claim")
                return self._append(batches)

    def _append(self, batches: Sequence[Batch]) -> list[list[WakeUp] | InvalidBatch]:
        outcomes: dict[int, list[WakeUp] | InvalidBatch] = {}
        singles = [(place, batch) for place, batch in enumerate(batches) if len(batch.targets) == 1]
        if singles:
            with self._client.pipeline(transaction=False) as pipe:
                for _, batch in singles:
                    _queue_append(pipe, batch, batch.targets[0], "body", entry.compress(batch.body), payload_id="")
                replies = pipe.execute()
            outcomes.update(
                (place, _outcome(batch, batch.targets[0], reply))
                for (place, batch), reply in zip(singles, replies, strict=True)
            )
        for place, batch in enumerate(batches):
            if len(batch.targets) != 1:
                outcomes[place] = self._append_shared(batch)
        ordered = [outcomes[place] for place in range(len(batches))]
        self._index(batches, ordered)
        return ordered

    def _append_shared(self, batch: Batch) -> list[WakeUp] | InvalidBatch:
        """Check all, store the payload once with its full set of logs, then append a slice to each log.

        Cut short, it may be partly appended; nobody was told it was accepted, so sending it again is right, and
        ``Upkeep.drop_cut_payloads`` clears away what was stored for the appends that never happened.
        """
        for create in ("0", "1"):  # twice: a refusal must not leave segments behind that it created itself
            with self._client.pipeline(transaction=False) as pipe:
                for target in batch.targets:
                    claim = (batch.context_kind, create, batch.integration_key, target.cohort.cohort_id)
                    pipe.evalsha(script("claim").sha, 1, _base(batch, target), *claim)
                claims = pipe.execute()
            for target, (verdict, found) in zip(batch.targets, claims, strict=True):
                if verdict == b"kind":
                    return _other_kind(batch, target, found)
        segments = [
            SegmentId(batch.environment_id, target.segment_key, int(generation))
            for target, (_, generation) in zip(batch.targets, claims, strict=True)
        ]
        codec, data = entry.compress(batch.body)
        payload = keyspace.payload(batch.batch_id)
        with self._client.pipeline(transaction=False) as pipe:
            pipe.zadd(keyspace.PAYLOADS, {batch.batch_id: int(time.time() * 1000)})
            pipe.sadd(f"{payload}:logs", *(keyspace.log_name(segment) for segment in segments))
            pipe.hset(payload, mapping={"codec": codec, "body": data})
            for target in batch.targets:
                part = entry.compress(entry.pack_slice(target.cohort.members))
                _queue_append(pipe, batch, target, "slice", part, payload_id=batch.batch_id)
            replies = pipe.execute()[3:]
        self._client.zrem(keyspace.PAYLOADS, batch.batch_id)
        due: list[WakeUp] = []
        for target, reply in zip(batch.targets, replies, strict=True):
            outcome = _outcome(batch, target, reply)
            if isinstance(outcome, InvalidBatch):  # deleted and made anew with another kind since the claim
                return outcome
            due += outcome
        return due

    def _index(self, batches: Sequence[Batch], outcomes: Sequence[list[WakeUp] | InvalidBatch]) -> None:
        """After the append, enter the logs in the index of those ahead, with a fresh ticket (rule 11).

        Only those with a wake-up due: where none is due, either a drain holds the lease and re-checks at release, or
        a wake-up is outstanding and its log was entered when it became due and stays until its cursors caught up.
        """
        tickets: dict[bytes | bytearray | memoryview[int] | str | int | float, Any] = {
            keyspace.log_name(wake_up.segment): batch.batch_id
            for batch, outcome in zip(batches, outcomes, strict=True)
            if not isinstance(outcome, InvalidBatch)
            for wake_up in outcome
        }
        if tickets:
            self._client.hset(keyspace.AHEAD, mapping=tickets)


def _base(batch: Batch, target: Target) -> str:
    return keyspace.base(batch.environment_id, target.segment_key)


def _queue_append(
    pipe: Any, batch: Batch, target: Target, kind: entry.Kind, packed: tuple[bytes, bytes], *, payload_id: str
) -> None:
    cohort = target.cohort
    fields = entry.pack_fields(
        integration_key=batch.integration_key,
        parser_digest=batch.parser_digest,
        kind=kind,
        codec=packed[0],
        data=packed[1],
        payload_id=payload_id,
    )
    facts = (batch.batch_id, batch.context_kind, batch.integration_key, cohort.cohort_id, cohort.name or "")
    pipe.evalsha(
        script("append").sha,
        1,
        _base(batch, target),
        *facts,
        cohort.url or "",
        payload_id,
        len(fields),
        *fields,
        *batch.store_ids,
    )


def _outcome(batch: Batch, target: Target, reply: list[bytes]) -> list[WakeUp] | InvalidBatch:
    verdict, found, *rest = reply
    if verdict == b"kind":
        return _other_kind(batch, target, found)
    segment = SegmentId(batch.environment_id, target.segment_key, int(found))
    return [WakeUp(segment, store_id.decode()) for store_id in rest[1:]]


def _other_kind(batch: Batch, target: Target, existing: bytes) -> InvalidBatch:
    return InvalidBatch(
        "context_kind",
        f"segment {target.segment_key!r} holds contexts of kind {existing.decode()!r}; "
        f"a payload of kind {batch.context_kind!r} cannot change it",
        environment_id=batch.environment_id,
    )
