"""The answer a manifest asks for: its jsonResponseBody, a Handlebars template, filled in and checked to be JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from dotpromptz_handlebars import Handlebars
from msgspec import Raw

if TYPE_CHECKING:
    from worker.manifest.manifest import Manifest

_json_text = msgspec.json.Decoder(Raw)
_json_object = msgspec.json.Decoder(dict[str, Raw])
_json_array = msgspec.json.Decoder(list[Raw])


@dataclass(frozen=True)
class ResponseFacts:
    """What a template may mention. On a failure, facts that nobody knows yet stay empty.

    Attributes:
        request_body: the request's bytes, decompressed.
        status_code: the HTTP status of the answer.
        error_message: empty on success, which is what templates test.
    """

    request_body: bytes
    status_code: int
    error_message: str = ""
    project_key: str = ""
    environment_key: str = ""
    segment_key: str = ""
    segment_url: str = ""


class ResponseTemplate:
    """A compiled jsonResponseBody. Safe to share among threads.

    Raises:
        ValueError: on construction; the template's syntax is wrong.
    """

    def __init__(self, source: str) -> None:
        # Escaping for HTML would turn quotes into &quot;; strings are escaped for JSON before they reach the template.
        engine = Handlebars(escape_html=False)
        engine.register_helper("log", lambda _arguments, _options: "")  # the library's own prints to stdout
        engine.register_helper("lookup", _lookup)
        self._render: Callable[[dict[str, Any]], str] = engine.compile(source)
        self._mentions_body = "requestBody" in source or "@root" in source

    def render(self, facts: ResponseFacts) -> bytes | None:
        """The answer's JSON, or None when what comes out is no JSON."""
        context: dict[str, Any] = {
            "statusCode": facts.status_code,
            "errorMessage": _escaped(facts.error_message),
            "projectKey": _escaped(facts.project_key),
            "environmentKey": _escaped(facts.environment_key),
            "segmentKey": _escaped(facts.segment_key),
            "segmentUrl": _escaped(facts.segment_url),
        }
        if self._mentions_body:
            context["requestBody"] = _body_value(facts.request_body)
        try:
            return bytes(_json_text.decode(self._render(context).encode()))
        except Exception:  # noqa: BLE001 - a template may fail in any way; the partner gets a sound answer all the same
            return None


def render(manifest: Manifest, facts: ResponseFacts) -> bytes | None:
    """The body that a manifest's own answer has.

    Returns:
        JSON, to be sent with a status that carries a body (200 on success), or None when the manifest asks for no
        answer of its own or its template did not come out as JSON: then answer as for any other integration, with an
        empty 204 on success and ``{"code", "message"}`` on failure.
    """
    return None if manifest.response_template is None else manifest.response_template.render(facts)


def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1]


def _lookup(arguments: list[Any], _options: object) -> Any:
    # The library's own helper knows dict and list only.
    container, key = arguments
    if isinstance(container, Mapping):
        return container.get(key)
    return container[int(key)] if str(key).isdigit() and int(key) < len(container) else None


def _body_value(body: bytes) -> Any:
    try:
        return _value(_json_text.decode(body.removeprefix(b"\xef\xbb\xbf")))
    except (ValueError, RecursionError):
        return None  # the failure being answered may be just this


def _value(value: Raw) -> Any:
    """A JSON value as a template is to see it: a string stays escaped as the partner escaped it."""
    text = bytes(value).decode()
    match text[0]:
        case "{":
            return _Object(_json_object.decode(value))
        case "[":
            return _Array(_json_array.decode(value))
        case '"':
            return text[1:-1]
        case "t" | "f":
            return text == "true"
        case "n":
            return None
    return text if text.strip("-0.") else 0  # what Handlebars takes for false


# A body may hold a hundred thousand members, of which a template names none: levels are opened when they are met.
class _Object(Mapping[str, Any]):
    def __init__(self, values: dict[str, Raw]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return _value(self._values[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class _Array(Sequence[Any]):
    def __init__(self, values: list[Raw]) -> None:
        self._values = values

    def __getitem__(self, index: Any) -> Any:
        return _value(self._values[index])

    def __len__(self) -> int:
        return len(self._values)
