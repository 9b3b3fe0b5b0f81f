"""Lint of a manifest: what validation finds, and what it cannot see, each with what to write instead."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from jsonpointer import JsonPointer

from worker.errors import InvalidBatch
from worker.manifest.document import array_index
from worker.manifest.lint.finding import Finding
from worker.manifest.lint.matcher import lint_matcher
from worker.manifest.lint.pointers import NamedPointer, lint_each, lint_pointers, pointers_of
from worker.manifest.lint.response import lint_response
from worker.manifest.lint.sample import found, sample_body
from worker.manifest.manifest import CAPABILITY, PROPERTIES, REQUEST_PARSER, BrokenManifest, Manifest
from worker.manifest.request_parser import RequestParser, member_arrays
from worker.manifest.spelling import name_meant
from worker.model import MEMBER_REASONS

_UNTIL_THEN = "correct this: until then the integration's endpoint answers 503"


def lint(manifest: Manifest | BrokenManifest) -> list[Finding]:
    """Everything that is wrong with a manifest, or probably is.

    Returns:
        Errors first. Of a manifest that cannot be used its faults, and what is wrong with the pointers and the matcher
        that have none; the rest is looked at when the faults are gone.
    """
    findings = list(_of_broken(manifest) if isinstance(manifest, BrokenManifest) else _of_usable(manifest))
    for place in manifest.repeated_properties:
        told = "is there more than once: the last one counts"
        findings.append(Finding("warning", "property-twice", place, told, "drop all but one"))
    return sorted(findings, key=lambda finding: finding.severity != "error")


def _of_usable(manifest: Manifest) -> Iterator[Finding]:
    parser = manifest.parser
    pointers = list(lint_pointers(parser))
    yield from pointers
    if parser.array_inclusion is not None:
        yield from lint_matcher(parser.array_inclusion.matcher, parser.array_inclusion.path)
    yield from lint_response(manifest)
    yield from _unknown_properties(manifest)
    if not any(finding.severity == "error" for finding in pointers):
        # What is wrong with the pointers by themselves would be told a second time.
        yield from _contradictions(manifest)


def _of_broken(manifest: BrokenManifest) -> Iterator[Finding]:
    for fault in manifest.faults:
        yield Finding("error", "invalid", fault.pointer, fault.message, fault.remedy or _UNTIL_THEN)
    parser = manifest.request_parser
    faulty = {fault.pointer.removeprefix(REQUEST_PARSER) for fault in manifest.faults}
    yield from lint_each(pointers_of(parser, faulty), member_arrays(parser))
    inclusion = parser.get("arrayInclusion") if isinstance(parser, Mapping) else None
    if isinstance(inclusion, Mapping) and faulty.isdisjoint({"/arrayInclusion", "/arrayInclusion/matcher"}):
        yield from lint_matcher(inclusion["matcher"], str(inclusion.get("path")))


def _unknown_properties(manifest: Manifest) -> Iterator[Finding]:
    for name in manifest.unknown_properties:
        meant = name_meant(name, PROPERTIES)
        yield Finding(
            "warning",
            "unknown-property",
            CAPABILITY + JsonPointer.from_parts([name]).path,
            "is no property of syncedSegment: nobody looks at it",
            f"perhaps {meant} is meant" if meant else f"drop it; a syncedSegment has {' and '.join(PROPERTIES)}",
        )


def _contradictions(manifest: Manifest) -> Iterator[Finding]:
    """Pointers that cannot all be satisfied by one body."""
    parser = manifest.parser
    body = sample_body(parser)
    pointers = pointers_of(parser.model_dump(by_alias=True))
    try:
        manifest.decoder.decode(json.dumps(body).encode())
    except InvalidBatch as refusal:
        culprit = _culprit(parser, pointers, refusal)
        yield Finding(
            "error",
            "no-payload-possible",
            culprit.in_manifest,
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


def _culprit(parser: RequestParser, pointers: list[NamedPointer], refusal: InvalidBatch) -> NamedPointer:
    """The pointer of the manifest that looked where a body was refused."""
    if refusal.reason == "members":
        asked = [pointer for pointer in pointers if pointer.is_array]
    elif refusal.reason in MEMBER_REASONS:
        asked = [pointer for pointer in pointers if pointer.is_members]
    else:
        asked = [pointer for pointer in pointers if not pointer.is_members and not pointer.is_array]
    exact = [pointer for pointer in asked if refusal.pointer in _places(pointer, parser)]
    # A member that is no object is refused at the member itself, in which no pointer but this must find something.
    return (exact or [pointer for pointer in pointers if pointer.place.endswith("/memberIdPath")])[0]


def _apart(parser: RequestParser, pointer: NamedPointer, pointers: list[NamedPointer]) -> str:
    """What to do about a pointer that others are in the way of, naming them."""
    check = "compare it with a body that the partner really sends"
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
