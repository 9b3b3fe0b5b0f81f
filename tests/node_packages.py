"""The npm packages that tests run with Node: pinned in tests/node, installed there once."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from servers import Missing

FOLDER: Final = Path(__file__).parent / "node"
INSTALL_TIMEOUT_S: Final = 150


def installed(script: str) -> list[str]:
    """The beginning of a command that runs this script of ``tests/node``, once its packages are there.

    Raises:
        Missing: there is no Node or npm, or the packages cannot be had.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None:
        raise Missing("no node on PATH: install Node.js 18 or newer, and npm")
    lock_file = FOLDER / "package-lock.json"
    with once(FOLDER / "node_modules", lock_file) as is_due:
        if is_due:
            if npm is None:
                raise Missing("no npm on PATH: it installs what tests run with Node")
            # No package's own script is run: the one that compiles something is for a store on disk that nobody uses.
            options = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"]
            fetch([npm, "ci", *options], FOLDER)
    return [node, str(FOLDER / script)]


@contextmanager
def once(folder: Path, *asked: Path) -> Iterator[bool]:
    """Whether what these files ask for must still be fetched into the folder; noted when the block ends well.

    Test processes that ask at the same time wait for the first.
    """
    wanted = "".join(each.read_text() for each in asked)
    note = folder / ".fetched"
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_due = not note.exists() or note.read_text() != wanted
        yield is_due
        if is_due:
            folder.mkdir(exist_ok=True)
            note.write_text(wanted)


def fetch(command: list[str], folder: Path) -> None:
    """Run a package manager.

    Raises:
        Missing: it failed, or took too long.
    """
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=INSTALL_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError) as fault:
        said = (getattr(fault, "stderr", None) or getattr(fault, "stdout", None) or b"").decode(errors="replace")
        raise Missing(
            f"{Path(command[0]).name} could not fetch its packages: {said[-400:].strip() or fault}"
        ) from fault


if __name__ == "__main__":  # CI fetches beforehand, beside its other work
    installed("read.mjs")
