"""Secrets at rest: sealed under keys that are not in the records, and never lost to a missing key."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet
from pydantic import SecretStr

from worker.errors import Misconfigured
from worker.model import LaunchDarklyStoreConfiguration, RedisStoreConfiguration, StoreConfiguration
from worker.records.environment_options import EnvironmentOptions
from worker.records.projects import ProjectRecords
from worker.records.records import Records
from worker.records.reseal import Resealed, reseal
from worker.records.secret_box import CannotOpen, SecretBox, new_key
from worker.records.stores import StoreRecords
from worker.records.tables import STORES
from worker.settings import Settings, load_settings

OLD, NEW = new_key(), new_key()
SECRETS = ("pa55word", "sent1nel", "t0ken")
REDIS = RedisStoreConfiguration(
    host="one", mode="sentinel", service="flags", password=SecretStr("pa55word"), sentinelPassword=SecretStr("sent1nel")
)
LAUNCHDARKLY = LaunchDarklyStoreConfiguration(projectKey="p", environmentKey="e", accessToken=SecretStr("t0ken"))


def records(client: redis.Redis, *keys: str) -> StoreRecords:
    return StoreRecords(client, SecretBox(keys))


@pytest.fixture
def client(fake_redis: redis.Redis) -> redis.Redis:
    projects = ProjectRecords(fake_redis)
    projects.add_project("p", "P")
    projects.add_environment("p", "e", "E", environment_id="env-1")
    return fake_redis


def add(client: redis.Redis, *configurations: StoreConfiguration, keys: tuple[str, ...] = (OLD,)) -> list[str]:
    return [records(client, *keys).add("env-1", "", each).store_id for each in configurations]


def configurations(client: redis.Redis, *keys: str) -> list[StoreConfiguration]:
    return [store.configuration for store in Records(client, SecretBox(keys)).directory().stores]


def kept(client: redis.Redis) -> str:
    return repr(client.hvals(STORES))


def test_every_secret_of_every_kind_lies_sealed_and_comes_back(client: redis.Redis) -> None:
    add(client, REDIS, LAUNCHDARKLY)
    assert not any(secret in kept(client) for secret in SECRETS)
    assert kept(client).count("fernet:") == len(SECRETS)
    assert configurations(client, OLD) == [REDIS, LAUNCHDARKLY]


def test_without_keys_a_secret_is_refused_and_the_remedy_is_named(client: redis.Redis) -> None:
    with pytest.raises(Misconfigured, match=r"SEGSYNC_SECRET_KEYS.*`segsync keys new`") as refused:
        add(client, REDIS, keys=())
    assert not any(secret in str(refused.value) for secret in SECRETS)
    assert client.hlen(STORES) == 0


def test_without_keys_a_store_that_has_no_secrets_is_kept(client: redis.Redis) -> None:
    plain = RedisStoreConfiguration(host="plain")
    add(client, plain, keys=())
    assert configurations(client) == [plain]


def test_the_first_key_seals_and_all_open(client: redis.Redis) -> None:
    add(client, REDIS, keys=(OLD,))
    add(client, LAUNCHDARKLY, keys=(NEW, OLD))
    assert configurations(client, NEW, OLD) == [REDIS, LAUNCHDARKLY]
    locked = [store.locked for store in Records(client, SecretBox([NEW])).directory().stores]
    assert locked == [True, False]


def test_what_older_versions_kept_in_plain_text_is_read_and_sealed_with_the_next_change(client: redis.Redis) -> None:
    [store_id] = add(client, REDIS)
    unseal(client, store_id)
    assert configurations(client) == configurations(client, OLD) == [REDIS]
    records(client, OLD).set(store_id, on=False)
    assert not any(secret in kept(client) for secret in SECRETS)


def test_without_keys_a_store_of_an_older_version_can_still_be_switched_off(client: redis.Redis) -> None:
    [store_id] = add(client, REDIS)
    unseal(client, store_id)
    assert not records(client).set(store_id, on=False).on
    assert configurations(client) == [REDIS]


def test_a_store_that_no_key_opens_is_left_as_it_is_while_the_rest_works(
    client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    [locked_id, other_id] = [*add(client, REDIS), *add(client, LAUNCHDARKLY, keys=(NEW,))]
    before = client.hget(STORES, locked_id)
    locked, other = Records(client, SecretBox([NEW])).directory().stores
    assert (locked.locked, other.locked) == (True, False)
    assert str(locked.configuration) == str(REDIS)
    assert locked_id in capsys.readouterr().out

    records(client, NEW).set(other_id, name="other")
    EnvironmentOptions(client).add_alias("alias", "env-1")
    assert client.hget(STORES, locked_id) == before


def test_a_locked_store_can_be_renamed_without_losing_its_secret(client: redis.Redis) -> None:
    [store_id] = add(client, REDIS)
    assert records(client, NEW).set(store_id, name="renamed", tags=("a",)).locked
    [found] = Records(client, SecretBox([OLD])).directory().stores
    assert (found.name, found.configuration, found.locked) == ("renamed", REDIS, False)


def test_a_locked_store_given_its_secrets_anew_is_open(client: redis.Redis) -> None:
    [store_id] = add(client, REDIS)
    assert not records(client, NEW).set(store_id, configuration=REDIS).locked
    assert configurations(client, NEW) == [REDIS]


def test_a_secret_that_looks_sealed_is_sealed_itself(client: redis.Redis) -> None:
    tricky = REDIS.model_copy(update={"password": SecretStr("fernet:abc")})
    add(client, tricky)
    assert configurations(client, OLD) == [tricky]


def test_rotation_seals_everything_under_the_first_key(client: redis.Redis) -> None:
    add(client, REDIS, LAUNCHDARKLY, RedisStoreConfiguration(host="plain"))
    version = Records(client).version()
    assert reseal(client, SecretBox([NEW, OLD])) == Resealed(2, [])
    assert Records(client).version() != version
    assert configurations(client, NEW)[:2] == [REDIS, LAUNCHDARKLY]
    assert [store.version for store in Records(client).directory().stores] == [1, 1, 1]


def test_rotation_takes_plain_text_in_and_leaves_what_it_cannot_open(client: redis.Redis) -> None:
    plain_id, locked_id = [*add(client, REDIS), *add(client, LAUNCHDARKLY)]
    unseal(client, plain_id)
    before = client.hget(STORES, locked_id)
    assert reseal(client, SecretBox([NEW])) == Resealed(1, [locked_id])
    assert client.hget(STORES, locked_id) == before
    assert not any(secret in kept(client) for secret in SECRETS)


def test_rotation_keeps_what_a_newer_version_has_written(client: redis.Redis) -> None:
    sealed = SecretBox([OLD]).seal("hidden")
    newer = {"store_id": "n", "novelty": 1, "configuration": {"kind": "pigeon", "coop": "x", "grain": sealed}}
    client.hset(STORES, "n", json.dumps(newer))
    assert reseal(client, SecretBox([NEW, OLD])) == Resealed(1, [])
    found = json.loads(client.hget(STORES, "n") or b"")
    assert SecretBox([NEW]).open(found["configuration"].pop("grain")) == "hidden"
    assert found == {"store_id": "n", "novelty": 1, "configuration": {"kind": "pigeon", "coop": "x"}}


def test_rotation_without_a_key_is_refused(client: redis.Redis) -> None:
    with pytest.raises(Misconfigured, match="SEGSYNC_SECRET_KEYS"):
        reseal(client, SecretBox())


def test_a_damaged_secret_cannot_be_opened() -> None:
    box = SecretBox([OLD])
    for damaged in ("fernet:", "fernet:abc", "fernet:naïve", box.seal("s")[:-4]):
        with pytest.raises(CannotOpen):
            box.open(damaged)


def test_a_key_of_ours_is_one_of_fernets() -> None:
    assert Fernet(new_key())
    assert Settings(secret_keys=SecretStr(f" {OLD},\n{NEW} ,")).secrets() == [OLD, NEW]


@pytest.mark.parametrize(
    "keys",
    ["short", OLD[:-1], f"{OLD};{NEW}", f"{OLD} {NEW}", OLD.replace("=", "!")],
    ids=["short", "cut", "semicolon", "blank", "exclamation"],  # the same in every process that runs tests
)
def test_what_is_no_key_is_refused_in_one_line_without_it(keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSYNC_SECRET_KEYS", keys)
    with pytest.raises(Misconfigured, match=r"^settings: SEGSYNC_SECRET_KEYS: must be Fernet keys") as refused:
        load_settings()
    assert keys not in str(refused.value)
    assert "\n" not in str(refused.value)


def unseal(client: redis.Redis, store_id: str) -> None:
    """Keep a store as older versions did."""
    record: dict[str, Any] = json.loads(client.hget(STORES, store_id) or b"")
    box = SecretBox([OLD])
    record["configuration"] = {
        name: box.open(value) if isinstance(value, str) else value for name, value in record["configuration"].items()
    }
    client.hset(STORES, store_id, json.dumps(record))
