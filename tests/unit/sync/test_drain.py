"""The drain: what it applies, and what it leaves behind when something fails."""

from __future__ import annotations

from typing import cast

import pytest
import redis
from sync_builders import Installation

from worker.errors import Unavailable
from worker.log.segments import read_segments
from worker.log.upkeep import StoreStatus
from worker.sync import drain as drain_module
from worker.sync.drain import Drained, drain


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client)


def run(installation: Installation, budget_seconds: float = 10.0) -> Drained:
    return drain(installation.wiring, installation.segment(), installation.store_id, budget_seconds=budget_seconds)


def status(installation: Installation) -> StoreStatus:
    segment = installation.segment()
    [found] = installation.wiring.upkeep.statuses(
        segment.environment_id, [segment.segment_key], [installation.store_id]
    )
    return found.stores[installation.store_id]


def test_members_follow_the_batches_in_the_order_accepted(installation: Installation) -> None:
    installation.accept(add=("ann", "bob"))
    installation.accept(remove=("bob",), add=("cyd",))
    installation.accept(add=("bob",), remove=("cyd",))
    assert run(installation).batches == 3
    assert installation.members("ann", "bob", "cyd") == {"ann", "bob"}


def test_a_drain_without_anything_to_do_is_idle(installation: Installation) -> None:
    installation.accept(add=("ann",))
    run(installation)
    assert run(installation).outcome == "idle"


def test_a_batch_without_members_counts_as_applied(installation: Installation) -> None:
    installation.accept()
    assert run(installation).batches == 1
    assert status(installation).settled


def test_many_reads_apply_in_one_drain(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_module, "READ_ENTRIES", 2)
    for number in range(7):
        installation.accept(add=(f"p{number}",), remove=(f"p{number - 1}",))
    assert run(installation).batches == 7
    assert installation.members(*(f"p{number}" for number in range(7))) == {"p6"}


def test_a_spent_budget_ends_the_drain_and_makes_a_wake_up_due(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "READ_ENTRIES", 1)
    installation.accept(add=("ann",))
    installation.accept(add=("bob",))
    done = run(installation, budget_seconds=0)
    assert (done.batches, done.wake_up_due) == (1, True)
    assert installation.members("ann", "bob") == {"ann"}


def test_the_segment_counts_its_members_from_the_stores_replies(installation: Installation) -> None:
    installation.accept(add=("ann", "bob", "cyd"))
    installation.accept(remove=("ann", "nobody"))
    installation.accept(add=("bob",))
    run(installation)
    [segment] = read_segments(installation.client, installation.environment_id, ["rudderstack-beta"])
    assert (segment.members, segment.members_exact, segment.name) == (2, True, "Beta")


def test_a_batch_that_cannot_be_read_dies_and_the_others_apply(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.accept_body(b"{not json")
    installation.accept(add=("bob",))
    done = run(installation)
    assert (done.batches, done.dead) == (3, 1)
    assert installation.members("ann", "bob") == {"ann", "bob"}
    assert status(installation).settled


def test_a_batch_accepted_under_a_parser_that_nobody_knows_dies_with_that_reason(installation: Installation) -> None:
    installation.accept_body(installation.body(add=("ann",)), digest="unheard-of")
    assert run(installation).dead == 1
    base = f"segsync:{{{installation.environment_id}/rudderstack-beta}}"
    [reason] = cast("list[bytes]", installation.client.hvals(f"{base}:g1:dead"))
    assert reason.startswith(b"manifest:")


def test_an_older_parser_than_the_present_one_still_reads_its_own_batches(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.wiring.parsers._compiled.clear()  # another process, that has never seen the parser
    run(installation)
    assert installation.members("ann") == {"ann"}


def test_a_store_that_is_away_is_left_alone_without_taking_the_lease(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.store.away = True
    assert run(installation) == Drained("away")
    assert status(installation).lease == ""
    installation.store.away = False
    run(installation)
    assert installation.members("ann") == {"ann"}


def test_a_refused_write_leaves_the_cursor_and_no_mark(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.store.failure = Unavailable("full", dependency="store", fate_unknown=False)
    assert run(installation).outcome == "away"
    left = status(installation)
    assert (left.ahead, left.lease, left.marks) == (True, "", ())
    run(installation)
    assert installation.members("ann") == {"ann"}


def test_a_write_of_unknown_fate_leaves_its_mark_and_the_next_drain_fences_it_off(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.store.failure = Unavailable("no answer", dependency="store", fate_unknown=True)
    run(installation)
    [mark] = status(installation).marks
    assert run(installation).outcome == "applied"
    assert installation.store.fenced == [mark.connection]
    assert status(installation).settled


def test_where_the_store_cannot_fence_the_mark_waits_for_the_sweeper(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.store.can_fence = False
    installation.store.failure = Unavailable("no answer", dependency="store", fate_unknown=True)
    run(installation)
    assert run(installation).outcome == "applied"
    left = status(installation)
    assert (left.ahead, len(left.marks)) == (False, 1)


def test_counts_are_approximate_after_a_drain_that_did_not_end_cleanly(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.store.failure = Unavailable("no answer", dependency="store", fate_unknown=True)
    run(installation)
    [segment] = read_segments(installation.client, installation.environment_id, ["rudderstack-beta"])
    assert segment.members_exact is False


def test_a_drain_that_loses_its_lease_rewinds_and_says_so(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.accept(add=("ann",))
    monkeypatch.setattr("worker.log.lease.RENEWAL_SECONDS", -1.0)
    take = installation.wiring.drain_log.take

    def take_and_lose(*arguments: object, **options: object) -> object:
        lease = take(*arguments, **options)  # type: ignore[arg-type]
        held = status(installation)
        installation.wiring.upkeep.expire(installation.segment(), installation.store_id, held.lease, held.beat)
        return lease

    monkeypatch.setattr(installation.wiring.drain_log, "take", take_and_lose)
    done = run(installation)
    monkeypatch.undo()
    # Its wake-up is the one that the lost lease made due already.
    assert (done.outcome, done.batches) == ("lost", 0)
    assert status(installation).marks == ()
    assert run(installation).outcome == "applied"


def test_our_own_bug_lets_the_lease_go_but_keeps_the_mark(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.store.failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        run(installation)
    left = status(installation)
    assert (left.lease, len(left.marks)) == ("", 1)


def test_a_store_that_is_gone_or_off_is_not_drained(installation: Installation) -> None:
    installation.accept(add=("ann",))
    assert drain(installation.wiring, installation.segment(), "no-such-store").outcome == "gone"


def test_two_drains_at_once_do_the_work_once(installation: Installation) -> None:
    installation.accept(add=("ann",))
    lease = installation.wiring.drain_log.take(installation.segment(), installation.store_id, connection="other")
    assert run(installation).outcome == "busy"
    assert lease is not None
