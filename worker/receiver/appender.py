"""Group commit: requests that arrive together share one round trip to the state server, and one flush of its log."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from worker.errors import InvalidBatch, Unavailable
from worker.log.append import Appends, Batch, Outcome, WakeUp
from worker.log.durability import broken_promises
from worker.receiver.state_server import StateServer
from worker.state import count_connections
from worker.wiring import Wiring

# What one round trip carries at most: enough to share a flush among all who wait, little enough to answer soon.
GROUP_BYTES = 8 * 1024 * 1024
GROUP_BATCHES = 256
# For how long a request may wait for its append, and how long an append is tried again while the state server is away:
# longer than a server takes to restart, half of what partners wait. Repeating is safe: the log knows the batch's id.
APPEND_WITHIN_SECONDS = 5.0
TRY_AGAIN_SECONDS = 0.1
# By how much longer than its append may take a request waits: when it is answered, nothing of it can land any more.
LATE_MS = 250

_log = structlog.get_logger(__name__)
_Waiting = tuple[Batch, "asyncio.Future[list[WakeUp]]"]


class Appender:
    """Appends batches in the order they arrive, from one thread; the event loop never waits for the state server.

    ``broken_promises`` tells what the state server does not keep of what the durability setting promises. Where the
    settings are strict, nothing is accepted while there are any.
    """

    def __init__(self, wiring: Wiring, server: StateServer) -> None:
        self._wiring = wiring
        self._server = server
        settings = wiring.settings
        self._appends = Appends(wiring.client, settings.replicas if settings.durability == "replica" else 0)
        self._connections = count_connections(wiring.client)
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="append")
        self._checked = False
        self._closing = False
        self.broken_promises: list[str] = []

    async def append(self, batch: Batch) -> list[WakeUp]:
        """Append one batch; returns, once it is in every one of its logs, the wake-ups that became due.

        Raises:
            InvalidBatch: a segment that it names has another context kind; nothing of it is in a log.
            Unavailable: the state server is away; the batch may be in a log, or in some. Nothing of it lands after
                its ``not_after_ms``: where its fate is unknown, this is raised no earlier.
            TimeoutError: nothing was heard of the batch until a little later than that; the same is true of it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[WakeUp]] = loop.create_future()
        self._waiting.append((batch, future))
        self._arrived.set()
        # A timer alone: asyncio.timeout takes twice as long, for it cancels whatever it finds within it.
        within_seconds = (batch.not_after_ms - self._server.now_ms() + LATE_MS) / 1000
        timer = loop.call_later(within_seconds, _give_up, future)
        try:
            return await future
        except InvalidBatch:
            raise
        except Exception as error:
            if getattr(error, "fate_unknown", True):
                await self._let_pass(batch.not_after_ms)
            raise
        finally:
            timer.cancel()
            del future  # an exception's traceback holds this frame, and the future holds the exception, and the body

    async def run(self) -> None:
        """Serve ``append`` until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while group := self._next_group():
                await self._commit(loop, group)

    async def _let_pass(self, not_after_ms: int) -> None:
        """Until then, bytes that are on their way may land: nobody may be told earlier that they did not."""
        await asyncio.sleep(max(0, not_after_ms - self._server.now_ms() + 1) / 1000)

    def close(self) -> None:
        """End the thread; a try that is under way is finished first, and there is no other."""
        self._closing = True
        self._thread.shutdown()

    def check_durability(self) -> None:
        """Compare what the server keeps with what is promised.

        Raises:
            Unavailable: the state server is away.
        """
        settings, before = self._wiring.settings, self.broken_promises
        self.broken_promises = found = broken_promises(self._wiring.client, settings.durability, settings.replicas)
        self._checked = True
        for sentence in found:
            if sentence not in before:
                _log.warning("durability.broken", problem=sentence, strict=settings.strict)
        if before and not found:
            _log.info("durability.kept")

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._waiting and len(group) < GROUP_BATCHES and size < GROUP_BYTES:
            batch, future = self._waiting.popleft()
            if not future.done():  # else its sender has been answered: it must not be appended any more
                group.append((batch, future))
                size += len(batch.body)
        return group

    async def _commit(self, loop: asyncio.AbstractEventLoop, group: list[_Waiting]) -> None:
        outcomes: Sequence[list[WakeUp] | Exception]
        try:
            outcomes = await loop.run_in_executor(self._thread, self._append, group)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is each request's own to answer
            outcomes = tuple(error for _ in group)
        for (_, future), outcome in zip(group, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _append(self, group: list[_Waiting]) -> Sequence[Outcome]:
        """Append, again and again while the state server is away, for as long as somebody waits for the answer.

        Once a try had an unknown fate, so has every later one that fails, whatever it fails of: bytes of the first may
        still be on their way.
        """
        batches, unknown = [batch for batch, _ in group], False
        while True:
            try:
                outcomes = self._append_once(batches)
            except Unavailable as error:
                self._checked = False
                unknown = unknown or error.fate_unknown
                late = self._server.now_ms() > max(batch.not_after_ms for batch in batches)
                waited_for = not self._closing and any(not future.done() for _, future in group)
                if late or not waited_for or not error.fate_unknown:
                    raise _of_fate(error, unknown=unknown) from error
                time.sleep(TRY_AGAIN_SECONDS)
            else:
                return [
                    _of_fate(outcome, unknown=unknown) if isinstance(outcome, Unavailable) else outcome
                    for outcome in outcomes
                ]

    def _append_once(self, batches: Sequence[Batch]) -> Sequence[Outcome]:
        if not self._checked:
            self.check_durability()
        self._insist()
        connections = self._connections()
        outcomes = self._appends.append(batches)
        if self._wiring.settings.strict and self._connections() != connections:
            # The driver has connected anew by itself: to a server, perhaps, that was started with less.
            self.check_durability()
            self._insist()
        return outcomes

    def _insist(self) -> None:
        if self._wiring.settings.strict and self.broken_promises:
            raise Unavailable(f"strict: {self.broken_promises[0]}", dependency="state")


def _give_up(future: asyncio.Future[list[WakeUp]]) -> None:
    if not future.done():
        future.set_exception(TimeoutError("no answer in time"))


def _of_fate(error: Unavailable, *, unknown: bool) -> Unavailable:
    return Unavailable(str(error), dependency=error.dependency, fate_unknown=unknown)
