"""Lint of an arrayInclusion's matcher: which words it takes for an add, tried out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from worker.manifest.lint.finding import Finding
from worker.manifest.lint.pattern import ANY, example_words
from worker.manifest.lint.words import (
    COMMONEST_PAIRS,
    about,
    accepting,
    counterparts,
    direction,
    is_flag,
    names_members,
    trade_pairs,
)
from worker.manifest.manifest import REQUEST_PARSER
from worker.manifest.request_parser import ArrayInclusion, RequestParser, compile_matcher

_MATCHER = f"{REQUEST_PARSER}/arrayInclusion/matcher"


def lint_matcher(parser: RequestParser) -> Iterator[Finding]:
    """What is wrong with the matcher, if there is one."""
    if parser.array_inclusion is not None:
        yield from _Matcher(parser.array_inclusion.matcher).findings()
        yield from _reversed_flag(parser.array_inclusion)


class _Matcher:
    """A matcher, and the words that it is known to accept."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._compiled: Any = compile_matcher(pattern)
        self._accepts = accepting(pattern)
        self._words = [word for word in example_words(pattern, self._accepts) if word]
        self._adding = [word for word in self._words if direction(word) == "add"]
        self._removing = [word for word in self._words if direction(word) == "remove"]
        # Whether a false that is matched is an add depends on what it is the value of.
        self._plain_removing = [word for word in self._removing if not is_flag(word)]

    def findings(self) -> Iterator[Finding]:
        both = self._both_ways()
        strays = self._strays()
        if both is not None:
            add, remove = both
            yield Finding(
                "error",
                "matcher-both-ways",
                _MATCHER,
                f"accepts both {add!r} and {remove!r}: a payload that removes members would add them",
                self._remedy(remove),
            )
            if self._compiled.fullmatch(remove) is None:
                return  # anchors are the remedy just given
        elif self._plain_removing and not self._adding:
            yield Finding(
                "warning",
                "matcher-removes",
                _MATCHER,
                f"accepts {self._plain_removing[0]!r}, which sounds like a removal: what matches is added",
                "make the matcher accept the words that add, and only these; whatever does not match is removed",
            )
        if strays:
            yield Finding(
                "warning",
                "matcher-not-anchored",
                _MATCHER,
                f"accepts {_listed(strays)} as well: a matcher is searched for anywhere in the action",
                f"anchor it at both ends: {anchored(self._pattern)}",
            )

    def _both_ways(self) -> tuple[str, str] | None:
        """An add word and a remove word that are both accepted."""
        if self._adding and self._removing:
            return self._adding[0], self._removing[0]
        own = [(word, other) for word in self._adding for other in counterparts(word)]
        own += [(other, word) for word in self._removing for other in counterparts(word)]
        own += [pair for word in self._words if word in self._pattern and names_members(word) for pair in about(word)]
        pair = next(filter(self._accepts_both, own), None)
        # A matcher that tells one of the commonest pairs apart was made to: the other pairs are not its partner's.
        apart = any(self._accepts(add) and not self._accepts(remove) for add, remove in COMMONEST_PAIRS)
        if pair is None and not (self._adding or self._removing or apart):
            pair = next(filter(self._accepts_both, trade_pairs()), None)
        return pair

    def _accepts_both(self, pair: tuple[str, str]) -> bool:
        return direction(pair[0]) != "remove" and direction(pair[1]) != "add" and all(map(self._accepts, pair))

    def _strays(self) -> list[str]:
        """Words that are accepted only because a part of them is: not those that a wildcard takes in on purpose."""
        for word in self._words:
            if set(word) == {ANY} and ANY not in self._pattern:
                continue  # nothing of it is the author's
            stray = [other for other in (f"re-{word}", f"{word}x") if self._is_stray(other)]
            if stray:
                return stray
        return []

    def _is_stray(self, word: str) -> bool:
        return self._accepts(word) and self._compiled.fullmatch(word) is None

    def _remedy(self, remove: str) -> str:
        such = "name only the words that add, such as ^(add|add_members)$; whatever does not match is removed"
        if self._compiled.fullmatch(remove) is None and self._words:
            whole = f"anchor it at both ends: {anchored(self._pattern)}"
            return whole if self._adding else f"{whole}; or {such}"
        plain = [word for word in self._words if direction(word) != "remove" and re.fullmatch(r"[\w-]+", word)]
        if self._adding and re.fullmatch(r"[\w|()^$?:-]+", self._pattern):
            return f"name only the words that add, and whatever does not match is removed: {_exactly(plain)}"
        return such


def _reversed_flag(inclusion: ArrayInclusion) -> Iterator[Finding]:
    """A boolean that is matched the wrong way round, by the name of its property."""
    accepts = accepting(inclusion.matcher)
    means = direction(inclusion.path.rpartition("/")[2])
    wrong = {"add": ("false", "true"), "remove": ("true", "false")}
    if means is not None and accepts(wrong[means][0]) and not accepts(wrong[means][1]):
        matched, unmatched = wrong[means]
        yield Finding(
            "warning",
            "matcher-removes",
            _MATCHER,
            f"accepts {matched!r}: members are added when {inclusion.path} is {matched}, which sounds like a removal",
            f"match the value that adds: ^{unmatched}$",
        )


def anchored(pattern: str) -> str:
    """A pattern that accepts as a whole what ``pattern`` spells out, and nothing around it."""
    core = re.sub(r"^\^|(?<!\\)\$$", "", pattern)
    grouped = f"({core})" if _has_alternatives(core) else core
    try:
        compile_matcher(core)
        accepts = accepting(f"^{grouped}$")
    except ValueError:
        return f"^(?:{pattern})$"
    sound = all(map(accepts, example_words(core, accepting(core))))
    return f"^{grouped}$" if sound else f"^(?:{pattern})$"


def _has_alternatives(pattern: str) -> bool:
    """Whether a pattern has a | that no group holds together."""
    depth = 0
    for character in re.sub(r"\\.|\[\^?\]?[^\]]*\]", "", pattern):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "|" and depth == 0:
            return True
    return False


def _exactly(words: list[str]) -> str:
    return f"^{words[0]}$" if len(words) == 1 else f"^({'|'.join(words)})$"


def _listed(words: list[str]) -> str:
    return " and ".join(map(repr, words))
