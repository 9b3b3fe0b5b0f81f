"""How LaunchDarkly's rate-limit headers are obeyed, by clocks that stand still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from email.utils import formatdate

import pytest

from worker import processes
from worker.stores.launchdarkly.rate import LONGEST_HOLD_S, STEP_S, RateLimit, Throttled

NOW_S = 1_750_000_000.0
ROUTE = "POST contexts"


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return NOW_S + self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> RateLimit:
    return RateLimit(clock=clock, wall=clock.wall, sleep=clock.sleep)


def told(
    *, remaining: int, resets_in_s: float, limit: str = "Route", now_s: float = NOW_S, dated: bool = False
) -> dict[str, str]:
    name = "X-Ratelimit-Auth-Token-Reset" if limit == "Auth-Token" else "X-Ratelimit-Reset"
    headers = {f"X-Ratelimit-{limit}-Remaining": str(remaining), name: str(int((now_s + resets_in_s) * 1000))}
    if dated:
        headers["Date"] = formatdate(now_s, usegmt=True)
    return {name.lower(): value for name, value in headers.items()}


def waited(limit: RateLimit, clock: Clock, *, route: str = ROUTE, patience_s: float = 20.0) -> float:
    """How long the next request of a route has to wait."""
    began = clock.now
    with limit.turn(route, limit.deadline(patience_s)):
        return clock.now - began


def test_without_headers_there_is_no_limit(limit: RateLimit, clock: Clock) -> None:
    limit.learn(ROUTE, 200, {})
    assert waited(limit, clock) == 0


@pytest.mark.parametrize("which", ["Route", "Global", "Auth-Token"])
def test_a_limit_that_is_used_up_is_waited_for_until_it_begins_anew(limit: RateLimit, clock: Clock, which: str) -> None:
    limit.learn(ROUTE, 204, told(remaining=0, resets_in_s=7, limit=which))
    assert waited(limit, clock) == pytest.approx(7)
    assert waited(limit, clock) == 0


def test_what_is_left_may_be_used(limit: RateLimit, clock: Clock) -> None:
    limit.learn(ROUTE, 204, told(remaining=2, resets_in_s=7))
    assert [waited(limit, clock) for _ in range(3)] == [0, 0, pytest.approx(7)]


def test_a_routes_limit_holds_up_that_route_alone(limit: RateLimit, clock: Clock) -> None:
    limit.learn(ROUTE, 204, told(remaining=0, resets_in_s=7))
    assert waited(limit, clock, route="GET segment") == 0


@pytest.mark.parametrize("which", ["Global", "Auth-Token"])
def test_the_accounts_and_the_tokens_limits_hold_up_every_route(limit: RateLimit, clock: Clock, which: str) -> None:
    limit.learn(ROUTE, 204, told(remaining=0, resets_in_s=7, limit=which))
    assert waited(limit, clock, route="GET segment") == pytest.approx(7)


def test_the_time_is_told_by_launchdarklys_clock_and_not_by_ours(limit: RateLimit, clock: Clock) -> None:
    limit.learn(ROUTE, 204, told(remaining=0, resets_in_s=7, now_s=NOW_S + 3_600, dated=True))
    assert waited(limit, clock) == pytest.approx(7)


def test_a_request_in_flight_is_counted_as_used_up(limit: RateLimit, clock: Clock) -> None:
    limit.learn(ROUTE, 204, told(remaining=1, resets_in_s=7))
    with limit.turn(ROUTE, limit.deadline(0)), pytest.raises(Throttled), limit.turn(ROUTE, limit.deadline(0)):
        pass


def test_answers_of_a_new_window_leave_room_for_those_in_flight(limit: RateLimit, clock: Clock) -> None:
    with ExitStack() as flights:
        turns = [flights.enter_context(limit.turn(ROUTE, limit.deadline(0))) for _ in range(3)]
        turns[0].answered(204, told(remaining=3, resets_in_s=7))
        # Of the three that are left, two may be those still in flight.
        assert waited(limit, clock, patience_s=0) == 0
        with pytest.raises(Throttled):
            waited(limit, clock, patience_s=0)


def test_those_that_are_answered_are_in_flight_no_more(limit: RateLimit, clock: Clock) -> None:
    for _ in range(3):
        assert waited(limit, clock) == 0
    limit.learn(ROUTE, 204, told(remaining=2, resets_in_s=7))
    assert [waited(limit, clock) for _ in range(3)] == [0, 0, pytest.approx(7)]


@pytest.mark.parametrize("order", [(0.0, 0.9), (0.9, 0.0)])
def test_of_several_answers_the_one_that_ends_a_window_first_is_nearest_the_truth(
    limit: RateLimit, clock: Clock, order: tuple[float, float]
) -> None:
    for late_s in order:  # the seconds of a date are whole ones, rounded down
        headers = told(remaining=0, resets_in_s=7)
        limit.learn(ROUTE, 204, headers | {"date": formatdate(NOW_S - round(late_s), usegmt=True)})
    assert waited(limit, clock) == pytest.approx(7)


def test_answers_in_any_order_never_give_back_what_is_used(limit: RateLimit, clock: Clock) -> None:
    limit.learn(ROUTE, 204, told(remaining=0, resets_in_s=7))
    limit.learn(ROUTE, 204, told(remaining=1, resets_in_s=7))
    limit.learn(ROUTE, 204, told(remaining=5, resets_in_s=-3))  # of the window before
    assert waited(limit, clock) == pytest.approx(7)


def test_a_refusal_by_address_is_waited_for_as_it_says(limit: RateLimit, clock: Clock) -> None:
    limit.learn(ROUTE, 429, {"retry-after": "9"})
    assert waited(limit, clock, route="GET segment") == pytest.approx(9)


def test_an_answer_that_was_on_its_way_does_not_end_it(limit: RateLimit, clock: Clock) -> None:
    limit.learn(ROUTE, 429, {"retry-after": "9"})
    limit.learn(ROUTE, 204, told(remaining=5, resets_in_s=10, limit="Global"))
    assert waited(limit, clock) == pytest.approx(9)


@pytest.mark.parametrize(
    "headers",
    [{}, {"retry-after": "soon"}, told(remaining=0, resets_in_s=-60), told(remaining=3, resets_in_s=5)],
)
def test_after_a_refusal_that_names_no_time_to_come_there_is_a_pause(
    limit: RateLimit, clock: Clock, headers: dict[str, str]
) -> None:
    limit.learn(ROUTE, 429, headers)
    assert waited(limit, clock) > 0


def test_a_time_that_lies_far_away_is_a_clocks_error_and_not_waited_for(limit: RateLimit, clock: Clock) -> None:
    limit.learn(ROUTE, 204, told(remaining=0, resets_in_s=86_400))
    with pytest.raises(Throttled):
        waited(limit, clock)
    assert clock.now == 0, "who cannot wait long enough does not wait at all"
    assert waited(limit, clock, patience_s=LONGEST_HOLD_S) == pytest.approx(LONGEST_HOLD_S)


def test_who_waits_under_a_lease_renews_it_each_second(limit: RateLimit, clock: Clock) -> None:
    limit.learn(ROUTE, 204, told(remaining=0, resets_in_s=7))
    renewed: list[float] = []
    with limit.turn(ROUTE, limit.deadline(20), lambda: renewed.append(clock.now)):
        pass
    assert renewed[0] == 0
    assert all(later - earlier <= STEP_S for earlier, later in zip(renewed, [*renewed[1:], clock.now], strict=True))


def test_what_a_renewal_raises_ends_the_wait_and_nothing_is_sent(limit: RateLimit, clock: Clock) -> None:
    limit.learn(ROUTE, 204, told(remaining=0, resets_in_s=7))

    def lose() -> None:
        raise KeyError

    with pytest.raises(KeyError), limit.turn(ROUTE, limit.deadline(20), lose):
        pytest.fail("it may not be sent")


def test_a_process_that_is_told_to_stop_does_not_wait(limit: RateLimit, told_to_stop: None) -> None:
    limit.learn(ROUTE, 204, told(remaining=0, resets_in_s=7))
    with pytest.raises(Throttled), limit.turn(ROUTE, limit.deadline(20)):
        pass


@pytest.fixture
def told_to_stop() -> Iterator[None]:
    processes.request_stop()
    yield
    processes._stop[0] = 0
