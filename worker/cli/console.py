"""Where commands print their tables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 10_000


def console() -> Console:
    """Standard output; piped output has no width, and keys must come out whole for whoever greps them."""
    from rich.console import Console

    # Names come from partners: what looks like markup in them is theirs, not ours.
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def printable(text: str) -> str:
    """A partner's text without what a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
