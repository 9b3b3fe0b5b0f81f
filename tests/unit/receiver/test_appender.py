"""When a request whose append failed is answered: never while bytes of it may still land."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
import redis
from redis.exceptions import OutOfMemoryError

from worker.errors import InvalidBatch, Unavailable
from worker.log.batch import Batch, Outcome, Target, WakeUp
from worker.model import Cohort
from worker.receiver import appender as appender_module
from worker.receiver.appender import Appender
from worker.receiver.state_server import StateServer
from worker.settings import Settings
from worker.wiring import Wiring

AWAY = Unavailable("no answer", dependency="state", fate_unknown=True)
REFUSED = Unavailable("full", dependency="state")
FULL = OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
Tries = list[Callable[[], list[Outcome]]]


class Appending:
    """An appender whose tries fail as the test says, and what it told of one batch, and when."""

    def __init__(self, client: redis.Redis) -> None:
        wiring = Wiring(Settings(durability="memory"), client=client)
        self.server = StateServer(client)
        self.server.look()
        self.appender = Appender(wiring, self.server)
        self.tries = 0

    def told(self, within_ms: int, *outcomes: list[Outcome] | Unavailable) -> tuple[object, int]:
        """Append one batch with this much time; returns the answer, and by how much it came before the time was up."""
        waiting = iter(outcomes)

        async def append(_: object, __: Sequence[Batch]) -> list[Outcome]:
            self.tries += 1
            outcome = next(waiting)
            if isinstance(outcome, Unavailable):
                raise outcome
            return outcome

        self.appender._exchange = append  # type: ignore[method-assign, assignment]
        return asyncio.run(self._told(within_ms))

    def told_by_server(self, within_ms: int, *round_trips: list[object] | Unavailable) -> tuple[object, int]:
        """The same, by what the state server replies in each round trip."""
        waiting = iter(round_trips)

        async def ask(_: object) -> list[object]:
            replies = next(waiting)
            if isinstance(replies, Unavailable):
                raise replies
            return replies

        for line in self.appender._lines:
            line.ask = ask  # type: ignore[method-assign, assignment]
        return asyncio.run(self._told(within_ms))

    @asynccontextmanager
    async def served(self, exchange: Callable[[list[str]], Awaitable[None]]) -> AsyncIterator[list[list[str]]]:
        """Serve appends; ``exchange`` says how a group's tries go. Gives the batch ids of every try, as they begin."""
        begun: list[list[str]] = []

        async def append(_: object, batches: Sequence[Batch]) -> list[Outcome]:
            begun.append(group := [batch.batch_id for batch in batches])
            await exchange(group)
            return [[] for _ in batches]

        self.appender._exchange = append  # type: ignore[method-assign, assignment]
        running = asyncio.create_task(self.appender.run())
        try:
            async with asyncio.timeout(20):
                yield begun
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    def begin(self, batch_id: str, within_ms: int = 5000) -> asyncio.Task[list[WakeUp]]:
        """Append one batch, in a task."""
        return asyncio.create_task(self.appender.append(_batch(self.server.now_ms() + within_ms, batch_id)))

    async def _told(self, within_ms: int) -> tuple[object, int]:
        running = asyncio.create_task(self.appender.run())
        not_after = self.server.now_ms() + within_ms
        answer: object
        try:
            answer = await self.appender.append(_batch(not_after))
        except (Unavailable, InvalidBatch) as error:
            answer = error
        running.cancel()
        return answer, not_after - self.server.now_ms()


def _batch(not_after_ms: int, batch_id: str = "b") -> Batch:
    return Batch(batch_id, "env", "user", "rudderstack", "d", b"{}", [Target("k", Cohort("c"))], [], not_after_ms)


@pytest.fixture
def appending(fake_redis: redis.Redis) -> Appending:
    return Appending(fake_redis)


def test_a_state_server_that_is_back_in_time_costs_no_error(appending: Appending) -> None:
    answer, _ = appending.told(2000, AWAY, AWAY, [[]])
    assert (answer, appending.tries) == ([], 3)


def test_a_refusal_at_the_first_try_is_told_at_once(appending: Appending) -> None:
    answer, early_ms = appending.told(2000, REFUSED)
    assert isinstance(answer, Unavailable)
    assert early_ms > 1000


@pytest.mark.parametrize("refusal", [REFUSED, [REFUSED]])
def test_a_refusal_after_a_try_of_unknown_fate_is_told_only_when_that_can_land_no_more(
    appending: Appending, refusal: Unavailable | list[Outcome]
) -> None:
    answer, early_ms = appending.told(600, AWAY, refusal)
    assert isinstance(answer, Unavailable)
    assert early_ms < 0


def test_a_segment_that_could_not_be_created_is_told_of_at_once(appending: Appending) -> None:
    answer, early_ms = appending.told_by_server(2000, [[[b"absent"]]], [FULL])
    assert isinstance(answer, Unavailable)
    assert early_ms > 1000


def test_a_segment_that_could_not_be_created_after_a_try_of_unknown_fate_is_told_of_only_when_that_can_land_no_more(
    appending: Appending,
) -> None:
    answer, early_ms = appending.told_by_server(600, AWAY, [[[b"absent"]]], [FULL])
    assert isinstance(answer, Unavailable)
    assert early_ms < 0


def test_an_append_that_nobody_waits_for_any_more_is_not_begun(appending: Appending) -> None:
    async def append() -> list[list[str]]:
        async def answer(_: list[str]) -> None:
            pass

        given_up = appending.begin("given up")
        await asyncio.sleep(0)
        given_up.cancel()
        with suppress(asyncio.CancelledError):
            await given_up
        async with appending.served(answer) as begun:
            await appending.begin("later")
            return begun

    assert asyncio.run(append()) == [["later"]]


def test_an_append_that_nobody_waits_for_any_more_is_not_tried_again(appending: Appending) -> None:
    async def append() -> list[list[str]]:
        asked: list[asyncio.Task[list[WakeUp]]] = []

        async def answer(group: list[str]) -> None:
            if group == ["given up"]:
                asked[0].cancel()
                raise AWAY

        async with appending.served(answer) as begun:
            asked.append(appending.begin("given up"))
            with suppress(asyncio.CancelledError):
                await asked[0]
            await appending.begin("later")
            return begun

    assert asyncio.run(append()) == [["given up"], ["later"]]


def test_an_outcome_that_comes_after_its_sender_was_answered_harms_nobody(appending: Appending) -> None:
    async def append() -> None:
        come = asyncio.Event()

        async def answer(_: list[str]) -> None:
            await come.wait()

        async with appending.served(answer):
            late, slow = appending.begin("late", within_ms=0), appending.begin("slow")
            with pytest.raises(TimeoutError):
                await late
            come.set()
            assert await slow == []
            assert [await appending.begin("b") for _ in range(2)] == [[], []]

    asyncio.run(append())


async def has_begun(begun: list[list[str]], tries: int) -> None:
    """Wait until so many tries were begun."""
    while len(begun) < tries:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)


def test_two_groups_are_under_way_at_a_time_and_who_comes_meanwhile_shares_the_next(appending: Appending) -> None:
    async def append() -> list[list[str]]:
        answered = asyncio.Event()

        async def answer(_: list[str]) -> None:
            await answered.wait()

        async with appending.served(answer) as begun:
            asked = [appending.begin("a")]
            await has_begun(begun, 1)
            asked.append(appending.begin("b"))
            await has_begun(begun, 2)
            asked += map(appending.begin, "cde")
            for _ in range(10):  # as many turns of the event loop as a third group would need, and more
                await asyncio.sleep(0)
            assert len(begun) == 2
            answered.set()
            await asyncio.gather(*asked)
            return begun

    assert asyncio.run(append()) == [["a"], ["b"], ["c", "d", "e"]]


def test_while_one_group_is_tried_again_no_other_is_begun(appending: Appending) -> None:
    async def append() -> list[list[str]]:
        later: list[asyncio.Task[list[WakeUp]]] = []

        async def answer(_: list[str]) -> None:
            if not later:
                later.append(appending.begin("later"))
                raise AWAY

        async with appending.served(answer) as begun:
            await appending.begin("first")
            await later[0]
            return begun

    assert asyncio.run(append()) == [["first"], ["first"], ["later"]]


@pytest.mark.parametrize("error", [REFUSED, ZeroDivisionError()])
def test_after_a_group_that_was_given_up_the_next_one_is_begun(appending: Appending, error: Exception) -> None:
    async def append() -> None:
        async def answer(group: list[str]) -> None:
            if group == ["first"]:
                raise error

        async with appending.served(answer):
            with pytest.raises(type(error)):
                await appending.begin("first", within_ms=0)
            assert await appending.begin("later") == []

    asyncio.run(append())


def test_a_request_that_hears_nothing_is_answered_as_soon_as_nothing_of_it_can_land(appending: Appending) -> None:
    async def append() -> int:
        async def answer(_: list[str]) -> None:
            await asyncio.Event().wait()

        async with appending.served(answer):
            not_after_ms = appending.server.now_ms() + 300
            with pytest.raises(TimeoutError):
                await appending.appender.append(_batch(not_after_ms))
            return appending.server.now_ms() - not_after_ms

    assert 0 < asyncio.run(append()) < 2000


def test_all_who_wait_share_one_timer(appending: Appending) -> None:
    async def append() -> list[int]:
        loop, pending, most = asyncio.get_running_loop(), 0, []
        call_later, look = loop.call_later, appending.appender._answer_late

        def counted(delay: float, callback: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
            nonlocal pending
            if callback == appending.appender._answer_late:
                pending += 1
                most.append(pending)
            return call_later(delay, callback, *arguments)

        def looked() -> None:
            nonlocal pending
            pending -= 1
            look()

        loop.call_later = counted  # type: ignore[method-assign, assignment]
        appending.appender._answer_late = looked  # type: ignore[method-assign]
        for _ in range(2):  # when nobody waits any more it ends, and with the next request it begins anew
            asked = [appending.begin(str(number), within_ms=number * 50) for number in range(5)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(answer) for answer in answers] == [TimeoutError] * 5
        return [pending, *set(most)]

    assert asyncio.run(append()) == [0, 1]


def test_nobody_waits_for_ever_for_a_clock_that_was_set_back(
    appending: Appending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "_MOST_MS", 500)
    now_ms = appending.server.now_ms

    async def append() -> None:
        asked = appending.begin("b", within_ms=100)
        await asyncio.sleep(0)
        monkeypatch.setattr(appending.server, "now_ms", lambda: now_ms() - 3_600_000)
        async with asyncio.timeout(10):
            with pytest.raises(TimeoutError, match="no answer in time"):
                await asked

    asyncio.run(append())
