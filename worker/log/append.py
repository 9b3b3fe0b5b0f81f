"""Accept: append batches to their segments' logs, many in one round trip, each atomically (rules 1 and 2)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import redis
import structlog
from msgspec import Struct

from worker.errors import Conflict, InvalidBatch, NotFound, Unavailable
from worker.log import keyspace
from worker.log.entry import compress, pack_fields, pack_slice
from worker.log.round_trips import Command, Steps, knowing, through
from worker.log.scripts import script
from worker.model import DEFAULT_MEMBER_POLICY, Cohort, MemberPolicy, Rejections, SegmentId
from worker.registry import registration
from worker.state import refused

# How long replicas may take to confirm: less than the server's answers may, and than the sender waits.
REPLICAS_WITHIN_MS = 1500

_log = structlog.get_logger(__name__)


class Target(Struct):
    """One cohort of a batch and the segment that it became."""

    segment_key: str
    cohort: Cohort


class Batch(Struct):
    """One accepted request, on its way into the log.

    Attributes:
        batch_id: unique; an append that is repeated with it changes nothing.
        body: the request's bytes, decoded from any content encoding, otherwise unchanged.
        store_ids: the environment's stores that are on, each of which has a cursor of its own.
        not_after_ms: by the state server's clock; an append that arrives later is refused. It is when the sender is
            told of a failure at the latest: bytes that are still on their way then must not overtake what it sends
            and is told 2xx for afterwards.
        policy: what was to become of members that cannot be read.
        rejected: the members that were left out.
        prerequisites: hash entries (key, field, value) that must be there before the entry is: the requestParser.
            Written if absent, before every append: a state server that lost them without anybody noticing gets them
            back.
    """

    batch_id: str
    environment_id: str
    context_kind: str
    integration_key: str
    parser_digest: str
    body: bytes
    targets: Sequence[Target]
    store_ids: Sequence[str]
    not_after_ms: int
    policy: MemberPolicy = DEFAULT_MEMBER_POLICY
    rejected: Rejections = msgspec.field(default_factory=Rejections)
    prerequisites: Sequence[tuple[str, str, str]] = ()


@dataclass(slots=True, frozen=True)
class WakeUp:
    """A hint that a store may be behind a log. Losing one costs time, never data."""

    segment: SegmentId
    store_id: str


@dataclass(slots=True, frozen=True)
class Made:
    """An entry that people made, for a segment that is there.

    Attributes:
        segment, context_kind, integration_key, cohort_id: the segment as they saw it.
        fields: as ``entry.pack_made`` gives them.
        batch_id, store_ids, not_after_ms: as of a ``Batch``.
        import_id: of an import; and how many chunks it has.
        final: it ends the log: with it, the segment is deleted.
    """

    segment: SegmentId
    context_kind: str
    integration_key: str
    cohort_id: str
    batch_id: str
    fields: Sequence[str | bytes]
    store_ids: Sequence[str]
    not_after_ms: int
    import_id: str = ""
    chunks: int = 0
    final: bool = False


# What became of one batch: it is in its logs, and these wake-ups are due; or it can never be; or not now.
Outcome = list[WakeUp] | InvalidBatch | Unavailable


class _Unconfirmed(Unavailable):
    """Too few replicas have what was appended. It is in the log, so nothing of it can land any later."""


class _Absent(Unavailable):
    """The segment is not there, and was not to be created. Nothing of the batch is in its log."""


class Appends:
    """Appends to the logs. Batches of one segment go in the order given; those of several segments go last.

    ``replicas``: how many replicas of the state server must have a batch before it counts as accepted.
    """

    def __init__(self, client: redis.Redis, replicas: int = 0) -> None:
        self._client = client
        self._replicas = replicas

    def append(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Append each batch to the log of every segment that it names.

        Batches of one segment share one round trip and one call of the script: the server reads sixteen KiB at a time,
        and flushes its append-only file after each time in which it wrote, but nothing is written before the last byte
        is there (measured: an eighth more accepts). Those whose segment turns out to be absent take a second one, which
        creates it; a batch of several segments takes round trips of its own. What is wrong with one batch, or with the
        keys of its segments, is that batch's outcome and no other's; a server that takes no writes at all refuses all
        of them. Where too few replicas confirm what was appended, the outcome is Unavailable, and the batch is in the
        log all the same: to send it again is right.

        Raises:
            Unavailable: the state server is away: some of the batches may be in the log. Appending all of them again
                is safe within a minute.
        """
        return through(self._client, self.appending(batches))

    def appending(self, batches: Sequence[Batch]) -> Steps[list[Outcome]]:
        """``append``, for whoever makes the round trips."""
        outcomes: list[Outcome] = yield from self._append_singles([each for each in batches if len(each.targets) == 1])
        if len(outcomes) < len(batches):
            for place, batch in enumerate(batches):
                if len(batch.targets) != 1:
                    # Replicas that have not confirmed the ones before will not confirm this one: no such wait again.
                    missing = next((outcome for outcome in outcomes if isinstance(outcome, _Unconfirmed)), None)
                    outcomes.insert(place, missing or (yield from self._append_shared(batch)))
        yield from _index(outcomes)
        return outcomes

    def append_made(self, made: Made) -> list[WakeUp]:
        """Append what people made to its segment's log; as durable as a batch, and idempotent like one.

        Returns:
            The wake-ups that are due, and now the caller's to send.

        Raises:
            NotFound: that generation of the segment is gone; nothing is appended.
            Conflict: chunks of the import are missing: they have outlived their hour; nothing is appended.
            Unavailable: the state server is away, or not enough replicas have it: it may be in the log, and to append
                it again is right.
        """
        base = keyspace.base(made.segment.environment_id, made.segment.segment_key)
        texts, following = _divided(list(made.fields))
        told = (
            *(made.batch_id, made.context_kind, made.integration_key, made.cohort_id, "", "", made.not_after_ms),
            *(str(made.segment.generation), made.store_ids, texts, len(following)),
            *("", 0, *((made.import_id, "final" if made.final else made.chunks) if made.import_id else ())),
        )
        return through(self._client, self._append_made(made, _append_command([base], [told], following)))

    def _append_made(self, made: Made, command: Command) -> Steps[list[WakeUp]]:
        [replies], unconfirmed = yield from self._durably([command])
        [reply] = replies if isinstance(replies, list) else [replies]
        if (failure := _failure(reply)) is not None:
            raise failure
        match reply[0]:
            case b"appended" | b"duplicate":
                due = [WakeUp(made.segment, store_id.decode()) for store_id in reply[2:]]
            case b"incomplete":
                raise Conflict("chunks of the import are gone: they wait an hour for the last of them; import it again")
            case b"expired":
                raise Unavailable("the append came too late to be told of", dependency="state")
            case _:
                raise NotFound(f"segment {made.segment.segment_key!r} is gone, or is another one by now")
        yield from _index([due])
        if unconfirmed is not None:
            raise unconfirmed
        return due

    def _append_singles(self, batches: Sequence[Batch]) -> Steps[list[Outcome]]:
        """Append batches of one segment each; where that is absent, which hardly ever is, they are tried again."""
        if not batches:
            return []
        outcomes = yield from self._append_group(batches, create=False)
        absent = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, _Absent)]
        if absent:
            created = yield from self._append_group([batches[place] for place in absent], create=True)
            for place, outcome in zip(absent, created, strict=True):
                outcomes[place] = outcome
        return outcomes

    def _append_group(self, batches: Sequence[Batch], *, create: bool) -> Steps[list[Outcome]]:
        """Append them in one round trip, with what they need."""
        needed = list(dict.fromkeys(chain.from_iterable([_needed(batch, create=create) for batch in batches])))
        commands: list[Command] = [("HSETNX", *entry) for entry in needed]
        commands.append(_append_of([(batch, batch.targets[0]) for batch in batches], create=create))
        (*presupposed, appended), unconfirmed = yield from self._durably(commands)
        if isinstance(appended, Exception):
            refusal = refused(appended)
            return [refusal for _ in batches]
        outcomes = [_outcome(batch, batch.targets[0], reply) for batch, reply in zip(batches, appended, strict=True)]
        # Without what it presupposes, an entry must not count as accepted, though it is in the log.
        failures = zip(needed, map(_failure, presupposed), strict=True)
        if missing := {entry: failure for entry, failure in failures if failure is not None}:
            outcomes = [
                next((missing[entry] for entry in _needed(batch, create=create) if entry in missing), outcome)
                for batch, outcome in zip(batches, outcomes, strict=True)
            ]
        if unconfirmed is not None:
            outcomes = [outcome if isinstance(outcome, Exception) else unconfirmed for outcome in outcomes]
        return outcomes

    def _append_shared(self, batch: Batch) -> Steps[Outcome]:
        """Check all, then store the payload once with its full set of logs and append a slice to each: one transaction.

        A server that is full, or refuses writes, does so before a transaction or after it, never within: all of it is
        there, or none but segments without an entry, with what they need. (Its own first commands may be what fills
        it.) What one log alone cannot take, as when its keys are of a wrong type, leaves the others appended: nobody
        was told that the payload was accepted, so sending it again is right, and ``Upkeep.drop_cut_payloads`` clears
        away what was stored for the appends that never happened.
        """
        segments = yield from _claim(batch)
        if isinstance(segments, Exception):
            return segments
        codec, data = compress(batch.body)
        payload = keyspace.payload(batch.batch_id)

        commands: list[Command] = [
            ("MULTI",),
            ("ZADD", keyspace.PAYLOADS, batch.not_after_ms, batch.batch_id),
            ("SADD", f"{payload}:logs", *(keyspace.log_name(segment) for segment in segments)),
            ("HSET", payload, "codec", codec, "body", data),
            _append_of([(batch, target) for target in batch.targets], create=True, payload_id=batch.batch_id),
            ("EXEC",),
        ]
        replies, unconfirmed = yield from self._durably(commands)
        executed = replies[-1]
        if isinstance(executed, Exception):
            return refused(next(reply for reply in replies if isinstance(reply, Exception)))
        for reply in executed:
            if (failure := _failure(reply)) is not None:
                return failure
        *_, appended = executed
        outcomes = [_outcome(batch, target, reply) for target, reply in zip(batch.targets, appended, strict=True)]
        due: list[WakeUp] = []
        for outcome in (*outcomes, unconfirmed):
            if isinstance(outcome, Exception):
                return outcome
            due += outcome or []
        yield from _complete(batch, segments, appended)
        return due

    def _durably(self, commands: list[Command]) -> Steps[tuple[list[Any], Unavailable | None]]:
        """Ask for that; returns the replies, and what keeps it from counting as accepted."""
        if not self._replicas:
            return (yield from _asked(commands)), None
        # On the same connection. WAIT asks for what that one has written, and of a repeated append that may be nothing.
        confirmation: list[Command] = [("SET", keyspace.CONFIRMED, ""), ("WAIT", self._replicas, REPLICAS_WITHIN_MS)]
        *replies, written, count = yield from _asked([*commands, *confirmation])
        failure = _failure(written) or _failure(count)
        if failure is None and count < self._replicas:
            failure = _Unconfirmed(f"{count} of {self._replicas} replicas have it", dependency="state")
        return replies, failure


def _claim(batch: Batch) -> Steps[list[SegmentId] | InvalidBatch | Unavailable]:
    """The segments that a batch names, created where they are absent, or why one of them refuses it."""
    claims: list[Any] = []
    needed: list[Command] = []
    for create in ("0", "1"):  # twice: a refusal must not leave segments behind that it created itself
        replies = yield from _asked([*needed, *_claims_of(batch, create)])
        if (failure := next(filter(None, map(_failure, replies[: len(needed)])), None)) is not None:
            return failure
        claims = replies[len(needed) :]
        for target, reply in zip(batch.targets, claims, strict=True):
            if (refusal := _refusal(batch, target, reply)) is not None:
                return refusal
        needed = [("HSETNX", *entry) for entry in _needed(batch, create=True)]
    return [
        SegmentId(batch.environment_id, target.segment_key, int(reply[1]))
        for target, reply in zip(batch.targets, claims, strict=True)
    ]


def _complete(batch: Batch, claimed: Sequence[SegmentId], replies: Sequence[Any]) -> Steps[None]:
    """The payload is in every log that it names; else the sweeper finds that out."""
    logs = f"{keyspace.payload(batch.batch_id)}:logs"
    landed = {
        SegmentId(batch.environment_id, target.segment_key, int(reply[1]))
        for target, reply in zip(batch.targets, replies, strict=True)
    }
    commands: list[Command] = [("ZREM", keyspace.PAYLOADS, batch.batch_id)]
    # A segment that was deleted since it was claimed has come back as the next generation.
    if elsewhere := landed.difference(claimed):
        commands.insert(0, ("SREM", logs, *map(keyspace.log_name, set(claimed) - landed)))
        commands.insert(0, ("SADD", logs, *map(keyspace.log_name, elsewhere)))
    yield from _at_best("payload.not_completed", *commands)


def _index(outcomes: Sequence[Outcome]) -> Steps[None]:
    """After the append, enter the logs in the index of those ahead, with a fresh ticket (rule 11).

    Only those with a wake-up due: where none is due, either a drain holds the lease and re-checks at release, or
    a wake-up is outstanding and its log was entered when it became due and stays until its cursors caught up.
    """
    ahead = [
        keyspace.log_name(wake_up.segment)
        for outcome in outcomes
        if not isinstance(outcome, Exception)
        for wake_up in outcome
    ]
    if ahead:
        tickets = dict.fromkeys(ahead, secrets.token_hex(8))
        # The index is a hint, and the slow walk finds what it lacks.
        yield from _at_best("index.not_written", ("HSET", keyspace.AHEAD, *chain(*tickets.items())))


def _asked(commands: list[Command]) -> Steps[list[Any]]:
    return knowing(("append", "claim"), commands)


def _at_best(event: str, *commands: Command) -> Steps[None]:
    """The entries are in their logs: what fails now must not tell their senders that they are not."""
    try:
        for reply in (yield list(commands)):
            if (failure := _failure(reply)) is not None:
                raise failure
    except Unavailable as error:
        _log.warning(event, error=str(error))


def _base(batch: Batch, target: Target) -> str:
    return keyspace.base(batch.environment_id, target.segment_key)


def _claims_of(batch: Batch, create: str) -> list[Command]:
    sha = script("claim").sha
    facts = (batch.context_kind, create, batch.integration_key)
    return [("EVALSHA", sha, 1, _base(batch, target), *facts, target.cohort.cohort_id) for target in batch.targets]


def _needed(batch: Batch, *, create: bool) -> Sequence[tuple[str, str, str]]:
    """The hash entries that must be there before the batch's are in a log, and before segments are created for it.

    A segment is registered when it is created, not every time: what a state server loses, it loses from some moment
    on, so that a segment which is there has its registration.
    """
    if not create:
        return batch.prerequisites
    environment_id, integration_key = batch.environment_id, batch.integration_key
    registrations = (
        registration(environment_id, integration_key, target.cohort.cohort_id, target.segment_key)
        for target in batch.targets
    )
    return (*batch.prerequisites, *registrations)


def _append_of(entries: Sequence[tuple[Batch, Target]], *, create: bool, payload_id: str = "") -> Command:
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


def _outcome(batch: Batch, target: Target, reply: Any) -> Outcome:
    if isinstance(reply, list) and reply[0] == b"appended" and len(reply) == 2:  # noqa: PLR2004 - as most are
        return []
    if (refusal := _refusal(batch, target, reply)) is not None:
        return refusal
    segment = SegmentId(batch.environment_id, target.segment_key, int(reply[1]))
    return [WakeUp(segment, store_id.decode()) for store_id in reply[2:]]


def _refusal(batch: Batch, target: Target, reply: Any) -> InvalidBatch | Unavailable | None:
    """What a script refused, and why; None when it did what it was asked."""
    if isinstance(reply, Exception):
        return _failure(reply)
    match reply[0]:
        case b"kind":
            return InvalidBatch(
                "context_kind",
                f"segment {target.segment_key!r} holds contexts of kind {reply[1].decode()!r}; "
                "a payload of another kind cannot change it",
                environment_id=batch.environment_id,
            )
        case b"absent":
            return _Absent(f"segment {target.segment_key!r} is not there", dependency="state")
        case b"taken":
            return Unavailable(f"segment {target.segment_key!r} is another cohort's by now", dependency="state")
        case b"expired":
            return Unavailable("the append came too late to be told of", dependency="state")
    return None


def _failure(reply: Any) -> Unavailable | None:
    return refused(reply) if isinstance(reply, Exception) else None
