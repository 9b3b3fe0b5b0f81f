"""Example words of a matcher's pattern: what an RE2 expression spells out, made by reading it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice

from worker.manifest.request_parser import compile_matcher

# More words of one part of a pattern, or longer ones, tell nothing new.
_MOST_WORDS = 256
_LONGEST_WORD = 200
# What stands for a character that the pattern leaves open, where that may be an x.
ANY = "x"
_OTHERS = "X1-_ .!"
_ESCAPES = {"d": "1", "w": ANY, "s": " ", "n": "\n", "t": "\t", "D": ANY, "W": "-", "S": ANY}
_NOTHING = "AzbBGQE"
_QUANTIFIER = re.compile(r"(?:([*+?])|\{([0-9]+)(?:(,)([0-9]*))?\})\??")
_GROUP_OPENING = re.compile(r"\((?:\?(?:P?<\w+>|[a-zA-Z]*(?:-[a-zA-Z]+)?:))?")
_FLAGS = re.compile(r"\(\?[a-zA-Z]*(?:-[a-zA-Z]+)?\)")
_CODE = re.compile(r"\\x(?:\{([0-9A-Fa-f]+)\}|([0-9A-Fa-f]{2}))")
_CLASS = re.compile(
    r"\\[pP](?:\{\^?\w+\}|\w)|\[\^?(?:\]|\[:\^?\w+:\]|\\.|[^\]\\])(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]", re.DOTALL
)


def spelled_words(pattern: str) -> list[str]:
    """Words that a pattern spells out: its literal alternatives, with and without what is optional.

    Where the pattern leaves a character open, there is an ``ANY`` if one may be there. The reading is approximate:
    anchors and flags are ignored.

    Returns:
        The words, each once, in the pattern's order; none when the pattern cannot be read.
    """
    try:
        return list(dict.fromkeys(_Reader(pattern).alternatives()))
    except RecursionError:
        return []


def example_words(pattern: str, accepts: Callable[[str], bool]) -> list[str]:
    """Those of the words that a pattern spells out that ``accepts``, the judge of every word, takes."""
    return list(filter(accepts, spelled_words(pattern)))


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
        if match := self._taken(_CODE):
            return [chr(int(match[1] or match[2], 16)).encode(errors="replace").decode()]
        if match := self._taken(_CLASS):
            return _of_class(match[0])
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


def _of_class(expression: str) -> list[str]:
    """Some characters of a class: those that it names, else one that it takes."""
    takes = compile_matcher(expression).fullmatch
    named: list[str] = []
    if expression[0] == "[" and expression[1] != "^":
        characters = re.findall(r"\[:\^?\w+:\]|\\(.)|(.)", expression[1:-1], re.DOTALL)
        named = [_ESCAPES.get(escaped, escaped) or plain for escaped, plain in characters]
    return list(filter(takes, dict.fromkeys(named)))[:8] or list(filter(takes, ANY + _OTHERS))[:1]
