"""Progress on standard error: a bar on a terminal, a line every now and then elsewhere; and waiting for workers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from worker.cli.console import printable

if TYPE_CHECKING:
    from worker.sync.following import Following, Standing

_LINE_SECONDS = 10.0
# When nothing has moved for so long, something is in the way.
QUIET_SECONDS = 30.0
_LOOK_SECONDS = 0.25


class Tell(Protocol):
    """Says how much is done, of how much, and what else there is to say of it."""

    def __call__(self, done: int, total: int, detail: str = "") -> object:
        """Say it."""


@contextmanager
def progress(what: str) -> Iterator[Tell]:
    """Show how far something is."""
    if sys.stderr.isatty():
        with _bar(what) as tell:
            yield tell
    else:
        with _lines(what) as tell:
            yield tell


@contextmanager
def _bar(what: str) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True, markup=False), transient=True) as bar:
        task = bar.add_task(what, total=None, detail="")

        def tell(done: int, total: int, detail: str = "") -> None:
            bar.update(task, completed=done, total=total, detail=detail)

        yield tell


@contextmanager
def _lines(what: str) -> Iterator[Tell]:
    told_at = time.monotonic()

    def tell(done: int, total: int, detail: str = "") -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _LINE_SECONDS:
            told_at = time.monotonic()
            warn(f"{what}: {done:,} of {total:,}{detail and f', {detail}'}")

    yield tell


def warn(line: str) -> None:
    """Say something beside the result."""
    print(f"segsync: {printable(line)}", file=sys.stderr, flush=True)


def wait_for_workers(
    following: Following,
    tell: Callable[[Standing], object],
    obstacles: Callable[[], Iterable[str]],
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return when what is followed is there.

    Says what may be in the way when nothing moves for half a minute, and goes on.

    Args:
        following: what is to happen.
        tell: called with how far it is, again and again.
        obstacles: what is known to be in the way.
        sleep: waits between two looks.
        clock: monotonic seconds.
    """
    from worker.errors import Unavailable

    seen: object = None
    moved_at, told, away = clock(), False, False
    while True:
        began = clock()
        try:
            standing = following.look()
            tell(standing)
        except Unavailable as error:
            if not away:
                warn(f"{error}; this goes on when it is back")
            away = True
        else:
            away = False
            if standing.over:
                return
            if (standing.done, standing.sign) != seen:
                seen, moved_at, told = (standing.done, standing.sign), clock(), False
        if clock() - moved_at >= QUIET_SECONDS and not told and not away:
            told = True
            warn(f"nothing has moved for {QUIET_SECONDS:g} s")
            for line in obstacles() or ("are workers running? `segsync worker` starts some",):
                warn(line)
        sleep(max(_LOOK_SECONDS, 2 * (clock() - began)))
