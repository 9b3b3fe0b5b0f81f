"""The ``filter`` of the list of segments: LaunchDarkly's grammar, read into a predicate. Pure.

    tags anyOf ["beta", "enterprise"],query equals "toggle"|(unbounded equals true,external exists false)

A comma is "and" and binds more closely than ``|``, which is "or"; parentheses group. Values are JSON.
Source: https://launchdarkly.com/docs/api/segments/get-segments
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

MOST_CHARACTERS: Final = 8 * 1024
_DEEPEST: Final = 32
# Each is asked of every segment.
MOST_CONDITIONS: Final = 50
_WORD: Final = re.compile(r"\s*([A-Za-z]+)\s*")
_decoder = json.JSONDecoder()


class Filterable(Protocol):
    """What can be asked about a segment."""

    @property
    def key(self) -> str:
        """The segment key."""

    @property
    def texts(self) -> Collection[str]:
        """Key, name and description."""

    @property
    def tags(self) -> Collection[str]:
        """Its tags."""

    @property
    def external(self) -> bool:
        """Whether a partner syncs it."""


Predicate = Callable[[Filterable], bool]


class InvalidFilter(ValueError):
    """Raised when a filter cannot be read; the message says where, and what was expected there."""


def read_filter(text: str) -> Predicate:
    """The predicate that a filter describes; an empty one lets everything through.

    Raises:
        InvalidFilter: it is none.
    """
    if len(text) > MOST_CHARACTERS:
        raise InvalidFilter(f"it has more than {MOST_CHARACTERS} characters")
    if not text.strip():
        return lambda _: True
    reading = _Reading(text)
    found = reading.either(0)
    reading.end()
    return found


class _Reading:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._conditions = 0

    def either(self, depth: int) -> Predicate:
        alternatives = [self._both(depth)]
        while self._take("|"):
            alternatives.append(self._both(depth))
        return alternatives[0] if len(alternatives) == 1 else lambda each: any(fits(each) for fits in alternatives)

    def end(self) -> None:
        if self._at < len(self._text):
            raise self._fault("a comma, a | or the end was expected")

    def _both(self, depth: int) -> Predicate:
        conditions = [self._condition(depth)]
        while self._take(","):
            conditions.append(self._condition(depth))
        return conditions[0] if len(conditions) == 1 else lambda each: all(fits(each) for fits in conditions)

    def _condition(self, depth: int) -> Predicate:
        if self._take("("):
            if depth >= _DEEPEST:
                raise self._fault("there are too many parentheses")
            found = self.either(depth + 1)
            if not self._take(")"):
                raise self._fault("a closing parenthesis was expected")
            return found
        self._conditions += 1
        if self._conditions > MOST_CONDITIONS:
            raise self._fault(f"there are more than {MOST_CONDITIONS} conditions")
        began = self._at
        field, operator, value = self._word("a field"), self._word("an operator"), self._value()
        made = _CONDITIONS.get((field, operator))
        if made is None:
            known = ", ".join(" ".join(each) for each in _CONDITIONS)
            self._at = began
            raise self._fault(f"{field} {operator} is not known; there are: {known}")
        condition = made(value)
        if condition is None:
            raise self._fault(f"{field} {operator} wants {_WANTS[operator if field != 'query' else 'query']}")
        return condition

    def _word(self, what: str) -> str:
        match = _WORD.match(self._text, self._at)
        if not match:
            raise self._fault(f"{what} was expected")
        self._at = match.end()
        return match[1]

    def _value(self) -> Any:
        try:
            value, self._at = _decoder.raw_decode(self._text, self._at)
        except (ValueError, RecursionError):
            raise self._fault("a JSON value was expected: a string in double quotes, a list, true or false") from None
        return value

    def _take(self, character: str) -> bool:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        return True

    def _fault(self, what: str) -> InvalidFilter:
        return InvalidFilter(f"at character {self._at + 1}: {what}")


_WANTS: Final = {
    "anyOf": "a list of strings",
    "equals": "true or false",
    "exists": "true or false",
    "query": "a string, or a list of strings",
}


def _strings(value: Any) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None


def _set(value: Any) -> frozenset[str] | None:
    found = _strings(value)
    return None if found is None else frozenset(found)


def _excluded_keys(value: Any) -> Predicate | None:
    keys = _set(value)
    return None if keys is None else lambda each: each.key not in keys


def _included_keys(value: Any) -> Predicate | None:
    keys = _set(value)
    return None if keys is None else lambda each: each.key in keys


def _tags(value: Any) -> Predicate | None:
    tags = _set(value)
    return None if tags is None else lambda each: not tags.isdisjoint(each.tags)


def _query(value: Any) -> Predicate | None:
    asked = _strings([value] if isinstance(value, str) else value)
    if asked is None:
        return None
    folded = [text.casefold() for text in asked]
    return lambda each: any(text in told.casefold() for told in each.texts for text in folded)


def _external(value: Any) -> Predicate | None:
    return (lambda each: each.external == value) if isinstance(value, bool) else None


def _unbounded(value: Any) -> Predicate | None:
    """Every segment here is a big one."""
    return (lambda _: bool(value)) if isinstance(value, bool) else None


_CONDITIONS: Final[dict[tuple[str, str], Callable[[Any], Predicate | None]]] = {
    ("excludedKeys", "anyOf"): _excluded_keys,
    ("includedKeys", "anyOf"): _included_keys,
    ("tags", "anyOf"): _tags,
    ("query", "equals"): _query,
    ("external", "exists"): _external,
    ("unbounded", "equals"): _unbounded,
}
