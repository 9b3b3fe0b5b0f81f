"""What partners ask before the first payload: is the token good, and does the environment exist."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.receiver.answers import error_answer, json_answer
from worker.receiver.credentials import authenticate
from worker.receiver.refusals import Refused
from worker.wiring import Wiring

# Versions of LaunchDarkly's REST API, in the order it published them. The webhook is the same in all of them.
VERSIONS = (20160426, 20191212, 20210729, 20220603, 20240415)

_log = structlog.get_logger(__name__)


class ConnectionChecks:
    """The two requests by which partners test a connection; Segment's destination makes both."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def routes(self) -> Sequence[Route]:
        """The routes; Starlette lets HEAD in wherever GET is."""
        return (
            Route("/api/v2/versions", self.versions, methods=["GET"]),
            Route("/sdk/goals/{environment_id}", self.goals, methods=["GET"]),
        )

    async def versions(self, request: Request) -> Response:
        """``GET /api/v2/versions``: LaunchDarkly's VersionsRep for every known token, whatever its rights; else 401."""
        try:
            authenticate(self._wiring.directory.current, request.headers.get("authorization"))
        except Refused as refused:
            _log.warning("connection_check.refused", status=refused.status, reason=refused.reason)
            return error_answer(refused.status, refused.message)
        asked = request.headers.get("ld-api-version", "")
        return json_answer(
            200,
            {
                "validVersions": VERSIONS,
                "latestVersion": VERSIONS[-1],
                "currentVersion": current_version(asked),
                "beta": asked == "beta",
            },
        )

    async def goals(self, request: Request) -> Response:
        """``HEAD`` or ``GET /sdk/goals/{clientSideId}``: 200 when there is such an environment, 404 else.

        No token is asked for: client-side ids are public. The list is empty, for goals are a part of experiments.
        """
        directory = self._wiring.directory.current
        if not directory.version:
            # A 404 would tell a partner that its settings are wrong.
            return error_answer(503, "The receiver has not read its records yet; ask again")
        if directory.environment(request.path_params["environment_id"]) is None:
            return error_answer(404, "Unknown client-side ID")
        return json_answer(200, [])


def current_version(asked: str) -> int:
    """The version in which a request with this LD-API-Version header is answered.

    A version that nobody knows gets the latest one, and no error: payloads that carry it are accepted as well, and a
    test of the connection must not fail where the connection works.
    """
    return int(asked) if asked in map(str, VERSIONS) else VERSIONS[-1]
