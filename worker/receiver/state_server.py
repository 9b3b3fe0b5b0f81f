"""What a receiver knows of the state server between requests: its clock, its room, and whether it is still the same."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis
from redis.exceptions import ReadOnlyError, ResponseError

from worker.errors import Unavailable
from worker.log import keyspace
from worker.state import memory_share, state_errors

# Above this share of its memory, what is there already must be applied before more is taken: the server refuses every
# write when it is full, also those by which workers would empty it.
FULL = 0.9


class StateServer:
    """Looked at every few seconds; in between, what was seen last. Safe between threads.

    Attributes:
        nearly_full: it must be emptied before it may take more.
        refusal: why it takes no writes, as it says itself; empty when it does.
    """

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._ahead_ms: float | None = None
        self._run_id: str | None = None
        self.nearly_full = False
        self.refusal = ""

    def look(self) -> bool:
        """Look at the server; returns whether it is another process than the last time, or was restarted.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            seconds, micros = self._client.time()
            # The reply is at least half a round trip old; taking it as new errs to the side of refusing late appends.
            self._ahead_ms = seconds * 1000 + micros / 1000 - self._clock() * 1000
        self.nearly_full = memory_share(self._client) > FULL
        self.refusal = self._try_to_write()
        run_id = self._read_run_id()
        changed = self._run_id not in {None, run_id}
        self._run_id = run_id
        return changed

    def _try_to_write(self) -> str:
        """What the server says to a write; empty when it takes it. A replica, say, answers everything else."""
        try:
            with state_errors():
                self._client.set(keyspace.CONFIRMED, "")
        except Unavailable as error:
            if error.fate_unknown:
                raise
            if isinstance(error.__cause__, ReadOnlyError):
                # A replica now, which keeps its connections: who connects anew finds whom the address means now.
                self._client.connection_pool.disconnect(inuse_connections=False)
            return str(error)
        return ""

    def _read_run_id(self) -> str:
        """Which process the server is; empty when it does not tell: then nothing shows that it was restarted."""
        with state_errors():
            try:
                return str(self._client.info("server").get("run_id", ""))
            except ResponseError:
                return ""

    def now_ms(self) -> int:
        """The server's clock, epoch milliseconds, by our own monotonic clock since the last look.

        Before the first look it is our wall clock: good enough to refuse, and looked at before anything is accepted.
        """
        if self._ahead_ms is None:
            return int(time.time() * 1000)
        return int(self._clock() * 1000 + self._ahead_ms)
