"""One run: load, storm, quiet, and the check of its history."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from servers import wait_until

from chaos.checker import Expected, Verdict, check_counts, check_logs, check_store, expected_store
from chaos.faults import Storm
from chaos.freshness import FreshnessWatch
from chaos.history import History, now
from chaos.installation import ENVIRONMENT_ID, Installation, installed
from chaos.load import PEOPLE, Demand, Load
from chaos.logs import Logs, read_refusals
from chaos.plan import Fault, plan
from chaos.replays import Replays
from chaos.stores import check_sdk, look, read_store

SENDERS = 8
PAYLOADS_PER_SECOND = 100.0
_ROUND_SECONDS = 100.0
# After a storm: a lease's twenty seconds, back-offs, perhaps sixty for a drain that nobody could fence off; the check.
_STORM_SHARE = 0.55
_ANSWERED_WITHIN_SECONDS = 60.0
_REPLAYED_SHARE = 0.5
_APPLIED_WITHIN_SECONDS = 150.0
# A write whose end nobody saw settles after 60 s; its store counts as fresh only then.
_FRESH_WITHIN_SECONDS = 90.0
_SDK_SAMPLE = 200
# Longer than the state server is ever away, so that every entry is seen before it is folded.
_RETENTION_SECONDS = 25


@dataclass
class Run:
    """What a run came to."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    refused: int = 0
    attempts: int = 0
    entries: int = 0
    died: int = 0
    still_dead: int = 0
    replayed: int = 0
    unkept: int = 0
    proofs: int = 0
    caught_up_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)
    problems: list[str] = field(default_factory=list)

    def take(self, verdict: Verdict, history: History, logs: Logs) -> None:
        """Take over what a check found."""
        payloads, entries = history.payloads(), [entry for log in logs.entries.values() for entry in log]
        self.verdict.add(verdict)
        self.accepted = history.accepted()
        self.attempts = sum(len(payload.attempts) for payload in payloads)
        self.refused = sum(payload.outcome is not None and not payload.outcome.accepted for payload in payloads)
        self.entries = len(entries)
        self.still_dead = sum(entry.state == "dead" for entry in entries)

    def report(self) -> str:
        """What a person wants to know of the run."""
        verdict = self.verdict
        harm = ", ".join(f"{name} {self.counts[name]}" for name in sorted(self.counts))
        return (
            f"  seed {self.seed}, {self.seconds:.0f} s: {harm}\n"
            f"  accepted {self.accepted:,} of {self.attempts:,} requests; refused {self.refused:,}; "
            f"entries {self.entries:,}; dead {self.died:,}, {self.still_dead:,} of them in the end; "
            f"replayed {self.replayed:,}; refused and not kept {self.unkept:,}\n"
            f"  caught up {max(self.caught_up_seconds, default=0.0):.1f} s after a storm at the latest; "
            f"freshness proven {self.proofs:,} times\n"
            f"  lost {len(verdict.lost)}, wrong {len(verdict.wrong)}, disordered {len(verdict.disordered)}, "
            f"doubled {len(verdict.doubled)}, unexpected {len(verdict.unexpected)}, "
            f"other {len(verdict.other) + len(self.problems)}"
        )

    def all_problems(self) -> list[str]:
        return [*self.verdict.problems(), *self.problems]


def run(
    seed: int, seconds: float, directory: Path, log: Callable[[str], None] = print, *, compact: bool = False
) -> Run:
    """Let storms rage over an installation in that directory for about so long in all, and check what they did.

    After every storm the whole history is checked: what goes wrong in one must not be hidden by what mends it in the
    next. With ``compact``, what is half a minute old is folded into snapshots all the while.
    """
    began = time.monotonic()
    rounds = max(1, round(seconds / _ROUND_SECONDS))
    with installed(directory, retention_seconds=_RETENTION_SECONDS if compact else None) as installation:
        chaos = _Chaos(installation, Run(seed), log)
        threading.excepthook = chaos.note_failure
        storm_seconds = (seconds - (time.monotonic() - began)) / rounds * _STORM_SHARE
        try:
            for number, faults in enumerate(plan(seed, rounds, storm_seconds, compact=compact)):
                log(f"storm {number + 1} of {rounds}")
                chaos.rage(number, faults, storm_seconds)
                chaos.calm(last=number + 1 == rounds)
        finally:
            chaos.end()
            threading.excepthook = threading.__excepthook__
    chaos.done.seconds = time.monotonic() - began
    return chaos.done


class _Chaos:
    """One run that is under way."""

    def __init__(self, installation: Installation, done: Run, log: Callable[[str], None]) -> None:
        self.done = done
        self._installation = installation
        self._log = log
        self._history = History()
        self._reader = installation.watch_logs()
        self._storm = Storm(installation, done.seed, log)
        admin_token = str(installation.deployment.facts["admin_token"])
        self._replays = Replays(installation.urls, admin_token, done.seed)
        self._watches = [
            FreshnessWatch(name, server, self._history, done.seed) for name, server in installation.stores.items()
        ]
        for watch in self._watches:
            watch.start()

    def note_failure(self, failure: threading.ExceptHookArgs) -> None:
        """A thread of the harness that ends early proves nothing: then the run has failed."""
        self.done.problems.append(f"the harness failed: {failure.exc_value!r} in {failure.thread}")
        threading.__excepthook__(failure)

    def rage(self, number: int, faults: Sequence[Fault], seconds: float) -> None:
        """One storm under load; every payload is answered for good when it is over."""
        load = Load(
            self._history,
            Demand(
                self._installation.urls,
                ENVIRONMENT_ID,
                self._installation.deployment.writer_token,
                self.done.seed,
                SENDERS,
                PAYLOADS_PER_SECOND,
                first_sender=number * SENDERS,
            ),
        )
        load.start()
        self._replays.start()
        self._storm.rage(faults, seconds)
        load.stop(_ANSWERED_WITHIN_SECONDS)
        self._replays.stop()
        self.done.problems += load.problems

    def calm(self, *, last: bool) -> None:
        """Replay some of what waits, wait until everything is applied, and check the whole history.

        At last all of it is replayed, and the parsers are mended before: what they made die lives from then on.
        """
        began = now()
        self.done.problems += self._installation.start_what_ended()
        wait_until(self._installation.ready, _ANSWERED_WITHIN_SECONDS, "both receivers")
        self._settle(began)
        settled = now() - began
        self._replays.replay_some(_REPLAYED_SHARE)
        if last:
            self._installation.mend_parsers()
            self._replays.replay_the_rest(self._installation.deployment.command)
            self.done.problems += [f"batch {batch_id} still waits" for batch_id in self._replays.waiting()]
            self._replays.replay_some_again()
        self._settle(now())
        self._verify()
        self._check()
        self.done.caught_up_seconds.append(settled)
        self._log(
            f"          calm: {self.done.accepted:,} accepted, caught up in {settled:.1f} s, "
            f"{self.done.still_dead:,} dead, "
            f"replayed {self.done.replayed:,}, checked after {now() - began:.1f} s: "
            f"{len(self.done.all_problems())} problems"
        )

    def _verify(self) -> None:
        """The product's own check must find nothing, as ours."""
        try:
            self._installation.deployment.command("verify", "--json")
        except AssertionError as error:
            self.done.problems.append(f"segsync verify: {error}")

    def end(self) -> None:
        """Take over what the threads found."""
        for watch in self._watches:
            watch.stop()
            self.done.problems += watch.problems
            self.done.proofs += watch.proofs
        self.done.counts = self._storm.counts
        self.done.problems += self._storm.problems + self._replays.problems

    def _settle(self, since: float) -> None:
        """Wait until everything is applied, and both stores say so."""
        deployment = self._installation.deployment
        try:
            deployment.wait_until_applied(_APPLIED_WITHIN_SECONDS)
            wait_until(lambda: self._fresh_since(since), _FRESH_WITHIN_SECONDS, "both stores fresh")
            deployment.wait_until_applied(_APPLIED_WITHIN_SECONDS)
        except AssertionError as error:
            self.done.problems.append(f"after a storm: {error}")

    def _check(self) -> None:
        with self._installation.state.client(socket_timeout=30) as client:
            kept, logs = read_refusals(client), self._reader.logs(client)
        replays, entries = self._replays, [entry for log in logs.entries.values() for entry in log]
        asked = [one for one in kept.values() if replays.asked_for(one.batch_id, one.integration, one.refused_ms)]
        expected = Expected(
            replayed={one.payload for one in asked if one.status == "replayed"},
            perhaps_replayed={one.payload for one in asked},
            dead={payload.number for payload in self._history.payloads() if payload.fault},
            discarded={entry.payload for entry in entries if entry.batch_id in replays.discarded},
        )
        self.done.take(check(self._installation, self._history, self.done.seed, logs, expected), self._history, logs)
        back = {entry.batch_id for entry in entries if entry.state == "live"} & replays.dead
        self.done.died = len(replays.dead)
        self.done.replayed = len(expected.replayed) + len(back)
        outcomes = [payload.outcome for payload in self._history.payloads()]
        refused = {outcome.marker for outcome in outcomes if outcome and not outcome.accepted}
        self.done.unkept = len(refused - kept.keys())

    def _fresh_since(self, when: float) -> bool:
        fresh = []
        for server in self._installation.stores.values():
            with server.client(socket_timeout=5) as client:
                fresh.append(look(client, ())[0])
        return all(fresh_ms is not None and fresh_ms > when * 1000 for fresh_ms in fresh)


def check(
    installation: Installation, history: History, seed: int, logs: Logs, expected: Expected | None = None
) -> Verdict:
    """Hold the logs, and every store, raw and through the SDK, against the history."""
    verdict = check_logs(history.payloads(), logs.entries, expected)
    verdict.other += logs.problems + check_counts(logs)
    dice = Random(f"{seed}:sdk")
    sample = [f"person-{dice.randrange(PEOPLE):03}" for _ in range(_SDK_SAMPLE)]
    content = expected_store(logs.entries)
    for name, server in installation.stores.items():
        with server.client(socket_timeout=30) as client:
            verdict.wrong += check_store(name, read_store(client), logs.entries)
        verdict.wrong += check_sdk(name, server.url, sample, content)
    return verdict
