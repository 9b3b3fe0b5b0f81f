"""JSON as text: whether bytes are JSON that we take, an array's elements one by one, and what scalars say.

A body may be hostile: nothing here holds more than a few copies of its text, whatever it consists of. So values stay
text until they are asked for, and no container is ever turned into objects as a whole.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import accumulate

import msgspec
from msgspec import Raw

from worker.errors import InvalidBatch

# Far above what a partner sends, far below where the parser's own recursion limit lies (which depends on how deep
# the caller stands: a body must not be sound for the receiver and too deep for the worker).
MAX_NESTING = 128
# Large bodies are looked through in pieces: what is made of a piece can be ten times its size.
_PIECE_BYTES = 256 * 1024

_BOM = b"\xef\xbb\xbf"
_BRACE, _BRACKET, _COMMA, _QUOTE = b'{[,"'
_BOOLEANS = {ord("t"): True, ord("f"): False}
_INTEGER = re.compile(rb"-?[0-9]+")
_BESIDE_BRACKETS = bytes(set(range(256)) - set(b'"[]{}'))
_STEP = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")
# Strings and whatever else is no bracket, comma or quote. Bounded, for the engine keeps a state for each repetition
# (possessive ones do not, but Python's first releases that have them get such patterns wrong).
_BETWEEN_ELEMENTS = re.compile(rb'(?:[^"\[\]{},]+|"[^"]*"){0,400}').match
_WITHIN_AN_ELEMENT = re.compile(rb'(?:[^"\[\]{}]+|"[^"]*"){0,400}').match

_sound = msgspec.json.Decoder(Raw)
_string = msgspec.json.Decoder(str)


def is_utf8(body: bytes) -> bool:
    """Whether bytes are UTF-8."""
    try:
        if body.isascii():
            pass
        elif len(body) <= _PIECE_BYTES:
            body.decode()
        else:
            decoder = codecs.getincrementaldecoder("utf-8")()
            for start in range(0, len(body), _PIECE_BYTES):
                decoder.decode(body[start : start + _PIECE_BYTES])
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def nesting(body: bytes) -> int:
    """How many arrays and objects lie inside one another at the deepest place of sound JSON."""
    # Escapes first, so that every quote left is a string's end; linear whatever the body, and no loop in Python.
    marks = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_STEP, _BESIDE_BRACKETS)
    level = deepest = 0
    in_string = False
    for start in range(0, len(marks), _PIECE_BYTES):
        # Strings without brackets go next, and with them most of what split would have to list.
        parts = marks[start : start + _PIECE_BYTES].replace(b'""', b"").split(b'"')
        outside_strings = b"".join(parts[in_string::2])
        in_string ^= len(parts) % 2 == 0
        levels = list(accumulate(memoryview(outside_strings).cast("b"), initial=level))
        level, deepest = levels[-1], max(deepest, *levels)
    return deepest


def sound_object(body: bytes) -> Raw:
    """The JSON object that a request's bytes hold, without what may stand around it.

    Raises:
        InvalidBatch: "malformed"; no UTF-8, no JSON, no object, or nested too deep.
    """
    body = body.removeprefix(_BOM)
    if not body.strip():
        raise InvalidBatch("malformed", "the body is empty")
    too_deep = InvalidBatch("malformed", f"the body is nested deeper than {MAX_NESTING} levels")
    if not is_utf8(body):
        raise InvalidBatch("malformed", "the body is not UTF-8")
    try:
        root = _sound.decode(body)
    except msgspec.DecodeError as error:
        # The parser's message tells a byte's position and what was expected, never a value.
        why = str(error).removeprefix("JSON is malformed: ")
        raise InvalidBatch("malformed", f"the body is not JSON: {why}") from None
    except RecursionError:
        raise too_deep from None
    if nesting(body) > MAX_NESTING:
        raise too_deep
    if not is_object(root):
        raise InvalidBatch("malformed", "the body must be a JSON object", pointer="")
    return root


def elements(container: Raw) -> Iterator[Raw]:
    """The elements of an array, or the entries of an object, one after the other, without the blanks around them."""
    view = memoryview(container)
    text = bytes(view)
    if b"\\" in text:
        # Of the same length, so that places stay; and now every quote is a string's end.
        text = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    place = _past_blanks(text, 1)
    while text[place] not in b"]}":
        start = place
        place = _end_of_flat_object(text, start) or _end_of_element(text, start)
        yield Raw(view[start:place])
        place = _past_blanks(text, place)
        if text[place] == _COMMA:
            place = _past_blanks(text, place + 1)


def _end_of_element(text: bytes, place: int) -> int:
    depth = 0
    while True:
        place = (_WITHIN_AN_ELEMENT if depth else _BETWEEN_ELEMENTS)(text, place).end()  # type: ignore[union-attr]
        mark = text[place]
        if not depth and mark in b",]}":
            while text[place - 1] in b" \n\r\t":
                place -= 1
            return place
        if mark in b"[{":
            depth += 1
            place += 1
        elif mark in b"]}":
            depth -= 1
            place += 1
        # Anything else: the run was cut at its bound.


def _end_of_flat_object(text: bytes, place: int) -> int:
    """Where an object ends that begins here, or 0 if that takes a closer look: most members are flat."""
    if text[place] != _BRACE:
        return 0
    end = text.index(b"}", place)
    inside = text[place + 1 : end]
    # A brace in a string has an odd number of quotes before it.
    is_flat = b"[" not in inside and b"{" not in inside and inside.count(b'"') % 2 == 0
    return end + 1 if is_flat else 0


def _past_blanks(text: bytes, place: int) -> int:
    while text[place] in b" \n\r\t":
        place += 1
    return place


def is_object(value: Raw) -> bool:
    """Whether a value is an object."""
    return memoryview(value)[0] == _BRACE


def is_array(value: Raw) -> bool:
    """Whether a value is an array."""
    return memoryview(value)[0] == _BRACKET


def is_null(value: Raw) -> bool:
    """Whether a value is null."""
    return bytes(memoryview(value)[:5]) == b"null"


def boolean(value: Raw | None) -> bool | None:
    """A boolean; None for any other value, or none."""
    return None if value is None else _BOOLEANS.get(memoryview(value)[0])


def scalar(value: Raw | None) -> str | None:
    """A string as it is, the empty one too, or an integer as decimal text; None for any other value, or none."""
    if value is None:
        return None
    if memoryview(value)[0] == _QUOTE:
        return _string.decode(value)
    # Read as text, for an integer may have more digits than Python would convert.
    number = _INTEGER.fullmatch(memoryview(value))
    if number is None:
        return None
    return "0" if number[0] == b"-0" else number[0].decode()
