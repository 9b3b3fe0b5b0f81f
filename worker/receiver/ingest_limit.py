"""How many payloads a token may send: counted in this process alone, so that counting costs no round trip."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from worker.receiver.refusals import Refused

WINDOW_SECONDS: Final = 10.0


class IngestLimit:
    """A window of ten seconds for all tokens, begun anew with the first payload after it. On one event loop only.

    Several receivers let through several times as many: a deployment divides the limit by their number. Counting in
    the state server would be exact, and cost each payload as much as its append.

    Args:
        most: payloads of one token in a window; 0 is no limit, and nothing is counted.
        clock: seconds, monotonic.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._ends = 0.0
        self._counts: dict[str, int] = {}

    def count(self, token_id: str) -> None:
        """Count a payload.

        Raises:
            Refused: 429, it is one too many.
        """
        if not self._most:
            return
        now = self._clock()
        if now >= self._ends:
            self._ends = now + WINDOW_SECONDS
            self._counts.clear()
        count = self._counts[token_id] = self._counts.get(token_id, 0) + 1
        if count > self._most:
            raise Refused(429, "You've exceeded the rate limit for payloads; send it again later", reason="rate_limit")
