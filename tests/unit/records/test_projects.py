"""Projects and environments: made, changed and removed; what goes with them, and what stays."""

from __future__ import annotations

import pytest
import redis

from worker.errors import Conflict, Misconfigured, NotFound
from worker.model import RedisStoreConfiguration
from worker.records.directory import Directory
from worker.records.environment_options import EnvironmentOptions
from worker.records.projects import ProjectRecords, new_environment
from worker.records.records import Records
from worker.records.stores import StoreRecords
from worker.records.tables import ENVIRONMENTS, PROJECTS, write_record
from worker.records.tokens import TokenRecords


@pytest.fixture
def projects(redis_client: redis.Redis) -> ProjectRecords:
    made = ProjectRecords(redis_client)
    made.add_project("web", "Web", tags=["eu"])
    return made


def directory(client: redis.Redis) -> Directory:
    return Records(client).directory()


def test_a_project_is_made_with_its_environments_in_one_step(
    projects: ProjectRecords, redis_client: redis.Redis
) -> None:
    pair = [new_environment("app", key, key.title()) for key in ("test", "production")]
    made = projects.add_project("app", "App", tags=["a", "b"], environments=pair)

    found = directory(redis_client)
    assert found.project("app") == made
    assert {each.environment_key for each in found.environments_of("app")} == {"test", "production"}
    assert found.environment_by_key("app", "test") == pair[0]
    assert found.environment_by_key("web", "test") is None
    assert len(made.project_id) == 24


def test_an_environment_that_is_mirrored_keeps_its_id(projects: ProjectRecords, redis_client: redis.Redis) -> None:
    made = projects.add_environment(
        "web", "production", "Production", environment_id="65a1f0c0ffee65a1f0c0ffee", color="AABBCC", tags=["eu"]
    )
    assert directory(redis_client).environment("65a1f0c0ffee65a1f0c0ffee") == made
    assert (made.color, made.tags) == ("AABBCC", ("eu",))


def test_what_is_taken_is_a_conflict_and_changes_nothing(projects: ProjectRecords, redis_client: redis.Redis) -> None:
    projects.add_environment("web", "production", "Production", environment_id="one")
    EnvironmentOptions(redis_client).add_alias("alias", "one")
    version = Records(redis_client).version()

    with pytest.raises(Conflict, match="project web already"):
        projects.add_project("web", "Again")
    with pytest.raises(Conflict, match="environment production already"):
        projects.add_environment("web", "production", "Again")
    with pytest.raises(Conflict, match="with id one already"):
        projects.add_environment("web", "other", "Other", environment_id="one")
    with pytest.raises(Conflict, match="an alias of environment one"):
        projects.add_environment("web", "other", "Other", environment_id="alias")
    twins = [new_environment("app", "same", "Same"), new_environment("app", "same", "Same")]
    with pytest.raises(Conflict, match="environment same already"):
        projects.add_project("app", "App", environments=twins)
    assert Records(redis_client).version() == version


@pytest.mark.parametrize("key", ["", "-a", ".a", "a b", "a/b", "a:b", "ä", "a" * 101, "a\n"])
def test_what_is_no_key_is_refused(projects: ProjectRecords, key: str) -> None:
    with pytest.raises(Misconfigured, match="key begins with a letter"):
        projects.add_project(key, "Name")
    with pytest.raises(Misconfigured, match="key begins with a letter"):
        projects.add_environment("web", key, "Name")


def test_what_is_no_name_id_color_or_tag_is_refused(projects: ProjectRecords) -> None:
    with pytest.raises(Misconfigured, match="name is 1 to"):
        projects.add_project("app", "")
    with pytest.raises(Misconfigured, match="environment id"):
        projects.add_environment("web", "e", "E", environment_id="a/b}")
    with pytest.raises(Misconfigured, match="color"):
        projects.add_environment("web", "e", "E", color="red")
    with pytest.raises(Misconfigured, match="a tag is"):
        projects.add_environment("web", "e", "E", tags=["a b"])


def test_nothing_can_be_done_in_a_project_that_is_not_there(projects: ProjectRecords) -> None:
    with pytest.raises(NotFound, match="no project app"):
        projects.add_environment("app", "e", "E")
    with pytest.raises(NotFound, match="no project app"):
        projects.remove_project("app")
    with pytest.raises(NotFound, match="no environment e in project web"):
        projects.remove_environment("web", "e")
    with pytest.raises(NotFound, match="no environment e in project web"):
        projects.set_environment("web", "e", name="E")


def test_names_colors_and_tags_can_be_changed(projects: ProjectRecords, redis_client: redis.Redis) -> None:
    projects.add_environment("web", "e", "E", environment_id="one")
    projects.set_project("web", name="Other", tags=("x",))
    projects.set_environment("web", "e", name="Changed", color="000")
    found = directory(redis_client)
    project, environment = found.projects["web"], found.environments["one"]
    assert (project.name, project.tags) == ("Other", ("x",))
    assert (environment.name, environment.color) == ("Changed", "000")

    version = Records(redis_client).version()
    projects.set_project("web", name="Other")
    assert Records(redis_client).version() == version


def test_an_environment_goes_with_its_stores_aliases_and_policies_and_tokens_stay(
    projects: ProjectRecords, redis_client: redis.Redis
) -> None:
    stores, options = StoreRecords(redis_client), EnvironmentOptions(redis_client)
    for key in ("gone", "kept"):
        projects.add_environment("web", key, key, environment_id=key)
        stores.add(key, "store", RedisStoreConfiguration(host=key))
        options.add_alias(f"{key}-alias", key)
        options.set_policy(key, "rudderstack", "skip")
    [gone] = directory(redis_client).stores_of("gone")
    TokenRecords(redis_client).add("t", role="writer")

    projects.remove_environment("web", "gone")

    found = directory(redis_client)
    assert list(found.environments) == ["kept"]
    assert [store.environment_id for store in found.stores] == ["kept"]
    assert (list(found.aliases), list(found.policies)) == (["kept-alias"], ["kept/rudderstack"])
    assert len(found.tokens) == 1
    assert stores.removed_before(10**15) == [gone.store_id]


def test_a_project_goes_with_all_its_environments_also_the_last_one(
    projects: ProjectRecords, redis_client: redis.Redis
) -> None:
    for key in ("a", "b"):
        projects.add_environment("web", key, key, environment_id=key)
        StoreRecords(redis_client).add(key, "store", RedisStoreConfiguration(host=key))
    projects.remove_project("web")
    found = directory(redis_client)
    assert (found.projects, found.environments, list(found.stores)) == ({}, {}, [])
    assert projects.add_project("web", "Web again").key == "web"


def test_records_of_older_versions_are_read(redis_client: redis.Redis) -> None:
    write_record(redis_client, PROJECTS, "default", '{"key": "default", "name": "Default"}')
    old = '{"environment_id": "e", "environment_key": "production", "project_key": "default", "name": "Production"}'
    write_record(redis_client, ENVIRONMENTS, "e", old)
    found = directory(redis_client)
    assert found.projects["default"].tags == ()
    assert found.environments["e"].created_ms == 0
