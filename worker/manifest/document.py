"""Places in JSON text: what lies where a pointer says, without decoding what lies beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from jsonpointer import JsonPointer
from msgspec import Raw

from worker.manifest.json_text import elements, is_array, is_object

# Up to this one, an array's element is found by a typed decoder made for its index.
_MOST_TYPED_INDEX = 64

_ARRAY_INDEX = re.compile(r"0|[1-9][0-9]{0,17}")

# From a container's text to what lies at one place of it, or None.
_Finder = Callable[[Raw], Raw | None]

_object: msgspec.json.Decoder[dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw])


def array_index(token: str) -> int | None:
    """The index that a pointer's token means in an array; None for what can never be found there, such as "-"."""
    return int(token) if _ARRAY_INDEX.fullmatch(token) else None


class Place(NamedTuple):
    """A pointer, as text and as tokens."""

    path: str
    tokens: tuple[str, ...]


def place_of(pointer: str) -> Place:
    """The place that a pointer's text means."""
    return Place(pointer, tuple(JsonPointer(pointer).parts))


def optional_place(pointer: str | None) -> Place | None:
    """The place that a pointer's text means, if there is one."""
    return None if pointer is None else place_of(pointer)


class Document:
    """A JSON value in which the places of several pointers are looked up; what they share is looked up once."""

    __slots__ = ("_found",)

    def __init__(self, root: Raw) -> None:
        self._found: dict[tuple[str, ...], Raw | None] = {(): root}

    def find(self, tokens: tuple[str, ...]) -> Raw | None:
        """The value at a pointer's tokens, or None when there is none. Of duplicate keys, the last counts."""
        if tokens in self._found:
            return self._found[tokens]
        found = self._found[()]
        for depth, token in enumerate(tokens, start=1):
            place = tokens[:depth]
            if place not in self._found:
                self._found[place] = None if found is None else child(found, token)
            found = self._found[place]
        return found


class Places:
    """Several places that are looked up in many values: one reading of a value for all of them."""

    def __init__(self, places: Sequence[tuple[str, ...] | None]) -> None:
        """Compile the places, by their pointers' tokens; at None, there is never anything."""
        self._places = places
        firsts = dict.fromkeys(tokens[0] for tokens in places if tokens)
        attributes = {first: f"k{number}" for number, first in enumerate(firsts)}
        # The attribute that a place's first token became, and the tokens after it.
        self._steps = [(attributes[tokens[0]], tokens[1:]) if tokens else None for tokens in places]
        fields = [(attribute, Raw, None) for attribute in attributes.values()]
        names = {attribute: first for first, attribute in attributes.items()}
        self._decoder: msgspec.json.Decoder[Any] | None = None
        with suppress(ValueError):  # of a key that would have to be escaped in JSON
            self._decoder = msgspec.json.Decoder(msgspec.defstruct("Part", fields, rename=names, gc=False))

    def find(self, value: Raw) -> list[Raw | None]:
        """What lies at each place, or None when there is nothing."""
        if self._decoder is None or not is_object(value):
            return [None if tokens is None else find(value, tokens) for tokens in self._places]
        part = self._decoder.decode(value)
        found: list[Raw | None] = []
        for tokens, step in zip(self._places, self._steps, strict=True):
            if step is None:
                found.append(None if tokens is None else value)
                continue
            attribute, rest = step
            first = getattr(part, attribute)
            found.append(find(first, rest) if rest and first is not None else first)
        return found


def find(value: Raw, tokens: Sequence[str]) -> Raw | None:
    """What lies in a value at a pointer's tokens, or None when there is nothing."""
    found: Raw | None = value
    for token in tokens:
        if found is None:
            return None
        found = child(found, token)
    return found


def child(value: Raw, token: str) -> Raw | None:
    """What lies in an object or an array at one token, or None when there is nothing."""
    if is_object(value):
        return _key_finder(token)(value)
    index = array_index(token)
    if index is None or not is_array(value):
        return None
    if index > _MOST_TYPED_INDEX:
        return next(islice(elements(value), index, None), None)
    return _element_finder(index)(value)


@lru_cache(maxsize=1024)
def _key_finder(token: str) -> _Finder:
    """A function from an object's text to what lies at one key of it; the rest is skipped, not decoded."""
    try:
        return _finder(msgspec.defstruct("Part", [("found", Raw, None)], rename={"found": token}, gc=False))
    except ValueError:  # a key that would have to be escaped in JSON
        return partial(_find_among_entries, token)


@lru_cache(maxsize=_MOST_TYPED_INDEX + 1)
def _element_finder(index: int) -> _Finder:
    before = [(f"before_{number}", Raw, None) for number in range(index)]
    return _finder(msgspec.defstruct("Part", [*before, ("found", Raw, None)], array_like=True, gc=False))


def _find_among_entries(token: str, value: Raw) -> Raw | None:
    found: dict[str, Raw] = {}
    for entry in elements(value):
        named = _object.decode(b"{%b}" % bytes(entry))
        if token in named:
            found = named
    return found.get(token)


def _finder(part: Any) -> _Finder:
    decoder = msgspec.json.Decoder(part)
    return lambda value: decoder.decode(value).found
