"""The records of stores: added, changed and removed, never two at one place, no change of another's lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import redis
from pydantic import SecretStr
from secret_keys import BOX

from worker.errors import Misconfigured, Unavailable
from worker.model import DynamoDBStoreConfiguration, RedisStoreConfiguration, StoreRecord
from worker.records import change
from worker.records.circuit import Circuits
from worker.records.directory import Directory, Environment
from worker.records.environment_options import EnvironmentOptions
from worker.records.records import Records
from worker.records.secret_box import SecretBox
from worker.records.stores import ExistingStore, StoreRecords
from worker.records.tables import ENVIRONMENTS, FORGOTTEN, STORES, Superseded, write_record

FIRST = RedisStoreConfiguration(host="redis.internal", password=SecretStr("s3cret"))
SECOND = RedisStoreConfiguration(host="other.internal")
TABLE = DynamoDBStoreConfiguration(tableName="flags", region="eu-west-1")


@pytest.fixture
def stores(redis_client: redis.Redis) -> StoreRecords:
    """Of an installation with the environment env-1, its store "redis", and the environment env-2 without a store."""
    Records(redis_client, BOX).bootstrap(environment_id="env-1", store_configuration=FIRST)
    other = Environment(environment_id="env-2", environment_key="staging", project_key="default", name="Staging")
    write_record(redis_client, ENVIRONMENTS, "env-2", other.model_dump_json())
    return StoreRecords(redis_client, BOX)


def directory(client: redis.Redis) -> Directory:
    return Records(client, BOX).directory()


def names(client: redis.Redis, environment_id: str = "env-1") -> list[str]:
    return [store.name for store in directory(client).stores_of(environment_id)]


def first_of(client: redis.Redis) -> StoreRecord:
    return directory(client).stores_of("env-1")[0]


def test_a_store_is_added_beside_the_others_and_is_the_youngest(
    stores: StoreRecords, redis_client: redis.Redis
) -> None:
    added = stores.add("env-1", "second", SECOND, on=False, rebuild_when_wiped=False)
    stores.add("env-1", "table", TABLE)

    assert names(redis_client) == ["redis", "second", "table"]
    assert directory(redis_client).store(added.store_id) == added
    assert (added.environment_id, added.on, added.rebuild_when_wiped, added.version) == ("env-1", False, False, 1)


def test_stores_are_ordered_by_age_also_when_the_clock_has_stepped_back(
    stores: StoreRecords, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.records.stores.time.time", lambda: 1.0)
    for number in range(5):
        stores.add("env-1", f"n{number}", SECOND.model_copy(update={"database": number}))

    assert names(redis_client) == ["redis", "n0", "n1", "n2", "n3", "n4"]


def test_a_records_password_survives_a_change(stores: StoreRecords, redis_client: redis.Redis) -> None:
    stores.set(first_of(redis_client).store_id, on=False)

    assert first_of(redis_client).configuration == FIRST


def test_a_change_is_of_one_thing_and_counts_as_a_version(stores: StoreRecords, redis_client: redis.Redis) -> None:
    before = first_of(redis_client)
    off = stores.set(before.store_id, on=False)
    renamed = stores.set(before.store_id, name="primary", rebuild_when_wiped=False)

    assert off == before.model_copy(update={"on": False, "version": 2})
    assert renamed == off.model_copy(update={"name": "primary", "rebuild_when_wiped": False, "version": 3})
    assert first_of(redis_client) == renamed


def test_a_change_to_what_is_there_already_changes_nothing(stores: StoreRecords, redis_client: redis.Redis) -> None:
    version = directory(redis_client).version
    store = first_of(redis_client)

    assert stores.set(store.store_id, on=True, name="redis") == store
    assert directory(redis_client).version == version


def test_a_store_that_is_removed_is_noted_to_be_forgotten(stores: StoreRecords, redis_client: redis.Redis) -> None:
    before_ms = int(redis_client.time()[0]) * 1000
    removed = stores.remove(first_of(redis_client).store_id)

    assert names(redis_client) == []
    [(store_id, noted_ms)] = cast("Any", redis_client.zrange(FORGOTTEN, 0, -1, withscores=True))
    assert store_id.decode() == removed.store_id
    assert before_ms <= noted_ms < before_ms + 60_000


def test_a_store_that_init_replaces_is_noted_to_be_forgotten(stores: StoreRecords, redis_client: redis.Redis) -> None:
    gone = first_of(redis_client)
    made = stores.settle("env-1", SECOND, "replace")

    assert directory(redis_client).stores == [made]
    assert redis_client.zrange(FORGOTTEN, 0, -1) == [gone.store_id.encode()]


@pytest.mark.parametrize("act", ["set", "remove"])
def test_a_store_that_is_not_there_is_refused(stores: StoreRecords, act: str) -> None:
    with pytest.raises(Misconfigured, match=r"no store nowhere; .*store list"):
        getattr(stores, act)("nowhere")


def test_an_environment_that_is_not_there_has_no_stores(stores: StoreRecords) -> None:
    with pytest.raises(Misconfigured, match="no environment env-3"):
        stores.add("env-3", "second", SECOND)


@pytest.mark.parametrize("name", [" ", "a ", "a\nb", "x" * 65])
def test_what_cannot_be_a_name_is_refused(stores: StoreRecords, redis_client: redis.Redis, name: str) -> None:
    with pytest.raises(Misconfigured, match="name is 64 printable"):
        stores.add("env-1", name, SECOND)
    with pytest.raises(Misconfigured, match="name is 64 printable"):
        stores.set(first_of(redis_client).store_id, name=name)
    assert names(redis_client) == ["redis"]


def test_a_name_is_one_stores_in_its_environment(stores: StoreRecords, redis_client: redis.Redis) -> None:
    with pytest.raises(Misconfigured, match="a store redis already"):
        stores.add("env-1", "redis", SECOND)
    second = stores.add("env-1", "second", SECOND)
    with pytest.raises(Misconfigured, match="a store redis already"):
        stores.set(second.store_id, name="redis")

    stores.add("env-2", "redis", TABLE)
    assert (names(redis_client), names(redis_client, "env-2")) == (["redis", "second"], ["redis"])


def test_an_id_is_no_name(stores: StoreRecords, redis_client: redis.Redis) -> None:
    with pytest.raises(Misconfigured, match="choose another name"):
        stores.add("env-1", first_of(redis_client).store_id, SECOND)


def copied(configuration: Any, **changes: Any) -> Any:
    return configuration.model_copy(update=changes)


IN_ACCOUNT = copied(TABLE, roleArn="arn:aws:iam::111111111111:role/writer")
SAME_PLACES = [
    pytest.param(FIRST, copied(FIRST, password=SecretStr("other"), username="me", tlsEnabled=True), id="another login"),
    pytest.param(FIRST, copied(FIRST, host="Redis.INTERNAL."), id="host in capitals"),
    pytest.param(FIRST, copied(FIRST, prefix=""), id="default prefix"),
    pytest.param(copied(FIRST, host="127.0.0.1"), copied(FIRST, host="localhost"), id="localhost"),
    pytest.param(copied(FIRST, host="::1"), copied(FIRST, host="0:0:0:0:0:0:0:1"), id="IPv6"),
    pytest.param(TABLE, copied(TABLE, externalId="x"), id="external id"),
    pytest.param(TABLE, copied(TABLE, endpoint="https://dynamodb.eu-west-1.amazonaws.com/"), id="AWS's endpoint"),
    pytest.param(copied(TABLE, endpoint="http://local:80"), copied(TABLE, endpoint="http://LOCAL/"), id="endpoint"),
    pytest.param(IN_ACCOUNT, copied(IN_ACCOUNT, roleArn="arn:aws:iam::111111111111:role/admin"), id="same account"),
]
OTHER_PLACES = [
    pytest.param(FIRST, copied(FIRST, port=6380), id="port"),
    pytest.param(FIRST, copied(FIRST, database=1), id="database"),
    pytest.param(FIRST, copied(FIRST, prefix="Launchdarkly"), id="prefix in capitals"),
    pytest.param(TABLE, copied(TABLE, prefix="p"), id="prefix of a table"),
    pytest.param(TABLE, copied(TABLE, region="us-east-1"), id="region"),
    pytest.param(TABLE, copied(TABLE, endpoint="http://localhost:8000"), id="endpoint"),
    pytest.param(IN_ACCOUNT, copied(IN_ACCOUNT, roleArn="arn:aws:iam::222222222222:role/writer"), id="account"),
]


@pytest.mark.parametrize(("one", "other"), SAME_PLACES)
@pytest.mark.parametrize("environment_id", ["env-1", "env-2"])
def test_two_stores_at_one_place_are_refused_in_whichever_environment(
    fake_redis: redis.Redis, environment_id: str, one: Any, other: Any
) -> None:
    stores = StoreRecords(fake_redis, BOX)
    for known in ("env-1", "env-2"):
        made = Environment(environment_id=known, environment_key=known, project_key="p", name=known)
        write_record(fake_redis, ENVIRONMENTS, known, made.model_dump_json())
    stores.add("env-1", "one", one)

    with pytest.raises(Misconfigured, match="store one of environment env-1 is at that place already") as refusal:
        stores.add(environment_id, "other", other)
    assert "s3cret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("one", "other"), OTHER_PLACES)
def test_stores_that_only_look_alike_are_two(fake_redis: redis.Redis, one: Any, other: Any) -> None:
    made = Environment(environment_id="env-1", environment_key="k", project_key="p", name="n")
    write_record(fake_redis, ENVIRONMENTS, "env-1", made.model_dump_json())
    stores = StoreRecords(fake_redis, BOX)
    stores.add("env-1", "one", one)
    stores.add("env-1", "other", other)

    assert names(fake_redis) == ["one", "other"]


def test_a_store_is_not_moved_to_anothers_place_but_may_change_where_it_is(
    stores: StoreRecords, redis_client: redis.Redis
) -> None:
    second = stores.add("env-2", "second", SECOND)
    with pytest.raises(Misconfigured, match="store redis of environment env-1 is at that place"):
        stores.set(second.store_id, configuration=copied(FIRST, password=SecretStr("x")))

    login = copied(SECOND, username="writer")
    assert stores.set(second.store_id, configuration=login).configuration == login


def test_init_does_not_write_over_a_store_of_another_environment(stores: StoreRecords) -> None:
    stores.add("env-2", "second", SECOND)

    with pytest.raises(Misconfigured, match="store second of environment env-2"):
        stores.settle("env-1", SECOND, "replace")


def test_init_does_not_choose_between_several_stores_of_a_kind(stores: StoreRecords, redis_client: redis.Redis) -> None:
    stores.add("env-1", "second", SECOND)
    wishes: list[ExistingStore] = ["refuse", "replace"]
    for wish in wishes:
        with pytest.raises(Misconfigured, match="store add"):
            stores.settle("env-1", copied(FIRST, host="third"), wish)

    assert names(redis_client) == ["redis", "second"]


def test_init_brings_that_store_up_to_date_which_is_at_the_place_and_leaves_its_switches(
    stores: StoreRecords, redis_client: redis.Redis
) -> None:
    second = stores.add("env-1", "second", SECOND, on=False, rebuild_when_wiped=False)
    login = copied(SECOND, password=SecretStr("rotated"))

    assert stores.settle("env-1", login, "refuse") == second.model_copy(update={"configuration": login, "version": 2})
    assert first_of(redis_client).configuration == FIRST


def test_what_has_moved_is_the_store_that_differs_by_nothing_else(
    stores: StoreRecords, redis_client: redis.Redis
) -> None:
    older = first_of(redis_client)
    stores.add("env-1", "second", SECOND)
    moved = stores.settle("env-1", copied(FIRST, port=6380), "moved")

    assert moved is not None
    assert moved.store_id == older.store_id
    assert [store.configuration.port for store in directory(redis_client).stores] == [6380, 6379]  # type: ignore[union-attr]


@pytest.mark.parametrize("wish", ["keep", "moved"])
def test_a_store_that_was_removed_is_not_made_again_unless_it_is_asked_for(
    stores: StoreRecords, redis_client: redis.Redis, wish: ExistingStore
) -> None:
    stores.remove(first_of(redis_client).store_id)
    assert stores.settle("env-1", FIRST, wish) is None
    assert names(redis_client) == []

    stores.add("env-1", "second", SECOND)
    assert stores.settle("env-1", copied(FIRST, port=6381), "moved") is None
    assert names(redis_client) == ["second"]

    stores.settle("env-1", TABLE, "refuse")
    assert names(redis_client) == ["second", "dynamodb"]


def test_a_store_made_beside_another_of_its_kinds_name_gets_a_name_of_its_own(
    stores: StoreRecords, redis_client: redis.Redis
) -> None:
    first = first_of(redis_client)
    stores.set(first.store_id, name="dynamodb")
    stores.settle("env-1", TABLE, "refuse")

    assert names(redis_client) == ["dynamodb", "dynamodb-2"]


def test_a_record_from_before_there_was_that_switch_is_rebuilt_when_wiped(
    stores: StoreRecords, redis_client: redis.Redis
) -> None:
    text = (
        '{"store_id": "0", "environment_id": "env-1", "name": "old", "on": true, "version": 1, '
        '"configuration": {"kind": "redis", "host": "old"}}'
    )
    redis_client.hset(STORES, "0", text)

    [old, _] = directory(redis_client).stores
    assert (old.name, old.rebuild_when_wiped) == ("old", True)


def away(client: redis.Redis, store_id: str) -> bool:
    return Circuits(client).read([store_id])[store_id].open


def test_a_store_whose_login_was_mended_or_that_is_switched_on_is_tried_at_once(
    stores: StoreRecords, redis_client: redis.Redis
) -> None:
    store_id = first_of(redis_client).store_id
    login = copied(FIRST, password=SecretStr("right"))
    changes: list[tuple[Callable[[], object], bool]] = [
        (lambda: stores.set(store_id, name="primary"), True),
        (lambda: stores.set(store_id, on=False), True),
        (lambda: stores.set(store_id, on=True), False),
        (lambda: stores.set(store_id, on=True), False),
        (lambda: stores.set(store_id, configuration=login), False),
        (lambda: stores.settle("env-1", FIRST, "keep"), True),
        (lambda: stores.settle("env-1", FIRST, "refuse"), False),
    ]
    for act, still_away in changes:
        Circuits(redis_client).failed(store_id, Unavailable("its password is wrong", dependency="store"))
        assert away(redis_client, store_id)
        act()
        assert away(redis_client, store_id) == still_away


class Meanwhile:
    """Lets something happen between the reading of the records and the writing, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, what: Callable[[], object], times: int = 1) -> None:
        self._what = what
        self._left = times
        self._read = change.read_directory
        monkeypatch.setattr(change, "read_directory", self)

    def __call__(self, client: redis.Redis, box: SecretBox | None = None) -> Directory:
        found = self._read(client, box)
        if self._left:
            self._left -= 1
            left, self._left = self._left, 0  # what happens meanwhile reads, too, and is not disturbed itself
            self._what()
            self._left = left
        return found


def test_changes_of_two_people_at_once_are_both_kept(
    stores: StoreRecords, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_id = first_of(redis_client).store_id
    Meanwhile(monkeypatch, lambda: stores.set(store_id, on=False))
    stores.set(store_id, name="primary")

    found = first_of(redis_client)
    assert (found.on, found.name, found.version) == (False, "primary", 3)


def test_a_place_taken_meanwhile_is_refused(
    stores: StoreRecords, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    Meanwhile(monkeypatch, lambda: stores.add("env-2", "theirs", SECOND))
    with pytest.raises(Misconfigured, match="store theirs of environment env-2"):
        stores.add("env-1", "ours", SECOND)


def test_a_store_removed_meanwhile_does_not_come_back(
    stores: StoreRecords, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_id = first_of(redis_client).store_id
    Meanwhile(monkeypatch, lambda: stores.remove(store_id))
    with pytest.raises(Misconfigured, match="no store"):
        stores.set(store_id, on=False)

    assert names(redis_client) == []


def test_an_alias_taken_meanwhile_is_not_taken_away(
    stores: StoreRecords, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = EnvironmentOptions(redis_client)
    Meanwhile(monkeypatch, lambda: options.add_alias("3187", "env-2"))
    with pytest.raises(Misconfigured, match="alias of environment env-2"):
        options.add_alias("3187", "env-1")

    assert directory(redis_client).aliases == {"3187": "env-2"}


def test_init_run_twice_at_once_makes_one_environment_and_one_store(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    Meanwhile(
        monkeypatch, lambda: Records(redis_client, BOX).bootstrap(environment_id=None, store_configuration=SECOND), 3
    )
    Records(redis_client, BOX).bootstrap(environment_id=None, store_configuration=SECOND)

    found = directory(redis_client)
    assert (len(found.environments), len(found.stores), len(found.tokens)) == (1, 1, 2)


def test_records_that_change_all_the_time_are_given_up(
    stores: StoreRecords, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    Meanwhile(monkeypatch, lambda: write_record(redis_client, ENVIRONMENTS, "x", "unreadable"), 10**6)
    with pytest.raises(Unavailable, match="try again"):
        stores.add("env-1", "second", SECOND)


def test_a_write_on_the_strength_of_old_records_writes_nothing(stores: StoreRecords, redis_client: redis.Redis) -> None:
    with pytest.raises(Superseded):
        write_record(redis_client, ENVIRONMENTS, "x", "{}", expected_version="another")

    assert set(directory(redis_client).environments) == {"env-1", "env-2"}


def test_many_people_at_once_lose_nothing(real_redis: redis.Redis) -> None:
    Records(real_redis, BOX).bootstrap(environment_id="env-1", store_configuration=FIRST)
    stores = StoreRecords(real_redis, BOX)

    def add(number: int) -> str | None:
        try:
            return stores.add("env-1", f"n{number % 12}", copied(SECOND, database=number % 12)).store_id
        except Misconfigured:
            return None

    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(add, range(24)))

    assert len(set(made) - {None}) == 12
    assert sorted(names(real_redis)) == sorted(["redis", *(f"n{number}" for number in range(12))])
