"""A manifest: LaunchDarkly's description of one integration, of which we take the syncedSegment capability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
from jsonpointer import JsonPointer

from worker.manifest.decoder import Decoder, compile_parser
from worker.manifest.request_parser import Fault, RequestParser, faults_of
from worker.manifest.response import ResponseTemplate

_CAPABILITY = "/capabilities/syncedSegment"
_PARSER = f"{_CAPABILITY}/requestParser"
_RESPONSE = f"{_CAPABILITY}/jsonResponseBody"


@dataclass(frozen=True)
class Manifest:
    """One integration that can receive payloads.

    Attributes:
        key: the integration key, as in the endpoint's path.
        name: what people call the integration.
        parser: where things lie in its bodies.
        json_response_body: the template of its answers, or None for plain answers.
    """

    key: str
    name: str
    parser: RequestParser
    json_response_body: str | None = None

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
        document = msgspec.json.decode(content.decode("utf-8-sig"))
    except RecursionError:
        return BrokenManifest(key, (Fault("", "is nested too deep"),))
    except ValueError as error:
        return BrokenManifest(key, (Fault("", f"is no JSON in UTF-8: {error}"),))
    parser = JsonPointer(_PARSER).resolve(document, None)
    template = JsonPointer(_RESPONSE).resolve(document, None) or None
    faults = [*_parser_faults(parser), *_template_faults(template)]
    if faults:
        return BrokenManifest(key, tuple(faults))
    return Manifest(key, _name(document) or key, RequestParser.model_validate(parser), template)


def _parser_faults(parser: Any) -> list[Fault]:
    if parser is None:
        return [Fault(_PARSER, "is required")]
    return [Fault(_PARSER + fault.pointer, fault.message) for fault in faults_of(parser)]


def _template_faults(template: Any) -> list[Fault]:
    if template is None:
        return []
    if not isinstance(template, str):
        return [Fault(_RESPONSE, "must be a string: a Handlebars template")]
    try:
        ResponseTemplate(template)
    except (ValueError, RecursionError) as error:
        return [Fault(_RESPONSE, f"is no Handlebars template: {error}")]
    return []


def _name(document: Any) -> str | None:
    name = document.get("name") if isinstance(document, Mapping) else None
    return name if isinstance(name, str) else None
