"""A manifest: LaunchDarkly's description of one integration, of which we take the syncedSegment capability."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
from jsonpointer import JsonPointer

from worker.manifest.decoder import Decoder, compile_parser
from worker.manifest.request_parser import Fault, RequestParser, faults_of
from worker.manifest.response.template import ResponseTemplate
from worker.manifest.spelling import name_meant

# Where the parts of a manifest that we take lie in it.
CAPABILITY = "/capabilities/syncedSegment"
REQUEST_PARSER = f"{CAPABILITY}/requestParser"
RESPONSE_BODY = f"{CAPABILITY}/jsonResponseBody"
PROPERTIES = ("requestParser", "jsonResponseBody")

# What to do about a template that cannot be read, by a part of what the library says of it.
_TEMPLATE_REMEDIES = {
    r"[./]\d.* is not valid": "put an index into brackets, such as requestBody.batch.[0].id",
    r'".* is not valid': "two braces begin a tag: put a blank between braces that are JSON's, and names that are no "
    "words into brackets, such as requestBody.[the key]",
    "raw block": "write two or three braces around a name, not four",
    "unclosed block": "close every {{#if}} with {{/if}}, every {{#each}} with {{/each}}",
    "closing tag|outside a block": "close every block by its own name, the inner ones first",
    "unclosed": "close every {{ with }}, every {{{ with }}}, every [ with ]",
}


@dataclass(frozen=True)
class Manifest:
    """One integration that can receive payloads.

    Attributes:
        key: the integration key, as in the endpoint's path.
        name: what people call the integration.
        parser: where things lie in its bodies.
        json_response_body: the template of its answers, or None for plain answers.
        unknown_properties: what else its syncedSegment capability has, which nobody looks at.
        repeated_properties: pointers to what one object of the file has more than once: the last counts.
    """

    key: str
    name: str
    parser: RequestParser
    json_response_body: str | None = None
    unknown_properties: tuple[str, ...] = ()
    repeated_properties: tuple[str, ...] = ()

    @cached_property
    def decoder(self) -> Decoder:
        """The decoder of the integration's bodies, compiled when first asked for."""
        return compile_parser(self.parser)

    @cached_property
    def response_template(self) -> ResponseTemplate | None:
        """The compiled template of its answers, or None for plain answers."""
        return None if self.json_response_body is None else ResponseTemplate(self.json_response_body)


@dataclass(frozen=True)
class BrokenManifest:
    """An integration whose manifest cannot be used.

    Attributes:
        key: the integration key.
        faults: everything that is wrong with it.
        request_parser: what stands in the place of its requestParser, any JSON value.
        repeated_properties: see ``Manifest``.
    """

    key: str
    faults: tuple[Fault, ...]
    request_parser: Any = None
    repeated_properties: tuple[str, ...] = ()


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its names were given more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]


def read_manifest(key: str, content: bytes) -> Manifest | BrokenManifest:
    """Read a manifest file's content, for the integration ``key``.

    Only ``capabilities.syncedSegment.requestParser`` is required; a ``jsonResponseBody`` beside it is taken; every
    other field of LaunchDarkly's framework is ignored. Whatever is wrong comes back as faults, all at once.
    """
    try:
        text = content.decode("utf-8-sig")
        document = msgspec.json.decode(text)
        repeated = tuple(_repeated(text))
    except UnicodeDecodeError as error:
        return BrokenManifest(
            key, (Fault("", f"is not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8"),)
        )
    except RecursionError:
        return BrokenManifest(key, (Fault("", "is nested too deep"),))
    except ValueError as error:
        return BrokenManifest(key, (Fault("", _no_json(text, str(error))),))
    parser = JsonPointer(REQUEST_PARSER).resolve(document, None)
    template = JsonPointer(RESPONSE_BODY).resolve(document, None)
    if template == "":
        template = None
    faults = [*_parser_faults(parser, document), *_template_faults(template)]
    if faults:
        return BrokenManifest(key, tuple(faults), parser, repeated)
    unknown = JsonPointer(CAPABILITY).resolve(document).keys() - {*PROPERTIES}
    parsed = RequestParser.model_validate(parser)
    return Manifest(key, _name(document) or key, parsed, template, tuple(sorted(unknown)), repeated)


def _no_json(text: str, why: str) -> str:
    # Python's own parser tells line and column; it takes a few things that are no JSON, of which msgspec tells.
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"is no JSON: line {error.lineno}, column {error.colno}: {error.msg}"
    except (ValueError, RecursionError):
        pass
    return f"is no JSON that everyone can read (an unpaired surrogate, or a number out of range): {why}"


def _parser_faults(parser: Any, document: Any) -> list[Fault]:
    if parser is None:
        return [_misspelt(document) or _misplaced(document) or Fault(REQUEST_PARSER, "is required", "add it")]
    return [fault._replace(pointer=REQUEST_PARSER + fault.pointer) for fault in faults_of(parser)]


def _misspelt(document: Any) -> Fault | None:
    """What is there in place of the first name that is missing on the way to the requestParser."""
    for name in JsonPointer(REQUEST_PARSER).parts:
        if not isinstance(document, Mapping):
            break
        if name not in document:
            meant = next((given for given in document if name_meant(given, [name])), None)
            perhaps = f"is required; perhaps {meant!r} is meant to be {name!r}"
            return Fault(REQUEST_PARSER, perhaps, f"rename {meant!r} to {name!r}") if meant else None
        document = document[name]
    return None


def _misplaced(document: Any) -> Fault | None:
    """The requestParser, where it does not belong."""
    for pointer, inside in _objects(document):
        if "environmentIdPath" in inside:
            where = f"at {pointer}" if pointer else "at the top of the file"
            lies = f"is required; what should be in it, such as environmentIdPath, lies {where}"
            return Fault(REQUEST_PARSER, lies, f"move what lies {where} to {REQUEST_PARSER}")
    return None


def _repeated(text: str) -> Iterator[str]:
    # A body may have a key twice; whoever writes one into a manifest has overlooked the other.
    for pointer, inside in _objects(json.loads(text, object_pairs_hook=_Object, parse_int=str)):
        yield from (pointer + JsonPointer.from_parts([name]).path for name in inside.repeated)


def _objects(document: Any) -> Iterator[tuple[str, Any]]:
    """Every object of a manifest, with its pointer; an outer one before those inside of it."""
    waiting = [("", document)]
    while waiting:
        pointer, value = waiting.pop()
        if isinstance(value, dict):
            yield pointer, value
        entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [(pointer + JsonPointer.from_parts([name]).path, inner) for name, inner in entries]


def _template_faults(template: Any) -> list[Fault]:
    if template is None:
        return []
    if not isinstance(template, str):
        remedy = 'write the JSON as one string, its quotes as \\"'
        return [Fault(RESPONSE_BODY, "must be a string: a Handlebars template", remedy)]
    try:
        ResponseTemplate(template)
    except (ValueError, RecursionError) as error:
        remedies = (remedy for part, remedy in _TEMPLATE_REMEDIES.items() if re.search(part, str(error)))
        return [Fault(RESPONSE_BODY, f"is no Handlebars template: {error}", next(remedies, ""))]
    return []


def _name(document: Any) -> str | None:
    name = document.get("name") if isinstance(document, Mapping) else None
    return name if isinstance(name, str) else None
