"""The load: senders that add and remove overlapping people in several segments, and insist as partners do."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx2

from chaos.history import REFUSED, TRY_AGAIN, Attempt, History, Payload, now

# Few enough that every one of them is added and removed many times over.
PEOPLE = 400
# The same of those whom only huge payloads name: more than a store is sent at once, before it has answered.
CROWD = 9000
COHORTS = 3
# Longer than a receiver ever lets a sender wait; as long as LaunchDarkly's partners have.
PATIENCE_SECONDS = 10.0
# What a payload that only this run knows adds: see Payload.witness.
_WITNESS_SHARE = 0.25
_LARGE_SHARE = 0.01
_HUGE_SHARE = 0.005
# Of the bodies whose parsing kills or is refused, and of those that kill: each holds up its segment for a lease.
_FAULTY_SHARE = 0.02
_CRASHING_SHARE = 0.03
REFUSE, CRASH = "refuse-me", "crash-me"

Changes = dict[str, dict[str, bool]]


@dataclass(frozen=True)
class Body:
    """A body as its sender means it, short of environment id and marker."""

    integration: str
    document: dict[str, Any]
    changes: Changes
    witness: str | None
    fault: str | None = None


def segment_key(integration: str, cohort: int) -> str:
    """The key that the segment of a cohort must get: no other cohort wants it."""
    return f"{integration}-c{cohort}"


def make_body(dice: Random, name: str, *, faulty: bool = True) -> Body:
    """A random body; ``name`` is the witness's, if it gets one."""
    integration = dice.choice(["chaos-split", "chaos-flags", "chaos-action"])
    size = dice.randint(100, 300) if dice.random() < _LARGE_SHARE else dice.randint(1, 16)
    people = [f"person-{dice.randrange(PEOPLE):03}" for _ in range(size)]
    if dice.random() < _HUGE_SHARE:
        people += [f"crowd-{number:04}" for number in dice.sample(range(CROWD), dice.randint(4500, 8000))]
    witness = name if dice.random() < _WITNESS_SHARE else None
    make = {"chaos-split": _split, "chaos-flags": _flags, "chaos-action": _action}[integration]
    document, changes = make(dice, people, witness)
    fault = None
    if faulty and dice.random() < _FAULTY_SHARE:
        fault = CRASH if dice.random() < _CRASHING_SHARE else REFUSE
        document["fault"] = fault
    return Body(integration, document, changes, witness, fault)


def _split(dice: Random, people: list[str], witness: str | None) -> tuple[dict[str, Any], Changes]:
    """Two arrays; who stands in both is out, for removals are read last."""
    add = [person for person in people if dice.random() < 0.55] + ([witness] if witness else [])
    added = set(add)
    remove = [person for person in people if person not in added or dice.random() < 0.1]
    cohort = dice.randrange(COHORTS)
    document = {
        "cohort": {"id": f"c{cohort}", "name": f"Split {cohort}"},
        "add": [{"id": person} for person in add],
        "remove": [{"id": person} for person in remove],
    }
    return document, {segment_key("chaos-split", cohort): dict.fromkeys(add, True) | dict.fromkeys(remove, False)}


def _flags(dice: Random, people: list[str], witness: str | None) -> tuple[dict[str, Any], Changes]:
    """Members that say for themselves whether they are in, and of which cohort; the last word on one counts."""
    own = dice.randrange(COHORTS)
    cohorts = dice.sample(range(COHORTS), dice.choice([1, 1, 2, 3]))
    if own not in cohorts:
        cohorts[0] = own
    members = [(person, dice.random() < 0.5, dice.choice(cohorts)) for person in people]
    # The payload's own cohort is that of its first member.
    members = [(members[0][0], members[0][1], own), *members[1:], *([(witness, True, own)] if witness else [])]
    changes: Changes = {}
    for person, is_in, cohort in members:
        changes.setdefault(segment_key("chaos-flags", cohort), {})[person] = is_in
    batch = [
        {"id": person, "in": is_in, "cohort": f"c{cohort}", "cohortName": f"Flags {cohort}"}
        for person, is_in, cohort in members
    ]
    return {"batch": batch}, changes


def _action(dice: Random, people: list[str], witness: str | None) -> tuple[dict[str, Any], Changes]:
    """One action for all."""
    added = witness is not None or dice.random() < 0.5
    members = [*people, *([witness] if witness else [])]
    cohort = dice.randrange(COHORTS)
    document = {"cohort": f"c{cohort}", "action": "enter" if added else "leave", "members": members}
    return document, {segment_key("chaos-action", cohort): dict.fromkeys(members, added)}


@dataclass(frozen=True)
class Demand:
    """How much is sent, and where to.

    Attributes:
        first_sender: by whose number the senders' begin.
        faulty: whether some bodies make their parsing go wrong.
        per_second: what all senders together attempt when nothing is broken.
    """

    urls: Sequence[str]
    environment_id: str
    token: str
    seed: int
    senders: int
    per_second: float
    first_sender: int = 0
    faulty: bool = True


class Load:
    """Sends until it is told to stop; what was begun is delivered to the end."""

    def __init__(self, history: History, demand: Demand) -> None:
        self.problems: list[str] = []
        self._history = history
        self._demand = demand
        self._pause = demand.senders / demand.per_second
        self._stop = threading.Event()
        self._give_up = threading.Event()
        self._threads = [
            threading.Thread(target=self._send_all, args=(sender,), daemon=True)
            for sender in range(demand.first_sender, demand.first_sender + demand.senders)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """Begin no more payloads, and wait until those that were begun are answered for good."""
        self._stop.set()
        deadline = now() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - now()))
        self._give_up.set()
        if any(thread.is_alive() for thread in self._threads):
            self.problems.append(f"a sender got no answer that settles its payload within {timeout_s:g} s of quiet")

    def _send_all(self, sender: int) -> None:
        dice = Random(f"{self._demand.seed}:sender:{sender}")
        with httpx2.Client(headers={"Authorization": self._demand.token}, timeout=PATIENCE_SECONDS) as client:
            while not self._stop.is_set():
                body = make_body(dice, f"witness-{sender}-{dice.randrange(10**12)}", faulty=self._demand.faulty)
                payload = self._history.begin(
                    sender, body.integration, body.changes, witness=body.witness, fault=body.fault
                )
                self._deliver(client, dice, payload, body)
                self._stop.wait(dice.uniform(0, 2 * self._pause))

    def _deliver(self, client: httpx2.Client, dice: Random, payload: Payload, body: Body) -> None:
        """Again and again, to either receiver, until an answer settles it."""
        while not self._give_up.is_set():
            number = len(payload.attempts)
            marked = {
                "environment": self._demand.environment_id,
                "marker": f"{payload.number}.{number}",
                **body.document,
            }
            attempt = Attempt(payload.number, number, json.dumps(marked).encode(), sent=now())
            payload.attempts.append(attempt)
            said = self._send(client, dice.choice(self._demand.urls), payload.integration, attempt)
            if attempt.status not in TRY_AGAIN:
                if not attempt.accepted and attempt.status != REFUSED:
                    self.problems.append(f"payload {attempt.marker} was answered {attempt.status}: {said}")
                return
            self._give_up.wait(dice.uniform(0.05, 0.8))

    @staticmethod
    def _send(client: httpx2.Client, url: str, integration: str, attempt: Attempt) -> str:
        try:
            answer = client.post(f"{url}/api/v2/segment-targets/{integration}", content=attempt.body)
        except httpx2.TransportError as error:
            attempt.told, said = now(), str(error)
        else:
            attempt.told, attempt.status, said = now(), answer.status_code, answer.text
        return said
