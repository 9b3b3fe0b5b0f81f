"""Positions in a segment's log: stream ids ``ms-seq``, in the order of their two numbers. Pure."""

from __future__ import annotations

START = "0-0"

# Lua counts in doubles, which are exact up to here; no entry has a greater sequence number.
_MOST_SEQUENCE = 2**53 - 1


def order(position: str) -> tuple[int, int]:
    """What positions are compared by; as text, ``9-0`` would come after ``10-0``."""
    ms, _, sequence = position.partition("-")
    return int(ms), int(sequence)


def before(position: str) -> str:
    """A position below this one and above, or at, every earlier one: a cursor put there reads this one next."""
    ms, sequence = order(position)
    if sequence:
        return f"{ms}-{sequence - 1}"
    return f"{ms - 1}-{_MOST_SEQUENCE}" if ms else START


def ms_of(position: str) -> int:
    """The accept time of the entry at a position, in epoch milliseconds."""
    return order(position)[0]
