"""A request's values as a response template meets them: opened when asked for, shown as JSON, within bounds.

Every fault is a ``ValueError`` whose text holds nothing of the request.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import msgspec
from msgspec import Raw

from worker.manifest.document import child
from worker.manifest.json_text import is_utf8
from worker.manifest.response.bounds import LARGE, LARGEST_OPENED_BYTES, Bounds
from worker.manifest.response.marks import marked

_sound = msgspec.json.Decoder(Raw)
_object = msgspec.json.Decoder(dict[str, Raw])
_array = msgspec.json.Decoder(list[Raw])
_string = msgspec.json.Decoder(str)
# A name may come from the body as well, and what ``child`` makes for it outlives the rendering.
_LONGEST_NAME = 1024
_ABSENT = Raw()
_NULL = Raw(b"null")


def value_of(text: Raw, bounds: Bounds) -> Any:
    """A JSON value as a template is to see it."""
    match chr(memoryview(text)[0]):
        case "{":
            return _Object(text, bounds)
        case "[":
            return _Array(text, bounds)
        case '"':
            return _Text.of(text, bounds)
        case "t" | "f":
            return bytes(text) == b"true"
        case "n":
            return None
    return _Number.of(text, bounds)


class _Text(str):
    """A string: itself where it is compared or looked up, the text between its quotes where it is shown."""

    __slots__ = ("_bounds", "_json")
    _bounds: Bounds
    _json: Raw

    @classmethod
    def of(cls, text: Raw, bounds: Bounds) -> Self:
        made = cls(_string.decode(text))
        made._json, made._bounds = text, bounds
        return made

    def __str__(self) -> str:
        self._bounds.show(len(self._json))
        return marked(bytes(self._json)[1:-1].decode())


# The library writes arrays and objects as JavaScript does ("1,2", "[object Object]"), but an integer, for which it
# looks first, by str(). So whatever is to stand as its JSON text is an integer too.
class _Shown(int):
    _bounds: Bounds
    _json: Raw

    def __str__(self) -> str:
        self._bounds.show(len(self._json))
        return marked(bytes(self._json).decode())


class _Number(_Shown):
    """A number: all its digits where it is shown; as an integer, only whether it is zero, which Handlebars asks."""

    @classmethod
    def of(cls, text: Raw, bounds: Bounds) -> Self:
        made = cls(float(bytes(text)) != 0)
        made._json, made._bounds = text, bounds
        return made

    @property
    def digits(self) -> str:
        return bytes(self._json).decode()


class _Container(_Shown):
    def __new__(cls, *_: Any) -> Self:
        return super().__new__(cls, 1)

    def __init__(self, text: Raw, bounds: Bounds) -> None:
        self._json, self._bounds = text, bounds
        # A value that is looked up again, as in a loop, is not opened again.
        self._values: dict[Any, Any] = {}


class _Object(_Container, Mapping[str, Any]):
    _members: dict[str, Raw] | None = None

    def __getitem__(self, key: str) -> Any:
        self._bounds.step()
        if key not in self._values:
            self._values[key] = value_of(self._find(str.__str__(key)), self._bounds)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        for key in self._open():
            yield _Text.of(Raw(msgspec.json.encode(key)), self._bounds)

    def __len__(self) -> int:
        return len(self._open())

    def _open(self) -> dict[str, Raw]:
        if self._members is None:
            if not self._bounds.may_open(self._json):
                raise ValueError(f"it goes through {LARGE}")
            self._members = _object.decode(self._json)
        return self._members

    def _find(self, key: str) -> Raw:
        if len(self._json) <= LARGEST_OPENED_BYTES:
            return self._open()[key]
        if len(key) > _LONGEST_NAME:
            raise ValueError(f"it looks up a name of more than {_LONGEST_NAME} characters in {LARGE}")
        self._bounds.read(len(self._json))
        found = child(self._json, key)
        if found is None:
            raise KeyError(key)
        return found


class _Array(_Container, Sequence[Any]):
    _elements: list[Raw] | None = None

    def __getitem__(self, index: Any) -> Any:
        self._bounds.step()
        if index not in self._values:
            self._values[index] = value_of(self._find(index), self._bounds)
        return self._values[index]

    def __iter__(self) -> Iterator[Any]:
        elements = self._open()
        if elements is None:
            raise ValueError(f"it goes through {LARGE}")
        return map(self.__getitem__, range(len(elements)))

    def __len__(self) -> int:
        elements = self._open()
        # Nobody counts a large one: whoever asks, asks whether there is anything, or before looking an index up.
        return sys.maxsize if elements is None else len(elements)

    def _open(self) -> list[Raw] | None:
        if self._elements is None and self._bounds.may_open(self._json):
            self._elements = _array.decode(self._json)
        return self._elements

    def _find(self, index: int) -> Raw:
        elements = self._open()
        if elements is not None:
            return elements[index]
        self._bounds.read(len(self._json))
        # The library asks only for what is before the length, of which a large one says too much.
        return child(self._json, str(index)) or _NULL


class Root(_Object):
    """All values that a template may mention, by name. The request's body is looked at only when it is named."""

    def __init__(self, facts: Mapping[str, Raw], body: bytes, bounds: Bounds) -> None:
        super().__init__(_ABSENT, bounds)
        self._all = {**facts, "requestBody": _ABSENT}
        self._body = body

    def __str__(self) -> str:
        self._find("requestBody")
        self._bounds.show(sum(map(len, self._all.values())))
        return marked(msgspec.json.encode(self._all).decode())

    def _open(self) -> dict[str, Raw]:
        return self._all

    def _find(self, key: str) -> Raw:
        if key == "requestBody" and not len(self._all[key]):
            self._all[key] = _sound_body(self._body)
        return self._all[key]


def _sound_body(body: bytes) -> Raw:
    """A request's body, or null when it is no JSON in UTF-8: the failure that is being answered may be just this."""
    try:
        return _sound.decode(body.removeprefix(b"\xef\xbb\xbf")) if is_utf8(body) else _NULL
    except (ValueError, RecursionError):
        return _NULL


def look_up(arguments: Sequence[Any]) -> Any:
    """Handlebars' ``lookup``: a member or an element whose name or index is a value itself.

    Raises:
        ValueError: there are not two arguments.
    """
    if len(arguments) != 2:  # noqa: PLR2004
        raise ValueError("lookup takes two arguments: where to look, and the name or index")
    container, key = arguments
    name = _name(key)
    if isinstance(container, Mapping):
        return container.get(name)
    if isinstance(container, Sequence) and not isinstance(container, str) and name.isdecimal() and name.isascii():
        index = int(name[:18])
        return container[index] if index < len(container) else None
    return None


def _name(key: Any) -> str:
    if isinstance(key, _Number):
        return key.digits
    if isinstance(key, str):
        return str.__str__(key)
    return "" if key is None or isinstance(key, (bool, _Container)) else str(key)
