"""Group commit: requests that arrive together share one round trip to the state server, and one flush of its log."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from worker.errors import InvalidBatch, Unavailable
from worker.log.append import Appends
from worker.log.batch import Batch, Outcome, WakeUp
from worker.log.durability import broken_promises
from worker.log.round_trips import Exchange
from worker.receiver.parsing import in_thread
from worker.receiver.state_server import StateServer
from worker.state import ANSWER_SECONDS
from worker.state_line import StateLine
from worker.wiring import Wiring

# What one round trip carries at most: enough to share a flush among all who wait, little enough to answer soon.
GROUP_BYTES = 8 * 1024 * 1024
GROUP_BATCHES = 256
# How many groups are under way at a time: while the state server works at one, the next is made. With a single one all
# who wait fall into step, and receiver and server wait for each other in turn (measured: 3,700 accepts a second, not
# 5,700); three and more make smaller groups, which cost more than they bring.
LINES = 2
# From this size on a group is packed outside the event loop: that takes some 4 ms then.
_LARGE_BYTES = 1024 * 1024
# For how long a request may wait for its append, and how long an append is tried again while the state server is away:
# longer than a server takes to restart, half of what partners wait. Repeating is safe: the log knows the batch's id.
APPEND_WITHIN_SECONDS = 5.0
TRY_AGAIN_SECONDS = 0.1
# By how much longer than its append may take a request waits: when it is answered, nothing of it can land any more.
LATE_MS = 250
# Nobody waits longer than that, whatever becomes of the state server's clock: set back an hour, it would have them wait
# an hour. A look at it that took long sets it back as well, by no more than an answer may take.
_MOST_MS = int((APPEND_WITHIN_SECONDS + ANSWER_SECONDS) * 1000) + LATE_MS
# How often that is looked after, while anybody waits.
_LOOK_SECONDS = 0.1

_log = structlog.get_logger(__name__)
_Waiting = tuple[Batch, "asyncio.Future[list[WakeUp]]"]


class Appender:
    """Appends batches in groups, over connections of the event loop's own.

    Groups are made in the order of arrival. Two may be under way at a time, and only requests that were open at the
    same time are in them, which have no order; while one is tried again, no other is begun.

    ``broken_promises`` tells what the state server does not keep of what the durability setting promises. Where the
    settings are strict, nothing is accepted while there are any.
    """

    def __init__(self, wiring: Wiring, server: StateServer) -> None:
        self._wiring = wiring
        self._server = server
        settings = wiring.settings
        self._appends = Appends(wiring.client, settings.replicas if settings.durability == "replica" else 0)
        self._lines = [StateLine(settings) for _ in range(LINES)]
        self._waiting: deque[_Waiting] = deque()
        self._unanswered: list[tuple[int, asyncio.Future[list[WakeUp]]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        # For what would hold up the event loop: looks through the driver, and groups of large bodies.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="append")
        self._checked = False
        self._retrying: set[StateLine] = set()
        self.broken_promises: list[str] = []

    async def append(self, batch: Batch) -> list[WakeUp]:
        """Append one batch; returns, once it is in every one of its logs, the wake-ups that became due.

        Raises:
            InvalidBatch: a segment that it names has another context kind; nothing of it is in a log.
            Unavailable: the state server is away; the batch may be in a log, or in some. Nothing of it lands after
                its ``not_after_ms``: where its fate is unknown, this is raised no earlier.
            TimeoutError: nothing was heard of the batch until a little later than that; the same is true of it, unless
                the state server's clock was set back meanwhile.
        """
        # Asked for once: until Python 3.12, each time is a system call, 3 µs of each payload's 75.
        loop = self._loop = self._loop or asyncio.get_running_loop()
        future: asyncio.Future[list[WakeUp]] = loop.create_future()
        self._waiting.append((batch, future))
        self._arrived.set()
        if not self._unanswered:
            loop.call_later(_LOOK_SECONDS, self._answer_late)
        self._unanswered.append((batch.not_after_ms + LATE_MS, future))
        try:
            return await future
        except InvalidBatch:
            raise
        except Exception as error:
            if getattr(error, "fate_unknown", True):
                await self._let_pass(batch.not_after_ms)
            raise
        finally:
            del future  # an exception's traceback holds this frame, and the future holds the exception, and the body

    def _answer_late(self) -> None:
        """Tell those who have waited for too long. One timer for all: one each takes 10 µs to start and to stop."""
        now_ms = self._server.now_ms()
        waiting = [(until_ms, future) for until_ms, future in self._unanswered if not future.done()]
        latest_ms = now_ms + _MOST_MS
        self._unanswered = [each for each in waiting if now_ms <= each[0] <= latest_ms]
        for until_ms, future in waiting:
            if not now_ms <= until_ms <= latest_ms:
                future.set_exception(TimeoutError("no answer in time"))
        if self._unanswered:
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._answer_late)

    async def run(self) -> None:
        """Serve ``append`` until cancelled."""
        await asyncio.gather(*map(self._serve, self._lines))

    async def _serve(self, line: StateLine) -> None:
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while not self._retrying and (group := self._next_group()):
                    await self._commit(line, group)
        finally:
            await line.close()

    async def _let_pass(self, not_after_ms: int) -> None:
        """Until then, bytes that are on their way may land: nobody may be told earlier that they did not."""
        await asyncio.sleep(min(max(0, not_after_ms - self._server.now_ms() + 1), _MOST_MS) / 1000)

    def close(self) -> None:
        """End the thread."""
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

    async def _commit(self, line: StateLine, group: list[_Waiting]) -> None:
        outcomes: Sequence[list[WakeUp] | Exception]
        try:
            outcomes = await self._append(line, group)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is each request's own to answer
            outcomes = tuple(error for _ in group)
        for (_, future), outcome in zip(group, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    async def _append(self, line: StateLine, group: list[_Waiting]) -> Sequence[Outcome]:
        """Append, again and again while the state server is away, for as long as somebody waits for the answer.

        Once a try had an unknown fate, so has every later one that fails, whatever it fails of: bytes of the first may
        still be on their way.
        """
        batches, unknown = [batch for batch, _ in group], False
        try:
            while True:
                try:
                    outcomes = await self._append_once(line, batches)
                except Unavailable as error:
                    self._checked = False
                    unknown = unknown or error.fate_unknown
                    self._retrying.add(line)
                    late = self._server.now_ms() > max(batch.not_after_ms for batch in batches)
                    waited_for = any(not future.done() for _, future in group)
                    if late or not waited_for or not error.fate_unknown:
                        raise _of_fate(error, unknown=unknown) from error
                    await asyncio.sleep(TRY_AGAIN_SECONDS)
                else:
                    return [
                        _of_fate(outcome, unknown=unknown) if isinstance(outcome, Unavailable) else outcome
                        for outcome in outcomes
                    ]
        finally:
            if line in self._retrying:
                self._retrying.remove(line)
                self._arrived.set()

    async def _append_once(self, line: StateLine, batches: Sequence[Batch]) -> Sequence[Outcome]:
        if not self._checked:
            await in_thread(self._thread, self.check_durability)
        self._insist()
        made = line.made
        outcomes = await self._exchange(line, batches)
        if self._wiring.settings.strict and line.made != made:
            # It was connected anew: to a server, perhaps, that was started with less.
            await in_thread(self._thread, self.check_durability)
            self._insist()
        return outcomes

    async def _exchange(self, line: StateLine, batches: Sequence[Batch]) -> list[Outcome]:
        """Make the round trips of an append."""
        is_large = sum(len(batch.body) for batch in batches) >= _LARGE_BYTES
        steps = self._appends.appending(batches)
        exchange = await in_thread(self._thread, Exchange, steps) if is_large else Exchange(steps)
        while exchange.commands:
            try:
                replies = await line.ask(exchange.commands)
            except Unavailable as error:
                exchange.tell(error)
                continue
            if is_large:
                await in_thread(self._thread, exchange.tell, replies)
            else:
                exchange.tell(replies)
        return exchange.outcome

    def _insist(self) -> None:
        if self._wiring.settings.strict and self.broken_promises:
            raise Unavailable(f"strict: {self.broken_promises[0]}", dependency="state")


def _of_fate(error: Unavailable, *, unknown: bool) -> Unavailable:
    return Unavailable(str(error), dependency=error.dependency, fate_unknown=unknown)
