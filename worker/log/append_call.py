"""The calls of the scripts ``append`` and ``claim``: what they are told of batches, and what their replies mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from worker.errors import InvalidBatch, Unavailable
from worker.log import keyspace
from worker.log.batch import Batch, Made, Outcome, Target, WakeUp
from worker.log.entry import compress, pack_fields, pack_slice
from worker.log.round_trips import Command
from worker.log.scripts import script
from worker.model import Rejections, SegmentId
from worker.state import refused


class Absent(Unavailable):
    """The segment is not there, and was not to be created. Nothing of the batch is in its log."""


def _base(batch: Batch, target: Target) -> str:
    return keyspace.base(batch.environment_id, target.segment_key)


def claims_of(batch: Batch, create: str) -> list[Command]:
    """A claim of each segment that a batch names; with ``create`` "1", and not "0", one is made where it is absent."""
    sha = script("claim").sha
    facts = (batch.context_kind, create, batch.integration_key)
    return [("EVALSHA", sha, 1, _base(batch, target), *facts, target.cohort.cohort_id) for target in batch.targets]


def append_of(entries: Sequence[tuple[Batch, Target]], *, create: bool, payload_id: str = "") -> Command:
    """The append of these entries; ``payload_id`` says where the body lies when the segments share it."""
    bases: list[str] = []
    told: list[tuple[Any, ...]] = []
    contents: list[str | bytes] = []
    for batch, target in entries:
        cohort = target.cohort
        bases.append(_base(batch, target))
        texts, following = _divided(_fields_of(batch, target, payload_id))
        told.append(
            (
                *(batch.batch_id, batch.context_kind, batch.integration_key, cohort.cohort_id),
                *(cohort.name or "", cohort.url or "", batch.not_after_ms, "" if create else "*"),
                *(batch.store_ids, texts, len(following)),
                *(payload_id, batch.rejected.count if target is batch.targets[0] else 0),
            )
        )
        contents += following
    return _append_command(bases, told, contents)


def append_of_made(made: Made) -> Command:
    """The append of what people made."""
    base = keyspace.base(made.segment.environment_id, made.segment.segment_key)
    texts, following = _divided(list(made.fields))
    told = (
        *(made.batch_id, made.context_kind, made.integration_key, made.cohort_id, "", "", made.not_after_ms),
        *(str(made.segment.generation), made.store_ids, texts, len(following)),
        *("", 0, *((made.import_id, "final" if made.final else made.chunks) if made.import_id else ())),
    )
    return _append_command([base], [told], following)


def _append_command(bases: Sequence[str], told: Sequence[tuple[Any, ...]], contents: Sequence[str | bytes]) -> Command:
    return ("EVALSHA", script("append").sha, len(bases), *bases, msgspec.json.encode(told), *contents)


def _divided(fields: list[str | bytes]) -> tuple[list[str | bytes], list[str | bytes]]:
    """Entry fields that can be told as text, and those whose values are bytes, which come last."""
    first = len(fields)
    while not isinstance(fields[first - 1], str):
        first -= 2
    return fields[:first], fields[first:]


def _fields_of(batch: Batch, target: Target, payload_id: str) -> list[str | bytes]:
    rejected = batch.rejected if target is batch.targets[0] else Rejections()
    body = None if payload_id else compress(batch.body)
    # Where members were left out, workers get what is left ready to use: finding out again would cost them more.
    whole = None if batch.rejected.count else body
    return pack_fields(
        integration_key=batch.integration_key,
        parser_digest=batch.parser_digest,
        policy=batch.policy,
        kind="slice" if whole is None else "body",
        content=whole or compress(pack_slice(target.cohort.members)),
        original=body if whole is None else None,
        payload_id=payload_id,
        rejected=rejected,
    )


def outcome_of(batch: Batch, target: Target, reply: Any) -> Outcome:
    """What became of a batch in one of its segments, by the append's reply for that."""
    if isinstance(reply, list) and reply[0] == b"appended" and len(reply) == 2:  # noqa: PLR2004 - as most are
        return []
    if (refusal := refusal_of(batch, target, reply)) is not None:
        return refusal
    segment = SegmentId(batch.environment_id, target.segment_key, int(reply[1]))
    return [WakeUp(segment, store_id.decode()) for store_id in reply[2:]]


def refusal_of(batch: Batch, target: Target, reply: Any) -> InvalidBatch | Unavailable | None:
    """What a script refused, and why; None when it did what it was asked."""
    if isinstance(reply, Exception):
        return failure_of(reply)
    match reply[0]:
        case b"kind":
            return InvalidBatch(
                "context_kind",
                f"segment {target.segment_key!r} holds contexts of kind {reply[1].decode()!r}; "
                "a payload of another kind cannot change it",
                environment_id=batch.environment_id,
            )
        case b"absent":
            return Absent(f"segment {target.segment_key!r} is not there", dependency="state")
        case b"taken":
            return Unavailable(f"segment {target.segment_key!r} is another cohort's by now", dependency="state")
        case b"expired":
            return Unavailable("the append came too late to be told of", dependency="state")
    return None


def failure_of(reply: Any) -> Unavailable | None:
    """The server's error, if the reply is one."""
    return refused(reply) if isinstance(reply, Exception) else None
