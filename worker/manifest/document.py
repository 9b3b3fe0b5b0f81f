"""A body as JSON text, opened level by level; the one judge of whether bytes are JSON that we take."""

from __future__ import annotations

import re
from itertools import accumulate

import msgspec
from jsonpointer import JsonPointer
from msgspec import Raw

from worker.errors import InvalidBatch

# Far above what a partner sends, far below where the parser's own recursion limit lies (which depends on how deep
# the caller stands: a body must not be sound for the receiver and too deep for the worker).
MAX_NESTING = 128

_BOM = b"\xef\xbb\xbf"
_ARRAY_INDEX = re.compile(r"0|[1-9][0-9]{0,17}")
_INTEGER = re.compile(rb"-?[0-9]+")
_BESIDE_BRACKETS = bytes(set(range(256)) - set(b'"[]{}'))
_STEP = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")

Container = dict[str, Raw] | list[Raw]

_sound = msgspec.json.Decoder(Raw)
_container: msgspec.json.Decoder[Container] = msgspec.json.Decoder(Container)
_string = msgspec.json.Decoder(str)
_boolean = msgspec.json.Decoder(bool)


def array_index(token: str) -> int | None:
    """The index that a pointer's token means in an array; None for what can never be found there, such as "-"."""
    return int(token) if _ARRAY_INDEX.fullmatch(token) else None


def nesting(body: bytes) -> int:
    """How many arrays and objects lie inside one another at the deepest place of sound JSON."""
    # Escapes first, so that every quote left is a string's end; linear whatever the body, and no loop in Python.
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_STEP, _BESIDE_BRACKETS)
    # Strings without brackets go next, and with them most of what split would have to list.
    outside_strings = b"".join(bare.replace(b'""', b"").split(b'"')[::2])
    return max(accumulate(memoryview(outside_strings).cast("b")), default=0)


class Document:
    """A JSON value in which pointers are looked up.

    Values stay text until they are asked for: an integer keeps all its digits, and what no pointer names is never
    turned into objects. Duplicate keys: the last counts.
    """

    __slots__ = ("_opened", "_root", "_top")

    def __init__(self, root: Raw) -> None:
        self._root = root
        self._top = _open(root)
        self._opened: dict[tuple[str, ...], Container | None] = {}

    @classmethod
    def from_body(cls, body: bytes) -> Document:
        """The document that a request's bytes hold.

        Raises:
            InvalidBatch: "malformed"; no UTF-8, no JSON, no object, or nested too deep.
        """
        body = body.removeprefix(_BOM)
        if not body.strip():
            raise InvalidBatch("malformed", "the body is empty")
        too_deep = InvalidBatch("malformed", f"the body is nested deeper than {MAX_NESTING} levels")
        try:
            if not body.isascii():
                body.decode()
            root = _sound.decode(body)
        except UnicodeDecodeError:
            raise InvalidBatch("malformed", "the body is not UTF-8") from None
        except msgspec.DecodeError as error:
            # The parser's message tells a byte's position and what was expected, never a value.
            raise InvalidBatch("malformed", f"the body is not JSON: {error}") from None
        except RecursionError:
            raise too_deep from None
        if nesting(body) > MAX_NESTING:
            raise too_deep
        document = cls(root)
        if not document.is_object():
            raise InvalidBatch("malformed", "the body must be a JSON object", pointer="")
        return document

    def is_object(self) -> bool:
        """Whether the value as a whole is an object."""
        return isinstance(self._top, dict)

    def find(self, pointer: JsonPointer) -> Raw | None:
        """The value at a pointer, or None when there is none."""
        parts = pointer.parts
        value, container = self._root, self._top
        for depth, token in enumerate(parts):
            if depth:
                container = self._open_at(tuple(parts[:depth]), value)
            found = _child(container, token)
            if found is None:
                return None
            value = found
        return value

    def _open_at(self, place: tuple[str, ...], value: Raw) -> Container | None:
        if place not in self._opened:
            self._opened[place] = _open(value)
        return self._opened[place]


def _open(value: Raw) -> Container | None:
    try:
        return _container.decode(value)
    except msgspec.ValidationError:
        return None


def _child(container: Container | None, token: str) -> Raw | None:
    if isinstance(container, dict):
        return container.get(token)
    index = array_index(token)
    if container is None or index is None or index >= len(container):
        return None
    return container[index]


def elements(value: Raw) -> list[Raw] | None:
    """An array's elements; None for any other value."""
    container = _open(value)
    return container if isinstance(container, list) else None


def is_null(value: Raw) -> bool:
    """Whether a value is null."""
    return bytes(value) == b"null"


def boolean(value: Raw | None) -> bool | None:
    """A boolean; None for any other value, or none."""
    try:
        return None if value is None else _boolean.decode(value)
    except msgspec.ValidationError:
        return None


def scalar(value: Raw | None) -> str | None:
    """A string as it is, the empty one too, or an integer as decimal text; None for any other value, or none."""
    if value is None:
        return None
    try:
        return _string.decode(value)
    except msgspec.ValidationError:
        # Read as text, for an integer may have more digits than Python would convert.
        text = bytes(value)
    if not _INTEGER.fullmatch(text):
        return None
    return "0" if text == b"-0" else text.decode()
