"""The whole machine before LaunchDarkly's stand-in: payloads into logs, drains over HTTP, members in segments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from launchdarkly_server import LaunchDarklyServer
from replay_builders import die, isolated, publish
from servers import wait_until
from sync_builders import Installation

from worker.log.late import void_cursor
from worker.log.segments import read_segments
from worker.log.upkeep import StoreStatus
from worker.model import StoreRecord
from worker.stores.launchdarkly import LaunchDarklyStore
from worker.stores.layout import context_hash
from worker.sync.batches import Batches, BatchFilter
from worker.sync.drain import drain
from worker.sync.freshness import Heartbeat
from worker.sync.isolation import IsolatedParser
from worker.sync.replay import Replayer
from worker.sync.replay_plan import Planner, group_batches

__all__ = ["isolated"]  # a fixture

SENTINEL = "segsync-sentinel"


class OnLaunchDarkly(Installation):
    """An installation whose stores are one environment of the stand-in."""

    def __init__(self, client: redis.Redis, server: LaunchDarklyServer, **options: Any) -> None:
        self.server = server
        self._options = options
        self.stores: dict[str, LaunchDarklyStore] = {}
        super().__init__(client)

    def _open(self, record: StoreRecord) -> LaunchDarklyStore:  # type: ignore[override]
        if record.store_id not in self.stores:
            configuration = self.server.configuration()
            self.stores[record.store_id] = LaunchDarklyStore(configuration, answer_timeout_s=10, **self._options)
        return self.stores[record.store_id]

    @property
    def launchdarkly(self) -> LaunchDarklyStore:
        found = self.wiring.stores.get(self.store_id)
        assert isinstance(found, LaunchDarklyStore)
        return found

    def included(self, cohort_id: str = "beta") -> set[str]:
        return self.server.members(self.segment(cohort_id).segment_key)

    def apply(self, cohort_id: str = "beta") -> str:
        return drain(self.wiring, self.segment(cohort_id), self.store_id, budget_seconds=60).outcome

    def rested(self) -> None:
        """Let the time pass for which a store that was away is left alone."""
        self.wiring.circuits.reset(self.store_id)

    def status(self) -> StoreStatus:
        [found] = self.wiring.upkeep.statuses(self.environment_id, ["rudderstack-beta"], [self.store_id])
        return found.stores[self.store_id]

    def beat(self) -> None:
        """A heartbeat, and the end of what it has begun."""
        heartbeat = Heartbeat(self.wiring)
        heartbeat.beat()
        wait_until(lambda: all(written.done() for written in heartbeat._under_way.values()), 30, "the heartbeat")


@pytest.fixture
def server() -> Iterator[LaunchDarklyServer]:
    with LaunchDarklyServer() as server:
        yield server


@pytest.fixture
def install(real_redis: redis.Redis, server: LaunchDarklyServer) -> Iterator[Callable[..., OnLaunchDarkly]]:
    installed: list[OnLaunchDarkly] = []

    def make(**options: Any) -> OnLaunchDarkly:
        installed.append(OnLaunchDarkly(real_redis, server, **options))
        return installed[-1]

    yield make
    for each in installed:
        each.wiring.stores.close()


@pytest.fixture
def installation(install: Callable[..., OnLaunchDarkly]) -> OnLaunchDarkly:
    return install()


def test_members_follow_the_batches_in_the_order_accepted(installation: OnLaunchDarkly) -> None:
    installation.accept(add=("ann", "bob"))
    installation.accept(remove=("bob",), add=("cyd",))
    installation.accept(add=("bob",), remove=("cyd",))
    assert installation.apply() == "applied"
    assert installation.included() == {"ann", "bob"}
    assert installation.status().settled


def test_the_segment_is_named_as_the_partner_names_the_cohort(installation: OnLaunchDarkly) -> None:
    installation.accept(add=("ann",))
    installation.apply()
    assert installation.server.segments["rudderstack-beta"].name == "Beta"


def test_the_count_of_members_says_that_it_is_approximate(installation: OnLaunchDarkly) -> None:
    installation.accept(add=("ann", "bob"))
    installation.apply()
    [segment] = read_segments(installation.client, installation.environment_id, ["rudderstack-beta"])
    assert (segment.members, segment.members_exact) == (2, False)


def test_freshness_is_told_in_the_environment(installation: OnLaunchDarkly) -> None:
    installation.accept(add=("ann",))
    installation.apply()
    before = installation.wiring.upkeep.server_ms()
    installation.beat()
    told = installation.launchdarkly.synchronized_on()
    assert told is not None
    assert told >= before


def test_a_member_who_is_refused_is_noted_and_holds_nobody_up(installation: OnLaunchDarkly) -> None:
    installation.server.refuses = lambda key: key == "bad"
    installation.accept(add=("ann", "bad", "bob"))
    assert installation.apply() == "applied"
    assert installation.included() == {"ann", "bob"}
    assert installation.wiring.refused_members.has(installation.store_id, installation.segment())
    installation.accept(remove=("ann",))
    assert installation.apply() == "applied"
    assert installation.included() == {"bob"}


def test_a_segment_that_was_deleted_behind_our_back_is_noticed_and_everything_is_filled_anew(
    installation: OnLaunchDarkly,
) -> None:
    installation.accept("beta", add=("ann", "bob"))
    installation.accept("beta", remove=("bob",))
    installation.accept("gamma", add=("cyd",))
    assert (installation.apply("beta"), installation.apply("gamma")) == ("applied", "applied")
    first_life = installation.launchdarkly.sentinel()
    installation.server.delete("rudderstack-beta")
    installation.accept("beta", add=("dan",))
    assert installation.apply("beta") == "away"
    installation.rested()
    assert installation.apply("beta") == "applied"
    assert installation.included("beta") == {"ann", "dan"}
    assert installation.launchdarkly.sentinel() != first_life
    assert installation.apply("gamma") == "applied", "cursors of other segments are void, too"
    assert installation.included("gamma") == {"cyd"}


def test_an_environment_that_was_emptied_is_noticed_by_the_heartbeat(installation: OnLaunchDarkly) -> None:
    installation.accept(add=("ann",))
    installation.apply()
    installation.beat()
    for key in list(installation.server.segments):
        installation.server.delete(key)
    installation.beat()  # finds no sentinel where it has last written it
    installation.beat()  # and begins another life
    assert installation.server.segments[SENTINEL]
    assert installation.apply() == "applied"
    assert installation.included() == {"ann"}


def test_only_the_sentinel_gone_means_written_anew(installation: OnLaunchDarkly) -> None:
    installation.accept(add=("ann", "bob"))
    installation.accept(remove=("bob",))
    installation.apply()
    installation.server.delete(SENTINEL)
    assert installation.launchdarkly.sentinel() is None
    assert installation.apply() == "applied"
    assert installation.included() == {"ann"}


@pytest.mark.parametrize("applied", [True, False])
def test_a_write_of_unknown_fate_is_folded_again_and_the_outcome_is_the_same(
    installation: OnLaunchDarkly, applied: bool
) -> None:
    installation.accept(add=("ann", "bob"))
    installation.apply()
    installation.accept(remove=("bob",), add=("cyd",))
    installation.server.answer_next(503, applied=applied, matching="/contexts")
    assert installation.apply() == "away"
    assert len(installation.status().marks) == 1
    installation.rested()
    assert installation.apply() == "applied"
    assert installation.included() == {"ann", "cyd"}
    assert len(installation.status().marks) == 1, "it cannot be fenced: the sweeper settles it when nothing can land"


def test_a_cursor_that_goes_back_to_the_beginning_comes_to_the_same_members(installation: OnLaunchDarkly) -> None:
    installation.accept(add=("ann", "bob"))
    installation.accept(remove=("bob",), add=("cyd",))
    installation.apply()
    assert void_cursor(installation.client, installation.segment(), installation.store_id)
    installation.accept(add=("dan",))
    assert installation.apply() == "applied"
    assert installation.included() == {"ann", "cyd", "dan"}


def test_a_dead_batch_that_is_replayed_brings_nobody_back_who_has_left(
    installation: OnLaunchDarkly, isolated: IsolatedParser
) -> None:
    publish(installation, installation.manifest.parser)
    die(installation, add=("ann", "bob"))
    installation.accept(remove=("ann",))
    installation.apply()
    batches = Batches(installation.wiring).newest_first(BatchFilter())
    [planned] = Planner(installation.wiring, isolated).plan(group_batches(batches))
    Replayer(installation.wiring, "a test").replay(planned)
    installation.apply()
    assert installation.included() == {"bob"}


def test_two_segments_under_a_rate_limit_lose_nothing_and_keep_to_it(
    install: Callable[..., OnLaunchDarkly], server: LaunchDarklyServer
) -> None:
    installation = install(window=10)
    server.tells_date = False  # its clock is ours, and tells less than whole seconds
    people = {cohort: tuple(f"{cohort}-{number}" for number in range(120)) for cohort in ("beta", "gamma")}
    for cohort, added in people.items():
        installation.accept(cohort, add=(*added, f"{cohort}-gone"))
        installation.accept(cohort, remove=(f"{cohort}-gone",))
    server.limit(route=5, window_s=0.5)
    outcomes: dict[str, str] = {}

    def run(cohort: str) -> None:
        outcomes[cohort] = installation.apply(cohort)

    threads = [threading.Thread(target=run, args=(cohort,)) for cohort in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {"beta": "applied", "gamma": "applied"}
    assert {cohort: installation.included(cohort) for cohort in people} == {
        cohort: set(added) for cohort, added in people.items()
    }
    assert server.count("POST", "/contexts") >= 24
    assert server.most_over <= len(threads), "no more than was in flight"


def test_a_worker_that_was_throttled_by_others_loses_nothing(
    install: Callable[..., OnLaunchDarkly], server: LaunchDarklyServer
) -> None:
    installation = install(window=10)
    server.answer_next(429, matching="/contexts", times=2)
    installation.accept(add=tuple(f"p{number}" for number in range(30)))
    assert installation.apply() == "applied"
    assert len(installation.included()) == 30


def test_a_token_that_was_revoked_is_told_and_it_goes_on_with_a_new_one(installation: OnLaunchDarkly) -> None:
    installation.accept(add=("ann",))
    installation.apply()
    valid, installation.server.token = installation.server.token, "another"
    installation.accept(add=("bob",))
    assert installation.apply() == "away"
    circuit = installation.wiring.circuits.read([installation.store_id])[installation.store_id]
    assert circuit.fault == "configuration"
    assert "the access token is not known there" in circuit.reason
    assert not any(secret in circuit.reason for secret in ("bob", context_hash("bob"), valid))
    installation.server.token = valid
    installation.rested()
    assert installation.apply() == "applied"
    assert installation.included() == {"ann", "bob"}
