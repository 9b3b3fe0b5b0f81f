"""The records: what a fresh installation starts with, and the snapshot that processes keep."""

from __future__ import annotations

import pytest
import redis
from pydantic import SecretStr
from secret_keys import BOX

from worker.errors import Misconfigured
from worker.model import RedisStoreConfiguration
from worker.records.directory import Environment
from worker.records.records import Bootstrap, DirectoryCache, Records
from worker.records.stores import ExistingStore, StoreRecords
from worker.records.tables import ENVIRONMENTS, write_record

STORE = RedisStoreConfiguration(host="redis.internal", password=SecretStr("s3cret"))


def bootstrap(client: redis.Redis, *, environment_id: str | None = None, writer_token: str | None = None) -> Bootstrap:
    return Records(client, BOX).bootstrap(
        environment_id=environment_id, store_configuration=STORE, writer_token=writer_token
    )


def test_a_fresh_installation_has_an_environment_a_store_and_two_tokens(redis_client: redis.Redis) -> None:
    made = bootstrap(redis_client)
    directory = Records(redis_client, BOX).directory()
    assert (made.project_key, made.environment_key) == ("default", "production")
    assert list(directory.environments) == [made.environment_id]
    assert [store.configuration for store in directory.stores_of(made.environment_id)] == [STORE]
    assert made.writer_token is not None
    assert made.admin_token is not None
    writer, admin = directory.token(made.writer_token), directory.token(made.admin_token)
    assert writer is not None
    assert admin is not None
    assert (writer.role, admin.role) == ("writer", "admin")


def test_doing_it_again_changes_nothing_and_shows_no_token_twice(redis_client: redis.Redis) -> None:
    first = bootstrap(redis_client)
    version = Records(redis_client, BOX).version()
    second = bootstrap(redis_client)
    assert Records(redis_client, BOX).version() == version
    assert (second.environment_id, second.store) == (first.environment_id, first.store)
    assert (second.writer_token, second.admin_token) == (None, None)


def test_given_tokens_and_ids_are_taken_over(redis_client: redis.Redis) -> None:
    made = bootstrap(redis_client, environment_id="client-side-id", writer_token="w" * 32)
    assert made.environment_id == "client-side-id"
    assert Records(redis_client, BOX).directory().token("w" * 32) is not None


def test_an_existing_environment_does_not_change_its_id(redis_client: redis.Redis) -> None:
    bootstrap(redis_client, environment_id="one")
    with pytest.raises(Misconfigured, match="exists with id one"):
        bootstrap(redis_client, environment_id="two")


def test_an_environment_id_that_could_break_keys_is_refused(redis_client: redis.Redis) -> None:
    with pytest.raises(Misconfigured, match="environment id"):
        bootstrap(redis_client, environment_id="a/b}")


def test_a_store_given_again_with_another_login_is_brought_up_to_date(redis_client: redis.Redis) -> None:
    first = bootstrap(redis_client)
    login = STORE.model_copy(update={"username": "writer"})
    second = Records(redis_client, BOX).bootstrap(environment_id=None, store_configuration=login)
    assert (second.store.store_id, second.store.version) == (first.store.store_id, 2)
    assert second.store.configuration == login


def test_a_store_at_another_place_is_another_store_with_cursors_of_its_own(redis_client: redis.Redis) -> None:
    first = bootstrap(redis_client)
    elsewhere = RedisStoreConfiguration(host="elsewhere")
    second = Records(redis_client, BOX).bootstrap(
        environment_id=None, store_configuration=elsewhere, existing_store="replace"
    )
    assert second.store.store_id != first.store.store_id
    assert Records(redis_client, BOX).directory().stores == [second.store]


def test_a_store_that_has_moved_with_its_content_is_the_same_store(redis_client: redis.Redis) -> None:
    first = bootstrap(redis_client)
    moved = STORE.model_copy(update={"port": 6380})
    second = Records(redis_client, BOX).bootstrap(
        environment_id=None, store_configuration=moved, existing_store="moved"
    )
    assert second.store.store_id == first.store.store_id


def test_a_store_that_is_there_is_neither_replaced_nor_touched_unless_told(redis_client: redis.Redis) -> None:
    first = bootstrap(redis_client)
    elsewhere, records = RedisStoreConfiguration(host="elsewhere"), Records(redis_client, BOX)
    with pytest.raises(Misconfigured, match=r"redis redis\.internal:6379/0"):
        records.bootstrap(environment_id=None, store_configuration=elsewhere)
    kept = records.bootstrap(environment_id=None, store_configuration=elsewhere, existing_store="keep")
    assert kept.store == first.store
    assert records.directory().stores == [first.store]


def test_an_installation_whose_store_was_removed_starts_again_without_one(redis_client: redis.Redis) -> None:
    records, first = Records(redis_client, BOX), bootstrap(redis_client)
    StoreRecords(redis_client, BOX).remove(first.store.store_id)
    wishes: list[ExistingStore] = ["keep", "moved"]
    for wish in wishes:
        again = records.bootstrap(environment_id=None, store_configuration=STORE, existing_store=wish)
        assert (again.environment_id, again.settled) == (first.environment_id, None)
        with pytest.raises(Misconfigured, match="segsync store add"):
            _ = again.store
    assert records.directory().stores == []

    asked_for = bootstrap(redis_client).store
    assert records.directory().stores == [asked_for]
    assert asked_for.store_id != first.store.store_id


def test_an_environment_that_cannot_have_its_store_is_not_made_either(redis_client: redis.Redis) -> None:
    bootstrap(redis_client, environment_id="elsewhere")
    other = Environment(environment_id="elsewhere", environment_key="staging", project_key="default", name="Staging")
    write_record(redis_client, ENVIRONMENTS, "elsewhere", other.model_dump_json())
    with pytest.raises(Misconfigured, match="store redis of environment elsewhere"):
        bootstrap(redis_client, environment_id="here")
    assert list(Records(redis_client, BOX).directory().environments) == ["elsewhere"]


@pytest.mark.parametrize("token", ["", "short", "long enough but with spaces", "naïve-token-of-some-length"])
def test_a_token_that_would_not_be_secret_or_not_pass_a_header_is_refused(
    redis_client: redis.Redis, token: str
) -> None:
    with pytest.raises(Misconfigured, match="token"):
        bootstrap(redis_client, writer_token=token)


def test_one_token_cannot_have_both_roles(redis_client: redis.Redis) -> None:
    with pytest.raises(Misconfigured, match="differ"):
        Records(redis_client, BOX).bootstrap(
            environment_id=None, store_configuration=STORE, writer_token="t" * 20, admin_token="t" * 20
        )


def test_records_that_this_version_cannot_read_are_left_out(redis_client: redis.Redis) -> None:
    made = bootstrap(redis_client)
    redis_client.hset("segsync:stores", "newer", '{"store_id": "newer", "configuration": {"kind": "carrier-pigeon"}}')
    assert Records(redis_client, BOX).directory().stores == [made.store]


def test_a_state_server_wiped_and_set_up_again_is_noticed(redis_client: redis.Redis) -> None:
    now = [0.0]
    cache = DirectoryCache(Records(redis_client, BOX), clock=lambda: now[0])
    before = bootstrap(redis_client)
    cache.fresh()
    redis_client.flushall()
    bootstrap(redis_client)
    now[0] += 2.0
    assert cache.fresh().token(str(before.writer_token)) is None


def test_tokens_are_kept_as_hashes_only(redis_client: redis.Redis) -> None:
    made = bootstrap(redis_client)
    assert made.writer_token is not None
    kept = redis_client.hgetall("segsync:tokens")
    assert made.writer_token not in repr(kept)


def test_a_stores_password_survives_but_never_shows_in_a_repr(redis_client: redis.Redis) -> None:
    bootstrap(redis_client)
    [store] = Records(redis_client, BOX).directory().stores
    assert isinstance(store.configuration, RedisStoreConfiguration)
    assert store.configuration.password.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(store)


def test_a_cached_directory_is_read_again_only_when_it_is_old_and_has_changed(redis_client: redis.Redis) -> None:
    now = [0.0]
    cache = DirectoryCache(Records(redis_client, BOX), clock=lambda: now[0])
    bootstrap(redis_client)
    first = cache.fresh()
    bootstrap(redis_client, writer_token="another-writer-token")
    assert cache.fresh() is first
    now[0] += 2.0
    second = cache.fresh()
    assert second.token("another-writer-token") is not None
    now[0] += 2.0
    assert cache.fresh() is second
