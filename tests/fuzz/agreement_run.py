"""Many generated manifests and bodies, each read in every way that there is; all must agree."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from fuzz import bodies, parsers
from fuzz.agreement import POLICIES, Agreed, Comparison, Disagreement

# A generator that yields only good payloads, or only bad ones, shows little.
LEAST_ACCEPTED, MOST_ACCEPTED = 0.3, 0.9


@dataclass
class Tally:
    """What bodies came to. Each counts once, as under ``reject``, but for ``skipped`` and ``skipped_members``."""

    seconds: float = 0.0
    read: int = 0
    accepted: int = 0
    fast: int = 0
    skipped: int = 0
    skipped_members: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)

    @property
    def share_accepted(self) -> float:
        return self.accepted / self.read if self.read else 0.0

    @property
    def problems(self) -> list[str]:
        """Why the run has failed; empty when it has not."""
        if self.disagreements or LEAST_ACCEPTED <= self.share_accepted <= MOST_ACCEPTED:
            return self.disagreements
        share = f"{self.share_accepted:.1%} of the bodies were accepted"
        return [f"{share}, which is not between {LEAST_ACCEPTED:.0%} and {MOST_ACCEPTED:.0%}: the generator is off"]

    def count(self, rejecting: Agreed, skipping: Agreed) -> None:
        """Count one body by what it is under each policy."""
        self.read += 1
        self.accepted += rejecting.accepted
        self.fast += rejecting.fast
        if not rejecting.accepted:
            self.refused[rejecting.outcome[1]] += 1
        if skipping.accepted and skipping.rejected:
            self.skipped += 1
            self.skipped_members += skipping.rejected

    def add(self, other: Tally) -> None:
        """Take in what another process has counted."""
        self.read += other.read
        self.accepted += other.accepted
        self.fast += other.fast
        self.skipped += other.skipped
        self.skipped_members += other.skipped_members
        self.refused += other.refused
        self.disagreements += other.disagreements

    def report(self) -> str:
        """What a person wants to know of the run."""
        read = max(self.read, 1)
        refused = ", ".join(f"{reason} {count:,}" for reason, count in self.refused.most_common())
        return (
            f"  {self.read:,} bodies, each under reject and skip, in {self.seconds:.1f} s; "
            f"{len(self.disagreements)} disagreements\n"
            f"  accepted: {self.share_accepted:.1%}; answered by the fast reader: {self.fast / read:.1%}\n"
            f"  refused:  {refused}\n"
            f"  skip:     {self.skipped:,} more accepted, without {self.skipped_members:,} members"
        )


def run(
    seed: int, manifests: int, bodies_each: int, processes: int, progress: Callable[[int], object] = lambda _: None
) -> Tally:
    """Compare ``manifests`` x ``bodies_each``; the same seed gives the same ones, however many processes there are."""
    began = time.monotonic()
    total = Tally()
    check = partial(check_manifest, seed, bodies_each)
    # Spawned, so that no thread of the caller's is cut in half.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, tally in enumerate(pool.imap_unordered(check, range(manifests), chunksize=8), 1):
            total.add(tally)
            progress(done)
    total.seconds = time.monotonic() - began
    return total


def check_manifest(seed: int, bodies_each: int, manifest: int) -> Tally:
    """Compare all bodies of one manifest."""
    tally = Tally()
    comparison = Comparison(generated_parser(seed, manifest))
    for number in range(bodies_each):
        body = generated_body(seed, manifest, number, comparison.parser)
        try:
            rejecting, skipping = (comparison.check(body, policy) for policy in POLICIES)
        except Disagreement as disagreement:
            repeat = f'make fuzz ARGS="--seed {seed} --only {manifest}:{number}"'
            tally.disagreements.append(f"{disagreement}\nagain:     {repeat}")
        else:
            tally.count(rejecting, skipping)
    return tally


def generated_parser(seed: int, manifest: int) -> parsers.Parser:
    """The requestParser of this number."""
    return parsers.parser(Random(f"{seed}:{manifest}"))


def generated_body(seed: int, manifest: int, number: int, parser: parsers.Parser) -> bytes:
    """The body of this number, for that manifest."""
    return bodies.body(Random(f"{seed}:{manifest}:{number}"), parser)
