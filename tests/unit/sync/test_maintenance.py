"""What the scheduler sees to every minute: one store, segment or record that is in trouble keeps no other waiting."""

from __future__ import annotations

import pytest
import redis
from servers import wait_until
from sync_builders import FaultyStore, Installation

from worker.log import keyspace
from worker.log.dead_letters import INDEX
from worker.model import RedisStoreConfiguration
from worker.records.stores import StoreRecords
from worker.sync.batches import Batches, BatchFilter
from worker.sync.drain import drain
from worker.sync.maintenance import Maintenance
from worker.wiring import Wiring


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client)


def maintenance(installation: Installation) -> Maintenance:
    def another() -> Wiring:
        return Wiring(
            installation.wiring.settings,
            client=installation.client,
            opener=lambda record: installation.opened.setdefault(record.store_id, FaultyStore()),
        )

    return Maintenance(installation.wiring, another)


def dead_key(installation: Installation) -> str:
    return f"{keyspace.prefix(installation.segment())}:dead"


def lost_from_index(installation: Installation) -> None:
    """A batch died, and its worker with it before it was noted."""
    installation.accept_body(b"no JSON")
    drain(installation.wiring, installation.segment(), installation.store_id)
    installation.client.delete(INDEX)


def test_a_dead_letter_that_the_index_lacks_is_found_within_a_minute(installation: Installation) -> None:
    lost_from_index(installation)
    assert list(Batches(installation.wiring).newest_first(BatchFilter())) == []
    maintenance(installation).run()
    [batch] = Batches(installation.wiring).newest_first(BatchFilter())
    assert batch.reason == "malformed"


def test_a_record_of_another_version_keeps_nothing_from_being_done(installation: Installation) -> None:
    lost_from_index(installation)
    installation.accept(add=("ann",))
    [entry_id] = installation.client.hkeys(dead_key(installation))
    installation.client.hset(dead_key(installation), entry_id, "malformed: it is no JSON")
    maintenance(installation).run()
    [batch] = Batches(installation.wiring).newest_first(BatchFilter())
    assert (batch.status, batch.reason) == ("dead", "unreadable")


def test_a_segment_that_cannot_be_looked_at_hides_no_other_segments_dead_letters(installation: Installation) -> None:
    lost_from_index(installation)
    installation.accept("gamma", add=("ann",))
    broken = f"segsync:{{{installation.environment_id}/rudderstack-gamma}}:segment"
    installation.client.delete(broken)
    installation.client.set(broken, "no hash")
    maintenance(installation).run()
    assert installation.client.zcard(INDEX) == 1


def test_a_store_that_is_away_keeps_no_other_from_being_compared(installation: Installation) -> None:
    second = StoreRecords(installation.client).add(
        installation.environment_id, "second", RedisStoreConfiguration(host="second")
    )
    installation.wiring.directory.fresh(0.0)
    installation.accept(add=("ann",))
    for store_id in (installation.store_id, second.store_id):
        drain(installation.wiring, installation.segment(), store_id)
        installation.wiring.incarnations.note_strays(store_id)
    installation.opened[installation.store_id].away = True
    maintenance(installation).run()
    notes = installation.wiring.incarnations.notes
    wait_until(lambda: not notes(second.store_id).strays_due, 10, "the second store compared")
    assert notes(installation.store_id).strays_due
