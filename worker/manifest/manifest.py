"""A manifest: LaunchDarkly's description of one integration, of which we take the syncedSegment capability."""

from __future__ import annotations

import json
from collections.abc import Mapping
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


@dataclass(frozen=True)
class Manifest:
    """One integration that can receive payloads.

    Attributes:
        key: the integration key, as in the endpoint's path.
        name: what people call the integration.
        parser: where things lie in its bodies.
        json_response_body: the template of its answers, or None for plain answers.
        unknown_properties: what else its syncedSegment capability has, which nobody looks at.
    """

    key: str
    name: str
    parser: RequestParser
    json_response_body: str | None = None
    unknown_properties: tuple[str, ...] = ()

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
    """An integration whose manifest cannot be used: everything that is wrong with it."""

    key: str
    faults: tuple[Fault, ...]


def read_manifest(key: str, content: bytes) -> Manifest | BrokenManifest:
    """Read a manifest file's content, for the integration ``key``.

    Only ``capabilities.syncedSegment.requestParser`` is required; a ``jsonResponseBody`` beside it is taken; every
    other field of LaunchDarkly's framework is ignored. Whatever is wrong comes back as faults, all at once.
    """
    try:
        text = content.decode("utf-8-sig")
        document = msgspec.json.decode(text)
    except UnicodeDecodeError as error:
        return BrokenManifest(key, (Fault("", f"is not UTF-8: {error.reason} at byte {error.start}"),))
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
        return BrokenManifest(key, tuple(faults))
    unknown = JsonPointer(CAPABILITY).resolve(document).keys() - {"requestParser", "jsonResponseBody"}
    parsed = RequestParser.model_validate(parser)
    return Manifest(key, _name(document) or key, parsed, template, tuple(sorted(unknown)))


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
        return [Fault(REQUEST_PARSER, f"is required{_misspelling(document)}")]
    return [Fault(REQUEST_PARSER + fault.pointer, fault.message) for fault in faults_of(parser)]


def _misspelling(document: Any) -> str:
    """What is there in place of the first name that is missing on the way to the requestParser."""
    for name in JsonPointer(REQUEST_PARSER).parts:
        if not isinstance(document, Mapping):
            break
        if name not in document:
            meant = next((given for given in document if name_meant(given, [name])), None)
            return f"; perhaps {meant!r} is meant to be {name!r}" if meant else ""
        document = document[name]
    return ""


def _template_faults(template: Any) -> list[Fault]:
    if template is None:
        return []
    if not isinstance(template, str):
        return [Fault(RESPONSE_BODY, "must be a string: a Handlebars template")]
    try:
        ResponseTemplate(template)
    except (ValueError, RecursionError) as error:
        return [Fault(RESPONSE_BODY, f"is no Handlebars template: {error}")]
    return []


def _name(document: Any) -> str | None:
    name = document.get("name") if isinstance(document, Mapping) else None
    return name if isinstance(name, str) else None
