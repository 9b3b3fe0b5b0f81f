"""Trying a mutant: a copy of the tree without the guard, and the tests that are for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mutants.mutant import Mutant

ROOT = Path(__file__).parents[2]
# What tests of a part need of the tree.
COPIED = ("worker", "tests", "manifests", "pyproject.toml")
# A mutant may make a test hang. That test fails, and with it the trial is over.
MOST_SECONDS_OF_A_TEST = 60
MOST_SECONDS = 600
# The real server tells as much as fakeredis, in less than half of the time.
_SELECTED = "not fake"
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one trial.

    Attributes:
        killers: tests that failed.
        problem: why nothing can be said of the mutant; "" when something can.
    """

    killers: tuple[str, ...]
    problem: str
    seconds: float

    @property
    def killed(self) -> bool:
        """Some test failed for want of the guard."""
        return bool(self.killers) and not self.problem


@contextmanager
def copied_tree(original: Path = ROOT) -> Iterator[Path]:
    """A copy of a tree that is gone afterwards; whatever is done to it, the tree is not touched."""
    with tempfile.TemporaryDirectory(prefix="segsync-mutant-") as place:
        tree = Path(place)
        for name in COPIED:
            if (original / name).is_dir():
                ours = original == ROOT  # a copy's own caches are of that copy, and true
                shutil.copytree(original / name, tree / name, ignore=_caches if ours else None)
            else:
                shutil.copy2(original / name, tree / name)
        yield tree


def run(tree: Path, tests: Sequence[str], *, all_killers: bool = False) -> Verdict:
    """Run tests of a tree, up to the first that fails unless all of them are asked for."""
    command = [sys.executable, "-m", "pytest", *tests, "-k", _SELECTED, "-q", "-rfE", "--tb=no", "--no-header"]
    command += ["-p", "no:cacheprovider", "-o", f"timeout={MOST_SECONDS_OF_A_TEST}", *(() if all_killers else ("-x",))]
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=tree, env=_environment(), capture_output=True, text=True, timeout=MOST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Verdict((), f"its tests took longer than {MOST_SECONDS} s", MOST_SECONDS)
    seconds = time.monotonic() - began
    killers = tuple(_FAILED.findall(done.stdout))
    # 0: all passed; 1: some failed; else pytest could not do its work, and the mutant may be no program at all.
    if done.returncode not in {0, 1} or (done.returncode == 1) != bool(killers):
        return Verdict(killers, f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}", seconds)
    return Verdict(killers, "", seconds)


def imports_from(tree: Path) -> bool:
    """Whether tests that run in a copy test that copy, and not what is installed."""
    found = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path[0] = '.'; import worker; print(worker.__file__)"],
        cwd=tree,
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return (tree / found.stdout.strip()).resolve() == (tree / "worker" / "__init__.py").resolve()


def try_out(mutant: Mutant, tree: Path, *, all_killers: bool = False) -> Verdict:
    """Try one mutant of a tree, in a copy of it.

    Raises:
        ValueError: its text does not stand there exactly once.
    """
    text = mutant.mutated(tree)
    with copied_tree(tree) as copy:
        path = copy / mutant.file
        path.unlink()  # with its time of change goes what is cached of it
        path.write_text(text)
        return run(copy, mutant.tests, all_killers=all_killers)


def _caches(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name in {"__pycache__", ".hypothesis", "node_modules", "jars"}}


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
