"""The log files of `segsync up`'s children: bounded in size, and their last lines for the terminal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

# One line per batch adds up; two files of this size per role are all a data directory ever holds of them.
LIMIT_BYTES = 16 * 1024 * 1024
_TAIL_BYTES = 8 * 1024


def open_log(path: Path) -> BinaryIO:
    """Open a child's log for appending, readable by the owner alone, after bounding it."""
    bound(path)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def bound(path: Path) -> None:
    """Move a log that has grown past the limit to ``{path}.1``.

    It is copied and cut, not renamed: the child writes on to the same open file. What it writes between the
    two steps is lost; that is fine for a log.
    """
    try:
        if path.stat().st_size <= LIMIT_BYTES:
            return
        shutil.copy(path, path.with_name(path.name + ".1"))
        os.truncate(path, 0)
    except FileNotFoundError:
        pass


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log that are not blank, oldest first."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
