"""Keeps child processes alive: starts, watches and restarts them, and ends them without leaving a process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from worker.cli import log_files
from worker.errors import Misconfigured
from worker.processes import end_with_parent

FIRST_DELAY = 0.2  # seconds before a dead child is started again; doubles with each death …
LAST_DELAY = 5.0  # … up to this: a child that cannot start costs one start in five seconds
STEADY_AFTER = 10.0  # a child that has lived so long is healthy: the next death counts as the first
# Both together stay under the 10 s within which everything has stopped.
GRACE = 7.0  # for the roles: the receiver answers what it has accepted, the worker ends its drains
FOUNDATION_GRACE = 2.5  # for what the roles lean on
_BOUND_LOGS_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Role:
    """What a child is.

    Attributes:
        name: what the terminal calls it.
        argv: its command; no secrets, `ps` shows it.
        log: the file that gets its output.
        env: its environment; may hold secrets.
        cwd: its working directory.
        pass_fds: file descriptors that it inherits.
        reports: whether it takes ``--supervisor`` and says when it is ready (``worker.processes``).
        foundation: whether the others lean on it, so that it is stopped after them.
    """

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = field(default=None, repr=False)
    cwd: Path | None = None
    pass_fds: Sequence[int] = ()
    reports: bool = False
    foundation: bool = False


class Child:
    """One role's process, over all its restarts."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.deaths = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.delay = self._next_delay = FIRST_DELAY
        self._started = self._due = 0.0
        self._report_fd: int | None = None
        self._reported = False

    @property
    def pid(self) -> int | None:
        """The process id, or None while there is no process."""
        return self._process.pid if self._process else None

    @property
    def ready(self) -> bool:
        """Whether the present process has said that it is ready."""
        if not self._reported and self._report_fd is not None:
            with contextlib.suppress(BlockingIOError):
                self._reported = bool(os.read(self._report_fd, 16))
        return self._reported

    def start(self) -> None:
        """Start the process, in a session of its own: a terminal's Ctrl-C is for the supervisor alone.

        Raises:
            Misconfigured: its program cannot be run.
        """
        argv, pass_fds = list(self.role.argv), list(self.role.pass_fds)
        write_fd: int | None = None
        self._reported = False
        if self.role.reports:
            self._report_fd, write_fd = os.pipe()
            os.set_blocking(self._report_fd, False)
            argv += ["--supervisor", f"{os.getpid()}:{write_fd}"]
            pass_fds.append(write_fd)
        try:
            with log_files.open_log(self.role.log) as log:
                self._process = subprocess.Popen(  # noqa: S603
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self.role.env,
                    cwd=self.role.cwd,
                    pass_fds=pass_fds,
                    start_new_session=True,
                    # The one thing that must be arranged between fork and exec: programs that are not ours
                    # end with a killed supervisor too. Elsewhere than on Linux our own roles see to it themselves.
                    preexec_fn=partial(end_with_parent, os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509
                )
        except OSError as error:
            raise Misconfigured(f"cannot run {argv[0]}: {error.strerror}") from None
        finally:
            if write_fd is not None:
                os.close(write_fd)
        self._started = time.monotonic()

    def died(self) -> str | None:
        """How the process ended, if it has just ended by itself; schedules the next start."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._bury()
        now = time.monotonic()
        if now - self._started >= STEADY_AFTER:
            self._next_delay = FIRST_DELAY
        self.deaths += 1
        self.delay, self._next_delay = self._next_delay, min(self._next_delay * 2, LAST_DELAY)
        self._due = now + self.delay
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def due(self) -> bool:
        """Whether it is time to start it again."""
        return self._process is None and time.monotonic() >= self._due

    @property
    def due_seconds(self) -> float | None:
        """In how many seconds it is to be started again; None while it runs."""
        return None if self._process else max(0.0, self._due - time.monotonic())

    def terminate(self) -> None:
        """Ask the process to end. Its own children are its own business."""
        if self._process is not None:
            self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait for the process until ``deadline`` (monotonic), then kill it; in both cases with all its group."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._kill_group()
            self._process.wait()
        self._bury()

    def _bury(self) -> None:
        self._kill_group()  # what a crashed leader leaves behind would work on beside its successor
        self._process = None
        if self._report_fd is not None:
            os.close(self._report_fd)
            self._report_fd = None

    def _kill_group(self) -> None:
        assert self._process is not None
        # PermissionError: nobody but zombies is left in the group (macOS).
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


class Supervisor:
    """A group of children. Use it from one thread that outlives them: the kernel ends them with that thread."""

    def __init__(self, on_death: Callable[[Child, str], None]) -> None:
        """Take what is called when a child has died, with how, before it is started again; it may raise instead."""
        self.children: dict[str, Child] = {}
        self._on_death = on_death
        self._logs_bounded = time.monotonic()

    def start(self, role: Role) -> Child:
        """Start a role, and keep it alive from now on by ``tend``."""
        child = self.children[role.name] = Child(role)
        child.start()
        return child

    def tend(self) -> float:
        """Notice who has died, start again who is due. Call it at every signal, of which an end of a child is one.

        Returns:
            After how many seconds to call it also if there is none.
        """
        for child in self.children.values():
            if (fate := child.died()) is not None:
                self._on_death(child, fate)
            elif child.due():
                child.start()
        if time.monotonic() - self._logs_bounded >= _BOUND_LOGS_EVERY:
            self._logs_bounded = time.monotonic()
            for child in self.children.values():
                log_files.bound(child.role.log)
        due = [child.due_seconds for child in self.children.values()]
        return min((seconds for seconds in due if seconds is not None), default=_BOUND_LOGS_EVERY)

    def stop(self) -> None:
        """End everybody, the last started first, foundations after the others; within 10 s, killing who is late.

        The ones on the same floor are asked in that order and then waited for together: none needs another to
        end, and the time they have is one.
        """
        for foundation, grace in ((False, GRACE), (True, FOUNDATION_GRACE)):
            floor = [child for child in reversed(self.children.values()) if child.role.foundation is foundation]
            for child in floor:
                child.terminate()
            deadline = time.monotonic() + grace
            for child in floor:
                child.end(deadline)
        self.children.clear()
