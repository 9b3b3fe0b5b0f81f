"""Walking every state that a small model can reach."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

State = TypeVar("State")


def reachable_from(first: State, following: Callable[[State], list[State]]) -> Iterator[tuple[State, list[State]]]:
    """Every state that can be reached, with what may follow it."""
    seen, queue = {first}, deque([first])
    while queue:
        now = queue.popleft()
        after = following(now)
        yield now, after
        for state in after:
            if state not in seen:
                seen.add(state)
                queue.append(state)
