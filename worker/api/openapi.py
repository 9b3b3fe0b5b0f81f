"""The OpenAPI document: FastAPI's of its routes, and ours of those that are Starlette's."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from worker.api.errors import MESSAGES, Error
from worker.api.parameters import Discarding, Listing, ManyReplays, OneReplay

Document = dict[str, Any]

_JSON: Final = "application/json"
_METHODS: Final = frozenset({"get", "post", "patch", "put", "delete"})
# FastAPI documents that it answers 422 wherever something can be wrong; here that is 400.
_FASTAPI_SCHEMAS: Final = ("HTTPValidationError", "ValidationError")
_TEXT: Final[Document] = {"type": "string"}
_NUMBER: Final[Document] = {"type": "integer"}
_MAYBE_TEXT: Final[Document] = {"type": ["string", "null"]}
_MAYBE_NUMBER: Final[Document] = {"type": ["integer", "null"]}
_ABOUT: Final = (
    "The management API of segsync, in the form of LaunchDarkly's. Answers have the headers of the rate limits that "
    "are enforced: X-Ratelimit-Auth-Token-Limit, -Remaining and -Reset for a token, X-Ratelimit-Route-Limit and "
    "-Remaining for a token and a route, X-Ratelimit-Reset for when the window ends (epoch milliseconds)."
)


def openapi(api: FastAPI) -> Document:
    """The document: all routes of the API, and ``/api/v2/batches`` and ``/api/v2/versions`` beside it."""
    document: Document = get_openapi(
        title=api.title, version=api.version, description=_ABOUT, routes=api.routes, openapi_version=api.openapi_version
    )
    for path in document["paths"].values():
        for method in _METHODS & path.keys():
            path[method]["responses"].pop("422", None) if _is_fastapis(path[method]["responses"].get("422")) else None
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _FASTAPI_SCHEMAS:
        schemas.pop(name, None)
    schemas["Error"] = Error.model_json_schema()
    _, asked = msgspec.json.schema_components(
        (OneReplay, ManyReplays, Discarding), ref_template="#/components/schemas/{name}"
    )
    schemas |= asked | _ANSWERS
    document["paths"] |= _batches() | _others()
    return document


def _is_fastapis(response: Document | None) -> bool:
    return response is not None and _FASTAPI_SCHEMAS[0] in str(response)


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: Document, **optional: Document) -> Document:
    return {"type": "object", "properties": required | optional, "required": list(required)}


def _list(of: Document) -> Document:
    return {"type": "array", "items": of}


def _operation(
    name: str,
    tag: str,
    summary: str,
    answer: str,
    *statuses: int,
    body: str = "",
    parameters: list[Document] | None = None,
    error: str = "Error",
) -> Document:
    operation: Document = {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "security": [{"ApiKey": []}],
        "parameters": parameters or [],
        "responses": {
            "200": {"description": "Done", "content": {_JSON: {"schema": _ref(answer)}}},
            **{
                str(status): {"description": MESSAGES[status], "content": {_JSON: {"schema": _ref(error)}}}
                for status in statuses
            },
        },
    }
    if body:
        operation["requestBody"] = {"content": {_JSON: {"schema": _ref(body)}}, "required": body == "Discarding"}
    return operation


def _batches() -> Document:
    said = msgspec.json.schema(Listing)["$defs"]["Listing"]["properties"]
    query = [
        {
            "name": name,
            "in": "query",
            "schema": next((x for x in schema.get("anyOf", ()) if x != {"type": "null"}), schema),
        }
        for name, schema in said.items()
    ]
    identified: list[Document] = [{"name": "id", "in": "path", "required": True, "schema": _TEXT}]
    base, tag, common = "/api/v2/batches", "Batches", (400, 401, 403, 429, 503)
    done = "ReplayOrPreview"
    return {
        base: {"get": _operation("getBatches", tag, "List batches", "Batches", *common, parameters=query)},
        f"{base}/{{id}}": {
            "get": _operation("getBatch", tag, "Show a batch", "ExaminedBatch", *common, 404, parameters=identified)
        },
        f"{base}/replay": {
            "post": _operation("replayBatches", tag, "Replay batches", done, *common, 413, 415, body="ManyReplays")
        },
        f"{base}/{{id}}/replay": {
            "post": _operation(
                "replayBatch", tag, "Replay a batch", done, *common, 404, 413, 415,
                body="OneReplay", parameters=identified,
            )
        },
        f"{base}/{{id}}/discard": {
            "post": _operation(
                "discardBatch", tag, "Decide that a batch is never replayed", "BatchesDecided", *common, 404, 413, 415,
                body="Discarding", parameters=identified,
            )
        },
    }  # fmt: skip


def _others() -> Document:
    document: Document = {
        "operationId": "getOpenapiSpec",
        "tags": ["Other"],
        "summary": "This document",
        "security": [],
        "responses": {"200": {"description": "Done", "content": {_JSON: {"schema": {"type": "object"}}}}},
    }
    return {
        "/api/v2/openapi.json": {"get": document},
        "/api/v2/versions": {
            "get": _operation(
                "getVersions",
                "Other",
                "The versions of LaunchDarkly's API",
                "Versions",
                401,
                503,
                error="ReceiverError",
            )
        },
    }


_ANSWERS: Final[Document] = {
    "ReceiverError": _object({"code": _TEXT, "message": _TEXT}),
    "BatchLinks": {"type": "object", "additionalProperties": _object({"href": _TEXT, "type": _TEXT})},
    "Batch": _object(
        {
            "id": _TEXT,
            "status": _TEXT,
            "acceptedAt": _NUMBER,
            "position": _TEXT,
            "integrationKey": _MAYBE_TEXT,
            "environmentId": _MAYBE_TEXT,
            "segmentKey": _MAYBE_TEXT,
            "generation": _MAYBE_NUMBER,
            "reason": _MAYBE_TEXT,
            "message": _MAYBE_TEXT,
            "pointer": _MAYBE_TEXT,
            "attempts": _MAYBE_NUMBER,
            "bytes": _NUMBER,
            "decision": {"type": ["object", "null"]},
        }
    ),
    "Batches": _object({"items": _list(_ref("Batch")), "_links": _ref("BatchLinks")}),
    "BatchesDecided": _object({"items": _list(_ref("Batch"))}),
    "ExaminedBatch": _object(
        {
            "id": _TEXT,
            "entries": _list(_ref("Batch")),
            "outline": {"type": ["object", "null"]},
            "replay": {"type": ["object", "null"]},
            "_links": _ref("BatchLinks"),
        }
    ),
    "ReplayOrPreview": _object(
        {"preview": {"type": "boolean"}, "batches": _NUMBER, "segments": _list({"type": "object"})},
        left=_NUMBER,
        leftExact={"type": "boolean"},
        before=_MAYBE_TEXT,
    ),
    "Versions": _object(
        {
            "validVersions": _list(_NUMBER),
            "latestVersion": _NUMBER,
            "currentVersion": _NUMBER,
            "beta": {"type": "boolean"},
        }
    ),
}
