"""What a worker takes to apply one very large payload."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import psutil

from worker.cli.bench.applying import Applying
from worker.cli.bench.installation import Installation, installed
from worker.cli.bench.measuring import Plan, Result
from worker.cli.bench.payloads import append, body, people
from worker.model import SegmentId
from worker.sync.tasks import create_celery
from worker.sync.wake_ups import send

MEMBERS = 1_000_000
_WARM_UP = 1000
_MIB = 2**20


def memory_ratio(plan: Plan) -> list[Result]:
    """The most that a worker's process grows by while it applies one payload, by the size of the payload's body.

    The worker is new in each round: what one large payload has left in its process, the next would find there.
    """
    members = people(MEMBERS)
    with installed("no") as installation:  # what the store writes down takes four times as long, and no memory of ours
        here, rounds = Applying(installation, members), list[float]()
        for number in range(plan.rounds):
            large = body(installation.environment_id, f"large-{number}", members)
            with installation.worker():
                log = append(installation, f"warm-{number}", [body(installation.environment_id, "warm", ["someone"])])
                _apply(installation, log)
                log = append(installation, f"large-{number}", [large])
                grown_bytes = _growth_bytes(installation, log)
            here.check({log.ref.encode()})
            here.empty()
            rounds.append(grown_bytes / len(large))
    said = (
        f"{median(rounds) * len(large) / _MIB:.0f} MiB for a body of {len(large) / _MIB:.0f} MiB, {len(members):,} ids"
    )
    return [Result("memory_ratio", median(rounds), "ratio", rounds, said)]


def _growth_bytes(installation: Installation, log: SegmentId) -> int:
    peaks = [_Peak(child) for child in psutil.Process(installation.pids()["worker"]).children(recursive=True)]
    _apply(installation, log, peaks)
    return max(peak.growth_bytes() for peak in peaks)


def _apply(installation: Installation, log: SegmentId, peaks: list[_Peak] | None = None) -> None:
    send(create_celery(installation.wiring.settings), [installation.drain_of(log)])
    statuses = installation.wiring.upkeep.statuses

    def applied() -> bool:
        for peak in peaks or ():
            peak.look()
        found = statuses(installation.environment_id, [log.segment_key], [installation.store_id])
        return all(store.settled for status in found for store in status.stores.values())

    installation.wait_until(applied, "the payload to be applied")


class _Peak:
    """The most memory that a process has, from now on: by the kernel's own mark, or else by looking often."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._before_bytes: int = process.memory_info().rss
        self._peak_bytes: int = self._before_bytes
        self._of_kernel = Path(f"/proc/{process.pid}")
        try:
            (self._of_kernel / "clear_refs").write_text("5")  # the mark begins anew (man 5 proc)
        except OSError:
            self._of_kernel = Path()

    def look(self) -> None:
        """Note what it has now."""
        self._peak_bytes = max(self._peak_bytes, self._process.memory_info().rss)

    def growth_bytes(self) -> int:
        """By how much it was larger, at most, than in the beginning."""
        return max(self._peak_bytes, self._marked_bytes()) - self._before_bytes

    def _marked_bytes(self) -> int:
        if self._of_kernel == Path():
            return 0
        lines = (self._of_kernel / "status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
