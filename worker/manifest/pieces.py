"""Cutting a large body between two members, so that a million of them need not be in memory at once.

A body is cut at `},{`, wherever that stands. What lies between two cuts, in brackets, is JSON only if both lie in one
array: a cut within a string leaves a string open, one within a member an object. Which array that is, the decoder tells
when the head of the body goes on with something that no member is.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec
from jsonpointer import JsonPointer

from worker.manifest.document import array_index

# Some ten thousand of RudderStack's members.
PIECE_BYTES: Final = 512 * 1024
_BETWEEN_MEMBERS: Final = re.compile(rb"\}[ \t\n\r]*,[ \t\n\r]*\{")
_NO_MEMBER: Final = b",null"
_INDEX_AT_END: Final = re.compile(r"`(\$.*)\[(\d+)\]`$")


class Cut(NamedTuple):
    """Where the member before a comma ends, and the one after it begins."""

    end: int
    start: int


def cuts(body: bytes, piece_bytes: int) -> list[Cut]:
    """Where to cut a body into pieces of so many bytes, or a little more; none where it cannot be, or is too small."""
    found: list[Cut] = []
    at = piece_bytes
    while len(body) - at >= piece_bytes and (between := _BETWEEN_MEMBERS.search(body, at)):
        found.append(Cut(between.start() + 1, between.end() - 1))
        at = between.end() + piece_bytes
    return found


def array_at_end(head: bytes, decoder: msgspec.json.Decoder[object]) -> tuple[str, int] | None:
    """The array in which the head of a body ends, as ``path_of`` names it, and how many elements it has up to there.

    The head must be that of a body that decodes. None where it ends in no array of elements of a known type.
    """
    try:
        decoder.decode(head + _NO_MEMBER)
    except msgspec.ValidationError as error:
        found = _INDEX_AT_END.search(str(error))
        return (found[1], int(found[2])) if found else None
    except (msgspec.DecodeError, RecursionError):
        return None
    return None


def path_of(pointer: str) -> str:
    """How msgspec names the place of a JSON pointer, such as ``$.listData.add``."""
    tokens = JsonPointer(pointer).parts
    return "$" + "".join(f".{token}" if array_index(token) is None else f"[{token}]" for token in tokens)
