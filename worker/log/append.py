"""Accept: append batches to their segments' logs, many in one round trip, each atomically (rules 1 and 2)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import chain
from typing import Any

import redis
import structlog

from worker.errors import Conflict, InvalidBatch, NotFound, Unavailable
from worker.log import keyspace
from worker.log.append_call import Absent, append_of, append_of_made, claims_of, failure_of, outcome_of, refusal_of
from worker.log.batch import Batch, Made, Outcome, WakeUp
from worker.log.entry import compress
from worker.log.round_trips import Command, Steps, knowing, through
from worker.model import SegmentId
from worker.registry import registration
from worker.state import refused

# How long replicas may take to confirm: less than the server's answers may, and than the sender waits.
REPLICAS_WITHIN_MS = 1500

_log = structlog.get_logger(__name__)


class _Unconfirmed(Unavailable):
    """Too few replicas have what was appended. It is in the log, so nothing of it can land any later."""


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
        return through(self._client, self._append_made(made))

    def _append_made(self, made: Made) -> Steps[list[WakeUp]]:
        [replies], unconfirmed = yield from self._durably([append_of_made(made)])
        [reply] = replies if isinstance(replies, list) else [replies]
        if (failure := failure_of(reply)) is not None:
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
        absent = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Absent)]
        if absent:
            created = yield from self._append_group([batches[place] for place in absent], create=True)
            for place, outcome in zip(absent, created, strict=True):
                outcomes[place] = outcome
        return outcomes

    def _append_group(self, batches: Sequence[Batch], *, create: bool) -> Steps[list[Outcome]]:
        """Append them in one round trip, with what they need."""
        needed = list(dict.fromkeys(chain.from_iterable([_needed(batch, create=create) for batch in batches])))
        commands: list[Command] = [("HSETNX", *entry) for entry in needed]
        commands.append(append_of([(batch, batch.targets[0]) for batch in batches], create=create))
        (*presupposed, appended), unconfirmed = yield from self._durably(commands)
        if isinstance(appended, Exception):
            refusal = refused(appended)
            return [refusal for _ in batches]
        outcomes = [outcome_of(batch, batch.targets[0], reply) for batch, reply in zip(batches, appended, strict=True)]
        # Without what it presupposes, an entry must not count as accepted, though it is in the log.
        failures = zip(needed, map(failure_of, presupposed), strict=True)
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
            append_of([(batch, target) for target in batch.targets], create=True, payload_id=batch.batch_id),
            ("EXEC",),
        ]
        replies, unconfirmed = yield from self._durably(commands)
        executed = replies[-1]
        if isinstance(executed, Exception):
            return refused(next(reply for reply in replies if isinstance(reply, Exception)))
        for reply in executed:
            if (failure := failure_of(reply)) is not None:
                return failure
        *_, appended = executed
        outcomes = [outcome_of(batch, target, reply) for target, reply in zip(batch.targets, appended, strict=True)]
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
        failure = failure_of(written) or failure_of(count)
        if failure is None and count < self._replicas:
            failure = _Unconfirmed(f"{count} of {self._replicas} replicas have it", dependency="state")
        return replies, failure


def _claim(batch: Batch) -> Steps[list[SegmentId] | InvalidBatch | Unavailable]:
    """The segments that a batch names, created where they are absent, or why one of them refuses it."""
    claims: list[Any] = []
    needed: list[Command] = []
    for create in ("0", "1"):  # twice: a refusal must not leave segments behind that it created itself
        replies = yield from _asked([*needed, *claims_of(batch, create)])
        if (failure := next(filter(None, map(failure_of, replies[: len(needed)])), None)) is not None:
            return failure
        claims = replies[len(needed) :]
        for target, reply in zip(batch.targets, claims, strict=True):
            if (refusal := refusal_of(batch, target, reply)) is not None:
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
            if (failure := failure_of(reply)) is not None:
                raise failure
    except Unavailable as error:
        _log.warning(event, error=str(error))


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
