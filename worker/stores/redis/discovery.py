"""The part of Redis Sentinel: asking where the primary of a service is."""

from __future__ import annotations

import time
from typing import Final

from worker.errors import Unavailable
from worker.model import RedisStoreConfiguration
from worker.stores.redis.addresses import Address, Pools, addresses_of
from worker.stores.redis.faults import DRIVER_ERRORS, unavailable
from worker.stores.redis.link import ask

# One that is up answers at once: those that are not are passed over, and all of them together take no longer than this.
_ONE_TIMEOUT_S: Final = 1.0
_ALL_TIMEOUT_S: Final = 4.0


class Discovery:
    """The Redis Sentinels that a store's configuration names. Safe between threads."""

    def __init__(self, configuration: RedisStoreConfiguration, *, connect_timeout_s: float) -> None:
        self._service = configuration.service
        self._addresses = addresses_of(configuration)
        timeout_s = min(_ONE_TIMEOUT_S, connect_timeout_s)
        self._pools = Pools(configuration, answer_timeout_s=timeout_s, connect_timeout_s=timeout_s, of_discovery=True)

    def primary(self, *, but: Address | None = None) -> Address:
        """Where the service's primary is, by the first who knows of another than ``but``; else that one.

        Raises:
            Unavailable: nobody knows; the fault is ``configuration`` when somebody answered, and does not know the
                service or does not let us in.
        """
        faults: list[Unavailable] = []
        former: Address | None = None
        ends_at = time.monotonic() + _ALL_TIMEOUT_S
        for address in self._addresses:
            if time.monotonic() > ends_at:
                break
            try:
                found = self._ask(address)
            except DRIVER_ERRORS as fault:
                faults.append(unavailable(fault, str(address), asked="Redis Sentinel"))
                continue
            if found is None:
                message = f"Redis Sentinel {address}: it does not know the service {self._service!r}; see its name"
                faults.append(Unavailable(message, dependency="store", fault="configuration"))
            elif found != but:
                return found
            else:
                former = found
        if former is not None:
            return former
        raise max(faults, key=lambda fault: fault.fault == "configuration")

    def close(self) -> None:
        """Close every connection; idempotent."""
        self._pools.close()

    def _ask(self, address: Address) -> Address | None:
        with self._pools.connection(address) as link:
            told = ask(link, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        return Address(told[0].decode(), int(told[1])) if told else None
