"""Watches ``synchronizedOn``: once a store claims a time, everything accepted before it must be there."""

from __future__ import annotations

import threading
from random import Random

import redis
from servers import ValkeyServer

from chaos.history import History, now
from chaos.stores import look

_EVERY_SECONDS = 0.5
_PEOPLE_AT_ONCE = 60


class FreshnessWatch:
    """Reads one store again and again, freshness and witnesses in one step.

    A witness is added by one payload and named by no other: nothing takes it out again, whatever is folded anew.
    """

    def __init__(self, name: str, server: ValkeyServer, history: History, seed: int) -> None:
        self.name = name
        self.problems: list[str] = []
        self.looks = 0
        self.proofs = 0
        self._server = server
        self._history = history
        self._dice = Random(f"{seed}:watch:{name}")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def _watch(self) -> None:
        waiting: list[tuple[str, str, float]] = []  # witness, segment ref, when it was surely accepted
        proven: list[tuple[str, str, float]] = []
        known = 0
        with self._server.client(socket_timeout=2, socket_connect_timeout=2) as client:
            while not self._stop.wait(_EVERY_SECONDS):
                payloads = self._history.payloads()
                # Those still under way are looked at again the next time.
                while known < len(payloads) and payloads[known].outcome:
                    outcome, witness = payloads[known].outcome, payloads[known].witness
                    # Dead letters do not hold freshness back.
                    if witness and outcome and outcome.accepted and not payloads[known].fault:
                        [segment] = [key for key, members in payloads[known].changes.items() if witness in members]
                        waiting.append((witness, f"{segment}.g1", outcome.told))
                    known += 1
                again = self._dice.sample(proven, min(_PEOPLE_AT_ONCE // 2, len(proven)))
                chosen = [*waiting[: _PEOPLE_AT_ONCE // 2], *again]
                try:
                    fresh_ms, found = look(client, (witness for witness, _, _ in chosen))
                except redis.RedisError:
                    continue
                self.looks += 1
                for one, refs in zip(chosen, found, strict=True):
                    witness, ref, told = one
                    if fresh_ms is None or fresh_ms <= told * 1000:
                        continue
                    if ref not in refs:
                        self.problems.append(
                            f"{self.name}: at {now():.3f} claims {fresh_ms / 1000:.3f}; {witness}, accepted by "
                            f"{told:.3f}, is not in {ref}"
                        )
                    elif one in waiting:
                        waiting.remove(one)
                        proven.append(one)
                        self.proofs += 1
