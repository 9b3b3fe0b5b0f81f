"""Store integrations as bodies: what LaunchDarkly's clients send to make one, what they are answered. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import Field, WithJsonSchema

from worker.api.integration_config import Form, InvalidField, read_config, show_config
from worker.api.integration_schema import CONFIG, PATCH
from worker.api.store_status import Status
from worker.api.wire import Asked, Link, Links, Tags, Told, links
from worker.model import StoreRecord
from worker.records.directory import Environment
from worker.records.stores import StoreChanges

BASE: Final = "/api/v2/integration-capabilities/big-segment-store"
# What of an integration may be changed.
EDITABLE: Final = ("config", "name", "on", "tags")
LONGEST_NAME: Final = 64
_MOST_TAGS: Final = 64
_TAG: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")

Name = Annotated[
    str, Field(max_length=LONGEST_NAME, description="Empty, or of its own among the stores of the environment")
]
Config = Annotated[dict[str, Any], WithJsonSchema(CONFIG)]
Shown = Annotated[dict[str, Any], Field(description="As it was given, with secrets masked")]
Patch = Annotated[Any, WithJsonSchema(PATCH)]


class IntegrationPost(Asked):
    """What a store integration is made from."""

    config: Config
    on: bool = False
    name: Name = ""
    tags: Tags = Field(default_factory=list)


class Integration(Told):
    """A store integration."""

    links: Links = Field(alias="_links", description="self, parent, project and environment")
    id: str = Field(alias="_id", description="The store's id")
    integration_key: Literal["redis", "dynamodb"]
    project_key: str
    environment_key: str
    config: Shown
    on: bool
    tags: list[str]
    name: str
    version: int
    status: Status = Field(alias="_status")


class IntegrationCollection(Told):
    """All store integrations of the account."""

    links: Links = Field(alias="_links")
    items: list[Integration]


def integration_form(record: StoreRecord, environment: Environment, status: Status) -> Integration:
    """A store as the API tells it, with its secrets masked.

    Raises:
        ValueError: it is none of this API's: a store of LaunchDarkly itself.
    """
    project_key, environment_key = environment.project_key, environment.environment_key
    if record.configuration.kind == "launchdarkly":
        raise ValueError("stores of LaunchDarkly itself are no integrations")
    return Integration(
        links=links(
            self=href(record, environment),
            parent=BASE,
            project=f"/api/v2/projects/{project_key}",
            environment=f"/api/v2/projects/{project_key}/environments/{environment_key}",
        ),
        id=record.store_id,
        integration_key=record.configuration.kind,
        project_key=project_key,
        environment_key=environment_key,
        config=show_config(record.configuration),
        on=record.on,
        tags=list(record.tags),
        name=record.name,
        version=record.version,
        status=status,
    )


def href(record: StoreRecord, environment: Environment) -> str:
    """Where a store is in the API."""
    keys = f"{environment.project_key}/{environment.environment_key}"
    return f"{BASE}/{keys}/{record.configuration.kind}/{record.store_id}"


def collection_form(items: list[Integration]) -> IntegrationCollection:
    """All of them; there is no paging."""
    return IntegrationCollection(links={"self": Link(href=BASE)}, items=items)


def read_changes(patched: Form, record: StoreRecord) -> StoreChanges:
    """What is to be changed of a store for it to be as a patched form says.

    A member that was removed is as it is when a store is made without it; ``config`` and ``on`` must be there.

    Raises:
        InvalidField: something of it is not what it must be, or there is a member that nobody knows.
    """
    kind = record.configuration.kind
    assert kind != "launchdarkly"
    changes = StoreChanges()
    if (name := _name(patched.get("name", ""))) != record.name:
        changes["name"] = name
    on = patched.get("on")
    if not isinstance(on, bool):
        raise InvalidField("/on", "must be true or false")
    if on != record.on:
        changes["on"] = on
    if (tags := _tags(patched.get("tags", []))) != record.tags:
        changes["tags"] = tags
    configuration = read_config(kind, patched.get("config"), record.configuration)
    if configuration != record.configuration:
        changes["configuration"] = configuration
    return changes


def unique(tags: list[str]) -> tuple[str, ...]:
    """Each tag once, in the order given."""
    return tuple(dict.fromkeys(tags))


def _name(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise InvalidField("/name", f"must be a string of {LONGEST_NAME} characters at the most")
    return value


def _tags(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MOST_TAGS:
        raise InvalidField("/tags", f"must be an array of {_MOST_TAGS} tags at the most")
    for at, tag in enumerate(value):
        if not isinstance(tag, str) or not _TAG.fullmatch(tag):
            raise InvalidField(f"/tags/{at}", "must be 1 to 64 letters, digits, dots, dashes and underscores")
    return unique(value)
