"""``segsync manifest lint``."""

from __future__ import annotations


def command() -> None:
    """Not there yet."""
