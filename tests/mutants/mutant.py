"""One guard, and how it is removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mutant:
    """The program without one of its guards.

    Attributes:
        guard: what is removed, in a few words.
        file: where it stands, from the root of the tree.
        text: what stands there; exactly once, so that an edit of the file cannot turn this into another mutant.
        instead: what stands there in the mutant.
        tests: files of tests, one of which must fail.
    """

    guard: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]

    def mutated(self, tree: Path) -> str:
        """The file of that tree without the guard.

        Raises:
            ValueError: the text does not stand there exactly once.
        """
        original = (tree / self.file).read_text()
        if (found := original.count(self.text)) != 1:
            raise ValueError(f"{self.file}: {self.guard}: its text is there {found} times, not once: {self.text!r}")
        return original.replace(self.text, self.instead)


def in_file(file: str, tests: Sequence[str], *cuts: tuple[str, str, str]) -> list[Mutant]:
    """Mutants of one file that the same tests are for; of each the guard, its text, and what stands there instead."""
    return [Mutant(guard, file, text, instead, tuple(tests)) for guard, text, instead in cuts]
