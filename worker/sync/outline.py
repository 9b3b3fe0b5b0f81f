"""The outline of a body: keys, types and lengths, never a value. Pure.

It is looked at by people who may not see who is in a segment, and it is made of bodies that killed who parsed them: so
they are walked through a token at a time, and nothing of them is held but the outline.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MOST_BYTES = 1024 * 1024  # a third of a second's work
MOST_DEPTH = 8
# An object with more keys is a table of somebody's data, and its keys are values.
MOST_KEYS = 50
# Keys that are somebody's address or the like are values, too.
_NAME = re.compile(r"(?=.*[^\W\d])[\w$.: -]{1,64}")
_DEEPEST = 1000

_TOKEN = re.compile(rb'[ \t\n\r]*([{}\[\]:,"]|[^ \t\n\r{}\[\]:,"]+)')
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORDS = {b"true": "boolean", b"false": "boolean", b"null": "null"}
# Where escaped backslashes were taken out.
_UNSOUND = re.compile(rb'\\(?!["/bfnrt]|u[0-9a-fA-F]{4})|[\x00-\x1f]')
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Shape:
    """One value without what it says.

    Attributes:
        type: object, array, string, integer, number, boolean or null.
        length: keys of an object, elements of an array, bytes of a string as written; 0 for others.
        keys: of an object, as far as there are not too many; none below the greatest depth.
        elements: of an array: the first, and the one that was asked about.
        types: of an array: how many elements of each type.
    """

    type: str
    length: int = 0
    keys: dict[str, Shape] = field(default_factory=dict)
    elements: dict[int, Shape] = field(default_factory=dict)
    types: Counter[str] = field(default_factory=Counter)

    def described(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {"type": self.type}
        if self.type in {"object", "array", "string"}:
            found["length"] = self.length
        if self.keys:
            found["keys"] = {name: shape.described() for name, shape in self.keys.items()}
        if self.types:
            found["types"] = dict(self.types)
        if self.elements:
            found["elements"] = {str(number): shape.described() for number, shape in self.elements.items()}
        return found

    def lines(self, name: str = "", indent: int = 0) -> Iterator[str]:
        """For a person: a line each."""
        says = self.type
        if self.type == "string":
            says = "empty string" if not self.length else f"string of {self.length:,}"
        elif self.type == "array":
            types = ", ".join(f"{count:,} {kind}" for kind, count in self.types.items())
            says = f"array of {self.length:,}" + (f": {types}" if types else "")
        elif self.type == "object":
            says = f"object of {self.length:,}" if len(self.keys) < self.length else "object"
        yield f"{'  ' * indent}{f'{name}: ' if name else ''}{says}"
        for key, shape in self.keys.items():
            yield from shape.lines(key, indent + 1)
        for number, shape in self.elements.items():
            if shape.keys or shape.elements or len(self.types) > 1:
                yield from shape.lines(f"[{number:,}]", indent + 1)


@dataclass(slots=True)
class Outline:
    """What can be told of a body.

    Attributes:
        length: in bytes.
        root: its shape, as far as it is JSON; None when nothing of it is.
        fault: what is wrong where it is no JSON, else "".
        fault_at: the byte at which that is.
        cut: it was looked at up to its first bytes only, so lengths are the least that they may be.
    """

    length: int
    root: Shape | None = None
    fault: str = ""
    fault_at: int | None = None
    cut: bool = False

    def described(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {"length": self.length, "json": not self.fault, "cut": self.cut}
        if self.root is not None:
            found["shape"] = self.root.described()
        if self.fault:
            found |= {"fault": self.fault, "faultAt": self.fault_at}
        return found

    def lines(self) -> Iterator[str]:
        """For a person: a line each."""
        if self.root is not None:
            yield from self.root.lines()
        if self.fault:
            yield f"no JSON: {self.fault} at byte {self.fault_at:,}"
        if self.cut:
            yield f"(of the first {MOST_BYTES:,} bytes alone: lengths are the least that they may be)"


def outline(body: bytes, pointer: str | None = None, most_bytes: int = MOST_BYTES) -> Outline:
    """The outline of a body.

    Args:
        body: any bytes.
        pointer: a JSON pointer; what lies on its way is part of the outline.
        most_bytes: how much of the body is looked at.
    """
    found = Outline(len(body))
    start = len(_BOM) if body.startswith(_BOM) else 0
    walk = _Walk(body, start, min(len(body), most_bytes), pointer)
    try:
        walk.run()
    except _Fault as fault:
        found.fault, found.fault_at = fault.what, fault.at
    except _Cut:
        found.cut = True
    found.root = walk.root
    if not found.fault:
        try:
            # What is cut may be cut within a character.
            body[: walk.end].decode(errors="strict")
        except UnicodeDecodeError as error:
            if not (found.cut and error.start > walk.end - 4):
                found.fault, found.fault_at = "bytes that are not UTF-8", error.start
    return found


class _Fault(Exception):
    """Raised where a body is no JSON."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.what = what
        self.at = at


class _Cut(Exception):
    """Raised where the part that is looked at ends."""


@dataclass(slots=True)
class _Open:
    """An object or array that has not ended.

    Attributes:
        shape: to be filled in; None where nobody asks.
        steps: what is left of the pointer from here; None off its way.
        seen: keys or elements so far.
    """

    is_object: bool
    shape: Shape | None
    steps: list[str] | None
    seen: int = 0
    name: str = ""


class _Walk:
    """Reads tokens, and keeps the outline of what is open."""

    def __init__(self, body: bytes, start: int, end: int, pointer: str | None) -> None:
        self.root: Shape | None = None
        self.end = end
        self._body = body
        self._at = self._began = start
        self._open: list[_Open] = []
        steps = pointer.split("/")[1:] if pointer else []
        self._steps = [step.replace("~1", "/").replace("~0", "~") for step in steps]

    def run(self) -> None:
        """Read all of it.

        Raises:
            _Fault: it is no JSON.
            _Cut: there is more than may be read.
        """
        self._value(self._token())
        while self._open:
            self._next()
        rest = self._body[self._at : self.end].lstrip(b" \t\n\r")
        if rest:
            raise _Fault("more after the end", self.end - len(rest))
        if self.end < len(self._body):
            raise _Cut

    def _next(self) -> None:
        """Go on in the innermost object or array."""
        here = self._open[-1]
        token = self._token()
        if token == (b"}" if here.is_object else b"]"):
            self._open.pop()
            return
        if here.seen:
            if token != b",":
                raise _Fault("a comma or the end was expected", self._began)
            token = self._token()
        if here.is_object:
            if token != b'"':
                raise _Fault("a key was expected", self._began)
            here.name = _key(self._string())
            if self._token() != b":":
                raise _Fault("a colon was expected", self._began)
            token = self._token()
        here.seen += 1
        self._value(token)

    def _value(self, token: bytes) -> None:
        began = self._began
        if token == b'"':
            self._put(Shape("string", len(self._string())))
        elif token in {b"{", b"["}:
            if len(self._open) >= _DEEPEST:
                raise _Fault("it is too deep", began)
            self._open.append(self._put_open(token == b"{"))
        elif token in _WORDS:
            self._put(Shape(_WORDS[token]))
        elif _INTEGER.fullmatch(token):
            self._put(Shape("integer"))
        elif _NUMBER.fullmatch(token):
            self._put(Shape("number"))
        else:
            raise _Fault("a value was expected", began)

    def _put_open(self, is_object: bool) -> _Open:
        shape = Shape("object" if is_object else "array")
        wanted, steps = self._put(shape)
        return _Open(is_object, shape if wanted else None, steps)

    def _put(self, shape: Shape) -> tuple[bool, list[str] | None]:
        """Enter a value into what it lies in; returns whether it is part of the outline, and the pointer's rest."""
        if not self._open:
            self.root = shape
            return True, self._steps
        into = self._open[-1]
        name = into.name if into.is_object else str(into.seen - 1)
        steps = into.steps[1:] if into.steps and into.steps[0] == name else None
        if into.shape is None:
            return False, None
        into.shape.length = into.seen
        shallow = len(self._open) < MOST_DEPTH or steps is not None
        if into.is_object:
            wanted = shallow and (into.seen <= MOST_KEYS or steps is not None)
            if into.seen == MOST_KEYS + 1:
                asked = _shown(into.steps[0]) if into.steps else None
                into.shape.keys = {key: value for key, value in into.shape.keys.items() if key == asked}
            if wanted:
                into.shape.keys[_shown(name)] = shape
        else:
            into.shape.types[shape.type] += 1
            wanted = shallow and (into.seen == 1 or steps is not None)
            if wanted:
                into.shape.elements[into.seen - 1] = shape
        return wanted, steps

    def _token(self) -> bytes:
        found = _TOKEN.match(self._body, self._at, self.end)
        if found is None or (found.end() == self.end < len(self._body) and found[1] not in b"{}[]:,"):
            if self.end < len(self._body):
                raise _Cut
            raise _Fault("it ends too early", len(self._body))
        self._began, self._at = found.start(1), found.end()
        return found[1]

    def _string(self) -> bytes:
        """What lies between two quotes; the first of them was read."""
        start = at = self._at
        while True:
            quote = self._body.find(b'"', at, self.end)
            if quote < 0:
                if self.end < len(self._body):
                    raise _Cut
                raise _Fault("a string does not end", self._began)
            slashes = quote
            while slashes > start and self._body[slashes - 1] == ord("\\"):
                slashes -= 1
            at = quote + 1
            if (quote - slashes) % 2 == 0:
                break
        self._at = at
        text = self._body[start:quote]
        if _UNSOUND.search(text.replace(b"\\\\", b"")):
            raise _Fault("a string with a character or an escape that JSON does not have", self._began)
        return text


def _key(text: bytes) -> str:
    """A key as it is meant, or, where that is not known, as it is written."""
    try:
        return str(json.loads(b'"%b"' % text))
    except ValueError:
        return text.decode(errors="replace")


def _shown(key: str) -> str:
    """A key, unless it looks like a value."""
    return key if _NAME.fullmatch(key) else f"(a key of {len(key):,} characters)"
