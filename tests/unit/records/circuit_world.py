"""Processes that share a circuit through a state server, and a clock for all of them."""

from __future__ import annotations

from typing import Any, cast

import redis

from worker.errors import Unavailable
from worker.records.circuit import CURVES, Circuits, CircuitState

STORE = "store-1"
KEY = f"segsync:circuit:{{{STORE}}}"
TRANSIENT, CONFIGURATION = CURVES["transient"], CURVES["configuration"]
AWAY = Unavailable("Redis store h:1: no answer in time", dependency="store")
REFUSED = Unavailable("Redis store h:1: it answered NOAUTH", dependency="store", fault="configuration")
ONE_ITEM = Unavailable("DynamoDB store: item too large", dependency="store", fault="item")


class World:
    """Several processes on one state server. Time passes for all of them, and for the server, when a test says so."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.now = 1000.0
        self.chance = 1.0
        self.questions = 0

    def process(self) -> Circuits:
        """The circuits of another process."""
        circuits = Circuits(self.client, lambda: self.now, lambda: self.chance)
        run = circuits._run

        def counted(*arguments: Any) -> Any:
            self.questions += 1
            return run(*arguments)

        circuits._run = counted  # type: ignore[method-assign, assignment]
        return circuits

    def passes(self, seconds: float) -> None:
        """Time passes: what is further in the past by the server's clock is what was stored as further back."""
        self.now += seconds
        self.server_clock_steps(seconds)

    def server_clock_steps(self, seconds: float) -> None:
        for field in cast("list[bytes]", self.client.hkeys(KEY)):
            if field.endswith(b"_ms") and field != b"wait_ms":
                self.client.hincrby(KEY, field.decode(), -round(seconds * 1000))

    def state(self) -> CircuitState:
        return Circuits(self.client).read([STORE])[STORE]

    def wait_seconds(self) -> float:
        """How long the circuit said, when it last failed, that it would wait."""
        return int(self.client.hget(KEY, "wait_ms") or 0) / 1000


def opened(world: World, error: Unavailable = AWAY) -> Circuits:
    """A process that has found the store away."""
    process = world.process()
    assert process.allows(STORE)
    process.failed(STORE, error)
    return process
