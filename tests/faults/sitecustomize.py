"""Makes the parsing of marked bodies go wrong, in processes of a deployment under test. No part of the product.

Python runs this file in every process that finds it on its path, before anything else. A test puts it there::

    faults = {"PYTHONPATH": str(Path(__file__).parents[1] / "faults"), "PYTHON_FAULTS_CRASH": "crash-me"}
    with deployed(state, tmp_path, workers=2, settings=faults) as deployment: ...

From then on, a body that contains the bytes ``crash-me`` (as somebody's id, say) kills whoever parses it.

What happens, each with the marker that makes it happen; several may be set, the first of this order wins:

    PYTHON_FAULTS_CRASH     the process dies of SIGSEGV
    PYTHON_FAULTS_EXIT      the process ends with exit code 3
    PYTHON_FAULTS_HANG      the parse never ends
    PYTHON_FAULTS_MEMORY    the parse takes memory until there is none: mind where no limit is set
    PYTHON_FAULTS_RAISE     the parse raises a RuntimeError, as a bug of ours does
    PYTHON_FAULTS_REFUSE    the parse raises InvalidBatch, reason "malformed"
    PYTHON_FAULTS_SLOW      the parse takes PYTHON_FAULTS_SECONDS longer (1 when unset)

Where and when:

    PYTHON_FAULTS_IN        the roles it is for, with commas: "worker", "isolated" (the child in which suspicious bodies
                            are parsed), "serve", "scheduler", or another command of segsync. Unset: all but "serve"
    PYTHON_FAULTS_HANG_IN   the same for one kind alone, here HANG
    PYTHON_FAULTS_UNLESS    a path: while there is a file, nothing goes wrong. Creating it mends a running deployment
    PYTHON_FAULTS_LOG       a path: each fault appends a line "kind role pid" before it happens

The names begin with PYTHON because such variables reach the isolated child, which inherits little else. Without any of
them, nothing is patched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

_PREFIX = "PYTHON_FAULTS_"
_PATCHED = "worker.manifest.decoder"


def _crash() -> NoReturn:
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        os.kill(os.getpid(), signal.SIGSEGV)


def _exit() -> NoReturn:
    os._exit(3)


def _hang() -> NoReturn:
    import time

    while True:
        time.sleep(3600)


def _take_memory() -> NoReturn:
    taken = []
    while True:
        taken.append(b"x" * (64 * 1024 * 1024))


def _raise() -> NoReturn:
    raise RuntimeError("a fault that a test asked for")


def _refuse() -> NoReturn:
    from worker.errors import InvalidBatch

    raise InvalidBatch("malformed", "a fault that a test asked for", pointer="/fault")


def _slow() -> None:
    import time

    time.sleep(float(os.environ.get(f"{_PREFIX}SECONDS", "1")))


_KINDS: dict[str, Callable[[], None]] = {
    "CRASH": _crash,
    "EXIT": _exit,
    "HANG": _hang,
    "MEMORY": _take_memory,
    "RAISE": _raise,
    "REFUSE": _refuse,
    "SLOW": _slow,
}


class _Finder:
    """Loads the decoder as always, and patches it before anybody has it."""

    def __init__(self, role: str, markers: dict[str, bytes]) -> None:
        self._role = role
        self._markers = markers

    def find_spec(self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _PATCHED:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_patch(module: Any) -> None:
            execute(module)
            # One of them reads every body: the second half is asked when the first does not answer, or alone.
            for method in ("decode_fast", "decode_exactly"):
                setattr(module.Decoder, method, self._faulty(getattr(module.Decoder, method)))

        loader.exec_module = execute_and_patch
        return spec

    def _faulty(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def read_or_fail(decoder: Any, body: bytes, *arguments: Any, **options: Any) -> Any:
            for kind, marker in self._markers.items():
                if marker in body and not os.path.exists(os.environ.get(f"{_PREFIX}UNLESS", "")):  # noqa: PTH110
                    self._note(kind)
                    _KINDS[kind]()
                    break
            return read(decoder, body, *arguments, **options)

        return read_or_fail

    def _note(self, kind: str) -> None:
        path = os.environ.get(f"{_PREFIX}LOG")
        if path:
            # One write of one line: several processes append to the same file.
            log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(log, f"{kind.lower()} {self._role} {os.getpid()}\n".encode())
            os.close(log)


def _role(words: list[str]) -> str:
    """Which role a command line starts: the word after ``segsync`` or ``-m worker``."""
    if "-m" in words:
        module, *words = words[words.index("-m") + 1 :]
        if module.startswith("worker.sync."):
            return "isolated"
        return words[0] if module == "worker" and words else ""
    return words[1] if len(words) > 1 else ""


def _install() -> None:
    role = _role(sys.orig_argv[1:])
    markers = {
        kind: marker.encode()
        for kind in _KINDS
        if (marker := os.environ.get(_PREFIX + kind)) and _is_for(role, os.environ.get(f"{_PREFIX}{kind}_IN"))
    }
    if markers:
        sys.meta_path.insert(0, _Finder(role, markers))


def _is_for(role: str, wanted: str | None) -> bool:
    wanted = wanted or os.environ.get(f"{_PREFIX}IN")
    return role in wanted.split(",") if wanted else role != "serve"


_install()
