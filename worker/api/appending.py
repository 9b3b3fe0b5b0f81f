"""Appends that people make over the API: as durable as a partner's payload, and answered as late as is honest."""

from __future__ import annotations

import time
from collections.abc import Callable

from worker.api.service import Service
from worker.errors import Unavailable
from worker.log.append import Appends
from worker.log.batch import WakeUp
from worker.log.durability import broken_promises
from worker.sync.confirm import appends_of

APPEND_WITHIN_SECONDS = 5.0


def append(service: Service, do: Callable[[Appends, int], list[WakeUp]]) -> None:
    """Append something, and tell the workers.

    Args:
        service: the API's.
        do: appends, with the durability that the settings promise, and no later than a time by the state server's
            clock, in ms; returns the wake-ups that are due.

    Raises:
        Unavailable: the state server is away: it may be appended. Where nobody knows, this is raised only when nothing
            of it can land any more: what is sent afterwards must not be overtaken by it (rule 1).
    """
    wiring, settings = service.wiring, service.settings
    if settings.strict and (found := broken_promises(wiring.client, settings.durability, settings.replicas)):
        raise Unavailable(f"strict: {found[0]}", dependency="state")
    not_after_ms = wiring.upkeep.server_ms() + int(APPEND_WITHIN_SECONDS * 1000)
    over = time.monotonic() + APPEND_WITHIN_SECONDS
    try:
        due = do(appends_of(wiring), not_after_ms)
    except Unavailable as error:
        if error.fate_unknown:
            time.sleep(max(0.0, over - time.monotonic()))
        raise
    service.wake_ups.send(due)
