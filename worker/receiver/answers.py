"""What the receiver answers: LaunchDarkly's statuses and error bodies, or what a manifest templates."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

# Codes of LaunchDarkly's REST API.
CODES = {
    400: "invalid_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
    500: "internal_error",
    503: "service_unavailable",
}
# Partners' clients retry with their own backoff; this keeps those that obey the headers from waiting long.
RETRY_AFTER_SECONDS = 2


def json_answer(status: int, value: object) -> Response:
    """Any value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def error_answer(status: int, message: str, *, body: bytes | None = None) -> Response:
    """An error: ``{"code", "message"}``, or the body that the integration's manifest templates."""
    response = (
        Response(body, status, media_type="application/json")
        if body is not None
        else json_answer(status, {"code": CODES[status], "message": message})
    )
    add_headers(response)
    return response


def add_headers(response: Response) -> None:
    """What goes with the status of an error: when to come again, how to authenticate."""
    status = response.status_code
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        # LaunchDarkly's header, in epoch milliseconds: its clients wait by this one.
        response.headers["X-Ratelimit-Reset"] = str(int((time.time() + RETRY_AFTER_SECONDS) * 1000))
    if status == HTTPStatus.UNAUTHORIZED:
        # Two fields: clients that read only the first challenge of one exist, and Basic is the one they wait for.
        response.headers.append("WWW-Authenticate", 'Basic realm="segsync", charset="UTF-8"')
        response.headers.append("WWW-Authenticate", "Bearer")


def success_answer(body: bytes | None) -> Response:
    """204, or 200 with the body that the integration's manifest templates."""
    return _ACCEPTED if body is None else Response(body, 200, media_type="application/json")


def bug_answer() -> Response:
    """500. The server logs the traceback; the client has no use for it."""
    return error_answer(500, "An error of ours; send it again later")


class _NoContent(Response):
    """204, the answer to nearly every payload: nothing in it is one request's."""

    _START: Final = {"type": "http.response.start", "status": 204, "headers": []}
    _BODY: Final = {"type": "http.response.body", "body": b""}

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        await send(self._START)
        await send(self._BODY)


_ACCEPTED: Final = _NoContent(status_code=204)
