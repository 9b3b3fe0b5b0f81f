"""Signals for a foreground command that waits: remembered, and waking it at once, instead of thrown into its midst."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType, TracebackType
from typing import Self

# SIGHUP: the terminal was closed, nobody is left to press Ctrl-C; unless it is ignored (nohup).
_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Raised by ``Signals.check`` when somebody asked to stop; no fault, so nothing that handles faults holds it."""


class Signals:
    """While entered: notes requests to stop, and wakes ``wait`` for them and for ends of child processes.

    An interrupt in the middle of starting a child would leave one that nobody knows; a note is read where it
    is safe.
    """

    def __init__(self) -> None:
        self.stop_asked = False
        self._saved: dict[int, signal.Handlers | int | None] = {}

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        for number in _STOP:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._saved[number] = signal.signal(number, self._note)  # type: ignore[assignment]
        self._saved[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # type: ignore[assignment]
        self._saved_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._saved_wakeup)
        for number, handler in self._saved.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_asked = True

    def wait(self, seconds: float) -> None:
        """Return after so long, or as soon as a signal has come."""
        if select.select([self._read], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._read, 4096)

    def check(self) -> None:
        """Raise Stopped if somebody has asked to stop."""
        if self.stop_asked:
            raise Stopped
