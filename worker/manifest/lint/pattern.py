"""Example words of a matcher's pattern: what an RE2 expression spells out, made by reading it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice

# More words of one part of a pattern, or longer ones, tell nothing new.
_MOST_WORDS = 256
_LONGEST_WORD = 200
# What stands for a character that the pattern leaves open.
ANY = "x"
_ESCAPES = {"d": "1", "w": ANY, "s": " ", "n": "\n", "t": "\t", "D": ANY, "W": "-", "S": ANY}
_NOTHING = "AzbBGQE"
_QUANTIFIER = re.compile(r"(?:([*+?])|\{([0-9]+)(?:(,)([0-9]*))?\})\??")
_GROUP_OPENING = re.compile(r"\((?:\?(?:P?<\w+>|[a-zA-Z]*(?:-[a-zA-Z]+)?:))?")
_FLAGS = re.compile(r"\(\?[a-zA-Z]*(?:-[a-zA-Z]+)?\)")
_PROPERTY = re.compile(r"\\[pP](?:\{\^?\w+\}|\w)")
_CLASS = re.compile(r"\[(\^?)((?:\]|\[:\^?\w+:\]|\\.|[^\]\\])(?:\[:\^?\w+:\]|\\.|[^\]\\])*)\]", re.DOTALL)


def example_words(pattern: str, accepts: Callable[[str], bool]) -> list[str]:
    """Words that a pattern spells out: its literal alternatives, with and without what is optional.

    Where the pattern leaves a character open, there is an ``ANY``. The reading is approximate (flags are ignored);
    ``accepts`` is the judge of every word.

    Returns:
        The words that are accepted, each once, in the pattern's order; none when the pattern cannot be read.
    """
    try:
        words = _Reader(pattern).alternatives()
    except RecursionError:
        return []
    return [word for word in dict.fromkeys(words) if accepts(word)]


class _Reader:
    """Reads a pattern that compiles, from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def alternatives(self) -> list[str]:
        words = self._sequence()
        while self._next() == "|":
            self._at += 1
            words += self._sequence()
        return words[:_MOST_WORDS]

    def _sequence(self) -> list[str]:
        words = [""]
        while self._next() not in {"", "|", ")"}:
            words = _joined(words, self._quantified(self._atom()))
        return words

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _taken(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        match = expression.match(self._pattern, self._at)
        if match is not None:
            self._at = match.end()
        return match

    def _atom(self) -> list[str]:
        if self._taken(_FLAGS):
            return [""]
        if self._taken(_GROUP_OPENING):
            words = self.alternatives()
            self._at += 1
            return words
        if self._taken(_PROPERTY):
            return [ANY]
        if match := self._taken(_CLASS):
            return _of_class(negated=bool(match[1]), inside=match[2])
        character = self._next()
        self._at += 1
        if character == "\\":
            escaped = self._next()
            self._at += 1
            return [""] if escaped in _NOTHING else [_ESCAPES.get(escaped, escaped)]
        return [{"^": "", "$": "", ".": ANY}.get(character, character)]

    def _quantified(self, words: list[str]) -> list[str]:
        match = self._taken(_QUANTIFIER)
        if match is None:
            return words
        symbol, least, _, most = match.groups()
        repeated = [""]
        for _ in range(1 if symbol == "+" else int(least or 0)):
            repeated = _joined(repeated, words)
        optional = symbol in {"*", "?"} or (least == "0" and most != "0")
        return [*repeated, *words] if optional else repeated


def _joined(beginnings: Iterable[str], ends: list[str]) -> list[str]:
    words = (beginning + end for beginning in beginnings for end in ends)
    return list(islice((word for word in words if len(word) <= _LONGEST_WORD), _MOST_WORDS))


def _of_class(*, negated: bool, inside: str) -> list[str]:
    """Some characters of a class; of a negated one, one that is likely not in it."""
    if negated:
        return [next((character for character in "xq-_ 1" if character not in inside), ANY)]
    characters = re.findall(r"\[:\^?\w+:\]|\\(.)|(.)", inside, re.DOTALL)
    plain = [_ESCAPES.get(escaped, escaped) if escaped else literal or ANY for escaped, literal in characters]
    return list(dict.fromkeys(plain))[:8]
