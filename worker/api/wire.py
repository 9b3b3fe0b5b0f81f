"""Shapes that several resources share, in LaunchDarkly's spelling: links, pages, keys, tags."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

MOST_LISTED: Final = 200
KEY_PATTERN: Final = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"
LONGEST_KEY: Final = 100
JSON: Final = "application/json"


class Asked(BaseModel):
    """A body that is sent to us: types are what they are; unknown fields are ignored, as LaunchDarkly does."""

    model_config = ConfigDict(strict=True, frozen=True, alias_generator=to_camel, validate_by_name=True)


class Told(BaseModel):
    """A body that we answer with; ``None`` is left out."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )


class Link(Told):
    """Where something is."""

    href: str
    type: str = JSON


Links = dict[str, Link]

Key = Annotated[str, StringConstraints(pattern=KEY_PATTERN, max_length=LONGEST_KEY)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
Tags = Annotated[list[Tag], Field(max_length=64)]

ProjectKey = Annotated[str, Path(alias="projectKey", description="The project's key")]
EnvironmentKey = Annotated[str, Path(alias="environmentKey", description="The environment's key")]

Limit = Annotated[int, Query(ge=1, le=MOST_LISTED, description="How many are answered")]
Offset = Annotated[int, Query(ge=0, lt=2**31, description="How many are left out before them")]


def links(**hrefs: str) -> Links:
    """Links by their relation."""
    return {relation: Link(href=href) for relation, href in hrefs.items()}


def page_links(path: str, limit: int, offset: int, total: int, **parameters: str) -> Links:
    """Links of a page to itself and its neighbours."""

    def at(start: int) -> str:
        return f"{path}?{urlencode({**parameters, 'limit': limit, 'offset': start})}"

    found = {"self": at(offset), "first": at(0), "last": at(max(0, (total - 1) // limit * limit))}
    if offset + limit < total:
        found["next"] = at(offset + limit)
    if offset:
        found["prev"] = at(max(0, offset - limit))
    return links(**found)
