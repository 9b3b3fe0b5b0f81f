"""What the API says when it cannot do what was asked: LaunchDarkly's statuses, codes and bodies.

Bodies are ``{"code", "message", "id"}``; the id is new with every answer, and in our log beside what happened.
Source: https://launchdarkly.com/docs/api#errors.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from worker.errors import Conflict, InvalidBatch, Misconfigured, NotFound, Unavailable
from worker.receiver import answers
from worker.receiver.refusals import Refused

CODES = answers.CODES | {409: "optimistic_locking_error", 422: "patch_failed"}
MESSAGES = {
    400: "Invalid request body",
    401: "Invalid access token",
    403: "Forbidden. Access to the requested resource was denied.",
    404: "Invalid resource identifier",
    405: "Method not allowed",
    409: "Conflict. Optimistic lock error. Try again later.",
    413: "The body is too large",
    415: "Content-Encoding must be gzip, deflate, zstd or absent",
    422: "Unprocessable entity. Could not apply patch.",
    429: "You've exceeded the API rate limit. Try again later.",
    500: "An error of ours; send it again later",
    503: "The state server is away, or refuses; try again later",
}
# Whom to look after, when it is not the state server.
_AWAY = {"store": "No store of the environment answers, or it refuses; the state server is well. Try again later"}
_LONGEST_MESSAGE = 500
# What is in ``loc`` of FastAPI's errors besides the place itself.
_PARTS = {"body": "Invalid request body", "query": "Invalid query parameter", "path": "Invalid resource identifier"}

_log = structlog.get_logger(__name__)


class Error(BaseModel):
    """The body of every error."""

    model_config = ConfigDict(title="Error")

    code: str = Field(description="The general class of error", examples=["invalid_request"])
    message: str = Field(description="What went wrong, for a person", examples=["Invalid request body"])
    id: uuid.UUID = Field(description="Another with every answer; it is in the service's log as well")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer besides its success, as FastAPI's ``responses``."""
    return {status: {"model": Error, "description": MESSAGES[status]} for status in statuses}


def refused(status: int, message: str = "", *, pointer: str | None = None) -> Refused:
    """An error to raise; without a message of its own it has LaunchDarkly's.

    Args:
        status: one of those in ``MESSAGES``.
        message: one sentence for a person; no secret, no member key.
        pointer: JSON pointer (RFC 6901) of the fault in the body.
    """
    text = message or MESSAGES[status]
    return Refused(status, f"{pointer}: {text}" if pointer else text, reason=CODES[status], pointer=pointer)


def error_answer(status: int, message: str = "") -> Response:
    """The answer for an error; its id is in the log."""
    error_id = str(uuid.uuid4())
    text = (message or MESSAGES.get(status, HTTPStatus(status).phrase))[:_LONGEST_MESSAGE]
    code = CODES.get(status, "invalid_request")
    _log.info("api.refused", status=status, code=code, error_id=error_id)
    answer = answers.json_answer(status, {"code": code, "message": text, "id": error_id})
    answers.add_headers(answer)
    return answer


def answer_for(error: Exception) -> Response | None:
    """The answer for an error that was meant; None for a bug."""
    answer: Response | None = None
    match error:
        case Refused():
            answer = error_answer(error.status, error.message)
        case RequestValidationError():
            answer = error_answer(400, fault_message(error.errors()))
        case HTTPException():
            answer = error_answer(error.status_code)
            answer.headers.update(error.headers or {})
        case Unavailable():
            _log.warning("api.unavailable", error=str(error))
            answer = error_answer(503, _AWAY.get(error.dependency, ""))
        case InvalidBatch():
            answer = error_answer(400, f"{error.pointer}: {error.message}" if error.pointer else error.message)
        case NotFound():
            answer = error_answer(404, _sentence(error))
        case Conflict():
            answer = error_answer(409, _sentence(error))
        case Misconfigured():
            answer = error_answer(400, _sentence(error))
        case ClientDisconnect():
            answer = error_answer(400, "The request ended before its body")
        case _:
            pass
    return answer


def _sentence(error: Misconfigured) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


def fault_message(faults: Sequence[Mapping[str, Any]]) -> str:
    """The first of pydantic's errors in a sentence that names the place, by a JSON pointer into the body."""
    fault = faults[0]
    where, *place = fault["loc"]
    intro = _PARTS.get(where, "Invalid request")
    if where == "body":
        # Where a body may be of several forms, pydantic names the one that was meant; that is no place in the body.
        steps = [str(part) for part in place if not str(part).startswith("(")]
        pointer = "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in steps)
        place_text = pointer or "the whole"
    else:
        place_text = ".".join(map(str, place))
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{intro}: {place_text}: {message}"
