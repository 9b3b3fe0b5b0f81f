"""How commands print: tables, JSON, counts, and texts that are others'."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 10_000

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, on one line, instead of text.")]


def console() -> Console:
    """Standard output; piped output has no width, and keys must come out whole for whoever greps them."""
    from rich.console import Console

    # Names come from partners: what looks like markup in them is theirs, not ours.
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def printable(text: str) -> str:
    """A partner's text without what a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def shortened(text: str, most: int) -> str:
    """A partner's text as ``printable`` gives it, cut after so many characters."""
    return printable(text[:most]) + ("…" if len(text) > most else "")


def counted(count: int, noun: str) -> str:
    """So many of a thing whose plural ends in s: ``1 member``, ``1,200 members``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def print_json(value: object) -> None:
    """Print what msgspec can encode as one line of JSON, in UTF-8 whatever the terminal has."""
    import msgspec

    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()
