"""The config of a store integration: read with its faults named, shown masked, and the same again when sent back."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from worker.api.integration_config import InvalidField, mask, read_config, show_config
from worker.model import DynamoDBStoreConfiguration, RedisStoreConfiguration

SECRET = "supersecret123"
ROLE = "arn:aws:iam::123456789012:role/launchdarkly-big-segments"
TABLE = {"tableName": "big-segments", "region": "us-east-1", "roleArn": ROLE}
MADE_BY_COMMANDS = [
    RedisStoreConfiguration.from_url("rediss://ann:s3cret@h/3?ssl_check_hostname=false&ssl_ca_certs=/ca.pem", "p"),
    RedisStoreConfiguration.from_url("redis+cluster://:a-long-password-of-ours@h:7000,[::1]:7001"),
    RedisStoreConfiguration.from_url("redis+sentinel://h:26380,i/main/2?sentinel_password=s&sentinel_username=u"),
    RedisStoreConfiguration.from_url("unix://:pw@/run/redis.sock?db=4"),
    RedisStoreConfiguration.from_url("redis://[::1]:6380"),
    DynamoDBStoreConfiguration(tableName="t", region="moon-1", endpoint="http://h:8000", writeMode="transact"),
    DynamoDBStoreConfiguration(tableName="t", region="eu-west-1", roleArn=ROLE, externalId="e", prefix="p"),
]


def redis_config(**fields: Any) -> RedisStoreConfiguration:
    found = read_config("redis", {"host": "h", **fields})
    assert isinstance(found, RedisStoreConfiguration)
    return found


def table_config(**fields: Any) -> DynamoDBStoreConfiguration:
    found = read_config("dynamodb", {**TABLE, **fields})
    assert isinstance(found, DynamoDBStoreConfiguration)
    return found


def test_a_redis_store_needs_a_host_alone() -> None:
    assert show_config(redis_config()) == {
        "host": "h",
        "port": "6379",
        "username": "",
        "password": "",
        "tlsEnabled": False,
        "prefix": "launchdarkly",
        "database": 0,
    }


@pytest.mark.parametrize("port", ["6380", 6380])
def test_a_port_comes_as_text_or_number_and_goes_as_text(port: str | int) -> None:
    assert show_config(redis_config(port=port))["port"] == "6380"


def test_null_is_as_good_as_absent() -> None:
    assert redis_config(port=None, username=None, password=None, tlsEnabled=None, prefix=None) == redis_config()


def test_sentinels_listen_elsewhere() -> None:
    assert redis_config(mode="sentinel", service="main").port == 26379


@pytest.mark.parametrize("configuration", MADE_BY_COMMANDS, ids=str)
def test_what_a_command_made_is_read_back_from_what_is_shown(
    configuration: RedisStoreConfiguration | DynamoDBStoreConfiguration,
) -> None:
    assert read_config(configuration.kind, show_config(configuration), configuration) == configuration


@pytest.mark.parametrize("configuration", MADE_BY_COMMANDS, ids=str)
def test_what_is_shown_is_json_without_secrets(
    configuration: RedisStoreConfiguration | DynamoDBStoreConfiguration,
) -> None:
    shown = str(show_config(configuration))
    assert not any(secret in shown for secret in ("s3cret", "a-long-password", "'s'", "pw"))


def test_of_ours_only_what_says_something_is_shown() -> None:
    assert "mode" not in show_config(redis_config())
    assert show_config(redis_config(mode="cluster", nodes=["i:1"]))["nodes"] == ["i:1"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"host": None}, "/config/host"),
        ({"host": ""}, "/config/host"),
        ({"host": "redis://ann:pw@h"}, "/config/host"),
        ({"host": "h:6379"}, "/config/host"),
        ({"host": "[::1]"}, "/config/host"),
        ({"host": "h\n"}, "/config/host"),
        ({"host": ["h"]}, "/config/host"),
        ({"host": "h" * 254}, "/config/host"),
        ({"port": 0}, "/config/port"),
        ({"port": 65536}, "/config/port"),
        ({"port": "65536"}, "/config/port"),
        ({"port": "6379 "}, "/config/port"),
        ({"port": "-1"}, "/config/port"),
        ({"port": "٦٣٧٩"}, "/config/port"),
        ({"port": 6379.0}, "/config/port"),
        ({"port": True}, "/config/port"),
        ({"port": ""}, "/config/port"),
        ({"username": 1}, "/config/username"),
        ({"username": "a\0"}, "/config/username"),
        ({"password": 1}, "/config/password"),
        ({"password": "\ud800"}, "/config/password"),
        ({"password": "x" * 1025}, "/config/password"),
        ({"tlsEnabled": "true"}, "/config/tlsEnabled"),
        ({"tlsEnabled": 1}, "/config/tlsEnabled"),
        ({"prefix": "a b"}, "/config/prefix"),
        ({"database": -1}, "/config/database"),
        ({"database": "x"}, "/config/database"),
        ({"mode": "ring"}, "/config/mode"),
        ({"mode": "cluster", "nodes": "i:1"}, "/config/nodes"),
        ({"mode": "cluster", "nodes": ["ann:pw@i:1"]}, "/config/nodes"),
        ({"mode": "cluster", "nodes": [None]}, "/config/nodes"),
        ({"mode": "cluster", "database": 1}, "/config"),
        ({"tlsCertFile": "/c.pem"}, "/config"),
        ({"unixSocket": "/s"}, "/config/unixSocket"),
        ({"pasword": "x"}, "/config/pasword"),
        ({"a/b~c": "x"}, "/config/a~1b~0c"),
        ({"kind": "redis"}, "/config/kind"),
    ],
)
def test_each_fault_of_a_redis_store_is_told_with_its_place(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        redis_config(**fields)
    assert str(refusal.value).startswith(f"{pointer}: ")


def test_a_misspelt_field_is_told_with_those_that_there_are() -> None:
    with pytest.raises(InvalidField, match="/config/pasword: is no field of redis; known: host, port, username, passw"):
        redis_config(pasword=SECRET)


def test_no_fault_repeats_a_secret() -> None:
    for fields in ({"password": [SECRET]}, {"password": SECRET * 100}, {"password": SECRET, "mode": "sentinel"}):
        with pytest.raises(InvalidField) as refusal:
            redis_config(**fields)
        assert SECRET not in str(refusal.value)
        assert refusal.value.__cause__ is None


@pytest.mark.parametrize("key", ["redis", "dynamodb"])
@pytest.mark.parametrize("config", [None, [], "x", 1])
def test_a_config_is_an_object(key: str, config: object) -> None:
    with pytest.raises(InvalidField, match=r"^/config: must be an object"):
        read_config(key, config)


@pytest.mark.parametrize("missing", ["tableName", "region", "roleArn"])
def test_a_table_needs_name_region_and_role(missing: str) -> None:
    with pytest.raises(InvalidField, match=f"^/config/{missing}: is required"):
        read_config("dynamodb", {name: value for name, value in TABLE.items() if name != missing})


def test_an_external_id_is_made_when_there_is_none() -> None:
    first, second = table_config().externalId, table_config(externalId=None).externalId
    assert uuid.UUID(first) != uuid.UUID(second)


def test_an_external_id_that_is_there_stays_when_the_config_is_replaced_without_it() -> None:
    known = table_config(externalId="e1")
    assert read_config("dynamodb", {**TABLE, "tableName": "another"}, known) == known.model_copy(
        update={"tableName": "another"}
    )


def test_an_empty_role_means_our_own_credentials() -> None:
    assert table_config(roleArn="").roleArn == ""


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"tableName": ""}, "/config/tableName"),
        ({"tableName": "a b"}, "/config/tableName"),
        ({"region": "moon-1"}, "/config/region"),
        ({"region": ["us-east-1"]}, "/config/region"),
        ({"roleArn": "arn:aws:iam::1:role/x"}, "/config/roleArn"),
        ({"externalId": "x y"}, "/config/externalId"),
        ({"endpoint": "h:8000"}, "/config/endpoint"),
        ({"endpoint": "http://ann:pw@h"}, "/config/endpoint"),
        ({"endpoint": "http://[h"}, "/config/endpoint"),
        ({"writeMode": "fast"}, "/config/writeMode"),
        ({"host": "h"}, "/config/host"),
    ],
)
def test_each_fault_of_a_table_is_told_with_its_place(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        table_config(**fields)
    assert str(refusal.value).startswith(f"{pointer}: ")


def test_a_long_secret_shows_its_ends_and_a_short_one_nothing() -> None:
    assert mask(SECRET) == "sup********123"
    assert mask("x" * 200) == "xxx********xxx"
    assert mask("thirteen-char") == mask("x") == "********"
    assert mask("") == ""


@pytest.mark.parametrize("secret", [SECRET, "short"])
def test_a_mask_that_is_sent_back_keeps_the_secret(secret: str) -> None:
    known = redis_config(password=secret)
    found = read_config("redis", {"host": "i", "password": mask(secret)}, known)
    assert found == known.model_copy(update={"host": "i"})


@pytest.mark.parametrize("wrong", ["sup********124", "********", "sup********", "********123"])
def test_another_mask_is_refused(wrong: str) -> None:
    for known in (redis_config(password=SECRET), redis_config(password=""), None):
        with pytest.raises(InvalidField, match=r"^/config/password: is a mask"):
            read_config("redis", {"host": "h", "password": wrong}, known)


def test_the_mask_of_one_secret_is_not_kept_for_another_field() -> None:
    known = redis_config(mode="sentinel", service="s", password=SECRET, sentinelPassword="short")
    config = {**show_config(known), "sentinelPassword": mask(SECRET)}
    with pytest.raises(InvalidField, match=r"^/config/sentinelPassword: is a mask"):
        read_config("redis", config, known)


def test_a_secret_that_is_left_out_is_gone() -> None:
    known = redis_config(password=SECRET)
    assert read_config("redis", {"host": "h"}, known) == redis_config()


def test_a_number_that_stands_for_a_truth_is_not_what_was_shown() -> None:
    with pytest.raises(InvalidField, match=r"^/config/tlsEnabled"):
        read_config("redis", {"host": "h", "tlsEnabled": 0}, redis_config())
