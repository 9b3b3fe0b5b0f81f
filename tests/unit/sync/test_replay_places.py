"""Where a replay puts what, and what it leaves alone: nothing is alive twice, or elsewhere than it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec
import pytest
import redis
from replay_builders import altered_parser, apply, die, isolated, publish, reject
from servers import wait_until
from structlog.testing import capture_logs
from sync_builders import Installation

from worker.log import keyspace
from worker.log.append import Appends
from worker.log.batch import Batch
from worker.log.batch import Target as AppendTarget
from worker.log.dead import DeadLetter
from worker.log.late import insert_entry
from worker.log.position import ms_of, order
from worker.log.rejected import read_rejected
from worker.model import Cohort, Payload, SegmentId
from worker.records.environment_options import EnvironmentOptions
from worker.sync import replay as replay_module
from worker.sync.batches import Batches, BatchFilter, KeptBatch
from worker.sync.compact import compact
from worker.sync.isolation import IsolatedParser
from worker.sync.planned import Replay
from worker.sync.replay import Replayed, Replayer
from worker.sync.replay_plan import AFTER_A_MS, Planner, foreign_position, group_batches

__all__ = ["isolated"]  # a fixture


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    installed = Installation(redis_client, retention_seconds=0, dead_retention_seconds=0, rejected_retention_seconds=0)
    publish(installed, installed.manifest.parser)
    return installed


class Reading(IsolatedParser):
    """Reads every body as the same cohorts."""

    def __init__(self, installation: Installation, *cohort_ids: str, add: str = "ann") -> None:
        super().__init__()
        cohorts = [Cohort(cohort_id, members={add: True}) for cohort_id in cohort_ids]
        self._payload = Payload(installation.environment_id, "user", cohorts)

    def parse(self, *_: object, **_options: object) -> Payload:
        return self._payload


def batches(installation: Installation) -> list[KeptBatch]:
    return list(Batches(installation.wiring).newest_first(BatchFilter()))


def plan(installation: Installation, parser: IsolatedParser) -> Replay:
    [planned] = Planner(installation.wiring, parser).plan(group_batches(batches(installation)), with_effects=False)
    return planned


def carry_out(installation: Installation, planned: Replay) -> Replayed:
    return Replayer(installation.wiring, "a test").replay(planned)


def accept_shared(installation: Installation, *cohort_ids: str, batch_id: str = "shared") -> None:
    """One payload, about ann, for several segments."""
    keys = installation.wiring.segment_keys.allot(installation.environment_id, "rudderstack", cohort_ids)
    batch = Batch(
        batch_id=batch_id,
        environment_id=installation.environment_id,
        context_kind="user",
        integration_key="rudderstack",
        parser_digest=installation.manifest.parser.digest,
        body=installation.body(),
        targets=[
            AppendTarget(key, Cohort(cohort_id, members={"ann": True}))
            for key, cohort_id in zip(keys, cohort_ids, strict=True)
        ],
        store_ids=[installation.store_id],
        not_after_ms=10**15,
    )
    [due] = Appends(installation.client).append([batch])
    assert not isinstance(due, Exception)


def bury(installation: Installation, cohort_id: str, batch_id: str) -> str:
    """The last batch of that cohort's log is dead; returns its position."""
    segment = installation.segment(cohort_id)
    place = last(installation, cohort_id)
    letter = DeadLetter("dead", "crashed", "", batch_id=batch_id, integration_key="rudderstack")
    installation.client.hset(f"{keyspace.prefix(segment)}:dead", place, letter.encode())
    installation.wiring.dead_letters.index(segment, place, batch_id)
    return place


def last(installation: Installation, cohort_id: str = "beta") -> str:
    found = installation.client.hget(f"{keyspace.prefix(installation.segment(cohort_id))}:head", "last")
    assert isinstance(found, bytes)
    return found.decode()


def beside(installation: Installation, cohort_id: str = "beta") -> dict[str, str]:
    """What lies beside a log: position -> batch id."""
    prefix = keyspace.prefix(installation.segment(cohort_id))
    found = cast("list[bytes]", installation.client.zrange(f"{prefix}:late", 0, -1))
    places = sorted((place.decode() for place in found), key=order)
    return {place: cast("bytes", installation.client.hget(f"{prefix}:late:{place}", "b")).decode() for place in places}


def let_a_millisecond_pass(installation: Installation) -> None:
    now = installation.wiring.upkeep.server_ms()
    wait_until(lambda: installation.wiring.upkeep.server_ms() > now, message="the clock to move")


def delete_segment(installation: Installation, cohort_id: str = "beta") -> None:
    """Its next batch begins another generation."""
    base = keyspace.base(installation.environment_id, f"rudderstack-{cohort_id}")
    installation.client.hdel(f"{base}:segment", "context_kind", "integration_key", "cohort_id", "created_ms")


def test_what_cannot_be_parsed_today_is_left_as_it_is(installation: Installation, isolated: IsolatedParser) -> None:
    reject(installation, b"{}")
    done = carry_out(installation, plan(installation, isolated))
    assert done.problem is not None
    assert [batch.status for batch in batches(installation)] == ["rejected"]


def test_a_batch_of_an_environment_that_nobody_knows_is_left(
    installation: Installation, isolated: IsolatedParser
) -> None:
    body = installation.body(add=("ann",)).replace(installation.environment_id.encode(), b"elsewhere")
    reject(installation, body)
    planned = plan(installation, isolated)
    assert (planned.reason, planned.targets) == ("environment", [])


@pytest.mark.parametrize("prepare", ["dead", "rejected"])
def test_a_batch_of_another_kind_than_its_segment_is_left(
    installation: Installation, isolated: IsolatedParser, prepare: str
) -> None:
    if prepare == "dead":
        die(installation, add=("ann",))
    else:
        installation.accept()
        apply(installation)
        reject(installation, installation.body(add=("ann",)))
    publish(installation, altered_parser(installation, "/contextKind", "/cohortName"))
    planned = plan(installation, isolated)
    assert planned.targets[0].skipped is not None
    done = carry_out(installation, planned)
    assert (done.inserted, list(done.skipped)) == ([], ["rudderstack-beta"])
    assert [batch.status for batch in batches(installation)] == [prepare]
    assert beside(installation) == {}


def test_a_batch_that_was_refused_before_a_generation_began_stays_out_of_it(
    installation: Installation, isolated: IsolatedParser
) -> None:
    installation.accept()
    reject(installation, installation.body(add=("ann",)))
    let_a_millisecond_pass(installation)
    delete_segment(installation)
    installation.accept(add=("bob",))
    [target] = plan(installation, isolated).targets
    assert target.skipped == "it was accepted before generation 2 of the segment was created"


def test_a_batch_from_before_anything_that_is_remembered_is_left(
    installation: Installation, isolated: IsolatedParser
) -> None:
    reject(installation, installation.body(add=("ann",)))
    let_a_millisecond_pass(installation)
    installation.accept(add=("bob",))
    let_a_millisecond_pass(installation)
    apply(installation)
    planned = plan(installation, isolated)
    assert planned.targets[0].skipped is None
    assert compact(installation.wiring, installation.segment(), force=True).outcome == "folded"
    assert list(carry_out(installation, planned).skipped) == ["rudderstack-beta"], "compacted since it was planned"
    assert plan(installation, isolated).targets[0].skipped is not None
    assert [batch.status for batch in batches(installation)] == ["rejected"]


def test_a_segment_that_is_deleted_after_the_plan_takes_nothing(
    installation: Installation, isolated: IsolatedParser
) -> None:
    die(installation, add=("ann",))
    planned = plan(installation, isolated)
    delete_segment(installation)
    done = carry_out(installation, planned)
    assert (done.inserted, list(done.skipped)) == ([], ["rudderstack-beta"])
    assert [batch.status for batch in batches(installation)] == ["dead"]


def test_a_segment_that_became_one_of_another_kind_after_the_plan_takes_nothing(
    installation: Installation, isolated: IsolatedParser
) -> None:
    reject(installation, installation.body(add=("ann",)))
    planned = plan(installation, isolated)
    installation.accept()
    base = keyspace.base(installation.environment_id, "rudderstack-beta")
    installation.client.hset(f"{base}:segment", "context_kind", "device")
    done = carry_out(installation, planned)
    assert (done.inserted, list(done.skipped)) == ([], ["rudderstack-beta"])
    assert [batch.status for batch in batches(installation)] == ["rejected"]
    assert beside(installation) == {}


def test_a_place_that_another_batch_has_is_left_to_it(installation: Installation, isolated: IsolatedParser) -> None:
    installation.accept(add=("cyd",))
    place = reject(installation, installation.body(add=("ann",)))
    told = insert_entry(
        installation.client,
        installation.segment(),
        place,
        batch_id="another",
        fields=["m", "digest"],
        store_ids=[installation.store_id],
        of_dead=False,
    )
    assert isinstance(told, list)
    done = carry_out(installation, plan(installation, isolated))
    ms, number = order(place)
    assert beside(installation) == {place: "another", f"{ms}-{number + 1}": "refused-1"}
    assert done.upto == {installation.segment(): f"{ms}-{number + 1}"}


def test_a_rejected_body_lies_exactly_where_it_was_refused(
    installation: Installation, isolated: IsolatedParser
) -> None:
    installation.accept(add=("cyd",))
    place = reject(installation, installation.body(add=("ann",)))
    carry_out(installation, plan(installation, isolated))
    assert beside(installation) == {place: "refused-1"}


def test_a_batch_that_is_moved_lies_at_its_accept_time_and_after_all_others_of_it(
    installation: Installation, isolated: IsolatedParser
) -> None:
    die(installation, add=("ann",))
    accepted = last(installation)
    publish(installation, altered_parser(installation, "/cohortId", "/cohortName"))
    let_a_millisecond_pass(installation)
    carry_out(installation, plan(installation, isolated))
    [place] = beside(installation, "Beta")
    assert order(place)[0] == ms_of(accepted)
    assert order(place)[1] >= AFTER_A_MS


def test_a_batch_that_died_in_several_segments_is_moved_to_where_it_was_first(installation: Installation) -> None:
    for cohort_id in ("gamma", "beta"):
        installation.accept(cohort_id, add=("ann",))
        let_a_millisecond_pass(installation)
    first, second = bury(installation, "gamma", "several"), bury(installation, "beta", "several")
    assert order(first) < order(second)
    planned = plan(installation, Reading(installation, "delta"))
    assert planned.position == first
    assert [target.position for target in planned.targets] == [foreign_position("several", first)]
    carry_out(installation, planned)
    assert {batch.status for batch in batches(installation)} == {"moved"}


def test_where_a_batch_lives_it_is_not_inserted_again(installation: Installation) -> None:
    accept_shared(installation, "beta", "gamma")
    place = bury(installation, "beta", "shared")
    planned = plan(installation, Reading(installation, "beta", "gamma"))
    assert [target.segment for target in planned.targets] == [installation.segment("beta")]
    assert planned.already_live == [installation.segment("gamma")]
    assert carry_out(installation, planned).inserted == [installation.segment("beta")]
    assert (beside(installation, "beta"), beside(installation, "gamma")) == ({place: "shared"}, {})


def test_where_a_replay_has_put_a_batch_it_is_not_put_again(installation: Installation) -> None:
    accept_shared(installation, "beta")
    bury(installation, "beta", "shared")
    installation.accept("gamma")
    reading = Reading(installation, "beta", "gamma")
    planned = plan(installation, reading)
    planned.targets = [target for target in planned.targets if not target.of_dead]
    assert carry_out(installation, planned).inserted == [installation.segment("gamma")]  # and is cut short
    again = plan(installation, reading)
    assert [target.segment for target in again.targets] == [installation.segment("beta")]
    assert again.already_live == [installation.segment("gamma")]


def test_what_is_dead_comes_to_life_last_for_by_that_the_batch_is_found_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_shared(installation, "beta")
    bury(installation, "beta", "shared")
    inserted: list[bool] = []

    def insert(
        client: redis.Redis,
        segment: SegmentId,
        position: str,
        *,
        batch_id: str,
        fields: Sequence[str | bytes],
        store_ids: Sequence[str],
        of_dead: bool,
    ) -> object:
        inserted.append(of_dead)
        return insert_entry(
            client, segment, position, batch_id=batch_id, fields=fields, store_ids=store_ids, of_dead=of_dead
        )

    monkeypatch.setattr(replay_module, "insert_entry", insert)
    carry_out(installation, plan(installation, Reading(installation, "beta", "gamma", "delta")))
    assert inserted == [False, False, True]


def test_what_is_replayed_is_found_by_the_sweeper(installation: Installation, isolated: IsolatedParser) -> None:
    die(installation, add=("ann",))
    installation.client.delete(keyspace.AHEAD)
    carry_out(installation, plan(installation, isolated))
    assert list(installation.wiring.upkeep.ahead()) == [installation.segment()]


def test_members_that_the_policy_skips_by_now_are_left_out(
    installation: Installation, isolated: IsolatedParser
) -> None:
    body = msgspec.json.decode(installation.body(add=("ann",)))
    body["listData"]["add"].append({"name": "has no id"})
    reject(installation, msgspec.json.encode(body))
    assert plan(installation, isolated).problem is not None
    EnvironmentOptions(installation.client).set_policy(installation.environment_id, "rudderstack", "skip")
    installation.wiring.directory.fresh(0)
    planned = plan(installation, isolated)
    assert (planned.problem, planned.rejected.count) == (None, 1)
    with capture_logs() as logs:
        carry_out(installation, planned)
    [line] = [line for line in logs if line["event"] == "batch.members_rejected"]
    assert (line["members"], line["first"]["pointer"]) == (1, "/listData/add/1/id")
    [left_out] = read_rejected(installation.client, [installation.segment()], 10)
    assert (left_out.batch_id, left_out.rejected.count) == (planned.batch_id, 1)
    apply(installation)
    assert installation.members("ann") == {"ann"}
