"""Lint of a requestParser's pointers: spelling, and what they say beside one another."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from jsonpointer import JsonPointer

from worker.manifest.document import array_index
from worker.manifest.lint.finding import Finding
from worker.manifest.lint.words import said_by
from worker.manifest.manifest import REQUEST_PARSER
from worker.manifest.request_parser import RequestParser, member_arrays
from worker.manifest.spelling import is_foreign, pointer_meant, quoted, relative_to_member, sought_by

_ANY_POINTER = "write a JSON pointer (RFC 6901), such as /batch/0/cohortId"


class NamedPointer(NamedTuple):
    """A pointer of a requestParser.

    Attributes:
        place: the property that has it, as a pointer in the requestParser.
        text: the pointer itself.
    """

    place: str
    text: str

    @property
    def name(self) -> str:
        """The property's name."""
        return self.place.removeprefix("/").replace("/", ".")

    @property
    def in_manifest(self) -> str:
        """The property, as a pointer in the manifest."""
        return REQUEST_PARSER + self.place

    @property
    def tokens(self) -> list[str]:
        """The pointer's tokens."""
        return list(JsonPointer(self.text).parts)

    @property
    def is_members(self) -> bool:
        """Whether it is relative to a member."""
        return sought_by(self.place) == "in a member"

    @property
    def is_array(self) -> bool:
        """Whether it names an array of members."""
        return sought_by(self.place) == "array"


def pointers_of(parser: Any, faulty: Collection[str] = ()) -> list[NamedPointer]:
    """Every pointer in a requestParser's JSON value, except at places that are faulty."""
    values = parser if isinstance(parser, Mapping) else {}
    places: dict[tuple[str, ...], Any] = {(name,): value for name, value in values.items()}
    for owner in ("arrayInclusion", "memberArrayParser"):
        inside = places.pop((owner,), None)
        places |= {(owner, name): value for name, value in inside.items()} if isinstance(inside, Mapping) else {}
    places.pop(("arrayInclusion", "matcher"), None)
    found = {JsonPointer.from_parts(place).path: text for place, text in places.items() if isinstance(text, str)}
    return [NamedPointer(place, text) for place, text in found.items() if place not in faulty]


def lint_pointers(parser: RequestParser) -> Iterator[Finding]:
    """What is wrong with the pointers, each by itself and side by side."""
    document = parser.model_dump(by_alias=True)
    yield from lint_each(pointers_of(document), member_arrays(document))
    yield from _one_array_twice(parser)
    yield from _environment_twice(pointers_of(document))
    yield from _ignored_membership(parser)
    yield from _wrong_way_round(parser)
    yield from _first_cohort_for_all(parser)


def lint_each(pointers: list[NamedPointer], arrays: list[str]) -> Iterator[Finding]:
    """What is wrong with pointers, each by itself and beside those of the member arrays."""
    for pointer in pointers:
        finding = _foreign(pointer, arrays) or _repeated(pointer, arrays) or _blanks(pointer) or _percent(pointer)
        if finding is not None:
            yield finding


def _foreign(pointer: NamedPointer, arrays: list[str]) -> Finding | None:
    if not any(map(is_foreign, pointer.tokens)):
        return None
    meant = pointer_meant(pointer.text, sought_by(pointer.place), arrays)
    odd = next(filter(is_foreign, pointer.tokens))
    why = f"has the token {odd!r}" if odd else "has an empty token, as between two slashes or after the last one"
    return Finding(
        "error",
        "pointer-spelling",
        pointer.in_manifest,
        f"is {pointer.text}, which {why}: it finds nothing in a body; "
        "in a JSON pointer each key and each index stands between slashes",
        _ANY_POINTER if meant is None else f"perhaps {quoted(meant)} is meant",
    )


def _repeated(pointer: NamedPointer, arrays: list[str]) -> Finding | None:
    relative = relative_to_member(pointer.text, arrays) if pointer.is_members else None
    if relative is None:
        return None
    return Finding(
        "error",
        "pointer-not-relative",
        pointer.in_manifest,
        f"is {pointer.text}, which repeats the way to the members: inside of memberArrayParser pointers begin at a "
        "member, so this one finds nothing",
        f"write {quoted(relative)}",
    )


def _blanks(pointer: NamedPointer) -> Finding | None:
    stripped = [token.strip() for token in pointer.tokens]
    if stripped == pointer.tokens:
        return None
    return Finding(
        "warning",
        "pointer-blanks",
        pointer.in_manifest,
        f"is {pointer.text!r}: blanks at the end of a token are part of the key that is looked for",
        f"write {JsonPointer.from_parts(stripped).path}",
    )


def _percent(pointer: NamedPointer) -> Finding | None:
    decoded = [unquote(token) for token in pointer.tokens]
    if decoded == pointer.tokens:
        return None
    return Finding(
        "warning",
        "pointer-percent",
        pointer.in_manifest,
        f"is {pointer.text}: percent signs are read as they stand, so a key is looked for that has them",
        f"write {JsonPointer.from_parts(decoded).path}",
    )


def _environment_twice(pointers: list[NamedPointer]) -> Iterator[Finding]:
    environment = next(pointer.text for pointer in pointers if pointer.name == "environmentIdPath")
    for pointer in pointers:
        is_other = pointer.name != "environmentIdPath" and not pointer.is_members and not pointer.is_array
        if is_other and pointer.text == environment:
            yield Finding(
                "warning",
                "environment-twice",
                pointer.in_manifest,
                f"is {pointer.text}, as environmentIdPath is: one value would be the environment's id and this as well",
                "point the two at two values; compare them with a body that the partner really sends",
            )


def _one_array_twice(parser: RequestParser) -> Iterator[Finding]:
    if parser.add_member_array_path is not None and parser.add_member_array_path == parser.remove_member_array_path:
        yield Finding(
            "error",
            "one-array-twice",
            f"{REQUEST_PARSER}/removeMemberArrayPath",
            f"is {parser.remove_member_array_path}, as addMemberArrayPath is: who is added is removed again at once",
            "point the two at two arrays; if there is only one, use memberArrayPath with arrayInclusion, or with "
            "booleanMembershipPath",
        )


def _ignored_membership(parser: RequestParser) -> Iterator[Finding]:
    if parser.member_array_parser.boolean_membership_path is not None and parser.mode != "boolean":
        beside = (
            "arrayInclusion" if parser.mode == "array inclusion" else "addMemberArrayPath and removeMemberArrayPath"
        )
        yield Finding(
            "warning",
            "membership-ignored",
            f"{REQUEST_PARSER}/memberArrayParser/booleanMembershipPath",
            f"is not looked at beside {beside}, which decides for all members",
            f"drop it, or drop {beside}",
        )


def _wrong_way_round(parser: RequestParser) -> Iterator[Finding]:
    """Names that say the opposite of what their place means."""
    flag = parser.member_array_parser.boolean_membership_path
    if parser.mode == "boolean" and flag is not None and said_by(flag) == "remove":
        yield Finding(
            "warning",
            "wrong-way-round",
            f"{REQUEST_PARSER}/memberArrayParser/booleanMembershipPath",
            f"is {flag}, which sounds like a removal: a member is added when it is true, and removed when it is false",
            "point it at the property that is true for members of the cohort",
        )
    add, remove = parser.add_member_array_path, parser.remove_member_array_path
    if add is None or remove is None or add == remove:
        return
    if (said_by(add), said_by(remove)) == ("remove", "add"):
        yield Finding(
            "warning",
            "wrong-way-round",
            f"{REQUEST_PARSER}/addMemberArrayPath",
            f"is {add}, and removeMemberArrayPath is {remove}: they sound as if they were swapped",
            "swap them",
        )
        return
    for name, pointer, opposite in (("addMemberArrayPath", add, "remove"), ("removeMemberArrayPath", remove, "add")):
        if said_by(pointer) == opposite:
            yield Finding(
                "warning",
                "wrong-way-round",
                f"{REQUEST_PARSER}/{name}",
                f"is {pointer}, which sounds like the opposite of what its members get",
                "compare it with a body that the partner really sends",
            )


def _first_cohort_for_all(parser: RequestParser) -> Iterator[Finding]:
    if parser.member_array_parser.cohort_id_path is not None:
        return
    tokens = JsonPointer(parser.cohort_id_path).parts
    arrays = (parser.member_array_path, parser.add_member_array_path, parser.remove_member_array_path)
    for array in arrays:
        path = [] if array is None else JsonPointer(array).parts
        rest = tokens[len(path) :]
        if path and tokens[: len(path)] == path and len(rest) > 1 and array_index(rest[0]) is not None:
            yield Finding(
                "warning",
                "first-cohort-for-all",
                f"{REQUEST_PARSER}/cohortIdPath",
                f"is {parser.cohort_id_path}, inside of a member: all members of a payload go into the cohort that "
                "this one names, whatever the others say",
                f'add "cohortIdPath": "{JsonPointer.from_parts(rest[1:]).path}" to memberArrayParser, and likewise '
                "cohortNamePath, so that each member goes into its own cohort",
            )
            return
