"""What a store's use of its table costs, in the units that DynamoDB charges."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple


class Units(NamedTuple):
    """Read and write units. On demand, a read unit costs a fifth of a write unit."""

    read: float
    write: float

    def __sub__(self, other: Units) -> Units:
        return Units(self.read - other.read, self.write - other.write)


class ConsumedUnits:
    """A running total, as DynamoDB's own replies tell it. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = Units(0, 0)

    @property
    def total(self) -> Units:
        """Everything consumed so far."""
        return self._total

    def count(self, *, read: float = 0, write: float = 0) -> None:
        """Add units."""
        with self._lock:
            self._total = Units(self._total.read + read, self._total.write + write)


def units_of(answer: Mapping[str, Any]) -> float:
    """The units that an answer tells of, of one table or of several; the request has to ask for them."""
    told = answer.get("ConsumedCapacity") or []
    return sum(float(each.get("CapacityUnits", 0)) for each in (told if isinstance(told, list) else [told]))
