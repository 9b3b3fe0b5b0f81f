"""The history checker: answers against logs against stores. Pure; what it does not find is what is promised.

It believes the answers that senders got, the bytes that they sent, and its own small model. For each of the promises
there is a list of what breaks it:

    lost        accepted, or replayed, and not in every log where it should be
    unexpected  in a log though definitively refused; dead though nothing was wrong with it; of nobody, or elsewhere
    doubled     one attempt twice in one log
    disordered  behind an entry whose attempt began only after this one's sender had been answered
    wrong       a store's membership of one member in one segment is not what the log's order gives
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

from chaos.history import Attempt, Payload
from chaos.logs import LogEntry, Logs

# An entry's place is its accept time by the state server's clock, which is this machine's.
_CLOCK_SLACK_SECONDS = 0.1

Membership = Mapping[str, Collection[str]]


@dataclass
class Expected:
    """What the plan says beyond the history.

    Attributes:
        replayed: payloads that were refused and then replayed: they are in their logs as if accepted then.
        perhaps_replayed: payloads that were refused, of which the replay was begun: they may be in some of their logs.
        dead: payloads that may be dead; of any other, a dead entry is one that was lost.
        discarded: payloads that somebody gave up.
    """

    replayed: set[int] = field(default_factory=set)
    perhaps_replayed: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    discarded: set[int] = field(default_factory=set)


@dataclass
class Verdict:
    """What was found, by promise; empty lists are what everybody wants."""

    lost: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Take over what was found at another time."""
        for promise in fields(self):
            found = getattr(self, promise.name)
            found += [problem for problem in getattr(other, promise.name) if problem not in found]

    def problems(self) -> list[str]:
        return [*self.lost, *self.unexpected, *self.doubled, *self.disordered, *self.wrong, *self.other]


def check_logs(
    payloads: Sequence[Payload], logs: Mapping[str, Sequence[LogEntry]], expected: Expected | None = None
) -> Verdict:
    """Hold the logs against what senders were told."""
    expected = expected or Expected()
    verdict = Verdict()
    attempts = {attempt.marker: attempt for payload in payloads for attempt in payload.attempts}
    found: dict[tuple[str, str], list[LogEntry]] = {}
    for segment, entries in logs.items():
        for entry in entries:
            found.setdefault((segment, entry.marker), []).append(entry)
    for payload in payloads:
        verdict.lost += _lost(payload, found, expected)
    for (segment, marker), entries in found.items():
        attempt = attempts.get(marker)
        if attempt is None:
            verdict.unexpected.append(f"{segment}: {marker} was never sent")
            continue
        payload = payloads[attempt.payload]
        verdict.unexpected += _unexpected(segment, attempt, payload, entries, expected)
        if len([entry for entry in entries if entry.state != "moved"]) > 1:
            verdict.doubled.append(f"{segment}: {marker} is there {len(entries)} times")
    for segment, entries in logs.items():
        verdict.disordered += _disordered(segment, entries, payloads, attempts)
    return verdict


def _lost(payload: Payload, found: Mapping[tuple[str, str], Sequence[LogEntry]], expected: Expected) -> Iterator[str]:
    outcome = payload.outcome
    if outcome is None:
        yield f"{payload.number} was never settled: {payload.attempts}"
    elif outcome.accepted or payload.number in expected.replayed:
        for segment in payload.changes:
            entries = found.get((segment, outcome.marker), ())
            states = {entry.state for entry in entries}
            if not entries:
                yield f"{segment}: {outcome.marker}, answered {outcome.status}, is not in the log"
            elif "live" not in states and not _may_be(states, payload.number, expected):
                yield f"{segment}: {outcome.marker}, answered {outcome.status}, is {', '.join(sorted(states))}"


def _may_be(states: Collection[str], payload: int, expected: Expected) -> bool:
    return ("discarded" in states and payload in expected.discarded) or ("dead" in states and payload in expected.dead)


def _unexpected(
    segment: str, attempt: Attempt, payload: Payload, entries: Iterable[LogEntry], expected: Expected
) -> Iterator[str]:
    refused = attempt.status in {400, 429} and payload.number not in expected.replayed | expected.perhaps_replayed
    for entry in entries:
        where = f"{segment}: {attempt.marker} at {entry.position}"
        if refused and entry.state == "live":
            yield f"{where} was answered {attempt.status}"
        if entry.body != attempt.body:
            yield f"{where} is not what was sent"
        if segment not in payload.changes:
            yield f"{where} is in the log of a segment that it does not name"
        elif entry.members != payload.changes[segment]:
            yield f"{where} says of its segment what its sender did not"
        accepted = entry.position[0] / 1000
        if not attempt.sent - _CLOCK_SLACK_SECONDS <= accepted <= _told(attempt, payload) + _CLOCK_SLACK_SECONDS:
            yield f"{where} was sent at {attempt.sent:.3f} and settled by {_told(attempt, payload):.3f}"


def _told(attempt: Attempt, payload: Payload) -> float:
    """When the sender could rely on the attempt's fate: with no answer, when it knew that of the whole payload."""
    if attempt.status:
        return attempt.told
    return payload.outcome.told if payload.outcome else float("inf")


def _disordered(
    segment: str, entries: Sequence[LogEntry], payloads: Sequence[Payload], attempts: Mapping[str, Attempt]
) -> Iterator[str]:
    """Entries behind one that was sent only after they had been settled.

    That covers each sender's own order, and what senders could tell each other.
    """
    latest: Attempt | None = None
    for entry in sorted(entries, key=lambda entry: entry.position):
        attempt = attempts.get(entry.marker)
        if attempt is None:
            continue
        if latest and latest.sent > _told(attempt, payloads[attempt.payload]):
            yield f"{segment}: {attempt.marker} lies behind {latest.marker}, which was sent after it had been settled"
        if latest is None or attempt.sent > latest.sent:
            latest = attempt


def membership(entries: Iterable[LogEntry]) -> set[str]:
    """Who is in a segment by the order of its log: the last live word on each member."""
    members: set[str] = set()
    for entry in sorted(entries, key=lambda entry: entry.position):
        if entry.state == "live":
            members |= {member for member, is_in in entry.members.items() if is_in}
            members -= {member for member, is_in in entry.members.items() if not is_in}
    return members


def context_hash(context_key: str) -> str:
    """What stands for a context in a store."""
    return b64encode(hashlib.sha256(context_key.encode()).digest()).decode()


def expected_store(logs: Mapping[str, Sequence[LogEntry]]) -> dict[str, set[str]]:
    """A store's whole content by the logs: context hash -> segment refs."""
    content: dict[str, set[str]] = {}
    for segment, entries in logs.items():
        for member in membership(entries):
            content.setdefault(context_hash(member), set()).add(f"{segment}.g1")
    return content


def check_store(name: str, content: Membership, logs: Mapping[str, Sequence[LogEntry]]) -> list[str]:
    """Hold a store's whole content (context hash -> segment refs) against the logs: what is missing, what is stray."""
    people = {
        context_hash(member): member for entries in logs.values() for entry in entries for member in entry.members
    }
    expected = expected_store(logs)
    problems = []
    for hashed in sorted(expected.keys() | content.keys()):
        person = people.get(hashed, hashed)
        wanted, held = expected.get(hashed, set()), set(content.get(hashed, ()))
        problems += [f"{name}: {person} is missing from {ref}" for ref in sorted(wanted - held)]
        problems += [f"{name}: {person} should not be in {ref}" for ref in sorted(held - wanted)]
    return problems


def check_counts(logs: Logs) -> list[str]:
    """Hold the member counts that are said to be exact against the logs."""
    return [
        f"{segment} is said to have exactly {count} members, and has {len(membership(logs.entries[segment]))}"
        for segment, count in logs.exact_counts.items()
        if count != len(membership(logs.entries[segment]))
    ]
