"""``/api/v2/projects``: projects, in LaunchDarkly's form."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field

from worker.api.access import Reading
from worker.api.admission import create_router
from worker.api.wire import Limit, Links, Offset, Told, links, page_links

BASE = "/api/v2/projects"


class ProjectForm(Told):
    """A project."""

    links: Links = Field(alias="_links")
    id: str = Field(alias="_id")
    key: str
    name: str
    tags: list[str]
    include_in_snippet_by_default: bool = False


class ProjectsForm(Told):
    """A page of projects."""

    links: Links = Field(alias="_links")
    items: list[ProjectForm]
    total_count: int


router: APIRouter = create_router("Projects")


@router.get(BASE, operation_id="getProjects", response_model_exclude_none=True)
def list_projects(caller: Reading, limit: Limit = 20, offset: Offset = 0) -> ProjectsForm:
    """List projects, by their keys."""
    keys = sorted({environment.project_key for environment in caller.directory.environments.values()})
    return ProjectsForm(
        links=page_links(BASE, limit, offset, len(keys)),
        items=[
            ProjectForm(links=links(self=f"{BASE}/{key}"), id=key, key=key, name=key, tags=[])
            for key in keys[offset : offset + limit]
        ],
        total_count=len(keys),
    )
