"""Lint of an arrayInclusion's matcher: which words it takes for an add, tried out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from worker.manifest.lint.finding import Finding
from worker.manifest.lint.pattern import ANY, example_words, spelled_words
from worker.manifest.lint.words import (
    COMMONEST_PAIRS,
    accepting,
    counterparts,
    direction,
    is_flag,
    names_members,
    pairs_about,
    said_by,
    trade_pairs,
)
from worker.manifest.manifest import REQUEST_PARSER
from worker.manifest.request_parser import compile_matcher

_MATCHER = f"{REQUEST_PARSER}/arrayInclusion/matcher"
_SUCH = "name only the words that add, such as ^(add|add_members)$; whatever does not match is removed"
# A word as no partner sends it: blanks at an end, quotes, slashes as around a regular expression of JavaScript's,
# anchors that were escaped, or several words.
_ODD = re.compile(r"""\s.*|.*\s|(["'`%]).*\1|/.*/[dgimsuvy]*|\^.*|.*\$|.*,.*""", re.DOTALL)
_JAVASCRIPT = re.compile(r"/(.*)/([dgimsuvy]*)", re.DOTALL)
_OPEN = r"(?:\.|\\[wS])[*+]\??"


def lint_matcher(pattern: str, path: str) -> Iterator[Finding]:
    """What is wrong with a matcher, for the value at ``path``."""
    yield from _Matcher(pattern).findings()
    yield from _reversed_flag(pattern, path)


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
        unsent = self._unsent()
        if unsent is not None:
            yield unsent
            if unsent.severity == "error":
                return
        both = self._both_ways()
        if both is not None:
            add, remove = both
            yield Finding(
                "error",
                "matcher-both-ways",
                _MATCHER,
                f"accepts both {add!r} and {remove!r}: a payload that removes members would add them",
                self._remedy(remove),
            )
            return  # the remedy has anchors
        if self._plain_removing and not self._adding:
            yield Finding(
                "warning",
                "matcher-removes",
                _MATCHER,
                f"accepts {self._plain_removing[0]!r}, which sounds like a removal: what matches is added",
                "make the matcher accept the words that add, and only these; whatever does not match is removed",
            )
        strays = self.strays()
        if strays:
            yield Finding(
                "warning",
                "matcher-not-anchored",
                _MATCHER,
                f"accepts {_listed(strays)} as well: a matcher is searched for anywhere in the action",
                self._whole(strays),
            )

    def _unsent(self) -> Finding | None:
        """A finding, if the pattern has words that nobody sends as they stand there."""
        odd = [word for word in self._words if _ODD.fullmatch(word) and not any(map(self._accepts, _tidied(word)))]
        if odd and len(odd) < len(self._words):
            message = f"accepts {_listed(odd[:2])}, which nobody sends with these blanks or marks around it"
            return Finding("warning", "matcher-odd-word", _MATCHER, message, self._as_sent())
        if (not odd and self._words) or any(self._accepts(word) for pair in trade_pairs() for word in pair):
            return None
        message = "accepts no word that anybody sends: every payload would remove its members"
        return Finding("error", "matcher-accepts-nothing", _MATCHER, message, self._as_sent())

    def _as_sent(self) -> str:
        """What to write in place of words that nobody sends."""
        javascript = _JAVASCRIPT.fullmatch(self._pattern)
        whole = anchored(javascript[1]) if javascript else None
        if javascript and whole:
            flag = "(?i)" if "i" in javascript[2] else ""
            return f"write the expression without slashes and flags around it: {flag}{whole}"
        words = list(dict.fromkeys(tidy for word in spelled_words(self._pattern) for tidy in _tidied(word) if tidy))
        if words and all(re.fullmatch(r"[\w .:-]+", word) for word in words):
            return f"write the words as the partner sends them: {_exactly(words)}"
        return _SUCH

    def _both_ways(self) -> tuple[str, str] | None:
        """An add word and a remove word that are both accepted."""
        if self._adding and self._removing:
            return self._adding[0], self._removing[0]
        own = [(word, other) for word in self._adding for other in counterparts(word)]
        own += [(other, word) for word in self._removing for other in counterparts(word)]
        own += [
            pair for word in self._words if word in self._pattern and names_members(word) for pair in pairs_about(word)
        ]
        pair = next(filter(self._accepts_both, own), None)
        # A matcher that tells one of the commonest pairs apart was made to: the other pairs are not its partner's.
        apart = any(self._accepts(add) and not self._accepts(remove) for add, remove in COMMONEST_PAIRS)
        if pair is None and not (self._adding or self._removing or apart):
            pair = next(filter(self._accepts_both, trade_pairs()), None)
        return pair

    def _accepts_both(self, pair: tuple[str, str]) -> bool:
        return direction(pair[0]) != "remove" and direction(pair[1]) != "add" and all(map(self._accepts, pair))

    def strays(self) -> list[str]:
        """Words that are accepted only because a part of them is: not those that one wildcard takes in on purpose."""
        for word in self._words:
            if set(word) == {ANY} and ANY not in self._pattern:
                continue  # nothing of it is the author's
            stray = [other for other in (f"re-{word}", f"{word}x") if self._is_stray(other)]
            if stray:
                return stray
            core = word.strip(ANY) or word
            before = next(filter(self._accepts, (f"re-{core}", f"re{core}")), None)
            if before is not None and self._accepts(f"{core}x"):
                return [before, f"{core}x"]
        return []

    def _is_stray(self, word: str) -> bool:
        return self._accepts(word) and self._compiled.fullmatch(word) is None

    def _whole(self, strays: list[str]) -> str:
        """What to write in place of a pattern that accepts strays."""
        whole = anchored(self._pattern)
        if whole is None:
            return _SUCH
        one_end = not _has_alternatives(self._pattern) and len(strays) == 1
        begins, ends = self._pattern.startswith("^"), self._pattern.endswith("$")
        wide = f"{self._pattern}.*$" if begins else f"^.*{self._pattern}"
        if not (one_end and begins != ends) or _Matcher(wide).strays():
            return f"anchor it at both ends: {whole}"
        if ends and not any(word[0].isalnum() for word in self._words):
            return f"say that something stands before it: {wide}"  # nobody sends _entered alone
        wider = f"if whatever {'begins' if begins else 'ends'} so is an add: {wide}"
        return f"anchor it at both ends: {whole}; or, {wider}"

    def _remedy(self, remove: str) -> str:
        whole = anchored(self._pattern)
        if self._compiled.fullmatch(remove) is None and self._words and whole:
            return f"anchor it at both ends: {whole}{'' if self._adding else f'; or {_SUCH}'}"
        plain = [word for word in self._words if direction(word) != "remove" and re.fullmatch(r"[\w-]+", word)]
        if self._adding and re.fullmatch(r"[\w|()^$?:-]+", self._pattern):
            return f"name only the words that add, and whatever does not match is removed: {_exactly(plain)}"
        return _SUCH


def _reversed_flag(pattern: str, path: str) -> Iterator[Finding]:
    """A boolean that is matched the wrong way round, by the name of its property."""
    accepts = accepting(pattern)
    means = said_by(path)
    wrong = {"add": ("false", "true"), "remove": ("true", "false")}
    if means is not None and accepts(wrong[means][0]) and not accepts(wrong[means][1]):
        matched, unmatched = wrong[means]
        yield Finding(
            "warning",
            "matcher-removes",
            _MATCHER,
            f"accepts {matched!r}: members are added when {path} is {matched}, which sounds like a removal",
            f"match the value that adds: ^{unmatched}$",
        )


def anchored(pattern: str) -> str | None:
    """A pattern that accepts as a whole what ``pattern`` spells out, and nothing around it; None when none is found."""
    core = re.sub(r"^\^|(?<!\\)\$$", "", pattern)
    if re.match(_OPEN + r"[A-Za-z0-9(\[]", core):  # not .*_entered, which is an end on purpose
        core = re.sub(rf"^{_OPEN}|(?<!\\){_OPEN}$", "", core)
    grouped = f"({core})" if _has_alternatives(core) else core
    for whole in (f"^{grouped}$", f"^(?:{pattern})$"):
        with suppress(ValueError):
            if all(map(accepting(whole), example_words(core, accepting(core)))) and not _Matcher(whole).strays():
                return whole
    return None


def _tidied(word: str) -> list[str]:
    """The words in a word that nobody sends."""
    javascript = _JAVASCRIPT.fullmatch(word)
    return [part.strip(" \t\r\n\"'`%^$") for part in (javascript[1] if javascript else word).split(",")]


def _has_alternatives(pattern: str) -> bool:
    """Whether a pattern has a | that no group holds together."""
    depth = 0
    for character in re.sub(r"\\.|\[\^?\]?[^\]]*\]", "", pattern):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "|" and depth == 0:
            return True
    return False


def _exactly(words: list[str]) -> str:
    words = [word.replace(".", r"\.") for word in words]
    return f"^{words[0]}$" if len(words) == 1 else f"^({'|'.join(words)})$"


def _listed(words: list[str]) -> str:
    return " and ".join(map(repr, words))
