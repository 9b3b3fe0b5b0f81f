"""When a request whose append failed is answered: never while bytes of it may still land."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
import redis

from worker.errors import InvalidBatch, Unavailable
from worker.log.append import Batch, Outcome, Target
from worker.model import Cohort
from worker.receiver.appender import Appender
from worker.receiver.state_server import StateServer
from worker.settings import Settings
from worker.wiring import Wiring

AWAY = Unavailable("no answer", dependency="state", fate_unknown=True)
REFUSED = Unavailable("full", dependency="state")
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


def _batch(not_after_ms: int) -> Batch:
    return Batch("b", "env", "user", "rudderstack", "d", b"{}", [Target("k", Cohort("c"))], [], not_after_ms)


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


def test_an_append_that_nobody_waits_for_any_more_is_not_begun(fake_redis: redis.Redis) -> None:
    appending = Appending(fake_redis)

    async def give_up() -> None:
        waiting = asyncio.create_task(appending.appender.append(_batch(10**15)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        running = asyncio.create_task(appending.appender.run())
        await asyncio.sleep(0.05)
        running.cancel()

    asyncio.run(give_up())
    assert fake_redis.keys("*:log") == []
