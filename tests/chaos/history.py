"""What was sent and what was answered: the side of the partners, who believe nothing but answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

# Wall time by a clock that never steps: the servers of a run stamp with this machine's clock, too.
_OFFSET = time.time() - time.monotonic()

# What an attempt may be answered besides a 2xx; 0 is no answer at all.
REFUSED = 400
TRY_AGAIN = frozenset({0, 429, 503})


def now() -> float:
    """Epoch seconds, never stepping back."""
    return time.monotonic() + _OFFSET


@dataclass(slots=True)
class Attempt:
    """One request: a try to deliver a payload.

    Attributes:
        body: what was sent; the marker in it tells this attempt from every other.
        sent: before its first byte.
        told: after its answer, or the failure to get one.
        status: of the answer; 0 if there was none.
    """

    payload: int
    number: int
    body: bytes
    sent: float
    told: float = 0.0
    status: int = 0

    @property
    def marker(self) -> str:
        return f"{self.payload}.{self.number}"

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300


@dataclass(slots=True)
class Payload:
    """What one sender wants to tell, and its attempts at it; the next payload of the sender comes after the last.

    Attributes:
        changes: segment key -> member -> whether it is in, as the sender means it.
        integration: the integration key that it is sent to.
        fault: what happens to whoever parses it, if anything does; then it may die.
        witness: a member that this payload alone names, and adds: to whom it is visible has seen the payload.
    """

    number: int
    sender: int
    integration: str
    changes: Mapping[str, Mapping[str, bool]]
    witness: str | None = None
    fault: str | None = None
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def outcome(self) -> Attempt | None:
        """The attempt that settled it, if one has."""
        last = self.attempts[-1] if self.attempts else None
        return last if last and last.told and last.status not in TRY_AGAIN else None


class History:
    """Every payload of a run. Senders add to it from their threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._payloads: list[Payload] = []

    def begin(
        self,
        sender: int,
        integration: str,
        changes: Mapping[str, Mapping[str, bool]],
        *,
        witness: str | None = None,
        fault: str | None = None,
    ) -> Payload:
        """Note a payload that is about to be sent."""
        with self._lock:
            made = Payload(len(self._payloads), sender, integration, changes, witness, fault)
            self._payloads.append(made)
            return made

    def payloads(self) -> list[Payload]:
        """All of them, in the order in which they were begun."""
        with self._lock:
            return list(self._payloads)

    def accepted(self) -> int:
        """How many payloads were answered with a 2xx."""
        return sum(payload.outcome is not None and payload.outcome.accepted for payload in self.payloads())
