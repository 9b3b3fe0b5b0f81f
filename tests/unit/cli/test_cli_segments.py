"""What `segsync segments` notes below its table, on a real state server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from servers import ValkeyServer
from typer.testing import CliRunner

from worker.cli.app import app
from worker.log.creation import create_segment
from worker.model import RedisStoreConfiguration
from worker.records.records import Records
from worker.records.stores import StoreRecords

ENVIRONMENT = "env-1"


@pytest.fixture
def client(start_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> redis.Redis:
    """Of an installation with one store, "redis"."""
    server = start_valkey()
    client = server.client()
    Records(client).bootstrap(
        environment_id=ENVIRONMENT, store_configuration=RedisStoreConfiguration.from_url(server.url)
    )
    monkeypatch.setenv("SEGSYNC_STATE_URL", server.url)
    monkeypatch.chdir(str(tmp_path))
    return client


def notes() -> list[str]:
    """What stands below the table."""
    result = CliRunner().invoke(app, ["segments"])
    assert result.exit_code == 0, result.output
    _, *below = result.output.partition("created by their first payload.")[2].splitlines()
    return below


def first_store_id(client: redis.Redis) -> str:
    return Records(client).directory().stores[0].store_id


def test_where_every_store_is_on_and_well_nothing_is_noted(client: redis.Redis) -> None:
    assert notes() == []


def test_a_store_that_is_off_is_noted_for_no_lag_shows_it(client: redis.Redis) -> None:
    StoreRecords(client).set(first_store_id(client), on=False)
    [note] = notes()
    assert note.startswith("store redis is off")
    assert "`segsync store on redis`" in note


def test_a_store_that_waits_for_a_rebuild_is_noted_and_one_that_is_rebuilt_by_itself_is_not(
    client: redis.Redis,
) -> None:
    store_id = first_store_id(client)
    client.hset(f"segsync:store:{{{store_id}}}", "wiped_ms", "1700000000000")
    assert notes() == []
    StoreRecords(client).set(store_id, rebuild_when_wiped=False)
    assert notes() == [
        f"store redis was wiped (noticed 2023-11-14 22:13:20 UTC) and waits for `segsync rebuild --store {store_id}`"
    ]
    StoreRecords(client).set(store_id, on=False)
    [note] = notes()
    assert note.startswith("store redis is off")


def test_an_environment_whose_stores_were_all_removed_is_noted(client: redis.Redis) -> None:
    StoreRecords(client).remove(first_store_id(client))
    assert notes() == ["default/production has no store; `segsync store add` gives it one"]


def test_a_cohort_is_bound_and_a_segment_deleted_in_one_line_each_and_workers_are_woken_at_once(
    client: redis.Redis,
) -> None:
    mapped = CliRunner().invoke(app, ["segments", "map", "amplitude", "3f9k2", "--key", "beta", "--generation", "4"])
    assert (mapped.exit_code, mapped.output.count("\n")) == (0, 1), mapped.output
    assert "SDKs look up beta.g4" in mapped.output
    create_segment(client, ENVIRONMENT, "gone", context_kind="user", name="Gone")
    deleted = CliRunner().invoke(app, ["segments", "delete", "gone", "--yes"])
    assert (deleted.exit_code, deleted.output.count("\n")) == (0, 1), deleted.output
    assert client.llen("segsync:celery:segsync.drain") == 1
