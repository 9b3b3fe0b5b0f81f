"""What a process owes others: to end with its parent, or when told; to say when it is ready; to give memory back."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import threading
import time
import traceback
from itertools import islice

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # <malloc.h>
_WATCH_SECONDS = 0.5  # how soon a process notices where the kernel does not tell it; one getppid each

# After so long, a role that was told to stop ends whatever it is at: orchestrators and `segsync up` kill after ten.
LAST_RESORT_SECONDS = 9.0
_CUT_SHORT = 1
# So many are enough to see what hangs, of some forty that Celery and uvicorn make of a role.
_MOST_CALLS = 12

_ready_fd: int | None = None
# Shared with every process that is forked from here on: Celery's own flag stays in the parent.
_stop = mmap.mmap(-1, 1)


def request_stop() -> None:
    """Tell this process, and those that were forked from it, to finish what they have in hand and begin nothing more.

    Nothing takes it back. Safe to call from a signal handler, and again.
    """
    _stop[0] = 1


def stop_requested() -> bool:
    """Whether this process, or the one that it was forked from, was told to stop. Costs next to nothing."""
    return _stop[0] == 1


def stop_signals() -> list[signal.Signals]:
    """The signals that ask a role to stop. SIGHUP is one of them, unless it is ignored: then ``nohup`` started it."""
    hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, *([signal.SIGHUP] if hangs_up else [])]


class LastResort:
    """Ends the process nine seconds after it was told to stop, if it is still there then, with exit code 1.

    Make it early. It waits in a thread of its own, from the beginning: what is called from a handler of signals must
    not take the locks that starting one takes.
    """

    def __init__(self, role: str, *, seconds: float = LAST_RESORT_SECONDS) -> None:
        self._role = role
        self._seconds = seconds
        self._read, self._write = os.pipe()
        threading.Thread(target=self._wait, name="last-resort", daemon=True).start()

    def arm(self, number: int = 0) -> None:
        """Let the time begin: at that signal, or for another reason. Safe in a handler of signals, and again."""
        os.write(self._write, bytes([number]))

    def _wait(self) -> None:
        number = os.read(self._read, 1)[0]
        why = signal.Signals(number).name if number else "of itself"
        self._say("info", f"{self._role}.stopping", why)
        time.sleep(self._seconds)
        self._say("error", f"{self._role}.cut_short", why, at=where())
        os._exit(_CUT_SHORT)

    def _say(self, level: str, event: str, why: str, **facts: object) -> None:
        import structlog  # noqa: PLC0415 - commands that never stop must answer at once

        log = getattr(structlog.get_logger(__name__), level)
        # The pipe may be full, and its reader gone; the thread that holds the log's lock may be the one that hangs.
        saying = threading.Thread(target=log, args=(event,), kwargs={"why": why, **facts}, daemon=True)
        saying.start()
        saying.join(_WATCH_SECONDS)


def where() -> list[str]:
    """What the main thread is at, the innermost call last, each as ``file:line function``."""
    innermost = sys._current_frames()[threading.main_thread().ident or 0]  # noqa: SLF001 - documented, for this
    calls = list(islice(traceback.walk_stack(innermost), _MOST_CALLS))
    return [f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}" for frame, line in reversed(calls)]


def end_with_parent(parent: int | None = None) -> None:
    """Make the calling process end, at once and unasked, when its parent is gone; also when it is gone already.

    On Linux the kernel sends the SIGKILL, even to a process that is stuck, and the wish survives ``exec``. It
    watches the *thread* that forked: a parent forks its children from a thread that lives as long as it does.
    Elsewhere a thread of the calling process watches, which ``exec`` and ``fork`` end.

    Args:
        parent: the parent's process id, when the caller knows it; closes the gap between the fork and this call.
    """
    expected = parent or os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(expected,), name="end-with-parent", daemon=True).start()
    if os.getppid() != expected:
        os.kill(os.getpid(), signal.SIGKILL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def supervised(parent: int, ready_fd: int) -> None:
    """Note that ``segsync up`` has started this process: it ends with it, and reports to it when ready.

    Args:
        parent: the process id of ``segsync up``.
        ready_fd: the writing end of a pipe that ``segsync up`` reads.
    """
    global _ready_fd  # noqa: PLW0603 - a process has one supervisor
    end_with_parent(parent)
    os.set_inheritable(ready_fd, False)  # noqa: FBT003
    _ready_fd = ready_fd


def return_freed_memory() -> None:
    """Make this process give large freed memory back to the system, instead of keeping it for what may come.

    One heap for all threads, and what is large apart from it: else each of a few large bodies leaves its trace in the
    heap of another thread, and a receiver goes on holding what its largest hour took. Where the allocator is not
    glibc's, this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, 1024 * 1024)
        mallopt(_M_TRIM_THRESHOLD, 16 * 1024 * 1024)


def announce_ready() -> None:
    """Tell the supervisor, when there is one, that this process does its work from now on. Said once; idempotent."""
    global _ready_fd
    if _ready_fd is None:
        return
    fd, _ready_fd = _ready_fd, None
    try:
        os.write(fd, b"ready\n")
    except OSError:
        pass  # the supervisor is gone, and this process about to follow
    finally:
        os.close(fd)
