"""The contract of a requestParser, read plainly on json and jsonpointer: what the decoder is held against.

It shares no code with worker.manifest, knows no short cut, and is meant to be seen to be right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import re2
from jsonpointer import EndOfList, JsonPointer

MISSING = object()
Json = Any
Parser = Mapping[str, Any]
Text = TypeVar("Text", str, str | None)


class Refused(Exception):
    """Raised when a payload, or under ``skip`` one member, cannot be read; the arguments say why and where."""

    def __init__(self, reason: str, pointer: str | None, environment_id: str | None = None) -> None:
        super().__init__(reason, pointer, environment_id)
        self.reason = reason
        self.pointer = pointer
        self.environment_id = environment_id


class ReadCohort(NamedTuple):
    """One cohort; its members in the order in which they were first stated."""

    cohort_id: str
    name: str
    url: str | None
    members: list[tuple[str, bool]]


class Reading(NamedTuple):
    """A payload; of the members that were rejected, how many, and (pointer, reason) of the first hundred."""

    environment_id: str
    context_kind: str
    cohorts: list[ReadCohort]
    rejected: int
    listed: list[tuple[str, str]]


def read(parser: Parser, body: bytes, policy: str = "reject") -> Reading:
    """What a body means by a requestParser's JSON.

    Raises:
        Refused: the body breaks the contract.
    """
    document = parse(body)
    environment_id = required(document, parser["environmentIdPath"], "environment")
    try:
        return read_rest(parser, document, environment_id, policy)
    except Refused as refused:
        raise Refused(refused.reason, refused.pointer, environment_id) from None


def read_rest(parser: Parser, document: Json, environment_id: str, policy: str) -> Reading:
    kind = optional(document, parser.get("contextKindPath"), "context_kind") or "user"
    if kind in ("kind", "multi") or not re.fullmatch(r"[A-Za-z0-9._-]{1,256}", kind):
        raise Refused("context_kind", parser["contextKindPath"])
    own_id = short(required(document, parser["cohortIdPath"], "cohort"), parser["cohortIdPath"], "cohort")
    own_name = short(required(document, parser["cohortNamePath"], "cohort"), parser["cohortNamePath"], "cohort")
    own_url = optional(document, parser.get("cohortUrlPath"), "cohort")
    short(own_url, parser.get("cohortUrlPath"), "cohort")

    names: dict[str, str] = {own_id: own_name}
    members: dict[str, dict[str, bool]] = {own_id: {}}
    rejected: list[tuple[str, str]] = []

    def take(array_path: str, array: list[Json], added: bool | None) -> None:
        for index, member in enumerate(array):
            try:
                member_id, value, cohort_id, cohort_name = read_member(parser["memberArrayParser"], member, added)
            except Refused as refused:
                pointer = f"{array_path}/{index}{refused.pointer}"
                if policy == "reject":
                    raise Refused(refused.reason, pointer) from None
                rejected.append((pointer, refused.reason))
                continue
            cohort_id = cohort_id or own_id
            names[cohort_id] = cohort_name or names.get(cohort_id, own_name)
            members.setdefault(cohort_id, {})[member_id] = value
            if len(members) > 1000:
                raise Refused("too_many_cohorts", None)

    if "addMemberArrayPath" in parser:
        for path, added in ((parser["addMemberArrayPath"], True), (parser["removeMemberArrayPath"], False)):
            array = look(document, path)
            if array is not MISSING and array is not None:
                take(path, required_array(document, path), added)
    else:
        array = required_array(document, parser["memberArrayPath"])
        take(parser["memberArrayPath"], array, read_action(parser, document))

    cohorts = [
        ReadCohort(key, names[key], own_url if key == own_id else None, list(members[key].items())) for key in members
    ]
    return Reading(environment_id, kind, cohorts, len(rejected), rejected[:100])


def read_action(parser: Parser, document: Json) -> bool | None:
    """Whether the payload's action adds; None when each member says for itself."""
    if "arrayInclusion" not in parser:
        return None
    path = parser["arrayInclusion"]["path"]
    action = look(document, path)
    text = json.dumps(action) if isinstance(action, bool) else required(document, path, "action")
    return re2.search(parser["arrayInclusion"]["matcher"], text) is not None


def read_member(parser: Parser, member: Json, added: bool | None) -> tuple[str, bool, str | None, str | None]:
    """A member's id, whether it is added, and the cohort id and name of its own. Pointers are into the member."""
    if parser["memberIdPath"] != "" and not isinstance(member, dict):
        raise Refused("member", "")
    if added is None:
        added = look(member, parser["booleanMembershipPath"])
        if added is not True and added is not False:
            raise Refused("membership", parser["booleanMembershipPath"])
    member_id = required(member, parser["memberIdPath"], "member_id")
    cohort_id = optional(member, parser.get("cohortIdPath"), "member_cohort")
    short(cohort_id, parser.get("cohortIdPath"), "member_cohort")
    cohort_name = optional(member, parser.get("cohortNamePath"), "member_cohort")
    short(cohort_name, parser.get("cohortNamePath"), "member_cohort")
    return member_id, added, cohort_id, cohort_name


# --- values -------------------------------------------------------------------------------------------------------


def look(document: Json, pointer: str) -> Json:
    found = JsonPointer(pointer).resolve(document, MISSING)
    return MISSING if isinstance(found, EndOfList) else found


def required(document: Json, pointer: str, reason: str) -> str:
    value = look(document, pointer)
    if not isinstance(value, str) or value == "":
        raise Refused(reason, pointer)
    return str(value)


def optional(document: Json, pointer: str | None, reason: str) -> str | None:
    value = MISSING if pointer is None else look(document, pointer)
    if value is MISSING or value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Refused(reason, pointer)
    return str(value)


def short(text: Text, pointer: str | None, reason: str) -> Text:
    """What is said of a cohort, if it is not absurdly long."""
    if text is not None and len(text) > 65_536:
        raise Refused(reason, pointer)
    return text


def required_array(document: Json, pointer: str) -> list[Json]:
    value = look(document, pointer)
    if not isinstance(value, list):
        raise Refused("members", pointer)
    return value


# --- the body -----------------------------------------------------------------------------------------------------


class Integer(str):
    """An integer's decimal text: to a scalar as good as a string."""

    __slots__ = ()


def parse(body: bytes) -> Json:
    """A body's JSON, integers as their text.

    Raises:
        Refused: "malformed".
    """
    try:
        document = json.loads(
            body.removeprefix(b"\xef\xbb\xbf").decode("utf-8"),
            parse_int=lambda digits: Integer("0" if digits == "-0" else digits),
            parse_constant=no_constant,
            object_pairs_hook=last_of_each_key,
        )
        # Surrogates that are no pair have no UTF-8. Those in values that a later duplicate hides are seen in the pairs.
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refused("malformed", None) from None
    if depth(body) > 128:
        raise Refused("malformed", None)
    if not isinstance(document, dict):
        raise Refused("malformed", "")
    return document


def no_constant(name: str) -> Json:
    """Refuse NaN, Infinity and -Infinity, which json takes.

    Raises:
        ValueError: always.
    """
    raise ValueError(name)


def last_of_each_key(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        json.dumps(pairs, ensure_ascii=False).encode()
    return found


def depth(body: bytes) -> int:
    """The deepest nesting anywhere in sound JSON, in values that a later duplicate key hides too."""
    brackets = re.sub(rb'"(\\.|[^"\\])*"', b"", body)
    level = deepest = 0
    for bracket in re.findall(rb"[\[{\]}]", brackets):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest
