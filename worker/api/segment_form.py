"""Segments in LaunchDarkly's form. All of them are big ones: lists of contexts, kept where SDKs look them up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

from pydantic import Field

from worker.api.wire import Links, Told, links
from worker.log.creation import HAND_MADE
from worker.log.segment_texts import SegmentTexts
from worker.log.segments import Segment
from worker.records.directory import Environment

BASE = "/api/v2/segments"


class MetadataForm(Told):
    """What is told of a big segment alone."""

    env_id: str = Field(description="The environment's client-side ID")
    segment_id: str = Field(description="What SDKs look up: the key and the generation")
    version: int
    included_count: int = Field(ge=0, description="How many contexts it includes; approximate after an unclean write")
    excluded_count: int = Field(ge=0, description="How many contexts it excludes")
    last_modified: int = Field(description="Epoch milliseconds")
    deleted: Literal[False] = False


class SegmentForm(Told):
    """A segment. Its members are not listed: ask about them one by one, or export them."""

    key: str
    name: str
    description: str | None = None
    tags: list[str]
    creation_date: int = Field(description="Epoch milliseconds")
    last_modified_date: int = Field(description="Epoch milliseconds: of its last payload, or change by hand")
    links: Links = Field(alias="_links")
    rules: list[Any] = Field(default_factory=list, max_length=0)
    version: int
    deleted: Literal[False] = False
    generation: int = Field(ge=1, description="How many times the segment was created")
    unbounded: Literal[True] = True
    unbounded_context_kind: str
    unbounded_metadata: MetadataForm = Field(alias="_unboundedMetadata")
    external: str | None = Field(default=None, alias="_external", description="The integration that syncs it")
    external_link: str | None = Field(default=None, alias="_externalLink", description="Its cohort's page there")
    import_in_progress: bool = Field(alias="_importInProgress")


class SegmentsForm(Told):
    """A page of segments."""

    items: list[SegmentForm]
    links: Links = Field(alias="_links")
    total_count: int


class Listed:
    """A segment as filters and sorts see it."""

    def __init__(self, segment: Segment, texts: SegmentTexts) -> None:
        self.segment = segment
        self.described = texts

    @property
    def key(self) -> str:
        """The segment key."""
        return self.segment.segment_key

    @property
    def name(self) -> str:
        """What people see; its key where nobody has named it."""
        return self.segment.name or self.segment.segment_key

    @property
    def texts(self) -> Collection[str]:
        """What is searched."""
        return self.key, self.name, self.described.description

    @property
    def tags(self) -> Collection[str]:
        """Its tags."""
        return self.described.tags

    @property
    def external(self) -> bool:
        """Whether a partner syncs it."""
        return self.segment.integration_key != HAND_MADE

    @property
    def created_ms(self) -> int:
        """When this generation was created."""
        return self.segment.created_ms

    @property
    def modified_ms(self) -> int:
        """When it was last changed, by whomever."""
        return max(self.segment.accepted_ms or 0, self.described.described_ms, self.segment.created_ms)


def path_of(environment: Environment, *steps: str) -> str:
    """Where an environment's segments, or something of them, lie; steps are keys and fixed words."""
    return "/".join((BASE, environment.project_key, environment.environment_key, *steps))


def segment_form(environment: Environment, listed: Listed, importing: Collection[str]) -> SegmentForm:
    """One segment; ``importing``: keys of those that an import is at work on."""
    segment, texts = listed.segment, listed.described
    ref = f"{segment.segment_key}.g{segment.generation}"
    return SegmentForm(
        key=segment.segment_key,
        name=listed.name,
        description=texts.description or None,
        tags=list(texts.tags),
        creation_date=listed.created_ms,
        last_modified_date=listed.modified_ms,
        links=links(
            self=path_of(environment, segment.segment_key),
            parent=path_of(environment),
            environment=f"/api/v2/projects/{environment.project_key}/environments/{environment.environment_key}",
        ),
        version=texts.version,
        generation=segment.generation,
        unbounded_context_kind=segment.context_kind,
        unbounded_metadata=MetadataForm(
            env_id=environment.environment_id,
            segment_id=ref,
            version=texts.version,
            included_count=max(segment.members, 0),
            excluded_count=max(segment.excluded, 0),
            last_modified=listed.modified_ms,
        ),
        external=segment.integration_key if listed.external else None,
        external_link=segment.url or None,
        import_in_progress=segment.segment_key in importing,
    )


_SORTS = {
    "creationDate": lambda listed: listed.created_ms,
    "lastModified": lambda listed: listed.modified_ms,
    "name": lambda listed: listed.name.casefold(),
}


def sort_segments(found: Sequence[Listed], order: str) -> list[Listed]:
    """Sort by fields, the first counts most; ``-`` before one turns it round. Ties stand by key.

    Raises:
        ValueError: a field is none of creationDate, lastModified, name; one sentence for a person.
    """
    ordered = sorted(found, key=lambda listed: listed.key)
    for field in reversed(order.split(",")):
        key = _SORTS.get(field.removeprefix("-"))
        if key is None:
            raise ValueError(f"{field[:40]!r} is none of {', '.join(_SORTS)}; a - before it turns the order round")
        ordered.sort(key=key, reverse=field.startswith("-"))
    return ordered
