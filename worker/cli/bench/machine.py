"""On what a report was made: enough to tell two machines apart, and nothing that names one."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from worker.cli.embedded import find_binary

_CPUINFO = Path("/proc/cpuinfo")


def describe() -> dict[str, Any]:
    """The machine, and the versions of what matters to speed."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "server": _said_by(find_binary(), "--version"),
        "redis_cli": _said_by("redis-cli", "--version") if shutil.which("redis-cli") else None,
        "segsync": version("segsync"),
        **{name: version(name) for name in ("celery", "hiredis", "httptools", "msgspec", "redis", "uvicorn", "uvloop")},
    }


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in _lines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _lines() -> list[str]:
    return _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []


def _said_by(program: str, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()
