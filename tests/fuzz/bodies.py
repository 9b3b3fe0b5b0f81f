"""Generated bodies for a requestParser: mostly what it asks for, often somewhat wrong."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from jsonpointer import JsonPointer

from fuzz.chance import happens
from fuzz.spelling import Literal, spelled

Json = Any
Parser = Mapping[str, Any]


GOOD_SCALARS = (
    *("x", "y", "user", "add", "remove", "1", "0", "-0", " ", "ab-c", "true", "null", "ä\U0001f600", "add\n", "Add"),
    *("é", "e\u0301", "\x00", "\u2028", '"', "\\", "[{", "~1", "a" * 300, "\U0010ffff", "\ufeff", "\ufffd"),
    *(0, 1, 5, -7, 2**63, 2**64, 10**30, Literal("-0"), Literal("9" * 40)),
)
KINDS = (*("user", "org", "a.b_c-1", "", None) * 9, "a" * 256, "a" * 257)
ACTIONS = ("add", "add", "remove", "ADD", "add_members", "re-add", "add\n", "ä", "k", "aaaa", 5, -3, True, False)
BAD_VALUES: tuple[Json, ...] = (
    *(None, "", True, False, 1.5, [], {}, ["x"], {"a": 1}, "a b", "kind", "multi", [[]], [None]),
    *(Literal(text) for text in ("1.0", "-0.0", "0e0", "1e2", "1E400", "[ ]", "{ }", "0.1e-7")),
)
INDICES = ("0", "1", "2")
ALMOST_INDICES = (*INDICES, "01", "00", "-", "-1", "+1", "1e0", "10", "\u0661")
SPLINTERS = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\x00", b"0", b"-"),
    *(
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xc0\xaf",
        b'"\\ud800"',
        b"\\udc00",
        b"\\u0041",
        b"NaN,",
        b"1e999",
        b"\x0b",
    ),
    *(b"Infinity", b"//", b"'", b"+1", b"01", b".5", b"true", b"nul", b'"\n"', b"\\x", b"\xe2\x80\xa8", b"\x1f"),
)
FIELDS = (
    *(b'"zz":"\xff"', b'"zz":"\\ud800"', b'"\\udc00":0', b'"zz":NaN', b'"zz":[1,]', b'"zz":' + b"9" * 5000, b'"zz":-'),
    *(
        b'"zz":' + opening * depth + closing * depth
        for depth in (100, 124, 126, 127, 128, 129, 300, 2000)
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"))
    ),
)
# Repeated beyond 256 KiB, in whose pieces a large body is looked through: some of what must stay whole is on a seam.
PADS = (
    *(('"', pad, '"') for pad in ("é", "\U0001f600", "[", '\\"', "\\\\", '\\\\\\"]', "a")),
    *(
        ("[", pad, "0]")
        for pad in ('"[",', "[],", '{"a":"}"},', '"\\"",', '"a",1,', "[[{}]],", '"é",', "[" * 124 + "]" * 124 + ",")
    ),
)


def body(random: Random, parser: Parser, *, environment_ids: Sequence[Json] = GOOD_SCALARS) -> bytes:
    """One request's bytes."""
    fault = random.choice((0.0, 0.0, 0.0, 0.02, 0.1))
    found = spelled(random, _document(random, parser, fault, environment_ids))
    if happens(random, 0.03):
        found = random.choice((b"\xef\xbb\xbf", b" \n", b"\xef\xbb\xbf ", b"\xef\xbb\xbf" * 2)) + found
    if happens(random, 0.03):
        found += random.choice((b" ", b"\r\n\t", b"\x00", b"x", b"{}", b",", b"\xef\xbb\xbf", b"]"))
    if happens(random, 0.04):
        found = with_a_field(random, found, random.choice(FIELDS))
    if happens(random, 0.0005):
        opening, pad, closing = random.choice(PADS)
        padded = opening + pad * (random.randint(262_000, 300_000) // len(pad.encode())) + closing
        found = with_a_field(random, found, f'"zz":{padded}'.encode())
    if happens(random, 0.06):
        found = splintered(random, found)
    return found


def _document(random: Random, parser: Parser, fault: float, environment_ids: Sequence[Json]) -> Json:
    document: Json = {}
    for name in ("memberArrayPath", "addMemberArrayPath", "removeMemberArrayPath"):
        if name in parser:
            _put_usually(random, document, parser[name], lambda: _members(random, parser, fault), fault / 2)
    usual: tuple[tuple[str, Callable[[], Json]], ...] = (
        ("environmentIdPath", lambda: random.choice(environment_ids)),
        ("contextKindPath", lambda: random.choice(KINDS)),
        ("cohortIdPath", lambda: random.choice(GOOD_SCALARS)),
        ("cohortNamePath", lambda: random.choice(GOOD_SCALARS)),
        ("cohortUrlPath", lambda: random.choice((*GOOD_SCALARS, None, ""))),
    )
    for name, value in usual:
        if name in parser:
            _put_usually(random, document, parser[name], value, fault)
    if "arrayInclusion" in parser:
        actions = ACTIONS if happens(random, 0.7) else GOOD_SCALARS
        _put_usually(random, document, parser["arrayInclusion"]["path"], lambda: random.choice(actions), fault)
    return document


def _members(random: Random, parser: Parser, fault: float) -> Json:
    if happens(random, 0.001):
        return [_member(random, parser, 0.0, number) for number in range(random.choice((998, 999, 1000, 1001)))]
    members = [_member(random, parser, fault, None) for _ in range(random.choice((0, 1, 1, 2, 3, 4, 6)))]
    return members * 60 if happens(random, 0.01) else members


def _member(random: Random, parser: Parser, fault: float, number: int | None) -> Json:
    """One member; with a number, one of its own cohort."""
    member_parser = parser["memberArrayParser"]
    if member_parser["memberIdPath"] == "" and not happens(random, fault):
        return random.choice(GOOD_SCALARS)
    if happens(random, fault / 2):
        return random.choice(BAD_VALUES)
    member: Json = {"other": [{}]} if happens(random, 0.1) else {}
    for name in ("cohortIdPath", "cohortNamePath"):
        if name in member_parser and (number is not None or happens(random, 0.6)):
            values = GOOD_SCALARS if happens(random, 0.2) else ("x", "1", 1, None, "")
            value = random.choice(values) if number is None or name == "cohortNamePath" else number
            _put_usually(random, member, member_parser[name], lambda value=value: value, fault / 2)  # type: ignore[misc]
    _put_usually(random, member, member_parser["memberIdPath"], lambda: random.choice(GOOD_SCALARS), fault)
    if "booleanMembershipPath" in member_parser:
        _put_usually(random, member, member_parser["booleanMembershipPath"], lambda: happens(random, 0.5), fault)
    return member


def _put_usually(random: Random, document: Json, pointer: str, value: Callable[[], Json], fault: float) -> None:
    indices = ALMOST_INDICES if happens(random, 0.05) else INDICES
    if not happens(random, fault):
        _put(document, pointer, value(), indices)
    elif happens(random, 0.5):
        _put(document, pointer, random.choice(BAD_VALUES), indices)


def _put(document: Json, pointer: str, value: Json, indices: Sequence[str]) -> None:
    """Place a value where a pointer looks, making what lies on the way; give up where something else lies.

    Where a token is one of ``indices``, an array is made.
    """
    parts = JsonPointer(pointer).parts
    if not parts:
        return
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        new: Json = copy.deepcopy(value) if following is None else ([] if following in indices else {})
        if isinstance(document, list):
            index = int(part) if part in INDICES else 0
            while len(document) <= index:
                document.append({} if following is None else copy.copy(new))
            if following is None:
                document[index] = new
            document = document[index]
        elif isinstance(document, dict):
            if following is None or part not in document:
                document[part] = new
            document = document[part]
        else:
            return


def with_a_field(random: Random, text: bytes, field: bytes) -> bytes:
    """JSON text with one more field in one of its objects."""
    openings = [place.end() for place in re.finditer(rb"\{(?=\s*\")", text)] or [0]
    place = random.choice(openings)
    return text[:place] + field + b"," + text[place:]


def splintered(random: Random, text: bytes) -> bytes:
    """Bytes of which some are missing, changed, or there twice."""
    for _ in range(random.randint(1, 3)):
        place = random.randint(0, len(text))
        match random.randint(0, 4):
            case 0:
                text = text[:place]
            case 1:
                text = text[:place] + random.choice(SPLINTERS) + text[place:]
            case 2:
                text = text[:place] + text[place + random.randint(1, 3) :]
            case 3:
                text = text[:place] + bytes([random.randint(0, 255)]) + text[place + 1 :]
            case _:
                text = text[:place] + text[random.randint(0, len(text)) :]
    return text
