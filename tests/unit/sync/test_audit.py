"""Comparing a store with the logs: what is wrong is found and put right, and what is only on its way is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest
import redis
from sync_builders import Installation

from worker.log import keyspace
from worker.log.lease import Lease
from worker.log.segments import read_segments
from worker.model import RedisStoreConfiguration, StoreRecord
from worker.records.stores import StoreRecords
from worker.stores import Scanned
from worker.stores.layout import context_hash
from worker.sync import audit as audit_module
from worker.sync.audit import Audit, Comparison
from worker.sync.compact import compact
from worker.sync.drain import drain


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    """A store that has ann and bob in a segment."""
    installed = Installation(redis_client, retention_seconds=0)
    installed.accept(add=("ann", "bob"))
    apply(installed)
    return installed


def apply(installation: Installation, store_id: str = "") -> None:
    drain(installation.wiring, installation.segment(), store_id or installation.store_id)


def record(installation: Installation, store_id: str = "") -> StoreRecord:
    found = installation.wiring.directory.fresh(0).store(store_id or installation.store_id)
    assert found is not None
    return found


def compare(installation: Installation, *, repair: bool = False, sample: int | None = None) -> Comparison:
    return Audit(installation.wiring, record(installation), repair=repair, sample=sample).run()


def change(installation: Installation, *, add: str = "", remove: str = "", ref: str = "") -> None:
    """Change the store behind our back."""
    installation.store.change(
        ref or installation.segment().ref,
        [context_hash(add).encode()] if add else [],
        [context_hash(remove).encode()] if remove else [],
    )


def members_exact(installation: Installation) -> tuple[int, bool]:
    [segment] = read_segments(installation.client, installation.environment_id, ["rudderstack-beta"])
    return segment.members, segment.members_exact


def approximate(installation: Installation, members: int = 70) -> None:
    """The count of the segment, after a drain that did not end cleanly."""
    key = f"segsync:{{{installation.environment_id}/rudderstack-beta}}:segment"
    installation.client.hset(key, mapping={"members": str(members), "members_exact": "0"})


def test_a_store_that_holds_what_the_logs_say_agrees(installation: Installation) -> None:
    found = compare(installation)
    assert (found.agrees, found.segments, found.members, found.uncertain) == (True, 1, 2, [])


def test_who_is_missing_is_found_and_folded_into_the_store_again(installation: Installation) -> None:
    change(installation, remove="ann")
    assert compare(installation).wrong == {"rudderstack-beta": (1, 0)}
    assert installation.members("ann", "bob") == {"bob"}
    assert not compare(installation, repair=True).agrees
    assert list(installation.wiring.upkeep.ahead()) == [installation.segment()]
    apply(installation)
    assert installation.members("ann", "bob") == {"ann", "bob"}
    assert compare(installation).agrees


def test_who_should_not_be_in_is_found_and_removed(installation: Installation) -> None:
    change(installation, add="eve")
    assert compare(installation).wrong == {"rudderstack-beta": (0, 1)}
    assert compare(installation, repair=True).strays == 1
    assert installation.members("ann", "bob", "eve") == {"ann", "bob"}
    assert compare(installation).agrees


def test_segments_of_others_in_the_same_store_are_left_alone(installation: Installation) -> None:
    change(installation, add="eve", ref="somebody-elses.g1")
    change(installation, add="ann", ref="rudderstack-beta.g7")
    assert compare(installation, repair=True).agrees
    assert installation.store.included("eve") == {"somebody-elses.g1"}


def test_a_sample_finds_who_is_missing_and_looks_for_no_strays(installation: Installation) -> None:
    change(installation, remove="ann", add="eve")
    found = compare(installation, sample=10)
    assert (found.missing, found.strays, found.sampled) == (1, 0, True)


def test_what_waits_to_be_applied_is_not_wrong(installation: Installation) -> None:
    installation.accept(add=("cyd",), remove=("ann",))
    assert compare(installation).agrees


def take_back_over(installation: Installation, person: str, *steps: str) -> None:
    """Apply batches about somebody, and take the cursor back to before them, as a replay does."""
    cursor = f"{keyspace.prefix(installation.segment())}:cursor:{installation.store_id}"
    early = installation.client.hget(cursor, "position")
    assert isinstance(early, bytes)
    for step in steps:
        installation.accept(add=(person,)) if step == "add" else installation.accept(remove=(person,))
        apply(installation)
    installation.client.hset(cursor, "position", early)


def test_who_is_removed_and_added_again_by_what_waits_is_not_missing(installation: Installation) -> None:
    take_back_over(installation, "bob", "remove", "add")
    change(installation, remove="bob")  # by a drain that was killed before it had moved the cursor
    assert compare(installation, repair=True).agrees
    apply(installation)
    assert installation.members("ann", "bob") == {"ann", "bob"}


def test_who_is_added_and_removed_again_by_what_waits_is_no_stray(installation: Installation) -> None:
    take_back_over(installation, "eve", "add", "remove")
    change(installation, add="eve")
    assert compare(installation, repair=True).agrees
    assert installation.members("eve") == {"eve"}
    apply(installation)
    assert installation.members("ann", "bob", "eve") == {"ann", "bob"}


def test_a_stray_is_found_also_while_batches_wait(installation: Installation) -> None:
    change(installation, add="eve", remove="ann")
    installation.accept(add=("cyd",))
    assert compare(installation).wrong == {"rudderstack-beta": (1, 1)}


def test_the_same_holds_of_what_is_in_a_snapshot(installation: Installation) -> None:
    assert compact(installation.wiring, installation.segment(), force=True).outcome == "folded"
    assert compare(installation).agrees
    change(installation, add="eve", remove="ann")
    assert compare(installation, repair=True).wrong == {"rudderstack-beta": (1, 1)}
    apply(installation)
    assert installation.members("ann", "bob", "eve") == {"ann", "bob"}


def test_a_segment_that_is_drained_all_the_while_is_not_judged(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "_PATIENCE_SECONDS", 0.0)
    change(installation, add="eve")
    installation.accept(add=("cyd",))
    store = installation.store
    sentinel = store.sentinel()
    assert sentinel is not None
    lease = installation.wiring.drain_log.take(
        installation.segment(), installation.store_id, connection="c", incarnation=sentinel.incarnation
    )
    assert isinstance(lease, Lease)
    found = compare(installation, repair=True)
    assert (found.uncertain, found.agrees) == (["rudderstack-beta"], True)
    assert installation.members("eve") == {"eve"}


def test_a_count_that_was_approximate_is_exact_after_a_comparison(installation: Installation) -> None:
    approximate(installation)
    assert compare(installation).counted == 1
    assert members_exact(installation) == (2, True)
    installation.accept(add=("cyd",), remove=("ann",))
    apply(installation)
    assert members_exact(installation) == (2, True)


def test_a_count_stays_approximate_where_the_store_differs_or_is_not_current(installation: Installation) -> None:
    approximate(installation)
    change(installation, add="eve")
    compare(installation)
    assert members_exact(installation) == (70, False)
    compare(installation, repair=True)
    assert members_exact(installation) == (2, True)
    approximate(installation)
    installation.accept(add=("cyd",))
    compare(installation)
    assert members_exact(installation) == (70, False)


def test_a_count_stays_approximate_while_something_may_still_land(installation: Installation) -> None:
    approximate(installation)
    installation.store.can_fence = False
    open_marks = f"{keyspace.prefix(installation.segment())}:open:{installation.store_id}"
    last = installation.client.hget(f"{keyspace.prefix(installation.segment())}:head", "last")
    assert isinstance(last, bytes)
    installation.client.hset(open_marks, "somebody", f"{last.decode()} 1 1 connection")
    assert compare(installation).counted == 0
    assert members_exact(installation) == (70, False)


def test_a_sample_counts_nobody(installation: Installation) -> None:
    approximate(installation)
    compare(installation, sample=1)
    assert members_exact(installation) == (70, False)


def test_another_store_than_the_first_counts_nobody(installation: Installation) -> None:
    second = StoreRecords(installation.client).add(
        installation.environment_id, "second", RedisStoreConfiguration(host="elsewhere")
    )
    installation.wiring.directory.fresh(0)
    apply(installation, second.store_id)
    approximate(installation)
    found = Audit(installation.wiring, record(installation, second.store_id)).run()
    assert (found.agrees, found.members, found.counted) == (True, 2, 0)
    assert members_exact(installation) == (70, False)


def test_what_arrives_while_a_segment_is_held_is_not_forgotten(installation: Installation) -> None:
    change(installation, add="eve")

    def with_an_arrival(do: Callable[..., object]) -> Callable[..., object]:
        def done(*arguments: object, **options: object) -> object:
            # Nobody is told: a drain that holds the lease looks again when it lets go.
            assert installation.accept(add=("cyd",)) == []
            return do(*arguments, **options)

        return done

    before = dict(installation.wiring.upkeep.ahead())
    for segment, ticket in before.items():
        installation.wiring.upkeep.remove_from_index((segment, ticket))
    with patch.object(Audit, "_really_wrong", with_an_arrival(Audit._really_wrong)):
        compare(installation, repair=True)
    assert list(installation.wiring.upkeep.ahead()) == [installation.segment()]


def test_members_who_join_and_leave_meanwhile_are_not_wrong(installation: Installation) -> None:
    store = installation.store

    def scan() -> Iterator[list[Scanned]]:
        installation.accept(add=("cyd",), remove=("ann",))
        apply(installation)
        yield from type(store).scan(store)

    with patch.object(store, "scan", scan):
        assert compare(installation, repair=True).agrees
    assert installation.members("ann", "bob", "cyd") == {"bob", "cyd"}
