"""What every request passes before its handler: token, rate limits, a body that is bounded and is JSON."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, NamedTuple

import msgspec
from fastapi import APIRouter, Security
from fastapi.params import Form
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader
from starlette.requests import Request
from starlette.responses import Response

from worker.api.errors import answer_for, documented, refused
from worker.api.rate_limits import Allowance, Exceeded
from worker.api.service import Service
from worker.errors import InvalidBatch
from worker.receiver.body import TooLarge, UnsupportedEncoding, read_body
from worker.receiver.credentials import authenticate
from worker.records.directory import Directory, Token

LARGEST_BODY: Final = 1024 * 1024
# A body that is not there by then holds its request's place for nothing.
BODY_SECONDS: Final = 20.0
_JSON: Final = re.compile(r"application/([!-.0-~]+\+)?json")

# Said in the OpenAPI document; the route itself reads the header, as the receiver does.
API_KEY = APIKeyHeader(name="Authorization", scheme_name="ApiKey", description="An access token", auto_error=False)


def create_router(tag: str) -> APIRouter:
    """A router whose routes are admitted as all of the management API are: paths are written in full.

    Handlers are plain functions, run in one of few threads; they take what ``worker.api.access`` gives, and raise
    what ``worker.api.errors`` knows.
    """
    return APIRouter(
        tags=[tag],
        route_class=AdmittedRoute,
        dependencies=[Security(API_KEY)],
        responses=documented(400, 401, 403, 429, 503),
        redirect_slashes=False,
    )


class AdmittedRoute(APIRoute):
    """A route of the management API. In this order: token, rate limits, body; then FastAPI's own ways."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with what comes before and after it."""
        handle = super().get_route_handler()
        scalars = frozenset(field.alias for field in self.dependant.query_params)
        takes_form = self.body_field is not None and isinstance(self.body_field.field_info, Form)
        takes_json = self.body_field is not None and not takes_form

        async def answer(request: Request) -> Response:
            async def work(admitted: Admitted) -> Response:
                request.state.admitted = admitted
                _check_once(request, scalars)
                if takes_form:
                    request_read = await request.app.state.service.uploads.read(request)
                else:
                    request_read = await _with_json(request) if takes_json else request
                return await handle(request_read)

            return await admit(request.app.state.service, request, f"{request.method} {self.path_format}", work)

        return answer


class Admitted(NamedTuple):
    """Who asks, and the records at that moment."""

    token: Token
    directory: Directory


async def admit(
    service: Service, request: Request, route: str, work: Callable[[Admitted], Awaitable[Response]]
) -> Response:
    """Answer a request: by ``work`` when its token is known and has requests left, else with an error.

    Args:
        service: the routes'.
        request: the request; its body has not been read.
        route: method and path template: what is counted.
        work: answers, or raises what ``worker.api.errors`` knows.
    """
    allowance = Allowance()
    try:
        with service:
            directory = await service.directory()
            token = authenticate(directory, request.headers.get("authorization"))
            service.tokens.note_use(token.id)
            allowance = await service.limits.count(token, route)
            response = await work(Admitted(token, directory))
    except Exception as error:
        if isinstance(error, Exceeded):
            allowance = error.allowance
        found = answer_for(error)
        if found is None:
            raise
        response = found
    response.headers.update(allowance.headers)
    return response


class _Parsed(Request):
    """A request whose body was read as JSON already, more strictly than Starlette does."""

    def __init__(self, request: Request, body: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._read = body
        self._value = value

    async def body(self) -> bytes:
        return self._read

    async def json(self) -> Any:
        return self._value


async def _with_json(request: Request) -> Request:
    body = await read_bounded(request, LARGEST_BODY)
    if not body.strip():
        return _Parsed(request, b"", None)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise refused(400, "Content-Type must be application/json")
    try:
        # No NaN, no lone surrogates, no number that nobody can hold, no depth that nobody means.
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        told = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise refused(400, f"Invalid request body: {told}") from None
    return _Parsed(request, body, value)


async def read_bounded(request: Request, largest: int) -> bytes:
    """The body, decoded.

    Raises:
        Refused: 413 when it has more than ``largest`` bytes; 415 or 400 for what its Content-Encoding is, or is not;
            400 when it takes too long.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await read_body(request.scope, request.receive, largest)
    except TimeoutError:
        raise refused(400, f"Invalid request body: it was not there within {BODY_SECONDS:.0f} seconds") from None
    except TooLarge:
        raise refused(413, f"The body is larger than {largest} bytes") from None
    except UnsupportedEncoding:
        raise refused(415) from None
    except InvalidBatch as error:
        raise refused(400, error.message) from None


def _check_once(request: Request, scalars: Iterable[str]) -> None:
    """Of a parameter that is there twice, one would be dropped, and nobody knows which was meant."""
    for name in scalars:
        if len(request.query_params.getlist(name)) > 1:
            raise refused(400, f"Invalid query parameter: {name}: it is there more than once")
