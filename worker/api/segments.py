"""``/api/v2/segments``: segments, listed, made, described and deleted, in LaunchDarkly's form.

Source: https://launchdarkly.com/docs/api/segments
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import AfterValidator, Field, StringConstraints

from worker.api.admission import create_router
from worker.api.appending import append
from worker.api.errors import documented, refused
from worker.api.segment_access import AboutEnvironment, AboutSegment, SegmentAsked, segment_id
from worker.api.segment_filter import MOST_CHARACTERS, InvalidFilter, read_filter
from worker.api.segment_form import Listed, SegmentForm, SegmentsForm, path_of, segment_form, sort_segments
from worker.api.segment_patch import PatchForm, Wanted, plan_patch
from worker.api.wire import KEY_PATTERN, Asked, Limit, Name, Offset, Tags, page_links
from worker.log.creation import create_segment
from worker.log.segment_texts import describe_segment
from worker.model import DEFAULT_CONTEXT_KIND
from worker.records.directory import Environment
from worker.sync.deleting import delete_segment

OF_AN_ENVIRONMENT = "/api/v2/segments/{projectKey}/{environmentKey}"
OF_A_SEGMENT = f"{OF_AN_ENVIRONMENT}/{{segmentKey}}"
LONGEST_KEY = 256
SEMANTIC = "launchdarkly.semanticpatch"

router: APIRouter = create_router("Segments")


def _no_reserved_kind(kind: str) -> str:
    if kind in {"kind", "multi"}:
        raise ValueError(f"{kind} is no context kind of its own")
    return kind


ContextKind = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", max_length=256), AfterValidator(_no_reserved_kind)
]
Description = Annotated[str, StringConstraints(max_length=4096)]


class NewSegment(Asked):
    """A segment that is to be made; what else LaunchDarkly knows of one is ignored."""

    name: Name
    key: Annotated[str, StringConstraints(pattern=KEY_PATTERN, max_length=LONGEST_KEY)]
    description: Description | None = None
    tags: Tags | None = None
    unbounded: bool | None = Field(default=None, description="There are big segments only: true, or left out")
    unbounded_context_kind: ContextKind | None = None


@router.get(
    OF_AN_ENVIRONMENT,
    operation_id="getSegments",
    response_model_exclude_none=True,
    responses=documented(400, 404),
)
def list_segments(
    request: Request,
    asked: AboutEnvironment,
    *,
    limit: Limit = 20,
    offset: Offset = 0,
    sort: Annotated[
        str, Query(max_length=256, description="creationDate, name, lastModified; with commas, - turns one round")
    ] = "creationDate",
    filter: Annotated[  # noqa: A002 - LaunchDarkly's name
        str, Query(max_length=MOST_CHARACTERS, description='As: tags anyOf ["beta"],query equals "toggle"')
    ] = "",
) -> SegmentsForm:
    """List an environment's segments."""
    environment = asked.viewed()
    try:
        fits = read_filter(filter)
    except InvalidFilter as error:
        raise refused(400, f"Invalid query parameter: filter: {error}") from None
    found = [listed for listed in asked.segments(environment) if fits(listed)]
    try:
        page = sort_segments(found, sort)[offset : offset + limit]
    except ValueError as error:
        raise refused(400, f"Invalid query parameter: sort: {error}") from None
    said = {name: value for name, value in (("sort", sort), ("filter", filter)) if name in request.query_params}
    importing = asked.importing(environment)
    return SegmentsForm(
        items=[segment_form(environment, listed, importing) for listed in page],
        links=page_links(path_of(environment), limit, offset, len(found), **said),
        total_count=len(found),
    )


@router.post(
    OF_AN_ENVIRONMENT,
    operation_id="postSegment",
    status_code=201,
    response_model_exclude_none=True,
    responses=documented(400, 404, 409, 413, 415),
)
def create(asked: AboutEnvironment, body: NewSegment) -> SegmentForm:
    """Make a segment by hand, empty; cohorts' segments are made by their first payload."""
    environment = asked.changed(body.key, "createSegment")
    if body.unbounded is False:
        raise refused(400, "there are big segments only; say true, or leave it out", pointer="/unbounded")
    create_segment(
        asked.service.wiring.client,
        environment.environment_id,
        body.key,
        context_kind=body.unbounded_context_kind or DEFAULT_CONTEXT_KIND,
        name=body.name,
        description=body.description or "",
        tags=list(dict.fromkeys(body.tags or ())),
    )
    return segment_form(environment, asked.segment(environment, body.key), ())


@router.get(OF_A_SEGMENT, operation_id="getSegment", response_model_exclude_none=True, responses=documented(404))
def show(asked: AboutSegment) -> SegmentForm:
    """Get a segment."""
    environment, listed = asked.viewed()
    return segment_form(environment, listed, asked.of.importing(environment))


@router.delete(
    OF_A_SEGMENT, operation_id="deleteSegment", status_code=204, responses=documented(404, 409), response_class=Response
)
def delete(asked: AboutSegment) -> None:
    """Delete a segment: its members leave the stores. Its key may come back, as the next generation, empty."""
    environment = asked.of.changed(asked.key, "deleteSegment")
    wiring, by = asked.service.wiring, asked.caller.name
    append(
        asked.service,
        lambda appends, _: delete_segment(wiring, appends, environment.environment_id, asked.key, by=by),
    )


@router.patch(
    OF_A_SEGMENT,
    operation_id="patchSegment",
    response_model_exclude_none=True,
    responses=documented(400, 404, 409, 413, 415, 422),
)
def patch(
    request: Request,
    asked: AboutSegment,
    body: Annotated[PatchForm, Body()],
    *,
    dry_run: Annotated[bool, Query(alias="dryRun", description="Change nothing, and answer what would be")] = False,
) -> SegmentForm:
    """Change what a segment is called, or, by a semantic patch, who is in its lists.

    A JSON Patch, alone or as ``{"patch", "comment"}``, of name, description and tags. A semantic patch
    (``Content-Type: application/json; domain-model=launchdarkly.semanticpatch``) of updateName, updateDescription,
    addTags, removeTags, and the four instructions for the targets of big segments. All of it is done, or nothing.
    """
    environment, listed = asked.viewed()
    semantic = SEMANTIC in request.headers.get("content-type", "").replace(" ", "")
    wanted = plan_patch(body, listed, semantic=semantic)
    asked.of.changed(asked.key, *wanted.actions)
    if dry_run:
        return segment_form(environment, wanted.applied_to(listed), asked.of.importing(environment))
    _do(asked, environment, listed, wanted)
    return show(asked)


def _do(asked: SegmentAsked, environment: Environment, listed: Listed, wanted: Wanted) -> None:
    # First, for it alone can be refused as somebody was faster: then nothing is done.
    if wanted.texts:
        describe_segment(
            asked.service.wiring.client,
            segment_id(environment, listed),
            revisions=listed.described.revisions,
            **wanted.texts,
        )
    if wanted.members is not None:
        asked.change_members(environment, listed, wanted.members)
