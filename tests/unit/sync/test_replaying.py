"""Many batches: what replaying them would do, added up, and doing it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import redis
from replay_builders import altered_parser, apply, die, isolated, publish, reject
from structlog.testing import capture_logs
from sync_builders import Installation

from worker.log.segments import read_segments
from worker.model import SegmentId
from worker.records.environment_options import EnvironmentOptions
from worker.sync import batches as batches_module
from worker.sync import preview as preview_module
from worker.sync import replaying as replaying_module
from worker.sync.batches import WAITING, Batches, BatchFilter, Group
from worker.sync.effects import Effects
from worker.sync.isolation import IsolatedParser
from worker.sync.preview import Change, Preview, portions, preview
from worker.sync.replay import Replayer
from worker.sync.replay_plan import Planner, group_batches
from worker.sync.replaying import Outcome, replay

__all__ = ["isolated"]  # a fixture


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    installed = Installation(redis_client)
    publish(installed, installed.manifest.parser)
    return installed


def previewed(installation: Installation, isolated: IsolatedParser, wanted: BatchFilter | None = None) -> Preview:
    batches = Batches(installation.wiring)
    planner = Planner(installation.wiring, isolated)
    *_, found = preview(batches, planner, batches.select(wanted or BatchFilter()))
    return found


def replayed(installation: Installation, isolated: IsolatedParser) -> Outcome:
    batches = Batches(installation.wiring)
    planner, replayer = Planner(installation.wiring, isolated), Replayer(installation.wiring, "a test")
    *_, outcome = replay(batches, planner, replayer, batches.select(BatchFilter()))
    return outcome


def test_a_preview_adds_up_what_would_become_of_each_segment(
    installation: Installation, isolated: IsolatedParser
) -> None:
    installation.accept(add=("ann", "cyd"))
    die(installation, add=("ann", "bob"), remove=("cyd",))
    die(installation, add=("dan", "eve"))
    installation.accept(remove=("eve",))
    apply(installation)
    reject(installation, installation.body("gamma", add=("fay",)))
    found = previewed(installation, isolated)
    assert (found.batches, found.replayable, found.approximate) == (3, 3, False)
    assert found.segments == {
        installation.segment(): Change(batches=2, added=2, removed=1, unchanged=1, decided_later=1),
        SegmentId(installation.environment_id, "rudderstack-gamma", 0): Change(batches=1, added=1),
    }
    assert found.total == Change(batches=3, added=3, removed=1, unchanged=1, decided_later=1)


def test_a_preview_says_which_segments_batches_leave_and_whom_it_leaves_out(
    installation: Installation, isolated: IsolatedParser
) -> None:
    for _ in range(2):
        die(installation, add=("ann",))
    body = msgspec.json.decode(installation.body(add=("bob",)))
    body["listData"]["add"].append({"name": "has no id"})
    reject(installation, msgspec.json.encode(body))
    publish(installation, altered_parser(installation, "/cohortId", "/cohortName"))
    EnvironmentOptions(installation.client).set_policy(installation.environment_id, "rudderstack", "skip")
    installation.wiring.directory.fresh(0)
    found = previewed(installation, isolated)
    assert (found.leaving, found.left_out) == ({installation.segment(): 2}, 1)
    assert found.total == Change(batches=3, moved=2, added=2, unchanged=1)


def test_a_preview_says_where_it_does_not_know_what_was_accepted_since(
    installation: Installation, isolated: IsolatedParser
) -> None:
    die(installation, add=("ann",))
    assert not previewed(installation, isolated).total.waits
    installation.accept(remove=("ann",))  # nobody has parsed it yet: it might kill who does
    found = previewed(installation, isolated)
    assert (found.total.waits, found.total.added) == (True, 1)
    apply(installation)
    found = previewed(installation, isolated)
    assert (found.total.waits, found.total.decided_later) == (False, 1)


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_however_many_are_planned_at_once_a_preview_is_the_same(
    installation: Installation, isolated: IsolatedParser, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(preview_module, "MOST_AT_ONCE", at_once)
    die(installation, add=("ann", "bob"))
    die(installation, remove=("ann",))
    die(installation, add=("ann",), remove=("bob",))
    die(installation, add=("ann",))
    found = previewed(installation, isolated)
    assert found.total == Change(batches=4, added=3, removed=2, unchanged=1)
    assert not found.approximate


def test_with_too_many_members_to_remember_a_preview_says_that_it_is_approximate(installation: Installation) -> None:
    effects = Effects(installation.wiring, most_remembered=1)
    die(installation, add=("ann", "bob"))
    with IsolatedParser() as isolated:
        found = Batches(installation.wiring).newest_first(BatchFilter())
        [planned] = Planner(installation.wiring, isolated).plan(group_batches(found), with_effects=False)
    effects.count([planned])
    assert (planned.targets[0].added, effects.approximate) == (2, True)


def test_what_cannot_be_replayed_is_counted_by_reason_with_an_example(
    installation: Installation, isolated: IsolatedParser
) -> None:
    for number in range(3):
        reject(installation, b"{}", f"empty-{number}")
    reject(installation, b"no JSON", "broken")
    die(installation, add=("ann",))
    installation.client.hincrby(f"segsync:{{{installation.environment_id}/rudderstack-beta}}:segment", "generation", 1)
    found = previewed(installation, isolated)
    assert (found.batches, found.replayable, found.segments) == (5, 0, {})
    assert {reason: each.count for reason, each in found.obstacles.items()} == {"environment": 3, "malformed": 1}
    assert found.obstacles["malformed"].batch_id == "broken"
    assert {reason: each.count for reason, each in found.skipped.items()} == {
        "generation 1 of the segment is deleted": 1
    }


def test_replaying_many_says_what_was_done_and_what_was_not(
    installation: Installation, isolated: IsolatedParser
) -> None:
    die(installation, add=("ann",))
    reject(installation, installation.body(add=("bob",)), "good")
    reject(installation, b"{}", "bad")
    outcome = replayed(installation, isolated)
    assert (outcome.done, outcome.replayed, list(outcome.problems)) == (3, 2, ["bad"])
    assert list(outcome.upto) == [installation.segment()]
    assert [wake_up.segment for wake_up in outcome.wake_ups] == [installation.segment()]
    apply(installation)
    assert installation.members("ann", "bob") == {"ann", "bob"}
    assert [batch.batch_id for batch in Batches(installation.wiring).newest_first(BatchFilter(WAITING))] == ["bad"]


def test_a_segment_that_a_replay_creates_has_the_cohorts_name_and_one_that_is_there_keeps_its_own(
    installation: Installation, isolated: IsolatedParser
) -> None:
    installation.accept()
    renamed = installation.body(add=("ann",)).replace(b'"Beta"', b'"Former name"')
    reject(installation, renamed, "refused-1")
    reject(installation, installation.body("gamma", add=("ann",)), "refused-2")
    replayed(installation, isolated)
    keys = ["rudderstack-beta", "rudderstack-gamma"]
    segments = read_segments(installation.client, installation.environment_id, keys)
    assert [segment.name for segment in segments] == ["Beta", "Gamma"]


def test_a_batch_of_a_deleted_generation_is_a_problem_and_not_a_success(
    installation: Installation, isolated: IsolatedParser
) -> None:
    die(installation, add=("ann",))
    installation.client.hincrby(f"segsync:{{{installation.environment_id}/rudderstack-beta}}:segment", "generation", 1)
    outcome = replayed(installation, isolated)
    assert outcome.replayed == 0
    assert list(outcome.problems.values()) == ["rudderstack-beta: generation 1 of the segment is deleted"]


def test_what_somebody_else_decides_meanwhile_is_left_alone(
    installation: Installation, isolated: IsolatedParser
) -> None:
    for number in range(2):
        reject(installation, installation.body(add=(f"person-{number}",)), f"refused-{number}")
    batches = Batches(installation.wiring)
    groups = batches.select(BatchFilter())
    batches.discard(batches.find("refused-0"), by="somebody", why="")
    planner, replayer = Planner(installation.wiring, isolated), Replayer(installation.wiring, "a test")
    *_, outcome = replay(batches, planner, replayer, groups)
    assert (outcome.done, outcome.replayed) == (2, 1)
    apply(installation)
    assert installation.members("person-0", "person-1") == {"person-1"}


def test_a_manifest_that_breaks_while_batches_are_replayed_ends_in_problems_and_not_in_wrong_members(
    installation: Installation, isolated: IsolatedParser
) -> None:
    for number in range(3):
        reject(installation, installation.body(add=(f"person-{number}",)), f"refused-{number}")
    batches = Batches(installation.wiring)
    planner, replayer = Planner(installation.wiring, isolated), Replayer(installation.wiring, "a test")
    outcomes = replay(batches, planner, replayer, batches.select(BatchFilter()))
    next(outcomes)
    next(outcomes)
    publish(installation, altered_parser(installation, "/cohortId", "/nowhere"))
    *_, outcome = outcomes
    assert (outcome.replayed, set(outcome.problems)) == (1, {"refused-1", "refused-2"})


def test_no_more_wake_ups_are_sent_than_help(
    installation: Installation, isolated: IsolatedParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying_module, "MOST_WAKE_UPS", 2)
    for cohort in ("a", "b", "c"):
        reject(installation, installation.body(cohort, add=("ann",)), f"refused-{cohort}")
    assert len(replayed(installation, isolated).wake_ups) == 2
    assert len(installation.wiring.upkeep.ahead()) == 3


def test_selected_are_those_that_wait_in_the_order_in_which_they_were_accepted(installation: Installation) -> None:
    for number in range(3):
        die(installation, add=(f"n{number}",))
        reject(installation, installation.body(add=(f"m{number}",)), f"refused-{number}")
    batches = Batches(installation.wiring)
    batches.discard(batches.find("refused-1"), by="a test", why="")
    everything = [batch.batch_id for batch in batches.newest_first(BatchFilter())]
    assert [group.batch_id for group in batches.select(BatchFilter())] == [
        batch_id for batch_id in reversed(everything) if batch_id != "refused-1"
    ]
    rejected = batches.select(BatchFilter(frozenset(("rejected", "replayed"))))
    assert [group.batch_id for group in rejected] == ["refused-0", "refused-2"]
    assert batches.select(BatchFilter(frozenset(("replayed",)))) == []


FILTERS: list[tuple[Callable[[Installation], BatchFilter], list[str]]] = [
    (lambda _: BatchFilter(reason="members"), ["refused"]),
    (lambda _: BatchFilter(reason="cohort"), ["dead"]),
    (lambda _: BatchFilter(integration_key="hightouch"), []),
    (lambda _: BatchFilter(segment_key="rudderstack-beta"), ["dead"]),
    (lambda here: BatchFilter(environment_id=here.environment_id), ["dead"]),
    (lambda _: BatchFilter(since_ms=1, until_ms=2), []),
    (lambda _: BatchFilter(since_ms=1, until_ms=10**14), ["dead", "refused"]),
]


@pytest.mark.parametrize(("wanted", "found"), FILTERS)
def test_a_filter_narrows_what_is_meant(
    installation: Installation, wanted: Callable[[Installation], BatchFilter], found: list[str]
) -> None:
    die(installation, add=("ann",))
    reject(installation, installation.body(add=("bob",)), "refused")
    groups = Batches(installation.wiring).select(wanted(installation))
    assert ["refused" if group.batch_id == "refused" else "dead" for group in groups] == found
    assert wanted(installation).means_all is False


def test_a_page_looks_at_so_many_and_says_where_the_next_one_begins(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_module, "MOST_LOOKED_AT", 3)
    for number in range(5):
        reject(installation, b"{}", f"refused-{number}", reason="members" if number else "malformed")
    batches, wanted = Batches(installation.wiring), BatchFilter(reason="malformed")
    first = batches.page(wanted, None, 10)
    assert first.batches == []
    second = batches.page(wanted, first.before, 10)
    assert [batch.batch_id for batch in second.batches] == ["refused-0"]
    assert second.before is None


def test_dead_letters_that_vanish_while_pages_are_read_hide_no_others(installation: Installation) -> None:
    with capture_logs():
        for number in range(6):
            die(installation, add=(f"n{number}",))
    batches = Batches(installation.wiring)
    first = batches.page(BatchFilter(), None, 3)
    for batch in first.batches:
        installation.client.hdel(f"segsync:{{{installation.environment_id}/rudderstack-beta}}:g1:dead", batch.position)
    second = batches.page(BatchFilter(), first.before, 10)
    assert len(second.batches) == 3


def test_portions_are_bounded_by_number_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_module, "MOST_AT_ONCE", 3)
    monkeypatch.setattr(preview_module, "MOST_BYTES_AT_ONCE", 100)
    groups = [
        Group(str(number), f"{number}-0", size_bytes=size) for number, size in enumerate([1, 1, 1, 1, 500, 60, 60])
    ]
    assert [[group.size_bytes for group in portion] for portion in portions(groups)] == [
        [1, 1, 1],
        [1],
        [500],
        [60],
        [60],
    ]
