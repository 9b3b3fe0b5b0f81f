"""Names and pointers as authors misspell them, and what they probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Literal

from jsonpointer import JsonPointer

from worker.manifest.document import array_index

# What a pointer is to find: a value of the body, an array of members, or a value of a member, in which it begins.
Sought = Literal["value", "array", "in a member"]

# A dotted piece that is a number alone, as in batch.0.id; a version such as v1.0 has them too, and is a key.
_DOTTED_INDEX = re.compile(r"(?:^|\.)[0-9]+(?:\.|$)")
_VERSION = re.compile(r"[^.]*[0-9](\.[0-9]+)+")
# Only what an index, a wildcard or a quoted name stands in: contact[email] is a key that form data really has.
_BRACKET = re.compile(r"""\[\s*([0-9*:?@'"-][^\[\]]*)?\]""")
_PIECE = re.compile(r"""\[\s*(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<index>[^\]]*))\s*\]|(?P<name>[^.\[\]]+)""")
_ANY_ELEMENT = frozenset({"*", "**", "-", "", ":"})
_ANY = "*"


def name_meant(name: str, known: Iterable[str]) -> str | None:
    """Which of the names that are known ``name`` is probably a misspelling of; None when none is close."""
    by_spelling = {_bare(candidate): candidate for candidate in known}
    close = get_close_matches(_bare(name), by_spelling, n=1, cutoff=0.75)
    return by_spelling[close[0]] if close else None


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removesuffix("path")


def sought_by(place: str) -> Sought:
    """What the pointer is to find that a requestParser has at ``place``, itself a pointer such as /cohortIdPath."""
    if place.startswith("/memberArrayParser/"):
        return "in a member"
    return "array" if place.lower().endswith("memberarraypath") else "value"


def is_foreign(token: str) -> bool:
    """Whether a pointer's token is written as in JSONPath or JavaScript, where a JSON pointer has a key or an index."""
    return (
        token in {"$", "*", "**", "-", "", "#"}
        or token.startswith(("$.", "$[", "@.", "@["))
        or "{{" in token
        or _BRACKET.search(token) is not None
        or (_DOTTED_INDEX.search(token) is not None and "." in token and _VERSION.fullmatch(token) is None)
    )


def pointer_meant(text: str, sought: Sought = "value", arrays: Sequence[str] = ()) -> str | None:
    """The JSON pointer that was probably meant by ``text``, which is none, or finds nothing; None when nobody knows.

    Takes JSONPath (``$.batch[*].id``), JavaScript (``batch[0].id``), ``{{id}}``, a missing slash, and mixtures of them.

    Args:
        text: what was written.
        sought: what the pointer is to find.
        arrays: the pointers of the member arrays, which a pointer in a member does not repeat.
    """
    rooted = text.startswith("/")
    text = re.sub(r"\{\{\s*|\s*\}\}", "", text.strip().removeprefix("#"))
    text = re.sub(r"~(?![01])", "~0", text)
    tokens = JsonPointer("/" + text.removeprefix("/")).parts
    # Without a slash anywhere the dots must be what separates; with one, a dot may belong to a key.
    dotted = not rooted and "/" not in text
    meant = [piece for token in tokens for piece in _pieces(token, dotted=dotted)]
    if not all(piece == _ANY or re.search(r"\w", piece) for piece in meant):
        return None
    if sought != "in a member" and set(meant) <= {_ANY}:
        return None
    if sought == "array":
        while meant[-1:] == [_ANY]:  # /batch[*] names the members, not the first of them
            meant.pop()
    elif sought == "in a member" and _ANY in meant:
        meant = meant[len(meant) - meant[::-1].index(_ANY) :]
    found = str(JsonPointer.from_parts("0" if piece == _ANY else piece for piece in meant).path)
    if sought == "in a member":
        relative = relative_to_member(found, arrays)
        return found if relative is None else relative
    return found


def quoted(pointer: str) -> str:
    """A pointer as it is shown in a sentence: the empty one in quotes."""
    return pointer or '""'


def relative_to_member(text: str, arrays: Sequence[str]) -> str | None:
    """What is left of a member's pointer after an array's, or after its last token and an index; None if neither is."""
    tokens = JsonPointer(text).parts
    for array in arrays:
        path = JsonPointer(array).parts
        for beginning, needs_index in ((path, False), (path[-1:], True)):
            rest = tokens[len(beginning) :]
            if not beginning or tokens[: len(beginning)] != beginning or not rest:
                continue
            indexed = array_index(rest[0]) is not None
            if needs_index and not indexed:
                continue
            return str(JsonPointer.from_parts(rest[1:] if indexed else rest).path)
    return None


def _pieces(token: str, *, dotted: bool) -> list[str]:
    token = token.strip()
    if token in {"$", "@", "#", ""}:
        return []
    if not dotted and not is_foreign(token):
        return [token]
    if token in _ANY_ELEMENT:
        return [_ANY]
    pieces = []
    for match in _PIECE.finditer(re.sub(r"^[$@](?=[.\[])", "", token)):
        groups = match.groupdict()
        piece = next((groups[name] for name in ("single", "double", "index", "name") if groups[name] is not None), "")
        is_any = piece.strip() in _ANY_ELEMENT or piece.startswith("?")  # a filter
        pieces.append(_ANY if is_any else piece.strip())
    return pieces
