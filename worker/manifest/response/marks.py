"""Marks around the values in a rendered text, so that a fault can be told in the template's own words alone."""

from __future__ import annotations

import re

# Control characters are in no JSON text: no value can hold one.
_BEGIN, _END = "\x02", "\x03"
_VALUE = re.compile(f"({_BEGIN}[^{_END}]*{_END})")


def marked(value: str) -> str:
    """A value's JSON text, as it is to stand in a rendered text."""
    return f"{_BEGIN}{value}{_END}"


def has_marks(text: str) -> bool:
    """Whether a text has one of the marks: then it can be no template."""
    return _BEGIN in text or _END in text


def unmarked(text: str) -> str:
    """A rendered text as it is meant."""
    return text.replace(_BEGIN, "").replace(_END, "")


def masked(text: str) -> str:
    """A rendered text with an ellipsis in place of each value: what is left is the template's own."""
    return _VALUE.sub("…", text)


def sides(text: str, position: int) -> tuple[str, str]:
    """What stands before and after a position of ``unmarked(text)``, masked; a value there counts as after it."""
    before: list[str] = []
    pieces = _VALUE.split(text)  # the template's own text and values take turns
    for number, piece in enumerate(pieces):
        is_value = number % 2 == 1
        length = len(unmarked(piece))
        if position < length:
            at = 0 if is_value else position
            return "".join([*before, piece[:at]]), masked("".join([piece[at:], *pieces[number + 1 :]]))
        before.append("…" if is_value else piece)
        position -= length
    return "".join(before), ""
