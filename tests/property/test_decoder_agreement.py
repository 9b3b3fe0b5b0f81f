"""Decoder against a naive reading of the contract on the jsonpointer library, over generated parsers and bodies."""

from __future__ import annotations

import json
import re
from typing import Any

import re2
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from jsonpointer import EndOfList, JsonPointer

from worker.errors import InvalidBatch
from worker.manifest.decoder import Decoder, compile_parser
from worker.manifest.request_parser import RequestParser

MISSING = object()
Json = Any

# --- the naive reading --------------------------------------------------------------------------------------------


class Integer(str):
    """An integer's decimal text, told from a string."""

    __slots__ = ()


class Refused(Exception):
    """Raised with a reason, and the environment id when it was known."""


def depth(body: bytes) -> int:
    """The deepest nesting anywhere, in values that a later duplicate key hides too."""
    brackets = re.sub(rb'"(\\.|[^"\\])*"', b"", body)
    levels = [0]
    for byte in brackets:
        levels.append(levels[-1] + (byte in b"[{") - (byte in b"]}"))
    return max(levels)


def parse(body: bytes) -> Json:
    def refuse_constant(name: str) -> Json:
        raise ValueError(name)

    def paired(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        json.dumps(pairs, ensure_ascii=False).encode()  # fails on unpaired surrogates, those of duplicate keys too
        return dict(pairs)

    try:
        document = json.loads(
            body.removeprefix(b"\xef\xbb\xbf").decode("utf-8"),
            parse_int=lambda digits: Integer("0" if digits == "-0" else digits),
            parse_constant=refuse_constant,
            object_pairs_hook=paired,
        )
    except (ValueError, RecursionError):
        raise Refused("malformed", None) from None
    if not isinstance(document, dict) or depth(body) > 128:
        raise Refused("malformed", None)
    return document


def look(document: Json, pointer: str | None) -> Json:
    if pointer is None:
        return MISSING
    found = JsonPointer(pointer).resolve(document, MISSING)
    return MISSING if isinstance(found, EndOfList) else found


def required(value: Json) -> str | None:
    return str(value) if isinstance(value, str) and value else None


def naive(parser: dict[str, Any], body: bytes) -> tuple[Any, ...]:  # noqa: PLR0915 - naive on purpose
    document = parse(body)
    environment_id = required(look(document, parser["environmentIdPath"]))
    if environment_id is None:
        raise Refused("environment", None)

    def refuse(reason: str) -> Refused:
        return Refused(reason, environment_id)

    def optional(value: Json, reason: str) -> str | None:
        if value is MISSING or value is None or value == "":
            return None
        if not isinstance(value, str):
            raise refuse(reason)
        return str(value)

    kind = optional(look(document, parser.get("contextKindPath")), "context_kind") or "user"
    if kind in ("kind", "multi") or not re.fullmatch(r"[A-Za-z0-9._-]+", kind):
        raise refuse("context_kind")
    own_id = required(look(document, parser["cohortIdPath"]))
    own_name = required(look(document, parser["cohortNamePath"]))
    if own_id is None or own_name is None:
        raise refuse("cohort")
    url = optional(look(document, parser.get("cohortUrlPath")), "cohort")
    cohorts: dict[str, dict[str, Any]] = {own_id: {"name": own_name, "url": url, "members": {}}}

    def take(array: Json, added: bool | None) -> None:
        member_parser = parser["memberArrayParser"]
        for member in array:
            if member_parser["memberIdPath"] != "" and not isinstance(member, dict):
                raise refuse("member")
            value = look(member, member_parser["booleanMembershipPath"]) if added is None else added
            member_id = required(look(member, member_parser["memberIdPath"]))
            if not isinstance(value, bool):
                raise refuse("membership")
            if member_id is None:
                raise refuse("member_id")
            cohort_id = optional(look(member, member_parser.get("cohortIdPath")), "member_cohort") or own_id
            cohort_name = optional(look(member, member_parser.get("cohortNamePath")), "member_cohort")
            cohort = cohorts.setdefault(cohort_id, {"name": own_name, "url": None, "members": {}})
            cohort["name"] = cohort_name or cohort["name"]
            cohort["members"][member_id] = value

    if "memberArrayPath" in parser:
        array = look(document, parser["memberArrayPath"])
        if not isinstance(array, list):
            raise refuse("members")
        if "arrayInclusion" in parser:
            action = look(document, parser["arrayInclusion"]["path"])
            text = json.dumps(action) if isinstance(action, bool) else required(action)
            if text is None:
                raise refuse("action")
            take(array, added=re2.search(parser["arrayInclusion"]["matcher"], text) is not None)
        else:
            take(array, added=None)
    else:
        for name, added in (("addMemberArrayPath", True), ("removeMemberArrayPath", False)):
            array = look(document, parser[name])
            if array is MISSING or array is None:
                array = []
            if not isinstance(array, list):
                raise refuse("members")
            take(array, added)
    listed = [(key, c["name"], c["url"], list(c["members"].items())) for key, c in cohorts.items()]
    return (environment_id, kind, listed)


def outcome_of_naive(parser: dict[str, Any], body: bytes) -> tuple[Any, ...]:
    try:
        return ("accepted", *naive(parser, body))
    except Refused as refused:
        return ("refused", *refused.args)


def outcome(decoder: Any, body: bytes, *, method: str) -> tuple[Any, ...]:
    try:
        payload = getattr(decoder, method)(body)
    except InvalidBatch as fault:
        return ("refused", fault.reason, fault.environment_id)
    if payload is None:
        return ("undecided",)
    cohorts = [(c.cohort_id, c.name, c.url, list(c.members.items())) for c in payload.cohorts]
    return ("accepted", payload.environment_id, payload.context_kind, cohorts)


# --- generated parsers and bodies ---------------------------------------------------------------------------------

KEYS = ("a", "b", "c", "userId", "é", "~", "a/b", "", 'q"', "0")
tokens = st.sampled_from((*KEYS, "1", "-", "01"))
pointers = st.lists(tokens, min_size=1, max_size=3).map(lambda parts: JsonPointer.from_parts(parts).path)
# Mostly the shape that partners use: one key a purpose.
member_pointers = st.one_of(st.sampled_from(["/id", "/v", "/cid", "/cname", "/deep/id"]), pointers, st.just(""))
places = st.one_of(st.sampled_from(["/kind", "/m/0/cid", "/m/0/cname", "/p/x", "/p/y", "/q/1/z", "/r"]), pointers)


def usually(pointer: str, otherwise: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 9).flatmap(lambda number: otherwise if number in (4, 6) else st.just(pointer))


@st.composite
def parsers(draw: st.DrawFn) -> dict[str, Any]:
    member = {"memberIdPath": draw(usually("/id", member_pointers))}
    for name, usual in (("cohortIdPath", "/cid"), ("cohortNamePath", "/cname")):
        if draw(st.booleans()):
            member[name] = draw(usually(usual, member_pointers))
    parser: dict[str, Any] = {
        "environmentIdPath": draw(usually("/env", places)),
        "cohortIdPath": draw(places),
        "cohortNamePath": draw(places),
        "memberArrayParser": member,
    }
    for name in ("contextKindPath", "cohortUrlPath"):
        if draw(st.booleans()):
            parser[name] = draw(places)
    mode = draw(st.sampled_from(["boolean", "split", "inclusion"]))
    if mode == "split":
        parser |= {
            "addMemberArrayPath": draw(usually("/m", places)),
            "removeMemberArrayPath": draw(usually("/gone", places)),
        }
    else:
        parser["memberArrayPath"] = draw(usually("/m", places))
    if mode == "inclusion":
        matcher = draw(st.sampled_from(["^add$", "add", "^(members|add_members)$", "true", "5", ""]))
        parser["arrayInclusion"] = {"path": draw(usually("/action", places)), "matcher": matcher}
    if mode == "boolean" or (mode == "inclusion" and draw(st.booleans())):
        member["booleanMembershipPath"] = draw(usually("/v", member_pointers))
    return parser


good_scalars = st.sampled_from(["x", "y", "user", "add", "1", 1, 0, 10**30, 5, "ab-c", "true", "ä\U0001f600", "add\n"])
bad_values = st.sampled_from([None, "", True, False, 1.0, -0.0, 1e2, [], {}, ["x"], {"a": 1}, "a b", "kind"])
# Hypothesis is fond of the ends of a range, so what is to be rare stands in its middle.
rarely = st.integers(0, 40).map(lambda number: number == 17)
scalars = rarely.flatmap(lambda rare: bad_values if rare else good_scalars)
flags = rarely.flatmap(lambda rare: bad_values if rare else st.booleans())


def put(document: Json, pointer: str, value: Json) -> None:
    """Place a value where a pointer looks, making what lies on the way; give up where something else lies."""
    parts = JsonPointer(pointer).parts
    if not parts:
        return
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        new: Json = value if following is None else ([] if following in ("0", "1") else {})
        if isinstance(document, list):
            index = int(part) if part in ("0", "1") else 0
            while len(document) <= index:
                document.append(json.loads(json.dumps(new)))
            if following is None:
                document[index] = new
            document = document[index]
        elif isinstance(document, dict):
            if following is None or part not in document:
                document[part] = new
            document = document[part]
        else:
            return


@st.composite
def members(draw: st.DrawFn, parser: dict[str, Any]) -> Json:
    member_parser = parser["memberArrayParser"]
    if member_parser["memberIdPath"] == "" and not draw(rarely):
        return draw(scalars)
    if draw(rarely):
        return draw(bad_values)
    member: Json = {"other": [{}]} if draw(st.booleans()) else {}
    for name in ("cohortIdPath", "cohortNamePath"):
        if name in member_parser and draw(st.booleans()):
            put(member, member_parser[name], draw(st.one_of(st.sampled_from(["x", "1", 1]), scalars)))
    put(member, member_parser["memberIdPath"], draw(scalars))
    if "booleanMembershipPath" in member_parser and not draw(rarely):
        put(member, member_parser["booleanMembershipPath"], draw(flags))
    return member


@st.composite
def bodies(draw: st.DrawFn, parser: dict[str, Any]) -> bytes:
    document: Json = {}
    for name in ("memberArrayPath", "addMemberArrayPath", "removeMemberArrayPath"):
        if name in parser and not draw(rarely):
            array = draw(st.one_of(st.lists(members(parser), max_size=4), st.lists(members(parser), max_size=4)))
            put(document, parser[name], draw(bad_values) if draw(rarely) else array)
    for name in ("environmentIdPath", "contextKindPath", "cohortIdPath", "cohortNamePath", "cohortUrlPath"):
        if name in parser and not draw(rarely):
            put(document, parser[name], draw(scalars))
    if "arrayInclusion" in parser:
        put(document, parser["arrayInclusion"]["path"], draw(st.one_of(scalars, st.booleans())))
    indent = draw(st.sampled_from([None, 1]))
    return json.dumps(document, ensure_ascii=draw(st.booleans()), indent=indent).encode()


FIELDS = (
    *(
        b'"env":"second"',
        b'"m":[]',
        b'"id":7',
        b'"id":-0',
        b'"v":true',
        b'"cid":"z"',
        b'"\\u0069d":"e"',
        b'"env":"\\u00e4"',
    ),
    *(b'"id":' + b"9" * 4300, b'"id":' + b"9" * 5000, b'"cname":' + b"-" + b"9" * 4301, b'"zz":1e999', b'"zz":"{{[["'),
    *(b'"zz":' + b"9" * 5000, b'"zz":"\xff"', b'"zz":"\\ud800"', b'"zz":NaN', b'"zz":[1,]', b'"zz":"\\"[\\\\"'),
    *(b'"zz":' + b"[" * depth + b"]" * depth for depth in (100, 125, 126, 127, 128, 129, 2000)),
)
SPLINTERS = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\x00", b"0", b"-"),
    *(b'"\\ud800"', b"\\udc00", b"\\u0041", b"NaN,", b"1e999"),
)


@st.composite
def hostile(draw: st.DrawFn, parser: dict[str, Any]) -> bytes:
    body = draw(bodies(parser))
    for _ in range(draw(st.integers(1, 3))):
        openings = [place.end() for place in re.finditer(rb"\{(?=\s*\")", body)] or [0]
        at = draw(st.sampled_from(openings))
        body = body[:at] + draw(st.sampled_from(FIELDS)) + b"," + body[at:]
    if draw(st.integers(0, 3)) == 2:
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.sampled_from(SPLINTERS)) + body[at + draw(st.integers(0, 3)) :]
    return body


def check(parser: dict[str, Any], body: bytes) -> tuple[Any, ...]:
    decoder: Decoder = compile_parser(RequestParser.model_validate(parser))
    expected = outcome_of_naive(parser, body)
    assert outcome(decoder, body, method="decode") == expected
    assert outcome(decoder._exact, body, method="read") == expected
    if decoder._fast is not None:
        assert outcome(decoder._fast, body, method="read") in (expected, ("undecided",))
    event(str(expected[0]) if expected[0] == "accepted" else str(expected[:2]))
    return expected


BOOLEAN = {
    "environmentIdPath": "/env",
    "cohortIdPath": "/m/0/cid",
    "cohortNamePath": "/m/0/cname",
    "memberArrayPath": "/m",
    "memberArrayParser": {
        "memberIdPath": "/id",
        "booleanMembershipPath": "/v",
        "cohortIdPath": "/cid",
        "cohortNamePath": "/cname",
    },
}

quick = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(st.data())
def test_both_ways_to_read_agree_with_a_naive_reading_on_any_parser_and_body(data: st.DataObject) -> None:
    parser = data.draw(parsers())
    check(parser, data.draw(bodies(parser)))


@quick
@given(st.data())
def test_both_ways_to_read_agree_with_a_naive_reading_on_hostile_bodies(data: st.DataObject) -> None:
    parser = data.draw(st.one_of(st.just(BOOLEAN), parsers()))
    check(parser, data.draw(hostile(parser)))


@quick
@given(bodies(BOOLEAN))
@example(b'{"env":"e","m":[{"id":1,"v":true,"cid":"c","cname":"n"},{"id":"1","v":false},{"id":1,"v":true}]}')
@example(b'{"env":"e","m":[{"id":"u","v":true,"cid":5,"cname":"n"},{"id":"u","v":false,"cid":"5","cname":"m"}]}')
def test_both_ways_to_read_agree_with_a_naive_reading_on_the_commonest_shape(body: bytes) -> None:
    check(BOOLEAN, body)


@quick
@given(st.binary(max_size=40))
def test_bytes_of_any_kind_are_refused_as_malformed_or_read_alike(body: bytes) -> None:
    check(BOOLEAN, body)
