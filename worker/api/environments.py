"""``/api/v2/projects/{projectKey}/environments``: environments, in LaunchDarkly's form.

``_id`` is the client-side ID, which payloads carry. It may be given, so that an environment of LaunchDarkly's is
mirrored. There are no SDK keys here, so those fields, which LaunchDarkly's clients require, say so.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Response
from pydantic import Field, StringConstraints

from worker.api.access import Administering, Asking, Caller
from worker.api.admission import create_router
from worker.api.errors import documented
from worker.api.service import Service, the_service
from worker.api.wire import (
    Asked,
    EnvironmentKey,
    Key,
    Limit,
    Links,
    Name,
    Offset,
    ProjectKey,
    Tags,
    Told,
    links,
    page_links,
)
from worker.records.directory import DEFAULT_COLOR, Environment
from worker.records.projects import new_environment

BASE: Final = "/api/v2/projects/{projectKey}/environments"
# Neither a secret nor anything that an SDK would take for a key of its own.
NO_SDK_KEY: Final = "segsync-has-no-sdk-keys"
NO_MOBILE_KEY: Final = "segsync-has-no-mobile-keys"

Color = Annotated[str, StringConstraints(pattern=r"^([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$")]


class AskedEnvironment(Asked):
    """An environment to make. What LaunchDarkly has besides is about flags, and ignored."""

    key: Key
    name: Name
    color: Color = DEFAULT_COLOR
    tags: Tags = Field(default=[])
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = Field(
        default=None, alias="_id", description="The client-side ID; a new one where none is given"
    )

    def made(self, project_key: str) -> Environment:
        """The record of it."""
        return new_environment(
            project_key, self.key, self.name, environment_id=self.id, color=self.color, tags=self.tags
        )


class EnvironmentForm(Told):
    """An environment."""

    links: Links = Field(alias="_links")
    id: str = Field(alias="_id", description="The client-side ID")
    key: str
    name: str
    color: str
    tags: list[str]
    api_key: str = Field(default=NO_SDK_KEY, description="No key: there are none here")
    mobile_key: str = Field(default=NO_MOBILE_KEY, description="No key: there are none here")
    default_ttl: int = 0
    secure_mode: bool = False
    default_track_events: bool = False
    require_comments: bool = False
    confirm_changes: bool = False
    critical: bool = False


class EnvironmentsForm(Told):
    """A page of environments."""

    links: Links = Field(alias="_links")
    items: list[EnvironmentForm]
    total_count: int


router: APIRouter = create_router("Environments")


@router.get(BASE, operation_id="getEnvironmentsByProject", responses=documented(404))
def list_environments(
    project_key: ProjectKey, caller: Asking, limit: Limit = 20, offset: Offset = 0
) -> EnvironmentsForm:
    """List a project's environments, oldest first; of an inline role, those that its statements are about."""
    caller.project(project_key)
    return environments_page(caller, project_key, limit, offset)


@router.post(BASE, operation_id="postEnvironment", status_code=201, responses=documented(404, 409, 413, 415))
def add_environment(
    project_key: ProjectKey,
    asked: AskedEnvironment,
    _caller: Administering,
    service: Annotated[Service, Depends(the_service)],
) -> EnvironmentForm:
    """Make an environment; it has no store yet."""
    made = service.projects.add_environment(
        project_key, asked.key, asked.name, environment_id=asked.id, color=asked.color, tags=asked.tags
    )
    return environment_form(made)


@router.get(f"{BASE}/{{environmentKey}}", operation_id="getEnvironment", responses=documented(404))
def show_environment(project_key: ProjectKey, environment_key: EnvironmentKey, caller: Asking) -> EnvironmentForm:
    """Show an environment."""
    return environment_form(caller.environment(project_key, environment_key))


@router.delete(
    f"{BASE}/{{environmentKey}}",
    operation_id="deleteEnvironment",
    status_code=204,
    responses=documented(404, 409),
)
def remove_environment(
    project_key: ProjectKey,
    environment_key: EnvironmentKey,
    _caller: Administering,
    service: Annotated[Service, Depends(the_service)],
) -> Response:
    """Remove an environment with its stores' records; what lies in the stores stays there."""
    service.projects.remove_environment(project_key, environment_key)
    return Response(status_code=204)


def environments_page(caller: Caller, project_key: str, limit: int, offset: int) -> EnvironmentsForm:
    """A page of those environments of a project that the caller may see."""
    seen = [
        each
        for each in caller.directory.environments_of(project_key)
        if caller.may_view(project_key, each.environment_key)
    ]
    return EnvironmentsForm(
        links=page_links(BASE.format(projectKey=project_key), limit, offset, len(seen)),
        items=[environment_form(each) for each in seen[offset : offset + limit]],
        total_count=len(seen),
    )


def environment_form(environment: Environment) -> EnvironmentForm:
    """An environment as it is answered."""
    parent = BASE.format(projectKey=environment.project_key)
    return EnvironmentForm(
        links=links(self=f"{parent}/{environment.environment_key}", parent=parent),
        id=environment.environment_id,
        key=environment.environment_key,
        name=environment.name,
        color=environment.color,
        tags=list(environment.tags),
    )
