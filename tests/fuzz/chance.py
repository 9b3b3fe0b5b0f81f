"""Chances that are the same for a seeded generator and for hypothesis, which can then shrink what a generator made."""

from __future__ import annotations

from random import Random

_RANGE = 10_000


def happens(random: Random, share: float) -> bool:
    """Whether something happens that is to happen in that share of cases."""
    # In the middle of the range: hypothesis is fond of its ends, and shrinks to its beginning.
    half = round(share * _RANGE / 2)
    return _RANGE // 2 - half <= random.randrange(_RANGE) < _RANGE // 2 + half
