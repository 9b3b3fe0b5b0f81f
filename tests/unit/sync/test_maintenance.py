"""What the scheduler sees to every minute: one store, segment or record that is in trouble keeps no other waiting."""

from __future__ import annotations

import threading

import pytest
import redis
from servers import wait_until
from sync_builders import FaultyStore, Installation

from worker.errors import Unavailable
from worker.log import keyspace
from worker.log.dead_letters import INDEX
from worker.log.late import void_cursor
from worker.model import RedisStoreConfiguration
from worker.records.stores import StoreRecords
from worker.stores.layout import context_hash
from worker.sync import audit as audit_module
from worker.sync import maintenance as maintenance_module
from worker.sync.batches import Batches, BatchFilter
from worker.sync.compact import compact
from worker.sync.drain import drain
from worker.sync.maintenance import Maintenance
from worker.wiring import Wiring


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client)


def maintenance(installation: Installation) -> Maintenance:
    def another() -> Wiring:  # what it closes, it closes for itself alone
        return Wiring(
            installation.wiring.settings,
            client=redis.Redis(connection_pool=installation.client.connection_pool),
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


def a_stray(installation: Installation) -> None:
    """The store holds ann, as the log says, and eve."""
    installation.accept(add=("ann",))
    drain(installation.wiring, installation.segment(), installation.store_id)
    installation.store.change(installation.segment().ref, [context_hash("eve").encode()], [])


def compared(maintenance: Maintenance) -> bool:
    """Do what is due, and wait for the comparison; whether there was one."""
    maintenance.run()
    if maintenance._auditing is None:
        return False
    maintenance._auditing.join(10)
    assert not maintenance._auditing.is_alive()
    return True


def strays_due(installation: Installation) -> bool:
    return bool(installation.wiring.incarnations.notes(installation.store_id).strays_due)


def test_a_store_is_compared_when_that_was_noted_and_not_again(installation: Installation) -> None:
    a_stray(installation)
    assert not compared(maintenance(installation))
    installation.wiring.incarnations.note_strays(installation.store_id)
    assert compared(maintenance(installation))
    assert installation.members("ann", "eve") == {"ann"}
    assert not compared(maintenance(installation))


def test_a_store_whose_circuit_is_open_is_not_asked_for_a_comparison(installation: Installation) -> None:
    a_stray(installation)
    installation.wiring.incarnations.note_strays(installation.store_id)
    installation.wiring.circuits.failed(installation.store_id, Unavailable("it is away", dependency="store"))
    assert not compared(maintenance(installation))
    assert strays_due(installation)


def test_a_store_that_lacks_what_a_snapshot_has_is_compared_once_it_has_it(redis_client: redis.Redis) -> None:
    installation = Installation(redis_client, retention_seconds=0)
    a_stray(installation)
    assert compact(installation.wiring, installation.segment(), force=True).outcome == "folded"
    void_cursor(redis_client, installation.segment(), installation.store_id)
    installation.wiring.incarnations.note_strays(installation.store_id)
    assert not compared(maintenance(installation))
    drain(installation.wiring, installation.segment(), installation.store_id)
    assert compared(maintenance(installation))
    assert not strays_due(installation)


def test_a_comparison_that_could_not_judge_everything_is_made_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "_PATIENCE_SECONDS", 0.0)
    a_stray(installation)
    installation.wiring.incarnations.note_strays(installation.store_id)
    held = f"{keyspace.prefix(installation.segment())}:cursor:{installation.store_id}"
    installation.client.hset(held, "lease", "somebody")
    assert compared(maintenance(installation))
    assert strays_due(installation)
    installation.client.hset(held, "lease", "")
    assert compared(maintenance(installation))
    assert not strays_due(installation)


def test_a_comparison_that_was_stopped_is_made_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_stray(installation)
    installation.wiring.incarnations.note_strays(installation.store_id)
    monkeypatch.setattr(maintenance_module, "stop_requested", lambda: True)
    assert compared(maintenance(installation))
    assert strays_due(installation)


def test_there_is_one_comparison_at_a_time(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(Maintenance, "_compare", lambda *_: go_on.wait(10))
    installation.wiring.incarnations.note_strays(installation.store_id)
    running = maintenance(installation)
    running.run()
    first = running._auditing
    running.run()
    assert running._auditing is first
    go_on.set()
    assert first is not None
    first.join(10)
    running.run()
    assert running._auditing is not first


def test_what_fails_keeps_nothing_else_from_being_done(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Wiring) -> None:
        raise Unavailable("no answer", dependency="state")

    monkeypatch.setattr(maintenance_module, "expire_dead", away)
    lost_from_index(installation)
    maintenance(installation).run()
    assert installation.client.zcard(INDEX) == 1
