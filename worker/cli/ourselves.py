"""How segsync starts segsync: the same code in another process, wherever the user happens to stand."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import worker


def command_line(*arguments: str) -> list[str]:
    """The argv of ``segsync ARGUMENTS``. -P: a directory called `worker` in the working directory is not ours."""
    return [sys.executable, "-P", "-m", "worker", *arguments]


def environment() -> dict[str, str]:
    """The environment of this process, in which ``command_line`` finds a source tree that is not installed too."""
    found = dict(os.environ)
    root = str(Path(worker.__file__).parent.parent)
    if root not in sysconfig.get_paths().values():
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [root, found.get("PYTHONPATH")]))
    return found
