"""Projects and their environments: added and removed, one step each."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import redis

from worker.errors import Conflict, Misconfigured, NotFound
from worker.records.change import change_records
from worker.records.directory import DEFAULT_COLOR, Directory, Environment, Project
from worker.records.keys import check_key, check_name, check_tags
from worker.records.stores import queue_removal, server_ms
from worker.records.tables import ALIASES, ENVIRONMENTS, POLICIES, PROJECTS, Writes

_ENVIRONMENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # it is part of keys: no slash, no brace
_COLOR = re.compile(r"[0-9a-fA-F]{3}|[0-9a-fA-F]{6}")


class ProjectChanges(TypedDict, total=False):
    """What may be changed of a project."""

    name: str
    tags: tuple[str, ...]


class EnvironmentChanges(ProjectChanges, total=False):
    """What may be changed of an environment."""

    color: str


class ProjectRecords:
    """Adds and removes projects and environments. Running processes follow within seconds."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def add_project(
        self, key: str, name: str, *, tags: Sequence[str] = (), environments: Sequence[Environment] = ()
    ) -> Project:
        """Make a project, with these environments of it, in one step.

        Args:
            key: its own among all projects.
            name: for people.
            tags: for people, and for the statements of inline roles.
            environments: as ``new_environment`` makes them.

        Raises:
            Conflict: there is a project with that key, or one of the environments' ids or keys is taken.
            Misconfigured: a key, a name, a tag or an id cannot be one.
            Unavailable: the state server is away; all of it was made, or nothing.
        """
        check_key("a project's key", key)
        check_name("a project's name", name)
        check_tags(tags)
        made = Project(key=key, name=name, tags=tuple(tags), created_ms=_now_ms())

        def decide(directory: Directory) -> tuple[Project, Writes]:
            if key in directory.projects:
                raise Conflict(f"there is a project {key} already; choose another key")
            for place, environment in enumerate(environments):
                check_environment(directory, environment, environments[:place])

            def queue(pipe: Any) -> None:
                queue_project(pipe, made)
                for environment in environments:
                    queue_environment(pipe, environment)

            return made, queue

        return change_records(self._client, decide)

    def set_project(self, key: str, **changes: Unpack[ProjectChanges]) -> Project:
        """Change what people call a project, or its tags.

        Raises:
            NotFound: there is no such project.
            Misconfigured: the name or a tag cannot be one.
            Unavailable: the state server is away; it was changed or not.
        """
        _check_changes("a project's name", changes)

        def decide(directory: Directory) -> tuple[Project, Writes | None]:
            known = _project(directory, key)
            changed = known.model_copy(update=dict(changes))
            return changed, None if changed == known else lambda pipe: queue_project(pipe, changed)

        return change_records(self._client, decide)

    def remove_project(self, key: str) -> Project:
        """Remove a project with all its environments, in one step; see ``remove_environment``.

        Returns:
            What was removed.

        Raises:
            NotFound: there is no such project.
            Unavailable: the state server is away; all of it was removed, or nothing.
        """
        now_ms = server_ms(self._client)

        def decide(directory: Directory) -> tuple[Project, Writes]:
            project = _project(directory, key)
            environments = directory.environments_of(key)

            def queue(pipe: Any) -> None:
                pipe.hdel(PROJECTS, key)
                for environment in environments:
                    _queue_removal(pipe, directory, environment, now_ms)

            return project, queue

        return change_records(self._client, decide)

    def add_environment(
        self,
        project_key: str,
        key: str,
        name: str,
        *,
        environment_id: str | None = None,
        color: str = DEFAULT_COLOR,
        tags: Sequence[str] = (),
    ) -> Environment:
        """Make an environment, which has no store yet: what is accepted for it waits in its logs until it has one.

        Args:
            project_key: of a project that there is.
            key: its own in the project.
            name: for people.
            environment_id: the client-side ID that payloads carry, as of an environment of LaunchDarkly that is
                mirrored; None: a new one. With the id of one that was removed, its segments are here again.
            color: six hexadecimal digits, or three.
            tags: for people, and for the statements of inline roles.

        Raises:
            NotFound: there is no such project.
            Conflict: its key is taken in the project, or its id anywhere: by another environment, or as an alias.
            Misconfigured: the key, the name, the id, the color or a tag cannot be one.
            Unavailable: the state server is away; it was made or not.
        """
        made = new_environment(project_key, key, name, environment_id=environment_id, color=color, tags=tags)

        def decide(directory: Directory) -> tuple[Environment, Writes]:
            _project(directory, project_key)
            check_environment(directory, made)
            return made, lambda pipe: queue_environment(pipe, made)

        return change_records(self._client, decide)

    def set_environment(self, project_key: str, key: str, **changes: Unpack[EnvironmentChanges]) -> Environment:
        """Change what people call an environment, its color or its tags; its keys and its id stay for ever.

        Raises:
            NotFound: there is no such project, or no such environment in it.
            Misconfigured: the name, the color or a tag cannot be one.
            Unavailable: the state server is away; it was changed or not.
        """
        _check_changes("an environment's name", changes)
        _check_color(changes.get("color", DEFAULT_COLOR))

        def decide(directory: Directory) -> tuple[Environment, Writes | None]:
            known = _environment(directory, project_key, key)
            changed = known.model_copy(update=dict(changes))
            return changed, None if changed == known else lambda pipe: queue_environment(pipe, changed)

        return change_records(self._client, decide)

    def remove_environment(self, project_key: str, key: str) -> Environment:
        """Remove an environment with its stores' records, its aliases and its policies, in one step.

        Within five seconds, payloads for it are answered 403, and nothing more is written to its stores: what lies in
        them stays, and its SDKs see it grow old. Its logs, its snapshots and its list of segments stay in the state
        server as they are, and take room there; nobody reads or trims them, unless an environment is made with the same
        id. How far its stores were is forgotten. Tokens stay; so do statements about an environment with its key.

        Returns:
            What was removed.

        Raises:
            NotFound: there is no such project, or no such environment in it.
            Unavailable: the state server is away; all of it was removed, or nothing.
        """
        now_ms = server_ms(self._client)

        def decide(directory: Directory) -> tuple[Environment, Writes]:
            environment = _environment(directory, project_key, key)
            return environment, lambda pipe: _queue_removal(pipe, directory, environment, now_ms)

        return change_records(self._client, decide)


def new_environment(
    project_key: str,
    key: str,
    name: str,
    *,
    environment_id: str | None = None,
    color: str = DEFAULT_COLOR,
    tags: Sequence[str] = (),
) -> Environment:
    """An environment that is about to be made; parameters as those of ``ProjectRecords.add_environment``.

    Raises:
        Misconfigured: something of it cannot be what it is meant to be.
    """
    check_key("an environment's key", key)
    check_name("an environment's name", name)
    check_tags(tags)
    if environment_id is not None and not _ENVIRONMENT_ID.fullmatch(environment_id):
        raise Misconfigured("an environment id is 1 to 64 letters, digits, dots, dashes and underscores")
    _check_color(color)
    return Environment(
        environment_id=environment_id or secrets.token_hex(12),
        environment_key=key,
        project_key=project_key,
        name=name,
        color=color,
        tags=tuple(tags),
        created_ms=_now_ms(),
    )


def queue_project(pipe: Any, project: Project) -> None:
    """Queue what writes a project."""
    pipe.hset(PROJECTS, project.key, project.model_dump_json())


def queue_environment(pipe: Any, environment: Environment) -> None:
    """Queue what writes an environment."""
    pipe.hset(ENVIRONMENTS, environment.environment_id, environment.model_dump_json())


def _environment(directory: Directory, project_key: str, key: str) -> Environment:
    _project(directory, project_key)
    found = directory.environment_by_key(project_key, key)
    if found is None:
        raise NotFound(f"there is no environment {key} in project {project_key}")
    return found


def _check_changes(what: str, changes: ProjectChanges) -> None:
    if "name" in changes:
        check_name(what, changes["name"])
    check_tags(changes.get("tags", ()))


def _check_color(color: str) -> None:
    if not _COLOR.fullmatch(color):
        raise Misconfigured("a color is six hexadecimal digits, or three")


def check_environment(directory: Directory, made: Environment, beside: Sequence[Environment] = ()) -> None:
    """Refuse an environment that cannot be beside those there are, nor ``beside`` those that are made with it.

    Raises:
        Conflict: see there.
    """
    others = [*directory.environments.values(), *beside]
    if any((each.project_key, each.environment_key) == (made.project_key, made.environment_key) for each in others):
        raise Conflict(
            f"project {made.project_key} has an environment {made.environment_key} already; choose another key"
        )
    if any(each.environment_id == made.environment_id for each in others):
        raise Conflict(f"there is an environment with id {made.environment_id} already; choose another id")
    if made.environment_id in directory.aliases:
        # Payloads that carry it are for that environment, and would be for this one from now on.
        raise Conflict(
            f"{made.environment_id} is an alias of environment {directory.aliases[made.environment_id]}; "
            "choose another id, or remove the alias"
        )


def _project(directory: Directory, key: str) -> Project:
    found = directory.project(key)
    if found is None:
        raise NotFound(f"there is no project {key}")
    return found


def _queue_removal(pipe: Any, directory: Directory, environment: Environment, now_ms: int) -> None:
    environment_id = environment.environment_id
    pipe.hdel(ENVIRONMENTS, environment_id)
    for store in directory.stores_of(environment_id):
        queue_removal(pipe, store.store_id, now_ms)
    for alias in [alias for alias, meant in directory.aliases.items() if meant == environment_id]:
        pipe.hdel(ALIASES, alias)
    for field in directory.policies:
        if field.partition("/")[0] == environment_id:
            pipe.hdel(POLICIES, field)


def _now_ms() -> int:
    return int(time.time() * 1000)
