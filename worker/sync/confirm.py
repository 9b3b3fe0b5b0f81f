"""How durable what this process writes has to be, where replicas are to have it (rule 23)."""

from __future__ import annotations

from worker.errors import Unavailable
from worker.log import keyspace
from worker.log.append import REPLICAS_WITHIN_MS, Appends
from worker.log.scripts import run_pipeline
from worker.state import refused
from worker.wiring import Wiring


def appends_of(wiring: Wiring) -> Appends:
    """Appends with the durability that the settings promise."""
    return Appends(wiring.client, _replicas(wiring))


def confirm(wiring: Wiring) -> None:
    """Wait until enough replicas have everything that was written so far.

    Raises:
        Unavailable: too few have it in time, or the state server is away.
    """
    replicas = _replicas(wiring)
    if not replicas:
        return

    def queue(pipe: object) -> None:
        # WAIT is about what its own connection has written: this comes after all the rest in the order of replication.
        pipe.set(keyspace.CONFIRMED, "")  # type: ignore[attr-defined]
        pipe.execute_command("WAIT", replicas, REPLICAS_WITHIN_MS)  # type: ignore[attr-defined]

    written, count = run_pipeline(wiring.client, queue)
    for reply in (written, count):
        if isinstance(reply, Exception):
            raise refused(reply)
    if count < replicas:
        raise Unavailable(f"{count} of {replicas} replicas have it", dependency="state")


def _replicas(wiring: Wiring) -> int:
    return wiring.settings.replicas if wiring.settings.durability == "replica" else 0
