"""Who asks, and what it may: the dependencies by which routes say whom they serve.

``Reading``: any token that is no inline-role token; ``Writing``: writers and admins; ``Administering``: admins;
``Asking``: any token: the route itself asks ``Caller.check`` about each thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends
from starlette.requests import Request

from worker.api.errors import refused
from worker.records.directory import Directory, Environment, Project, Token
from worker.records.rights import may, may_view

BETA: Final = "beta"


@dataclass(slots=True, frozen=True)
class Caller:
    """Who asks, and the records at that moment."""

    token: Token
    directory: Directory

    @property
    def name(self) -> str:
        """For logs and audits."""
        return f"api:{self.token.name}"

    def may(self, action: str, *keys: str) -> bool:
        """Whether it may do that to a project, an environment of it, or a segment in that, named by their keys."""
        return may(self.token, action, self.directory.resource(*keys))

    def may_view(self, *keys: str) -> bool:
        """Whether it may read a project, an environment of it, or a segment in that, named by their keys."""
        return may_view(self.token, self.directory.resource(*keys))

    def check(self, action: str, *keys: str) -> None:
        """Go on only if it may.

        Raises:
            Refused: 403.
        """
        if not self.may(action, *keys):
            raise refused(403)

    def project(self, project_key: str) -> Project:
        """A project that it may read.

        Raises:
            Refused: 403 when it may not, whether or not there is such a project; 404.
        """
        if not self.may_view(project_key):
            raise refused(403)
        found = self.directory.project(project_key)
        if found is None:
            raise refused(404, "Project not found")
        return found

    def environment(self, project_key: str, environment_key: str) -> Environment:
        """An environment that it may read.

        Raises:
            Refused: 403 when it may not, whether or not there is such an environment; 404.
        """
        if not self.may_view(project_key, environment_key):
            raise refused(403)
        found = self.directory.environment_by_key(project_key, environment_key)
        if found is None:
            raise refused(404, "Environment or project not found")
        return found


async def asking(request: Request) -> Caller:
    """Whoever has a token."""
    return Caller(*request.state.admitted)


async def reading(request: Request) -> Caller:
    """Who may read everything: every role may, a token with statements of its own may not."""
    caller = await asking(request)
    if caller.token.role is None:
        raise refused(403)
    return caller


async def writing(request: Request) -> Caller:
    """Writers and admins."""
    caller = await asking(request)
    if caller.token.role not in {"writer", "admin"}:
        raise refused(403, "Forbidden. This needs a token with the role writer or admin.")
    return caller


async def administering(request: Request) -> Caller:
    """Admins."""
    caller = await asking(request)
    if caller.token.role != "admin":
        raise refused(403, "Forbidden. This needs a token with the role admin.")
    return caller


Asking = Annotated[Caller, Depends(asking)]
Reading = Annotated[Caller, Depends(reading)]
Writing = Annotated[Caller, Depends(writing)]
Administering = Annotated[Caller, Depends(administering)]


async def beta(request: Request) -> None:
    """The gate of LaunchDarkly's beta resources: ``LD-API-Version: beta``, among whatever else is sent.

    LaunchDarkly refuses when another value comes first; its own client sends one whenever it is asked for beta with a
    header of another spelling, so any value will do here.
    """
    if not request.app.state.service.settings.beta_gate:
        return
    sent = ",".join(request.headers.getlist("ld-api-version"))
    if BETA not in {value.strip().lower() for value in sent.split(",")}:
        raise refused(403, "Forbidden. This resource is in beta: send the header LD-API-Version: beta.")


# For routers: ``create_router(…)``, then ``dependencies=[BETA_GATE]`` at their inclusion, or at the route.
BETA_GATE = Depends(beta)
