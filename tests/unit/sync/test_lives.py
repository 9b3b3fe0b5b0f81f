"""A store that lost its content, or was put back to an older state, is noticed and filled anew (rules 12 and 13)."""

from __future__ import annotations

from typing import cast

import pytest
import redis
from servers import wait_until
from sync_builders import Installation

from worker.incarnation import ROLLED_BACK_MS
from worker.log import keyspace
from worker.log.position import ms_of
from worker.records.stores import StoreRecords
from worker.stores.layout import context_hashes
from worker.sync.drain import drain
from worker.sync.freshness import Heartbeat
from worker.sync.maintenance import Maintenance
from worker.sync.sweep import WAKE_AGAIN_SECONDS, Sweeper
from worker.wiring import Wiring


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    installed = Installation(redis_client)
    installed.accept(add=("ann", "bob"))
    installed.accept(remove=("bob",))
    apply(installed)
    Heartbeat(installed.wiring).beat()
    assert installed.store.synchronized_on() is not None
    return installed


def apply(installation: Installation) -> str:
    return drain(installation.wiring, installation.segment(), installation.store_id).outcome


def beat(installation: Installation) -> None:
    Heartbeat(installation.wiring).beat()


def first_accepted_ms(installation: Installation) -> int:
    [(entry_id, _)] = cast(
        "list[tuple[bytes, object]]",
        installation.client.xrange(f"{keyspace.prefix(installation.segment())}:log", count=1),
    )
    return ms_of(entry_id.decode())


def swept(installation: Installation) -> int:
    """How many logs the sweeper wakes once its patience is over."""
    now = [1000.0]
    sweeper = Sweeper(installation.wiring, lambda: now[0])
    sweeper.sweep()
    now[0] += WAKE_AGAIN_SECONDS
    return len(sweeper.sweep())


def test_a_wiped_store_is_noticed_without_being_asked_and_filled_anew(installation: Installation) -> None:
    installation.store.wipe()
    beat(installation)  # notices
    beat(installation)  # enters the logs that are ahead now
    claimed = installation.store.synchronized_on()
    assert claimed is not None
    assert claimed <= first_accepted_ms(installation), "a store with nobody in it is as it was before the first batch"
    assert swept(installation) == 1
    assert apply(installation) == "applied"
    assert installation.members("ann", "bob") == {"ann"}
    beat(installation)
    assert installation.store.synchronized_on() > claimed  # type: ignore[operator]  # it was written


def test_a_drain_notices_a_wiped_store_as_well(installation: Installation) -> None:
    installation.store.wipe()
    installation.accept(add=("cyd",))
    assert apply(installation) == "applied"
    assert installation.members("ann", "bob", "cyd") == {"ann", "cyd"}


def test_a_wiped_store_that_is_to_wait_for_a_person_waits(installation: Installation) -> None:
    StoreRecords(installation.client).set(installation.store_id, rebuild_when_wiped=False)
    installation.wiring.directory.fresh(0.0)
    installation.store.wipe()
    installation.accept(add=("cyd",))
    assert apply(installation) == "wiped"
    beat(installation)
    assert installation.members("ann", "cyd") == set()
    assert installation.store.synchronized_on() is None
    assert installation.wiring.incarnations.notes(installation.store_id).wiped_ms is not None


def test_the_sentinel_of_another_installation_is_taken_over_and_the_store_filled_anew(
    installation: Installation,
) -> None:
    installation.store.wipe()
    installation.store.replace_sentinel("another", installation.wiring.upkeep.server_ms())
    beat(installation)
    sentinel = installation.store.sentinel()
    assert sentinel is not None
    assert sentinel.incarnation == "another", "two installations on one store must not drive each other to rebuild"
    assert apply(installation) == "applied"
    assert installation.members("ann", "bob") == {"ann"}


def put(installation: Installation, *, included: tuple[str, ...] = (), forgotten: tuple[str, ...] = ()) -> None:
    """Change the store behind everybody's back."""
    installation.store.change(installation.segment().ref, context_hashes(included), context_hashes(forgotten))


def test_a_store_put_back_to_an_old_backup_is_filled_anew_and_loses_its_strays(installation: Installation) -> None:
    notes = installation.wiring.incarnations.notes(installation.store_id)
    sentinel = installation.store.sentinel()
    assert sentinel is not None
    installation.store.replace_sentinel(sentinel.incarnation, notes.beat_ms - ROLLED_BACK_MS - 1)
    put(installation, included=("eve",), forgotten=("ann",))
    beat(installation)
    assert apply(installation) == "applied"
    assert installation.members("ann", "bob", "eve") == {"ann", "eve"}
    before = installation.store.synchronized_on()
    beat(installation)
    assert installation.store.synchronized_on() == before, "with members of whom no log knows it must not look fresh"
    maintenance = Maintenance(installation.wiring, lambda: another_wiring(installation))
    maintenance.run()
    wait_until(lambda: not installation.wiring.incarnations.notes(installation.store_id).strays_due, 10)
    assert installation.members("ann", "bob", "eve") == {"ann"}
    beat(installation)
    assert installation.store.synchronized_on() != before


def another_wiring(installation: Installation) -> Wiring:
    """For another thread; its stores are the same ones. What it closes, it closes for itself alone."""
    client = redis.Redis(connection_pool=installation.client.connection_pool)
    return Wiring(installation.wiring.settings, client=client, opener=lambda _: installation.store)


def test_another_process_behind_the_store_takes_recent_cursors_back(installation: Installation) -> None:
    beat(installation)
    installation.store.process = "another"
    put(installation, forgotten=("ann",))
    beat(installation)  # notices
    beat(installation)
    assert swept(installation) == 1
    assert apply(installation) == "applied"
    assert installation.members("ann", "bob") == {"ann"}


def test_the_same_process_takes_nothing_back(installation: Installation) -> None:
    beat(installation)
    assert swept(installation) == 0
    assert apply(installation) == "idle"


def test_a_store_that_tells_its_process_no_more_goes_on_being_told_how_fresh_it_is(installation: Installation) -> None:
    beat(installation)
    installation.store.process = ""
    before = installation.store.synchronized_on()
    wait_until(lambda: installation.wiring.upkeep.server_ms() > before, message="the clock to move")  # type: ignore[operator]
    beat(installation)
    assert installation.store.synchronized_on() != before
