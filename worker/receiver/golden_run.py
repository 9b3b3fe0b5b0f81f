"""Manifests tried on their golden payloads: does each come to what is written beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct, field

from worker.manifest.golden import Difference, Golden, differences, directions, golden_files, read_golden, stray_keys
from worker.manifest.manifest import BrokenManifest, Manifest
from worker.manifest.request_parser import Fault
from worker.receiver.explanation import Explanation, Rejected, explain

# Of one file's differences so many are told: the rest mostly follows from the first.
MOST_DIFFERENCES = 5


class Failure(Struct):
    """A golden file that does not hold, or cannot be read.

    Attributes:
        file: its path.
        fault: what is wrong with the file itself, and where; then it was not tried.
        refused: why the payload is refused, if it is and that is not what is expected.
        problem: why the answer has to do without the manifest's jsonResponseBody, if it has.
        differences: the first ones between what is expected and what comes.
        more: how many further ones there are.
    """

    file: str
    fault: Fault | None = None
    refused: str | None = None
    problem: str | None = None
    differences: list[Difference] = field(default_factory=list)
    more: int = 0


class GoldenRun(Struct):
    """What came of one manifest's golden payloads.

    Attributes:
        key: the integration key.
        files: how many there are.
        add: how many of them expect members to be added.
        remove: how many of them expect members to be removed.
        failures: those that do not hold.
        manifest_faults: what is wrong with the manifest, when it cannot be used; then none was tried.
        hidden: the bundled ones that are not tried, for one's own of their name are.
    """

    key: str
    files: int
    add: int = 0
    remove: int = 0
    failures: list[Failure] = field(default_factory=list)
    manifest_faults: list[Fault] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed; true too when there was nothing to try."""
        return not self.failures and not self.manifest_faults

    @property
    def notes(self) -> list[str]:
        """What a person should know of golden payloads that hold: what they do not show, and which are hidden."""
        hidden = [f"the bundled {name} is hidden by one of your own" for name in self.hidden]
        return [*([] if self.manifest_faults else self.lacking), *hidden]

    @property
    def lacking(self) -> list[str]:
        """What the golden payloads do not show."""
        if not self.files:
            return ["no golden payloads"]
        shown = {"add": self.add, "remove": self.remove}
        return [f"none {direction}s anybody" for direction, count in shown.items() if not count]


class GoldenRuns(NamedTuple):
    """What came of several manifests' golden payloads.

    Attributes:
        runs: of each manifest, by key.
        notes: golden payloads that no manifest asks for.
        ok: whether none failed and, of manifests that were named, each has some.
    """

    runs: list[GoldenRun]
    notes: list[str]
    ok: bool


def run_all(manifests: Sequence[Manifest | BrokenManifest], own: Sequence[Path], *, named: bool) -> GoldenRuns:
    """Try manifests on the bundled golden payloads of their keys, and those in directories of one's own.

    Args:
        manifests: the integrations.
        own: the directories; see ``golden_files``.
        named: whether somebody asked for just these: then one without golden payloads is not ok. Otherwise they are
            all that there are, and golden payloads that none asks for are noted.

    Raises:
        Misconfigured: the bundled golden payloads are missing.
    """
    runs = []
    for manifest in sorted(manifests, key=lambda manifest: manifest.key):
        files, hidden = golden_files(manifest.key, own)
        run = run_golden(manifest, files)
        run.hidden = [file.name for file in hidden]
        runs.append(run)
    strays = [] if named else stray_keys(own, {run.key for run in runs})
    notes = [f"{stray}: no integration has the key {stray.name!r}" for stray in strays]
    return GoldenRuns(runs, notes, all(run.ok and (run.files or not named) for run in runs))


def run_golden(manifest: Manifest | BrokenManifest, files: Sequence[Path]) -> GoldenRun:
    """Try a manifest on golden files."""
    run = GoldenRun(manifest.key, len(files))
    if not isinstance(manifest, Manifest):
        run.manifest_faults = list(manifest.faults)
        return run
    for file in files:
        golden = _read(file)
        if isinstance(golden, Fault):
            run.failures.append(Failure(str(file), golden))
            continue
        shown = directions(golden)
        run.add += shown.add
        run.remove += shown.remove
        failure = _tried(manifest, golden, str(file))
        if failure is not None:
            run.failures.append(failure)
    return run


def compare(manifest: Manifest, golden: Golden) -> Iterator[Difference]:
    """Where a golden payload's outcome is not as expected."""
    return _compared(golden, explain(manifest, golden.body, policy=golden.policy))


def _tried(manifest: Manifest, golden: Golden, file: str) -> Failure | None:
    outcome = explain(manifest, golden.body, policy=golden.policy)
    found = _compared(golden, outcome)
    first = list(islice(found, MOST_DIFFERENCES))
    if not first:
        return None
    failure = Failure(file, differences=first, more=sum(1 for _ in found))
    if isinstance(outcome, Rejected) and not golden.expects_refusal:
        failure.refused = outcome.error.message
    if isinstance(outcome.response.problem, str):
        failure.problem = outcome.response.problem
    return failure


def _compared(golden: Golden, outcome: Explanation) -> Iterator[Difference]:
    return differences(golden.expected, Raw(msgspec.json.encode(outcome)))


def _read(file: Path) -> Golden | Fault:
    try:
        return read_golden(file.read_bytes())
    except OSError as error:
        return Fault("", f"cannot be read: {error.strerror}")
