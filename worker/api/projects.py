"""``/api/v2/projects``: projects, in LaunchDarkly's form.

A project that is made without environments has none: LaunchDarkly makes two, whose client-side IDs nobody has chosen.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from worker.api.access import Administering, Asking, Caller
from worker.api.admission import create_router
from worker.api.environments import (
    AskedEnvironment,
    EnvironmentForm,
    EnvironmentsForm,
    environment_form,
    environments_page,
)
from worker.api.errors import documented
from worker.api.service import Service, the_service
from worker.api.wire import Asked, Key, Limit, Links, Name, Offset, ProjectKey, Tags, Told, links, page_links
from worker.records.directory import Project

BASE = "/api/v2/projects"
# An expanded project shows so many of its environments; its link leads to all of them.
_MOST_EXPANDED = 20

Expand = Annotated[str, Query(description='"environments" for those of each project, the first twenty')]


class AskedProject(Asked):
    """A project to make."""

    key: Key
    name: Name
    tags: Tags = Field(default=[])
    environments: Annotated[list[AskedEnvironment], Field(max_length=100)] = Field(default=[])


class ProjectForm(Told):
    """A project."""

    links: Links = Field(alias="_links")
    id: str = Field(alias="_id", description="24 hexadecimal digits")
    key: str
    name: str
    tags: list[str]
    include_in_snippet_by_default: bool = Field(default=False, description="Always false: there are no flags here")
    environments: EnvironmentsForm | None = Field(default=None, description="Where the request expands them")


class MadeProjectForm(ProjectForm):
    """A project that was made just now, with the environments that were made with it."""

    environments: list[EnvironmentForm]  # type: ignore[assignment]  # LaunchDarkly's own: a page there, a list here


class ProjectsForm(Told):
    """A page of projects."""

    links: Links = Field(alias="_links")
    items: list[ProjectForm]
    total_count: int


router: APIRouter = create_router("Projects")


@router.get(BASE, operation_id="getProjects", response_model_exclude_none=True)
def list_projects(caller: Asking, limit: Limit = 20, offset: Offset = 0, expand: Expand = "") -> ProjectsForm:
    """List projects, by their keys; of an inline role, those that its statements are about."""
    keys = sorted(key for key in caller.directory.projects if caller.may_view(key))
    return ProjectsForm(
        links=page_links(BASE, limit, offset, len(keys)),
        items=[_form(caller, caller.directory.projects[key], expand) for key in keys[offset : offset + limit]],
        total_count=len(keys),
    )


@router.post(BASE, operation_id="postProject", status_code=201, responses=documented(409, 413, 415))
def add_project(
    asked: AskedProject, _caller: Administering, service: Annotated[Service, Depends(the_service)]
) -> MadeProjectForm:
    """Make a project, with the environments that are given, in one step."""
    environments = [each.made(asked.key) for each in asked.environments]
    made = service.projects.add_project(asked.key, asked.name, tags=asked.tags, environments=environments)
    return MadeProjectForm(**_facts(made), environments=[environment_form(each) for each in environments])


@router.get(
    f"{BASE}/{{projectKey}}",
    operation_id="getProject",
    responses=documented(404),
    response_model_exclude_none=True,
)
def show_project(project_key: ProjectKey, caller: Asking, expand: Expand = "") -> ProjectForm:
    """Show a project."""
    return _form(caller, caller.project(project_key), expand)


@router.delete(f"{BASE}/{{projectKey}}", operation_id="deleteProject", status_code=204, responses=documented(404, 409))
def remove_project(
    project_key: ProjectKey, _caller: Administering, service: Annotated[Service, Depends(the_service)]
) -> Response:
    """Remove a project with its environments; what lies in their stores stays there."""
    service.projects.remove_project(project_key)
    return Response(status_code=204)


def _facts(project: Project) -> dict[str, object]:
    path = f"{BASE}/{project.key}"
    return {
        "links": links(self=path, environments=f"{path}/environments"),
        "id": project.project_id,
        "key": project.key,
        "name": project.name,
        "tags": list(project.tags),
    }


def _form(caller: Caller, project: Project, expand: str) -> ProjectForm:
    expanded = "environments" in expand.split(",")
    return ProjectForm(
        **_facts(project),
        environments=environments_page(caller, project.key, _MOST_EXPANDED, 0) if expanded else None,
    )
