"""Forgetting stores that were removed: their cursors, marks and circuits, and nothing of the others'."""

from __future__ import annotations

from typing import cast

import pytest
import redis
from sync_builders import FaultyStore, Installation

from worker.errors import Unavailable
from worker.log.lease import Lease
from worker.model import DynamoDBStoreConfiguration
from worker.records.stores import StoreRecords
from worker.records.tables import FORGOTTEN
from worker.sync.drain import drain
from worker.sync.forget import GRACE_SECONDS, forget_removed


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client)


def add_store(installation: Installation) -> str:
    """One more store; returns its id."""
    made = StoreRecords(installation.client).add(
        installation.environment_id, "second", DynamoDBStoreConfiguration(tableName="t", region="r")
    )
    refresh(installation)
    return made.store_id


def refresh(installation: Installation) -> None:
    installation.wiring.directory.fresh(0)


def remove(installation: Installation, store_id: str) -> None:
    StoreRecords(installation.client).remove(store_id)
    refresh(installation)


def make_it_long_ago(installation: Installation, seconds: float = GRACE_SECONDS) -> None:
    """As if the stores had been removed so long before."""
    for store_id in cast("list[bytes]", installation.client.zrange(FORGOTTEN, 0, -1)):
        installation.client.zincrby(FORGOTTEN, -seconds * 1000, store_id)


def keys_of(installation: Installation, store_id: str) -> set[str]:
    """Every key that has the store's id in its name, or in a field of a hash."""
    client = installation.client
    return {
        key.decode()
        for key in client.scan_iter()
        if store_id.encode() in key or (client.type(key) == b"hash" and client.hexists(key, store_id))
    }


def fill(installation: Installation, *store_ids: str) -> None:
    """Two segments, applied to these stores."""
    for cohort_id in ("beta", "gamma"):
        installation.accept(cohort_id, add=("ann",))
        for store_id in store_ids:
            assert drain(installation.wiring, installation.segment(cohort_id), store_id).outcome == "applied"


def test_nothing_tells_of_a_removed_store_after_a_minute(installation: Installation) -> None:
    second = add_store(installation)
    fill(installation, installation.store_id, second)
    installation.wiring.circuits.failed(second, Unavailable("it was away", dependency="store"))
    kept = keys_of(installation, installation.store_id)
    assert len(keys_of(installation, second)) > 2
    remove(installation, second)
    make_it_long_ago(installation)

    assert forget_removed(installation.wiring) == 1
    assert keys_of(installation, second) == set()
    assert installation.client.exists(FORGOTTEN) == 0
    assert keys_of(installation, installation.store_id) == kept
    assert forget_removed(installation.wiring) == 0


def test_open_marks_of_a_removed_store_are_forgotten(installation: Installation) -> None:
    second = add_store(installation)
    installation.accept(add=("ann",))
    assert isinstance(installation.wiring.drain_log.take(installation.segment(), second, connection="dead"), Lease)
    assert any(":open:" in key for key in keys_of(installation, second))
    remove(installation, second)
    make_it_long_ago(installation)
    forget_removed(installation.wiring)

    assert keys_of(installation, second) == set()


def test_past_generations_forget_it_too(installation: Installation) -> None:
    second = add_store(installation)
    fill(installation, second)
    installation.client.hset(f"segsync:{{{installation.environment_id}/rudderstack-beta}}:segment", "generation", 3)
    installation.wiring.closings.add(installation.segment(), 0)
    remove(installation, second)
    make_it_long_ago(installation)
    forget_removed(installation.wiring)

    assert keys_of(installation, second) == set()


def test_cursors_stay_while_somebody_may_still_use_the_record(installation: Installation) -> None:
    second = add_store(installation)
    fill(installation, second)
    remove(installation, second)
    before = keys_of(installation, second)
    make_it_long_ago(installation, GRACE_SECONDS - 30)

    assert forget_removed(installation.wiring) == 0
    assert keys_of(installation, second) == before
    assert any(":cursor:" in key for key in before)


def test_what_lies_in_a_removed_store_stays(installation: Installation) -> None:
    second = add_store(installation)
    fill(installation, second)
    store = installation.wiring.stores.get(second)
    assert isinstance(store, FaultyStore)
    remove(installation, second)
    make_it_long_ago(installation)
    forget_removed(installation.wiring)

    assert store.included("ann") == {"rudderstack-beta.g1", "rudderstack-gamma.g1"}


def test_members_are_counted_by_a_store_that_was_elsewhere_and_so_no_longer_exactly(
    installation: Installation,
) -> None:
    second = add_store(installation)
    fill(installation, installation.store_id, second)
    assert exact(installation) == b"1"
    remove(installation, second)
    make_it_long_ago(installation)
    forget_removed(installation.wiring)
    assert exact(installation) == b"1"

    remove(installation, installation.store_id)
    make_it_long_ago(installation)
    forget_removed(installation.wiring)
    assert exact(installation) == b"0"


def test_a_store_that_had_applied_nothing_leaves_the_counts_exact(installation: Installation) -> None:
    second = add_store(installation)
    fill(installation, second)
    remove(installation, installation.store_id)
    for key in keys_of(installation, installation.store_id) - {FORGOTTEN}:
        installation.client.delete(key)  # appends claim a wake-up for it; nobody came
    make_it_long_ago(installation)
    forget_removed(installation.wiring)

    assert exact(installation) == b"1"


def exact(installation: Installation) -> bytes | None:
    key = f"segsync:{{{installation.environment_id}/rudderstack-beta}}:segment"
    return cast("bytes | None", installation.client.hget(key, "members_exact"))


def test_a_segment_that_cannot_be_looked_at_is_tried_again_and_keeps_no_other(installation: Installation) -> None:
    second = add_store(installation)
    fill(installation, second)
    broken = f"segsync:{{{installation.environment_id}/rudderstack-beta}}:segment"
    kept = cast("bytes", installation.client.dump(broken))
    installation.client.delete(broken)
    installation.client.set(broken, "not a hash")
    remove(installation, second)
    make_it_long_ago(installation)

    assert forget_removed(installation.wiring) == 0
    assert not any("gamma" in key for key in keys_of(installation, second))
    assert installation.client.zcard(FORGOTTEN) == 1

    installation.client.delete(broken)
    installation.client.restore(broken, 0, kept)
    assert forget_removed(installation.wiring) == 1
    assert keys_of(installation, second) == set()


def test_one_store_that_cannot_be_forgotten_does_not_keep_the_others(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = add_store(installation)
    fill(installation, installation.store_id, second)
    remove(installation, installation.store_id)
    remove(installation, second)
    make_it_long_ago(installation)
    reset = installation.wiring.circuits.reset

    def refuse(store_id: str) -> None:
        if store_id == installation.store_id:
            raise Unavailable("not now", dependency="state")
        reset(store_id)

    monkeypatch.setattr(installation.wiring.circuits, "reset", refuse)
    assert forget_removed(installation.wiring) == 1
    assert keys_of(installation, second) == set()
    assert installation.client.zrange(FORGOTTEN, 0, -1) == [installation.store_id.encode()]
