"""Writing a store anew: cursors are made void, drains do the writing, and what no log knows of is removed."""

from __future__ import annotations

import pytest
import redis
from sync_builders import Installation

from worker.errors import Misconfigured
from worker.log.upkeep import SegmentStatus
from worker.model import RedisStoreConfiguration, StoreRecord
from worker.records.stores import StoreRecords
from worker.stores.layout import context_hash
from worker.sync.compact import compact
from worker.sync.drain import drain
from worker.sync.following import Following
from worker.sync.rebuild import Rebuild


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    """Two segments, of which beta is compacted, applied to one store."""
    installed = Installation(redis_client, retention_seconds=0)
    installed.accept("beta", add=("ann", "bob"))
    installed.accept("gamma", add=("cyd",))
    work(installed)
    assert compact(installed.wiring, installed.segment("beta"), force=True).outcome == "folded"
    installed.accept("beta", remove=("bob",))
    work(installed)
    for segment, ticket in installed.wiring.upkeep.ahead().items():
        installed.wiring.upkeep.remove_from_index((segment, ticket))
    return installed


def work(installation: Installation, *cohorts: str) -> None:
    for cohort in cohorts or ("beta", "gamma"):
        drain(installation.wiring, installation.segment(cohort), installation.store_id)


def record(installation: Installation, store_id: str = "") -> StoreRecord:
    found = installation.wiring.directory.fresh(0).store(store_id or installation.store_id)
    assert found is not None
    return found


def people(installation: Installation) -> tuple[set[str], set[str]]:
    return installation.members("ann", "bob", "cyd"), installation.members("ann", "bob", "cyd", cohort_id="gamma")


def test_a_store_that_lost_its_members_is_written_anew_while_payloads_arrive(installation: Installation) -> None:
    for person in ("ann", "cyd"):
        for cohort in ("beta", "gamma"):
            installation.store.change(installation.segment(cohort).ref, [], [context_hash(person).encode()])
    rebuild = Rebuild(installation.wiring, record(installation))
    assert rebuild.begin().segments == 2
    assert {wake_up.segment for wake_up in rebuild.void()} == {installation.segment(), installation.segment("gamma")}
    following = rebuild.follow()
    assert (following.look().done, following.look().over) == (0, False)
    installation.accept("gamma", add=("dan",))
    work(installation, "beta")
    assert (following.look().done, following.look().batches_left) == (1, 2)
    work(installation)
    assert following.look().over
    assert people(installation) == ({"ann"}, {"cyd"})
    assert rebuild.finish().agrees


def test_whom_no_log_knows_of_is_removed_at_the_end(installation: Installation) -> None:
    installation.wiring.incarnations.note_strays(installation.store_id)
    installation.store.change(installation.segment().ref, [context_hash("eve").encode()], [])
    rebuild = Rebuild(installation.wiring, record(installation))
    rebuild.begin()
    rebuild.void()
    work(installation)
    assert rebuild.finish().strays == 1
    assert installation.members("eve") == set()
    assert not installation.wiring.incarnations.notes(installation.store_id).strays_due


def test_the_count_of_members_is_exact_again_at_the_end(installation: Installation) -> None:
    installation.store.change(installation.segment().ref, [], [context_hash("ann").encode()])
    rebuild = Rebuild(installation.wiring, record(installation))
    rebuild.begin()
    rebuild.void()
    work(installation)
    assert rebuild.finish().counted == 2


def test_begun_again_it_goes_on_with_what_is_left(installation: Installation) -> None:
    first = Rebuild(installation.wiring, record(installation), ["rudderstack-beta"])
    assert not first.begin().continued
    first.void()
    work(installation)
    second = Rebuild(installation.wiring, record(installation))
    assert second.begin().continued
    assert [wake_up.segment for wake_up in second.void()] == [installation.segment("gamma")]
    assert second.follow().look().done == 1
    assert second.void() == []


def test_begun_anew_it_makes_all_cursors_void_again(installation: Installation) -> None:
    rebuild = Rebuild(installation.wiring, record(installation))
    rebuild.begin()
    rebuild.void()
    work(installation)
    rebuild.begin(anew=True)
    assert len(rebuild.void()) == 2
    assert rebuild.follow().look().done == 0


def test_once_it_is_finished_the_next_one_is_another(installation: Installation) -> None:
    rebuild = Rebuild(installation.wiring, record(installation))
    rebuild.begin()
    rebuild.void()
    work(installation)
    rebuild.finish()
    assert not rebuild.begin().continued
    assert len(rebuild.void()) == 2


def test_one_segment_is_written_anew_and_no_other(installation: Installation) -> None:
    rebuild = Rebuild(installation.wiring, record(installation), ["rudderstack-beta"])
    rebuild.begin()
    assert [wake_up.segment for wake_up in rebuild.void()] == [installation.segment()]
    assert list(installation.wiring.upkeep.ahead()) == [installation.segment()]
    work(installation)
    assert rebuild.finish().segments == 1


def test_a_store_that_waits_for_a_person_after_it_was_wiped_is_filled_by_it(installation: Installation) -> None:
    StoreRecords(installation.client).set(installation.store_id, rebuild_when_wiped=False)
    installation.wiring.directory.fresh(0)
    store = installation.store
    store.wipe()
    installation.accept(add=("dan",))
    work(installation)
    assert people(installation) == (set(), set())
    with pytest.raises(Misconfigured, match="leave --segment out"):
        Rebuild(installation.wiring, record(installation), ["rudderstack-beta"]).begin()
    rebuild = Rebuild(installation.wiring, record(installation))
    assert rebuild.begin().after_wipe
    rebuild.void()
    work(installation)
    assert people(installation) == ({"ann"}, {"cyd"})
    assert rebuild.finish().agrees
    assert installation.wiring.incarnations.notes(installation.store_id).wiped_ms is None


def test_a_store_that_is_off_and_a_segment_that_is_not_there_are_told(installation: Installation) -> None:
    with pytest.raises(Misconfigured, match="no segment nobody"):
        Rebuild(installation.wiring, record(installation), ["nobody", "rudderstack-beta"]).begin()
    StoreRecords(installation.client).set(installation.store_id, on=False)
    with pytest.raises(Misconfigured, match="is off"):
        Rebuild(installation.wiring, record(installation)).begin()


def test_another_store_is_not_touched(installation: Installation) -> None:
    second = StoreRecords(installation.client).add(
        installation.environment_id, "second", RedisStoreConfiguration(host="elsewhere")
    )
    rebuild = Rebuild(installation.wiring, record(installation, second.store_id))
    rebuild.begin()
    rebuild.void()
    [status] = installation.wiring.upkeep.statuses(
        installation.environment_id, ["rudderstack-gamma"], [installation.store_id]
    )
    assert status.stores[installation.store_id].settled


def test_a_watcher_sees_that_something_moves_and_that_a_segment_is_gone(installation: Installation) -> None:
    installation.accept("beta", add=("x",))
    installation.accept("beta", add=("y",))
    installation.accept("gamma", add=("z",))
    lasts = {status.segment: status.last for status in statuses(installation)}
    following = Following(installation.wiring, lasts)
    first = following.look()
    assert (first.done, first.batches_left, first.sign) == (0, 3, following.look().sign)
    installation.client.hincrby(f"segsync:{{{installation.environment_id}/rudderstack-gamma}}:segment", "generation", 1)
    second = following.look()
    assert (second.done, second.sign != first.sign) == (1, True)
    work(installation, "beta")
    assert following.look().over


def statuses(installation: Installation) -> list[SegmentStatus]:
    keys = ["rudderstack-beta", "rudderstack-gamma"]
    return list(installation.wiring.upkeep.statuses(installation.environment_id, keys, ()))
