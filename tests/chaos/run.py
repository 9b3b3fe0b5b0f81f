"""One run: load, storm, quiet, and the check of its history."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from servers import wait_until

from chaos.checker import Expected, Verdict, check_counts, check_logs, check_store, expected_store
from chaos.faults import Storm
from chaos.freshness import FreshnessWatch
from chaos.history import History, now
from chaos.installation import ENVIRONMENT_ID, Installation, installed
from chaos.load import PEOPLE, Demand, Load
from chaos.logs import Logs, read_logs
from chaos.plan import plan
from chaos.stores import check_sdk, look, read_store

SENDERS = 8
PAYLOADS_PER_SECOND = 100.0
# After the storm: a lease's twenty seconds, a drain that nobody could fence off (sixty more), back-offs, the check.
_QUIET_SHARE = 0.4
_MOST_QUIET_SECONDS = 85.0
_ANSWERED_WITHIN_SECONDS = 60.0
_APPLIED_WITHIN_SECONDS = 150.0
_FRESH_WITHIN_SECONDS = 60.0
_SDK_SAMPLE = 200


class Checked(NamedTuple):
    """What a check found, and the logs that it read."""

    verdict: Verdict
    logs: Logs


@dataclass
class Run:
    """What a run came to."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    refused: int = 0
    attempts: int = 0
    entries: int = 0
    dead: int = 0
    replayed: int = 0
    proofs: int = 0
    caught_up_seconds: float = 0.0
    seconds: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)
    problems: list[str] = field(default_factory=list)

    def take(self, checked: Checked, history: History) -> None:
        """Take over what the check found."""
        payloads, entries = history.payloads(), [entry for log in checked.logs.entries.values() for entry in log]
        self.verdict = checked.verdict
        self.accepted = history.accepted()
        self.attempts = sum(len(payload.attempts) for payload in payloads)
        self.refused = sum(payload.outcome is not None and not payload.outcome.accepted for payload in payloads)
        self.entries = len(entries)
        self.dead = sum(entry.state == "dead" for entry in entries)

    def report(self) -> str:
        """What a person wants to know of the run."""
        verdict = self.verdict
        harm = ", ".join(f"{name} {self.counts[name]}" for name in sorted(self.counts))
        return (
            f"  seed {self.seed}, {self.seconds:.0f} s: {harm}\n"
            f"  accepted {self.accepted:,} of {self.attempts:,} requests; refused {self.refused:,}; "
            f"entries {self.entries:,}; dead {self.dead:,}; replayed {self.replayed:,}\n"
            f"  caught up {self.caught_up_seconds:.1f} s after the storm; freshness proven {self.proofs:,} times\n"
            f"  lost {len(verdict.lost)}, wrong {len(verdict.wrong)}, disordered {len(verdict.disordered)}, "
            f"doubled {len(verdict.doubled)}, unexpected {len(verdict.unexpected)}, "
            f"other {len(verdict.other) + len(self.problems)}"
        )

    def all_problems(self) -> list[str]:
        return [*self.verdict.problems(), *self.problems]


def run(seed: int, seconds: float, directory: Path, log: Callable[[str], None] = print) -> Run:
    """Let a storm rage over an installation in that directory for about so long in all, and check what it did."""
    began = time.monotonic()
    done = Run(seed)
    history = History()
    with installed(directory) as installation:
        storm_seconds = seconds - (time.monotonic() - began) - min(_MOST_QUIET_SECONDS, seconds * _QUIET_SHARE)
        storm = Storm(installation, plan(seed, storm_seconds), seed, log)
        token = installation.deployment.writer_token
        load = Load(history, Demand(installation.urls, ENVIRONMENT_ID, token, seed, SENDERS, PAYLOADS_PER_SECOND))
        watches = [FreshnessWatch(name, server, history, seed) for name, server in installation.stores.items()]
        load.start()
        for watch in watches:
            watch.start()
        storm.rage(time.monotonic() + storm_seconds)
        storm_over = now()
        load.stop(_ANSWERED_WITHIN_SECONDS)
        log(f"{time.monotonic() - began:6.1f} s  the storm is over: {history.accepted():,} payloads accepted")
        installation.start_what_ended()
        done.problems += _wait(installation, storm_over)
        done.caught_up_seconds = now() - storm_over
        for watch in watches:
            watch.stop()
            done.problems += watch.problems
            done.proofs += watch.proofs
        done.counts = storm.counts
        done.problems += storm.problems + load.problems
        faulty = {payload.number for payload in history.payloads() if payload.fault}
        done.take(check(installation, history, seed, Expected(dead=faulty)), history)
    done.seconds = time.monotonic() - began
    return done


def _wait(installation: Installation, storm_over: float) -> list[str]:
    """Wait until everything is applied, and both stores say so."""
    try:
        installation.deployment.wait_until_applied(_APPLIED_WITHIN_SECONDS)
        wait_until(lambda: _fresh_since(installation, storm_over), _FRESH_WITHIN_SECONDS, "both stores fresh")
    except AssertionError as error:
        return [f"after the storm: {error}"]
    return []


def _fresh_since(installation: Installation, when: float) -> bool:
    fresh = []
    for server in installation.stores.values():
        with server.client(socket_timeout=5) as client:
            fresh.append(look(client, ())[0])
    return all(fresh_ms is not None and fresh_ms > when * 1000 for fresh_ms in fresh)


def check(installation: Installation, history: History, seed: int, expected: Expected | None = None) -> Checked:
    """Read every log and every store, raw and through the SDK, and hold them against the history."""
    with installation.state.client(socket_timeout=30) as client:
        logs = read_logs(client, ENVIRONMENT_ID)
    verdict = check_logs(history.payloads(), logs.entries, expected)
    verdict.other += logs.problems + check_counts(logs)
    dice = Random(f"{seed}:sdk")
    sample = [f"person-{dice.randrange(PEOPLE):03}" for _ in range(_SDK_SAMPLE)]
    content = expected_store(logs.entries)
    for name, server in installation.stores.items():
        with server.client(socket_timeout=30) as client:
            verdict.wrong += check_store(name, read_store(client), logs.entries)
        verdict.wrong += check_sdk(name, server.url, sample, content)
    return Checked(verdict, logs)
