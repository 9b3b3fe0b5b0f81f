"""uvicorn, as the receiver runs it: it ends as it is told, and wakes up no more often than it must."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from functools import partial
from socket import socket
from types import FrameType

import uvicorn

from worker.processes import LastResort, stop_signals

_TICK_SECONDS = 1.0  # the Date of the answers is exact to no less


class ReceiverServer(uvicorn.Server):
    """Make and run it in the main thread.

    Attributes:
        told_to_stop: a signal has come.
    """

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        """Take what is called as soon as it listens."""
        super().__init__(config)
        self.told_to_stop = False
        self._on_started = on_started
        self._last_resort = LastResort("receiver")
        self._wake_up: Callable[[], object] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn, whose own ends the process by the signal once more when all is done, as if nothing had been."""
        for number in stop_signals():
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn."""
        self.told_to_stop = True
        self._last_resort.arm(sig)
        super().handle_exit(sig, frame)
        if self._wake_up is not None:
            self._wake_up()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if self.started:
            self._on_started()

    async def main_loop(self) -> None:
        """See uvicorn, whose own looks ten times a second whether a signal has come: that took 0.1 % of a core."""
        told = asyncio.Event()
        self._wake_up = partial(asyncio.get_running_loop().call_soon_threadsafe, told.set)
        try:
            while not await self.on_tick(0):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(told.wait(), _TICK_SECONDS)
        finally:
            self._wake_up = None  # a signal that comes when the event loop is closed must not raise where it strikes
