"""The words by which partners tell an add from a remove, in all their spellings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Literal

from jsonpointer import JsonPointer

from worker.manifest.document import array_index
from worker.manifest.lint.pattern import example_words
from worker.manifest.request_parser import compile_matcher

Direction = Literal["add", "remove"]

# Of each pair the first adds what the second removes.
_PAIRS = [
    *[("add", "remove"), ("added", "removed"), ("adding", "removing"), ("adds", "removes"), ("addition", "removal")],
    *[("add", "delete"), ("added", "deleted"), ("add", "drop"), ("added", "dropped"), ("add", "subtract")],
    *[("enter", "exit"), ("entered", "exited"), ("entering", "exiting"), ("enters", "exits"), ("entry", "exit")],
    *[("enter", "leave"), ("entered", "left"), ("join", "leave"), ("joined", "left"), ("joins", "leaves")],
    *[("include", "exclude"), ("included", "excluded"), ("inclusion", "exclusion"), ("includes", "excludes")],
    *[("insert", "delete"), ("inserted", "deleted"), ("upsert", "delete"), ("upserted", "deleted")],
    *[("create", "delete"), ("created", "deleted"), ("put", "delete"), ("import", "delete"), ("set", "unset")],
    *[("subscribe", "unsubscribe"), ("subscribed", "unsubscribed"), ("opt_in", "opt_out"), ("optin", "optout")],
    *[("enroll", "unenroll"), ("enrolled", "unenrolled"), ("assign", "unassign"), ("assigned", "unassigned")],
    *[("activate", "deactivate"), ("activated", "deactivated"), ("active", "inactive"), ("enable", "disable")],
    *[("enabled", "disabled"), ("attach", "detach"), ("attached", "detached"), ("grant", "revoke"), ("link", "unlink")],
    *[("tag", "untag"), ("qualify", "disqualify"), ("qualified", "disqualified"), ("push", "pop"), ("start", "stop")],
    *[("in", "out"), ("on", "off"), ("true", "false"), ("yes", "no"), ("1", "0")],
]
COMMONEST_PAIRS = (
    *[("add", "remove"), ("added", "removed"), ("add_member", "remove_member"), ("add_members", "remove_members")],
    *[("ADD", "REMOVE"), ("enter", "exit"), ("entered", "exited"), ("join", "leave"), ("include", "exclude")],
    *[("insert", "delete"), ("true", "false"), ("1", "0")],
)
_NOUNS = (
    *("member", "members", "user", "users", "contact", "contacts", "profile", "profiles", "audience", "segment"),
    *("cohort", "list", "person", "people", "customer", "customers"),
)
_FLAGS = frozenset({"true", "false", "yes", "no", "on", "off", "1", "0", "y", "n", "t", "f"})
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_STEMS: dict[Direction, re.Pattern[str]] = {
    "add": re.compile(
        r"add(s|ed|ing|ition|itions)?|add(to|member|user|contact|profile|segment)\w*|\w+added|"
        r"enter(s|ed|ing)?|entry|join(s|ed|ing)?|(inclu|insert|upsert|creat|subscri|enrol)\w*|"
        r"(assign|activat|enabl|attach)\w*|active|grant(s|ed)?|qualif\w+|import(ed)?"
    ),
    "remove": re.compile(
        r"\w*(remov|delet|unsubscri|exclu|unenrol|unassign|deactivat|disqualif)\w*|"
        r"exit(s|ed|ing)?|leav\w*|(inactiv|disabl|detach|unlink|untag|purg|revo[ck]|withdr[ae]w|evict|expel)\w*|"
        r"(drop|dropped|drops|subtract|subtracted|discard|discarded|erased?|optout)"
    ),
}
# Parts that mean something only where nothing says more: "in" is an add, but not in "sign_in_removed".
_WEAK: dict[Direction, frozenset[str]] = {
    "add": frozenset({"in", "on", "true", "yes", "1", "optin", "set", "put", "push", "link", "tag", "start"}),
    "remove": frozenset({"out", "off", "false", "no", "0", "left", "lost", "unset", "pop", "stop", "minus"}),
}


def accepting(pattern: str) -> Callable[[str], bool]:
    """The judge of words by a matcher's pattern: it searches, as the decoder does.

    Raises:
        ValueError: the pattern is no RE2 pattern.
    """
    search = compile_matcher(pattern).search
    return lambda word: search(word) is not None


def is_flag(word: str) -> bool:
    """Whether a word is a boolean's, which may stand beside a name such as ``isRemoved``."""
    return word.lower() in _FLAGS


def direction(word: str) -> Direction | None:
    """Whether a word says add or remove by its parts; None when it says neither, or both."""
    parts = [part.lower() for part in _PART.findall(word)]
    said: set[Direction] = {way for way, stems in _STEMS.items() if any(map(stems.fullmatch, parts))}
    if not said:
        said = {way for way, weak in _WEAK.items() if weak.intersection(parts)}
    return said.pop() if len(said) == 1 else None


def said_by(pointer: str) -> Direction | None:
    """Whether the name of what a pointer finds says add or remove; an index is no name."""
    names = [token for token in JsonPointer(pointer).parts if array_index(token) is None]
    return direction(names[-1]) if names else None


def names_members(word: str) -> bool:
    """Whether a word says of whom or of what it is, and neither add nor remove."""
    return direction(word) is None and not {part.lower() for part in _PART.findall(word)}.isdisjoint(_NOUNS)


def spellings(words: tuple[str, ...]) -> list[str]:
    """Several words as one, in the ways that are usual."""
    text = "_".join(words)
    snake = text.split("_")
    camel = snake[0] + "".join(word.title() for word in snake[1:])
    pascal = "".join(word.title() for word in snake)
    joined = [text, "-".join(snake), " ".join(snake), ".".join(snake), camel, pascal, "".join(snake)]
    return list(dict.fromkeys([*joined, text.upper(), "-".join(snake).upper(), " ".join(snake).title()]))


def trade_pairs() -> Iterator[tuple[str, str]]:
    """An add word and its remove word, in the spellings of the trade, with and without what it is that is added."""
    for add, remove in _PAIRS:
        yield from zip(spellings((add,)), spellings((remove,)), strict=False)
        if not is_flag(add):
            for noun in _NOUNS:
                yield from zip(spellings((add, noun)), spellings((remove, noun)), strict=True)
                yield from zip(spellings((noun, add)), spellings((noun, remove)), strict=True)


def counterparts(word: str) -> Iterator[str]:
    """The words for the other direction that a partner who says ``word`` may say: remove_user for add_user."""
    for pair in _PAIRS:
        for said, other in (pair, pair[::-1]):
            yield from _replaced(word, said, other)


def pairs_about(noun: str) -> list[tuple[str, str]]:
    """An add word and its remove word about something that says neither: add_members and remove_members."""
    noun = noun.strip("_-. ")
    before = zip(spellings(("add", noun)), spellings(("remove", noun)), strict=True)
    return [*before, *zip(spellings((noun, "added")), spellings((noun, "removed")), strict=True)]


@lru_cache(maxsize=256)
def action_word(pattern: str, *, added: bool) -> str:
    """A word for the action of a body: one that a matcher takes, or one that it refuses.

    Returns:
        The pattern's own words come first, then the trade's. Where no word is known to do, "add" or "remove".
    """
    accepts = accepting(pattern)
    own = [word for word in example_words(pattern, accepts) if word]
    if added:
        adding = [word for word in own if direction(word) == "add"]
        candidates = [*adding, *(add for add, _ in trade_pairs()), *own]
    else:
        others = (other for word in own for other in counterparts(word))
        candidates = [*others, *(remove for _, remove in trade_pairs()), "nothing-of-the-kind"]
    return next((word for word in candidates if accepts(word) == added), "add" if added else "remove")


def _replaced(word: str, said: str, other: str) -> Iterator[str]:
    for match in _PART.finditer(word):
        part = match[0]
        if part.lower() != said and part.lower() not in {said + noun for noun in _NOUNS}:
            continue
        cased = other.upper() if part.isupper() else other.title() if part[0].isupper() else other
        replaced = word[: match.start()] + cased + part[len(said) :] + word[match.end() :]
        yield replaced
        yield re.sub(r"(?<![a-z])to(?![a-z])", "from", replaced)
