"""Generated requestParsers: those that partners have, odd ones, and ones that nobody would write."""

from __future__ import annotations

from random import Random
from typing import Any

from jsonpointer import JsonPointer

from fuzz.chance import happens

Parser = dict[str, Any]

# Names that partners use, names that are easily taken for something else, names that JSON or a pointer must escape.
PLAIN_KEYS = ("id", "a", "b", "userId", "list", "data")
ODD_KEYS = (
    *("", "~", "/", "a/b", "~1", "~01", 'q"', "back\\slash", "line\nbreak", "\x00", "\x7f", " ", "a b"),
    *("0", "1", "2", "10", "01", "00", "-", "-1", "+1", "1e0", "\u0661", "99999999999999999999"),
    *("é", "e\u0301", "\u2028", "\U0001f600", "kind", "found", "value", "k0", "k1", "__class__", "self", "null"),
)
MATCHERS = (
    *("^add$", "^(add|add_members)$", "add", "", "^$", "$", "^", "true", "^false$", "5", r"^\d+$", r"^-?[0-9]+\z"),
    *(
        "(?i)^ADD$",
        "(?i:AD)d",
        "(?i)ä",
        "(?i)k",
        "(?s)^a.d$",
        "(?s).",
        "(?m)^add$",
        "(?U)a+",
        r"^\p{L}+$",
        r"\p{Greek}",
    ),
    *(r"^\P{L}+$", "[[:alpha:]]", "[^a]", r"\badd\b", r"\Aadd\z", "a{3,5}", "(a|b)*c|d", "^(?:a?){20}a{20}$", "."),
    *(r"\x{1F600}", "\U0001f600", "^add\n$", r"\Qa.b\E", "(?P<verb>add|remove)", "ad{2}", r"\w+\s?", "add|", "[a-z]+$"),
)


def parser(random: Random) -> Parser:
    """A valid requestParser as JSON."""
    oddness = random.choice((0.0, 0.0, 0.05, 0.05, 0.2, 0.5))
    mode = random.choice(("boolean", "split", "inclusion"))
    found: Parser = {}
    arrays = ("addMemberArrayPath", "removeMemberArrayPath") if mode == "split" else ("memberArrayPath",)
    taken: list[str] = []
    for name in arrays:
        usual = random.choice((f"/{name[:1]}", f"/data/{name[:1]}", "/p/list" if name == arrays[0] else "/p/gone"))
        found[name] = _pointer(random, usual, taken, oddness)
        taken.append(found[name])
    for name, usual, given in (
        ("environmentIdPath", "/env", 1.0),
        ("cohortIdPath", "/cid", 1.0),
        ("cohortNamePath", "/cname", 1.0),
        ("contextKindPath", "/kind", 0.5),
        ("cohortUrlPath", "/url", 0.5),
    ):
        if happens(random, given):
            in_member = name.startswith("cohort") and happens(random, 0.3)
            place = f"{found[arrays[0]]}/0{usual}" if in_member else random.choice((usual, usual, f"/p{usual}"))
            found[name] = _pointer(random, place, taken, oddness)
            taken.append(found[name])
    if mode == "inclusion":
        action = _pointer(random, random.choice(("/action", "/p/action")), taken, oddness)
        found["arrayInclusion"] = {"path": action, "matcher": random.choice(MATCHERS)}
    found["memberArrayParser"] = _member_parser(random, mode, oddness)
    return found


def _member_parser(random: Random, mode: str, oddness: float) -> Parser:
    bare = happens(random, 0.1)
    found = {"memberIdPath": "" if bare and mode != "boolean" else _pointer(random, "/id", [], oddness)}
    if mode == "boolean" or (mode == "inclusion" and happens(random, 0.2)):
        found["booleanMembershipPath"] = _pointer(random, "/v", [found["memberIdPath"]], oddness)
    for name, usual in (("cohortIdPath", "/cid"), ("cohortNamePath", "/cname")):
        if happens(random, 0.4):
            found[name] = _pointer(random, usual, list(found.values()), oddness)
    return found


def _pointer(random: Random, usual: str, taken: list[str], oddness: float) -> str:
    """The usual one; or a deeper or another one, one equal to another or below it, or the whole document."""
    if not happens(random, oddness):
        return usual
    match random.choice(("deeper", "deeper", "other", "other", "below", "equal", "whole")):
        case "deeper":
            return usual + _tokens(random, random.randint(1, 2))
        case "below" if taken:
            return random.choice(taken) + _tokens(random, random.randint(1, 2))
        case "equal" if taken:
            return random.choice(taken)
        case "whole":
            return ""
    return _tokens(random, random.choice((1, 1, 2, 2, 3, 4, 5, 20)))


def _tokens(random: Random, count: int) -> str:
    keys = [random.choice(ODD_KEYS if happens(random, 0.4) else PLAIN_KEYS) for _ in range(count)]
    pointer: str = JsonPointer.from_parts(keys).path
    return pointer
