"""A manifest tried on its golden payloads: does each come to what is written beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec
from msgspec import Raw, Struct, field

from worker.manifest.golden import Difference, Golden, differences, directions, read_golden
from worker.manifest.manifest import BrokenManifest, Manifest
from worker.manifest.request_parser import Fault
from worker.receiver.explanation import explain

# Of one file's differences so many are told: the rest mostly follows from the first.
MOST_DIFFERENCES = 5


class Failure(Struct):
    """A golden file that does not hold, or cannot be read.

    Attributes:
        file: its path.
        fault: what is wrong with the file itself, and where; then it was not tried.
        differences: the first ones between what is expected and what comes.
        more: how many further ones there are.
    """

    file: str
    fault: Fault | None = None
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
    """

    key: str
    files: int
    add: int = 0
    remove: int = 0
    failures: list[Failure] = field(default_factory=list)
    manifest_faults: list[Fault] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed; true too when there was nothing to try."""
        return not self.failures and not self.manifest_faults

    @property
    def lacking(self) -> list[str]:
        """What the golden payloads do not show."""
        if not self.files:
            return ["no golden payloads"]
        shown = {"add": self.add, "remove": self.remove}
        return [f"none {direction}s anybody" for direction, count in shown.items() if not count]


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
        found = compare(manifest, golden)
        first = list(islice(found, MOST_DIFFERENCES))
        if first:
            run.failures.append(Failure(str(file), differences=first, more=sum(1 for _ in found)))
    return run


def compare(manifest: Manifest, golden: Golden) -> Iterator[Difference]:
    """Where a golden payload's outcome is not as expected."""
    outcome = explain(manifest, golden.body, policy=golden.policy)
    return differences(golden.expected, Raw(msgspec.json.encode(outcome)))


def _read(file: Path) -> Golden | Fault:
    try:
        return read_golden(file.read_bytes())
    except OSError as error:
        return Fault("", f"cannot be read: {error.strerror}")
