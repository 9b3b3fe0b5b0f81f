"""Options of environments: aliases of their ids, and policies for members that cannot be read."""

from __future__ import annotations

import pytest
import redis

from worker.errors import Conflict, Misconfigured, NotFound
from worker.model import RedisStoreConfiguration
from worker.records.directory import Directory
from worker.records.environment_options import EnvironmentOptions
from worker.records.projects import ProjectRecords
from worker.records.records import DirectoryCache, Records
from worker.records.tables import POLICIES, write_record

STORE = RedisStoreConfiguration(host="redis.internal")


@pytest.fixture
def options(redis_client: redis.Redis) -> EnvironmentOptions:
    Records(redis_client).bootstrap(environment_id="env-1", store_configuration=STORE)
    return EnvironmentOptions(redis_client)


def directory(client: redis.Redis) -> Directory:
    return Records(client).directory()


def found(client: redis.Redis, name: str) -> str | None:
    environment = directory(client).environment(name)
    return environment.environment_id if environment else None


def test_an_environment_is_found_by_its_id_and_by_each_alias(
    options: EnvironmentOptions, redis_client: redis.Redis
) -> None:
    options.add_alias("3187", "env-1")
    options.add_alias("3188", "env-1")

    assert [found(redis_client, name) for name in ("env-1", "3187", "3188", "3189", "")] == ["env-1"] * 3 + [None] * 2


def test_an_alias_that_is_removed_finds_nothing(options: EnvironmentOptions, redis_client: redis.Redis) -> None:
    options.add_alias("3187", "env-1")
    options.remove_alias("3187")

    assert found(redis_client, "3187") is None
    with pytest.raises(Misconfigured, match="no alias 3187"):
        options.remove_alias("3187")


def test_an_alias_given_twice_is_given(options: EnvironmentOptions, redis_client: redis.Redis) -> None:
    options.add_alias("3187", "env-1")
    options.add_alias("3187", "env-1")

    assert found(redis_client, "3187") == "env-1"


def test_an_alias_of_another_environment_is_not_taken_away(
    options: EnvironmentOptions, redis_client: redis.Redis
) -> None:
    ProjectRecords(redis_client).add_environment("default", "second", "Second", environment_id="env-2")
    options.add_alias("3187", "env-2")

    with pytest.raises(Conflict, match="alias of environment env-2"):
        options.add_alias("3187", "env-1")


def test_an_alias_means_an_environment_that_there_is(options: EnvironmentOptions, redis_client: redis.Redis) -> None:
    with pytest.raises(NotFound, match="no environment env-2"):
        options.add_alias("3187", "env-2")
    assert found(redis_client, "3187") is None


@pytest.mark.parametrize("alias", ["", "env-1", "a\nb", " 77 ", "x" * 257])
def test_what_cannot_be_an_alias_is_refused(options: EnvironmentOptions, alias: str) -> None:
    with pytest.raises(Misconfigured):
        options.add_alias(alias, "env-1")


def test_the_policy_is_of_one_environment_and_one_integration(
    options: EnvironmentOptions, redis_client: redis.Redis
) -> None:
    options.set_policy("env-1", "acme", "skip")

    known = directory(redis_client)
    assert known.policy("env-1", "acme") == "skip"
    assert known.policy("env-1", "other") == "reject"
    assert known.policy("env-2", "acme") == "reject"


def test_a_policy_can_be_taken_back(options: EnvironmentOptions, redis_client: redis.Redis) -> None:
    options.set_policy("env-1", "acme", "skip")
    options.set_policy("env-1", "acme", "reject")

    assert directory(redis_client).policies == {}


def test_a_policy_that_this_version_does_not_know_is_read_as_the_default(redis_client: redis.Redis) -> None:
    write_record(redis_client, POLICIES, "env-1/acme", "guess")

    assert directory(redis_client).policy("env-1", "acme") == "reject"


def test_a_cached_directory_sees_a_change(options: EnvironmentOptions, redis_client: redis.Redis) -> None:
    cache = DirectoryCache(Records(redis_client))
    assert cache.fresh(0.0).policy("env-1", "acme") == "reject"

    options.set_policy("env-1", "acme", "skip")

    assert cache.fresh(0.0).policy("env-1", "acme") == "skip"
