"""Names and pointers as authors misspell them, and what they probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from jsonpointer import JsonPointer

# A dotted piece that is a number alone, as in batch.0.id; a version such as v1.0 has them too, and is a key.
_DOTTED_INDEX = re.compile(r"(?:^|\.)[0-9]+(?:\.|$)")
_VERSION = re.compile(r"v?[0-9]+(\.[0-9]+)*")
# Only what an index, a wildcard or a quoted name stands in: contact[email] is a key that form data really has.
_BRACKET = re.compile(r"""\[\s*([0-9*:?@'"-][^\[\]]*)?\]""")
_PIECE = re.compile(r"""\[\s*(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<index>[^\]]*))\s*\]|(?P<name>[^.\[\]]+)""")
_ANY_ELEMENT = frozenset({"*", "**", "-", "", ":", "@"})


def name_meant(name: str, known: Iterable[str]) -> str | None:
    """Which of the names that are known ``name`` is probably a misspelling of; None when none is close."""
    by_spelling = {_bare(candidate): candidate for candidate in known}
    close = get_close_matches(_bare(name), by_spelling, n=1, cutoff=0.75)
    return by_spelling[close[0]] if close else None


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removesuffix("path")


def is_foreign(token: str) -> bool:
    """Whether a pointer's token is written as in JSONPath or JavaScript, where a JSON pointer has a key or an index."""
    return (
        token in {"$", "*", "**", "-", "", "#"}
        or token.startswith(("$.", "$["))
        or _BRACKET.search(token) is not None
        or (_DOTTED_INDEX.search(token) is not None and "." in token and _VERSION.fullmatch(token) is None)
    )


def pointer_meant(text: str) -> str | None:
    """The JSON pointer that was probably meant by ``text``, which is none, or finds nothing; None when nobody knows.

    Takes JSONPath (``$.batch[*].id``), JavaScript (``batch[0].id``), a missing slash, and mixtures of them.
    """
    rooted = text.startswith("/")
    text = re.sub(r"~(?![01])", "~0", text.strip().removeprefix("#"))
    tokens = JsonPointer("/" + text.removeprefix("/")).parts
    # Without a slash anywhere the dots must be what separates; with one, a dot may belong to a key.
    dotted = not rooted and "/" not in text
    meant = [piece for token in tokens for piece in _pieces(token, dotted=dotted)]
    if not meant or not all(re.search(r"\w", piece) for piece in meant):
        return None
    return str(JsonPointer.from_parts(meant).path)


def _pieces(token: str, *, dotted: bool) -> list[str]:
    token = token.strip()
    if token in {"$", "#", ""}:
        return []
    if not dotted and not is_foreign(token):
        return [token]
    if token in _ANY_ELEMENT:
        return ["0"]
    pieces = []
    for match in _PIECE.finditer(re.sub(r"^\$(?=[.\[])", "", token)):
        groups = match.groupdict()
        piece = next((groups[name] for name in ("single", "double", "index", "name") if groups[name] is not None), "")
        pieces.append("0" if piece.strip() in _ANY_ELEMENT else piece.strip())
    return pieces
