"""Replay: what died or was rejected comes back at its own place; what was decided later stays decided."""

from __future__ import annotations

import pytest
import redis
from replay_builders import altered_parser, apply, die, isolated, publish, reject
from sync_builders import Installation

from worker.log import keyspace
from worker.log.dead_letters import INDEX, REPLAYED
from worker.log.parsers import publish_parsers
from worker.sync.batches import Batches, BatchFilter
from worker.sync.expire import expire_dead
from worker.sync.isolation import IsolatedParser
from worker.sync.planned import Replay
from worker.sync.replay import Replayer
from worker.sync.replay_plan import Planner, group_batches

__all__ = ["isolated"]  # a fixture


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    installed = Installation(redis_client)
    publish(installed, installed.manifest.parser)
    return installed


def plan(installation: Installation, isolated: IsolatedParser, wanted: BatchFilter | None = None) -> list[Replay]:
    found = Batches(installation.wiring).newest_first(wanted or BatchFilter())
    return Planner(installation.wiring, isolated).plan(group_batches(found))


def replay(installation: Installation, isolated: IsolatedParser) -> list[list[str]]:
    replayer = Replayer(installation.wiring, "a test")
    done = [replayer.replay(planned) for planned in plan(installation, isolated)]
    apply(installation)
    return [[segment.segment_key for segment in each.inserted] for each in done]


def test_a_dead_batch_is_listed_with_what_is_known_of_it(installation: Installation) -> None:
    die(installation, add=("ann",))
    [batch] = Batches(installation.wiring).newest_first(BatchFilter())
    assert (batch.status, batch.reason, batch.pointer, batch.attempts) == ("dead", "cohort", "/nowhere", 1)
    assert batch.segment == installation.segment()
    assert batch.integration_key == "rudderstack"


def test_ann_who_left_stays_out_when_the_batch_that_added_her_is_replayed(
    installation: Installation, isolated: IsolatedParser
) -> None:
    die(installation, add=("ann", "bob"))
    installation.accept(remove=("ann",))
    apply(installation)
    [planned] = plan(installation, isolated)
    [target] = planned.targets
    assert (target.added, target.removed, target.decided_later) == (1, 0, 1)
    assert replay(installation, isolated) == [["rudderstack-beta"]]
    assert installation.members("ann", "bob") == {"bob"}


def test_a_rejected_body_is_replayed_at_the_place_where_it_was_refused(
    installation: Installation, isolated: IsolatedParser
) -> None:
    installation.accept(add=("cyd",))
    reject(installation, installation.body(add=("ann", "bob"), remove=("cyd",)))
    later = installation.wiring.upkeep.server_ms()
    while installation.wiring.upkeep.server_ms() == later:
        pass  # an entry of the same millisecond comes before it
    installation.accept(remove=("ann",))
    apply(installation)
    replay(installation, isolated)
    assert installation.members("ann", "bob", "cyd") == {"bob"}
    [batch] = Batches(installation.wiring).newest_first(BatchFilter())
    assert (batch.status, batch.decided_by) == ("replayed", "a test")


def test_replaying_twice_changes_nothing_the_second_time(installation: Installation, isolated: IsolatedParser) -> None:
    reject(installation, installation.body(add=("ann",)))
    planned = plan(installation, isolated)
    replayer = Replayer(installation.wiring, "a test")
    assert [len(replayer.replay(each).inserted) for each in planned] == [1]
    apply(installation)
    epoch = installation.client.hget(cursor_key(installation), "epoch")
    assert [len(replayer.replay(each).inserted) for each in planned] == [0]
    assert installation.client.hget(cursor_key(installation), "epoch") == epoch
    assert plan(installation, isolated) == []


def test_a_dead_batch_that_was_replayed_is_listed_as_such_with_who_did_it_and_is_not_replayed_again(
    installation: Installation, isolated: IsolatedParser
) -> None:
    die(installation, add=("ann",))
    assert replay(installation, isolated) == [["rudderstack-beta"]]
    batches = Batches(installation.wiring)
    [batch] = batches.newest_first(BatchFilter(statuses=frozenset(["replayed"])))
    assert (batch.status, batch.reason, batch.segment) == ("replayed", "cohort", installation.segment())
    assert (batch.decided_by, batch.decided_why) == ("a test", "replayed into rudderstack-beta")
    assert batches.find(batch.batch_id) == [batch]
    assert plan(installation, isolated) == []
    assert batches.discard([batch], by="a test", why="too late") == 0
    assert installation.members("ann") == {"ann"}


def test_a_dead_batch_that_cannot_be_replayed_after_all_is_not_listed_as_replayed(
    installation: Installation, isolated: IsolatedParser
) -> None:
    die(installation, add=("ann",))
    [planned] = plan(installation, isolated)
    key = f"segsync:{{{installation.environment_id}/rudderstack-beta}}:segment"
    installation.client.hset(key, "generation", "2")
    assert Replayer(installation.wiring, "a test").replay(planned).inserted == []
    assert [batch.status for batch in Batches(installation.wiring).newest_first(BatchFilter())] == ["dead"]
    assert not installation.client.exists(REPLAYED)


def test_what_was_replayed_is_forgotten_when_the_retention_of_dead_letters_is_over(
    installation: Installation, isolated: IsolatedParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    die(installation, add=("ann",))
    replay(installation, isolated)
    expire_dead(installation.wiring)
    assert len(list(Batches(installation.wiring).newest_first(BatchFilter()))) == 1
    over_ms = installation.wiring.upkeep.server_ms() + (installation.wiring.settings.dead_retention_seconds + 1) * 1000
    monkeypatch.setattr(installation.wiring.upkeep, "server_ms", lambda: over_ms)
    expire_dead(installation.wiring)
    assert list(Batches(installation.wiring).newest_first(BatchFilter())) == []
    assert installation.client.zcard(INDEX) == 0


def test_a_rejected_body_creates_its_segment_when_it_is_the_first_of_its_cohort(
    installation: Installation, isolated: IsolatedParser
) -> None:
    reject(installation, installation.body("gamma", add=("ann",)))
    [planned] = plan(installation, isolated)
    assert planned.targets[0].segment.generation == 0
    assert replay(installation, isolated) == [["rudderstack-gamma"]]
    apply(installation, "gamma")
    assert installation.members("ann", cohort_id="gamma") == {"ann"}


def test_a_batch_whose_manifest_names_another_cohort_now_is_moved_there(
    installation: Installation, isolated: IsolatedParser
) -> None:
    die(installation, add=("ann",))
    publish(installation, altered_parser(installation, "/cohortId", "/cohortName"))
    [planned] = plan(installation, isolated)
    assert [(target.segment.segment_key, target.moved) for target in planned.targets] == [("rudderstack-Beta", True)]
    assert replay(installation, isolated) == [["rudderstack-Beta"]]
    apply(installation, "Beta")
    assert installation.members("ann", cohort_id="Beta") == {"ann"}
    assert installation.members("ann") == set()
    [batch] = Batches(installation.wiring).newest_first(BatchFilter())
    assert (batch.status, batch.segment) == ("moved", installation.segment())


def test_what_cannot_be_parsed_today_either_is_left_dead_and_said_why(
    installation: Installation, isolated: IsolatedParser
) -> None:
    die(installation, add=("ann",))
    publish(installation, altered_parser(installation, "/cohortId", "/nowhere"))
    [planned] = plan(installation, isolated)
    assert (planned.reason, planned.pointer) == ("cohort", "/nowhere")
    assert replay(installation, isolated) == [[]]
    [batch] = Batches(installation.wiring).newest_first(BatchFilter())
    assert batch.status == "dead"


def test_without_a_usable_manifest_nothing_is_replayed(installation: Installation, isolated: IsolatedParser) -> None:
    die(installation, add=("ann",))
    publish_parsers(installation.client, {"rudderstack": None})
    [planned] = plan(installation, isolated)
    assert planned.reason == "manifest"


def test_a_discarded_batch_stays_out_for_good_and_says_who_wanted_it(
    installation: Installation, isolated: IsolatedParser
) -> None:
    die(installation, add=("ann",))
    reject(installation, installation.body(add=("bob",)))
    batches = Batches(installation.wiring)
    found = list(batches.newest_first(BatchFilter()))
    assert batches.discard(found, by="ops", why="a test") == 2
    assert batches.discard(found, by="others", why="again") == 0
    assert replay(installation, isolated) == []
    assert installation.members("ann", "bob") == set()
    assert {(each.status, each.decided_by) for each in batches.newest_first(BatchFilter())} == {("discarded", "ops")}


def test_a_batch_of_a_deleted_generation_is_skipped(installation: Installation, isolated: IsolatedParser) -> None:
    die(installation, add=("ann",))
    installation.client.hincrby(f"segsync:{{{installation.environment_id}/rudderstack-beta}}:segment", "generation", 1)
    [planned] = plan(installation, isolated)
    assert planned.targets[0].skipped == "generation 1 of the segment is deleted"


def test_batches_of_one_member_are_previewed_as_if_those_before_were_replayed(
    installation: Installation, isolated: IsolatedParser
) -> None:
    die(installation, add=("ann",))
    die(installation, remove=("ann",))
    first, second = plan(installation, isolated)
    assert [(each.targets[0].added, each.targets[0].removed) for each in (first, second)] == [(1, 0), (0, 1)]


def test_pages_follow_one_another_without_a_gap_or_a_repetition(installation: Installation) -> None:
    for number in range(7):
        reject(installation, installation.body(add=(f"m{number}",)), f"refused-{number}")
        die(installation, add=(f"n{number}",))
    batches, seen, before = Batches(installation.wiring), [], None
    while True:
        page, before = batches.page(BatchFilter(), before, 3)
        seen += [batch.batch_id for batch in page]
        if before is None:
            break
    assert len(seen) == len(set(seen)) == 14
    assert seen == [batch.batch_id for batch in batches.newest_first(BatchFilter())]


def cursor_key(installation: Installation) -> str:
    return f"{keyspace.prefix(installation.segment())}:cursor:{installation.store_id}"
