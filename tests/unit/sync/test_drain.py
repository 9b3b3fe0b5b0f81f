"""The drain: what it applies, and what it leaves behind when something fails."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
import redis
from sync_builders import Installation

from worker.errors import Unavailable
from worker.log import keyspace
from worker.log.entry import Entry
from worker.log.lease import Behind, Lease
from worker.log.segments import read_segments
from worker.log.upkeep import StoreStatus
from worker.manifest import decoder as decoder_module
from worker.manifest.fast import FastReader
from worker.manifest.request_parser import RequestParser
from worker.model import SegmentPatch, WriteCounts
from worker.stores.memory import MemorySession
from worker.stores.segment_store import BeforeWindow
from worker.sync import fold as fold_module
from worker.sync import judge as judge_module
from worker.sync import reading as reading_module
from worker.sync.drain import Drained, drain


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client)


def run(installation: Installation, budget_seconds: float = 10.0) -> Drained:
    return drain(installation.wiring, installation.segment(), installation.store_id, budget_seconds=budget_seconds)


def rested(installation: Installation) -> None:
    """Let the time pass for which a store that was away is left alone."""
    installation.wiring.circuits.reset(installation.store_id)


def status(installation: Installation) -> StoreStatus:
    segment = installation.segment()
    [found] = installation.wiring.upkeep.statuses(
        segment.environment_id, [segment.segment_key], [installation.store_id]
    )
    return found.stores[installation.store_id]


def counted(installation: Installation) -> int:
    """How many members the segment says it has."""
    segment = installation.segment()
    [found] = read_segments(installation.wiring.client, segment.environment_id, [segment.segment_key])
    assert found.members_exact
    return found.members


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
    monkeypatch.setattr(reading_module, "PAGE_ENTRIES", 2)
    for number in range(7):
        installation.accept(add=(f"p{number}",), remove=(f"p{number - 1}",))
    assert run(installation).batches == 7
    assert installation.members(*(f"p{number}" for number in range(7))) == {"p6"}


def test_a_log_that_is_trimmed_between_two_reads_keeps_what_was_read(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "PAGE_ENTRIES", 1)
    read, behind = Lease.read, iter([True])

    def trimmed_once(self: Lease, *, most_bytes: int, most_entries: int, after: str | None = None) -> list[Entry]:
        if after is not None and next(behind, False):
            raise Behind
        return read(self, most_bytes=most_bytes, most_entries=most_entries, after=after)

    monkeypatch.setattr(Lease, "read", trimmed_once)
    installation.accept(add=("ann",))
    installation.accept(add=("bob",))
    done = run(installation)
    assert (done.outcome, done.batches) == ("applied", 2)
    assert installation.members("ann", "bob") == {"ann", "bob"}


def test_a_cohort_that_is_sent_again_and_again_is_read_to_its_end_and_written_once(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "PAGE_ENTRIES", 2)
    written: list[int] = []
    write_all = MemorySession.write_all

    def counting(self: MemorySession, patches: Iterable[SegmentPatch], before_window: BeforeWindow) -> WriteCounts:
        each = list(patches)
        written.extend(len(patch.add) + len(patch.remove) for patch in each)
        return write_all(self, each, before_window)

    monkeypatch.setattr(MemorySession, "write_all", counting)
    for number in range(7):
        installation.accept(add=() if number % 2 else ("ann", "bob"), remove=("ann", "bob") if number % 2 else ())
    assert run(installation).batches == 7
    assert written == [2]
    assert status(installation).settled
    assert installation.members("ann", "bob") == {"ann", "bob"}


def test_members_that_come_back_in_a_later_part_are_as_the_last_batch_says(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_module.fold, "__kwdefaults__", {"first_names": 1, "last_names": 1, "most_names": 3})
    installation.accept(add=("ann", "bob"))
    installation.accept(add=("cyd",), remove=("bob",))
    installation.accept(add=("bob",), remove=("ann",))
    installation.accept(remove=("cyd",), add=("dan",))
    done = run(installation)
    assert (done.batches, installation.members("ann", "bob", "cyd", "dan")) == (4, {"bob", "dan"})
    assert counted(installation) == 2


def test_a_large_body_is_written_piece_by_piece_and_the_last_mention_holds(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_module.fold, "__kwdefaults__", {"first_names": 8, "last_names": 8, "most_names": 100})
    monkeypatch.setattr(decoder_module, "LARGE_BODY_BYTES", 0)
    monkeypatch.setattr(FastReader.__init__, "__defaults__", (256,))
    decoder_module.decoder_from_text.cache_clear()
    people = [f"p{number}" for number in range(200)]
    installation.accept(add=tuple(people), remove=tuple(people[::2]))
    done = run(installation)
    decoder_module.decoder_from_text.cache_clear()
    assert (done.batches, done.added - done.removed) == (1, 100)
    assert done.removed  # in a part that was written after the one that added them
    assert installation.members(*people) == set(people[1::2])
    assert counted(installation) == 100


def test_a_spent_budget_ends_the_drain_and_makes_a_wake_up_due(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "PAGE_ENTRIES", 1)
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


def test_a_batch_whose_parser_cannot_be_had_waits_and_is_not_killed(installation: Installation) -> None:
    parser = RequestParser.model_validate(
        {**msgspec.json.decode(installation.manifest.parser.text), "cohortNamePath": "/cohortId"}
    )
    installation.accept_body(installation.body(add=("ann",)), digest=parser.digest)
    with pytest.raises(Unavailable, match="requestParser"):
        run(installation)
    left = status(installation)
    assert (left.ahead, left.lease, left.marks) == (True, "", ())
    installation.keep(parser)
    assert run(installation).dead == 0
    assert installation.members("ann") == {"ann"}


def test_a_batch_is_parsed_with_the_parser_it_was_accepted_under_not_with_todays(installation: Installation) -> None:
    text = installation.manifest.parser.text.replace("/listData/add", "/former/add")
    former = RequestParser.from_text(text)
    installation.keep(former)
    body = msgspec.json.decode(installation.body(add=("ann",)))
    body["former"] = {"add": [{"id": "bob"}]}
    installation.accept_body(msgspec.json.encode(body), digest=former.digest)
    run(installation)
    assert installation.members("ann", "bob") == {"bob"}


def test_memory_that_runs_out_is_not_the_batchs_fault(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.accept(add=("ann",))

    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(judge_module, "read_in_pieces", exhausted)
    with pytest.raises(MemoryError):
        run(installation)
    monkeypatch.undo()
    assert run(installation).outcome == "applied"
    assert installation.members("ann") == {"ann"}


def test_a_store_that_is_away_is_left_alone_without_taking_the_lease(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.store.away = True
    assert run(installation) == Drained("away")
    assert status(installation).lease == ""
    installation.store.away = False
    assert run(installation) == Drained("away")  # it is left alone for a while
    rested(installation)
    run(installation)
    assert installation.members("ann") == {"ann"}


def test_a_refused_write_leaves_the_cursor_and_no_mark(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.store.failure = Unavailable("full", dependency="store", fate_unknown=False)
    assert run(installation).outcome == "away"
    left = status(installation)
    assert (left.ahead, left.lease, left.marks) == (True, "", ())
    run(installation)  # one segment's refused write does not make the store rest
    assert installation.members("ann") == {"ann"}


def test_a_write_of_unknown_fate_leaves_its_mark_and_the_next_drain_fences_it_off(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.store.failure = Unavailable("no answer", dependency="store", fate_unknown=True)
    run(installation)
    [mark] = status(installation).marks
    rested(installation)
    assert run(installation).outcome == "applied"
    assert installation.store.fenced == [mark.connection]
    assert status(installation).settled


def test_where_the_store_cannot_fence_the_mark_waits_for_the_sweeper(installation: Installation) -> None:
    installation.accept(add=("ann",))
    installation.store.can_fence = False
    installation.store.failure = Unavailable("no answer", dependency="store", fate_unknown=True)
    run(installation)
    rested(installation)
    assert run(installation).outcome == "applied"
    left = status(installation)
    assert (left.ahead, len(left.marks)) == (False, 1)


def test_a_drain_whose_connection_nobody_knows_cannot_be_fenced(installation: Installation) -> None:
    installation.accept(add=("ann",))
    run(installation)
    marks = f"{keyspace.prefix(installation.segment())}:open:{installation.store_id}"
    installation.client.hset(marks, "dead", "0-0 0 0 ")
    installation.accept(add=("bob",))
    assert run(installation).batches == 1
    assert installation.store.fenced == []
    assert [mark.token for mark in status(installation).marks] == ["dead"]


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


def test_a_store_that_is_gone_is_not_drained(installation: Installation) -> None:
    installation.accept(add=("ann",))
    assert drain(installation.wiring, installation.segment(), "no-such-store").outcome == "gone"


def test_while_one_drains_another_finds_it_busy_and_changes_nothing(installation: Installation) -> None:
    installation.accept(add=("ann",))
    taken = installation.wiring.drain_log.take(installation.segment(), installation.store_id, connection="other")
    assert isinstance(taken, Lease)
    before = status(installation)
    assert run(installation).outcome == "busy"
    assert status(installation) == before
    assert installation.members("ann") == set()
