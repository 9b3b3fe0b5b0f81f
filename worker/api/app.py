"""The management API as one application: its routers, its OpenAPI document, and how it says no."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from worker.api import environments, integrations, projects, segment_files, segment_members, segments, tokens
from worker.api.errors import answer_for, error_answer
from worker.api.openapi import openapi
from worker.api.service import Service

PREFIX = "/api/v2/"
ROUTERS = (
    projects.router,
    environments.router,
    tokens.router,
    integrations.router,
    segments.router,
    segment_members.router,
    segment_files.router,
)
_OVERRIDES = frozenset({"DELETE", "PATCH", "PUT"})


def create_api(service: Service) -> FastAPI:
    """The API. Its routes are plain functions in few threads, for which ``Service.bound_threads`` is called first.

    Args:
        service: what the routes share; whoever made it closes it.
    """
    api = FastAPI(
        title="segsync",
        version="2.0",
        openapi_url=f"{PREFIX}openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _http_error, Exception: _bug},
    )
    api.state.service = service
    for router in ROUTERS:
        api.include_router(router)
    api.openapi = partial(_document, api)  # type: ignore[method-assign]  # the way FastAPI's own pages show
    api.add_middleware(Spelled)
    return api


class Spelled:
    """Before routing: the method that is meant, and addresses that are text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not (_is_text(scope.get("raw_path", b"")) and _is_text(scope["query_string"])):
                await error_answer(400, "The address is no UTF-8")(scope, receive, send)
                return
            scope = _overridden(scope)
        await self._app(scope, receive, send)


def _is_text(encoded: bytes) -> bool:
    """Whether what is percent-encoded is UTF-8; servers put replacement characters for what is not."""
    try:
        unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        return False
    return True


def _overridden(scope: Scope) -> Scope:
    """``X-HTTP-Method-Override`` of a POST, for clients behind proxies that let nothing else through."""
    if scope["method"] != "POST":
        return scope
    sent: Any = dict(scope["headers"]).get(b"x-http-method-override", b"").decode("latin-1").upper()
    return {**scope, "method": sent} if sent in _OVERRIDES else scope


def _document(api: FastAPI) -> dict[str, Any]:
    if api.openapi_schema is None:
        api.openapi_schema = openapi(api)
    return api.openapi_schema


async def _http_error(request: Request, error: Exception) -> Response:
    answer = answer_for(error)
    assert answer is not None
    if answer.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # Each route knows its own method alone, and the path has several.
        found = _methods(request.url.path)
        answer.headers["Allow"] = ", ".join(sorted(found)) or answer.headers.get("Allow", "")
    return answer


def _methods(path: str) -> set[str]:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    return {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}


async def _bug(_request: Request, _error: Exception) -> Response:
    # The server logs the traceback; the client has no use for it.
    return error_answer(500)
