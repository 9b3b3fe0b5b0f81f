"""Lint of a manifest: what validation finds, and what it cannot see, each with what to write instead."""

from __future__ import annotations

import json
from collections.abc import Iterator

from jsonpointer import JsonPointer

from worker.errors import InvalidBatch
from worker.manifest.document import array_index
from worker.manifest.lint.finding import Finding
from worker.manifest.lint.matcher import lint_matcher
from worker.manifest.lint.pointers import NamedPointer, lint_pointers, pointers_of
from worker.manifest.lint.response import lint_response
from worker.manifest.manifest import CAPABILITY, REQUEST_PARSER, BrokenManifest, Manifest
from worker.manifest.request_parser import RequestParser
from worker.manifest.sample import found, sample_body
from worker.manifest.spelling import name_meant
from worker.model import MEMBER_REASONS

_PROPERTIES = ("requestParser", "jsonResponseBody")


def lint(manifest: Manifest | BrokenManifest) -> list[Finding]:
    """Everything that is wrong with a manifest, or probably is.

    Returns:
        Errors first. Of a manifest that cannot be used only its faults: the rest is looked at when they are gone.
    """
    if isinstance(manifest, BrokenManifest):
        correct = "correct this: until then the integration's endpoint answers 503"
        return [Finding("error", "invalid", fault.pointer, fault.message, correct) for fault in manifest.faults]
    pointers = list(lint_pointers(manifest.parser))
    findings = [*pointers, *lint_matcher(manifest.parser), *lint_response(manifest), *_unknown_properties(manifest)]
    if not any(finding.severity == "error" for finding in pointers):
        # What is wrong with the pointers by themselves would be told a second time.
        findings += _contradictions(manifest)
    return sorted(findings, key=lambda finding: finding.severity != "error")


def _unknown_properties(manifest: Manifest) -> Iterator[Finding]:
    for name in manifest.unknown_properties:
        meant = name_meant(name, _PROPERTIES)
        yield Finding(
            "warning",
            "unknown-property",
            CAPABILITY + JsonPointer.from_parts([name]).path,
            "is no property of syncedSegment: nobody looks at it",
            f"perhaps {meant} is meant" if meant else f"drop it; a syncedSegment has {' and '.join(_PROPERTIES)}",
        )


def _contradictions(manifest: Manifest) -> Iterator[Finding]:
    """Pointers that cannot all be satisfied by one body."""
    parser = manifest.parser
    body = sample_body(parser)
    pointers = pointers_of(parser)
    try:
        manifest.decoder.decode(json.dumps(body).encode())
    except InvalidBatch as refusal:
        culprit = _culprit(parser, pointers, refusal)
        yield Finding(
            "error",
            "no-payload-possible",
            REQUEST_PARSER if culprit is None else culprit.in_manifest,
            "cannot be satisfied together with the others, so payloads are refused; of a body made from these very "
            f"pointers the decoder says: {refusal.message}",
            _apart(parser, culprit, pointers),
        )
        return
    for pointer in pointers:
        if not any(found(body, place) for place in _places(pointer, parser)):
            yield Finding(
                "warning",
                "pointer-never-finds",
                pointer.in_manifest,
                f"is {pointer.text}, and finds nothing in any body in which the other pointers find what they look for",
                _apart(parser, pointer, pointers),
            )


def _places(pointer: NamedPointer, parser: RequestParser) -> list[str]:
    """Where in a body a pointer looks: a member's, in the first member of each array."""
    if not pointer.is_members:
        return [pointer.text]
    if pointer.place.endswith("/booleanMembershipPath") and parser.mode != "boolean":
        return [""]
    arrays = (parser.member_array_path, parser.add_member_array_path, parser.remove_member_array_path)
    return [f"{array}/0{pointer.text}" for array in arrays if array is not None]


def _culprit(parser: RequestParser, pointers: list[NamedPointer], refusal: InvalidBatch) -> NamedPointer | None:
    """The pointer of the manifest that looked where a body was refused."""
    if refusal.pointer is None:
        return None
    if refusal.reason == "members":
        pointers = [pointer for pointer in pointers if pointer.is_array]
    elif refusal.reason in MEMBER_REASONS:
        pointers = [pointer for pointer in pointers if pointer.is_members]
    else:
        pointers = [pointer for pointer in pointers if not pointer.is_members and not pointer.is_array]
    exact = [pointer for pointer in pointers if refusal.pointer in _places(pointer, parser)]
    if exact:
        return exact[0]
    return next((pointer for pointer in pointers if pointer.place.endswith("/memberIdPath")), None)


def _apart(parser: RequestParser, pointer: NamedPointer | None, pointers: list[NamedPointer]) -> str:
    """What to do about a pointer that others are in the way of, naming them."""
    check = "compare it with a body that the partner really sends"
    if pointer is None:
        return check
    if pointer.text == "" and not pointer.is_members:
        return f'"" is the body as a whole, which is an object; {check}'
    for array in pointers:
        token = _token_inside(array, pointer)
        if array.is_array and token is not None and array_index(token) is None:
            return (
                f"{array.name} says that {array.text} is an array, in which {token!r} finds nothing: indices are 0, 1 …"
            )
    clashing = [other for other in pointers if other is not pointer and _clash(parser, pointer, other)]
    if not clashing:
        return check
    names = " and ".join(f"{other.name}, {other.text or 'the member as a whole'}" for other in clashing)
    return f"move it out of the way of {names}: one value cannot be what both look for; {check}"


def _token_inside(array: NamedPointer, pointer: NamedPointer) -> str | None:
    depth = len(array.tokens)
    inside = not pointer.is_members and len(pointer.tokens) > depth and pointer.tokens[:depth] == array.tokens
    return pointer.tokens[depth] if inside else None


def _clash(parser: RequestParser, one: NamedPointer, other: NamedPointer) -> bool:
    """Whether one looks at, or inside of, what the other looks at; inside of an array there is room for all."""
    for first in _places(one, parser):
        for second in _places(other, parser):
            (_, short), (_, long) = places = sorted(
                ((pointer, tuple(JsonPointer(place).parts)) for pointer, place in ((one, first), (other, second))),
                key=lambda place: len(place[1]),
            )
            if long[: len(short)] == short and not (places[0][0].is_array and len(long) > len(short)):
                return True
    return False
