"""How much one rendering of a response template may do, for a partner's body decides how often its loops turn."""

from __future__ import annotations

from msgspec import Raw

# Looks into arrays and objects, as many as a template needs that quotes five values of each of 1,000 members. The worst
# of templates and bodies cost half a second.
MOST_STEPS = 10_000
# The longest answer, and the most that all quoted values may have together.
LARGEST_ANSWER_BYTES = 1024 * 1024
# Opened, a container takes up to thirty times its text. A larger one is never opened whole: each look for a member or
# an element reads it from its beginning.
LARGEST_OPENED_BYTES = 256 * 1024
MOST_OPENED_BYTES = 8 * LARGEST_OPENED_BYTES
# Of containers that are too large to be opened: half a second.
MOST_READ_BYTES = 512 * 1024 * 1024

LARGE = f"an array or object of more than {LARGEST_OPENED_BYTES} bytes"


class Bounds:
    """What is left to one rendering. Each has its own, so that templates can be shared among threads.

    Raises:
        ValueError: from every method, when nothing is left.
    """

    def __init__(self) -> None:
        self._steps = MOST_STEPS
        self._to_read = MOST_READ_BYTES
        self._to_open = MOST_OPENED_BYTES
        self._room = LARGEST_ANSWER_BYTES

    def step(self) -> None:
        """Count one look into a container."""
        self._steps -= 1
        if self._steps < 0:
            raise ValueError(f"it looks up more than {MOST_STEPS} values for this request")

    def may_open(self, container: Raw) -> bool:
        """Whether a container is small enough to be opened whole; if so, count that."""
        if len(container) > LARGEST_OPENED_BYTES:
            return False
        self._to_open -= len(container)
        if self._to_open < 0:
            raise ValueError(f"it opens arrays and objects of more than {MOST_OPENED_BYTES} bytes for this request")
        return True

    def read(self, length: int) -> None:
        """Count one reading of a container that is too large to be opened."""
        self._to_read -= length
        if self._to_read < 0:
            raise ValueError(f"it looks too often into {LARGE}")

    def show(self, length: int) -> None:
        """Count the bytes of one value that is shown."""
        self._room -= length
        if self._room < 0:
            raise ValueError(f"it quotes more than {LARGEST_ANSWER_BYTES} bytes of this request")
