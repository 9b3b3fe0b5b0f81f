"""How many requests a token may make: in all, and of one route, in windows of ten seconds, over all receivers.

Windows begin at whole tens of seconds of the receiver's clock, so that the moment at which one ends is known without
asking, and is the same for both limits. Receivers whose clocks differ count apart for the difference.
Source of the headers: https://launchdarkly.com/docs/api#rate-limiting.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import redis
from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage

from worker.errors import Unavailable
from worker.receiver.refusals import Refused
from worker.records.directory import Token
from worker.state import state_errors

WINDOW_SECONDS: Final = 10
_KEYS: Final = "segsync:limits"
# A state server that has answered for the records a moment ago answers within this time, or is away.
_ANSWER_SECONDS: Final = 4.0


@dataclass(slots=True, frozen=True)
class Allowance:
    """What a request has left of its token's limits.

    Attributes:
        headers: for the answer; those of limits that are enforced.
    """

    headers: Mapping[str, str] = field(default_factory=dict)


class Exceeded(Refused):
    """Raised when a limit is used up: 429.

    Attributes:
        allowance: with ``Retry-After``.
    """

    def __init__(self, allowance: Allowance) -> None:
        super().__init__(429, "You've exceeded the API rate limit. Try again later.", reason="rate_limited")
        self.allowance = allowance


class RateLimits:
    """Counts requests in the state server. 0 is no limit, and costs nothing.

    Args:
        client: of the state server; its connections are used.
        per_token: requests of one token in a window.
        per_route: requests of one token to one route (method and path template) in a window.
        clock: epoch seconds.
    """

    def __init__(
        self, client: redis.Redis, *, per_token: int, per_route: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._storage = RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix=_KEYS)
        self._per_token = per_token
        self._per_route = per_route
        self._clock = clock
        self._counting = ThreadPoolExecutor(2, thread_name_prefix="api-limits")

    async def count(self, token: Token, route: str) -> Allowance:
        """Count one request.

        Args:
            token: whose request it is.
            route: method and path template.

        Raises:
            Exceeded: a limit is used up; the request is counted all the same.
            Unavailable: the state server is away.
        """
        if not (self._per_token or self._per_route):
            return Allowance()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await loop.run_in_executor(self._counting, self._count, token.token_hash, route)
        except TimeoutError:
            raise Unavailable("requests cannot be counted in time", dependency="state") from None

    def close(self) -> None:
        """End the threads."""
        self._counting.shutdown(wait=False, cancel_futures=True)

    def _count(self, who: str, route: str) -> Allowance:
        now = self._clock()
        window = int(now // WINDOW_SECONDS)
        ends_ms = (window + 1) * WINDOW_SECONDS * 1000
        headers = {"X-Ratelimit-Reset": str(ends_ms)}
        exceeded = False
        if self._per_token:
            left = self._left(self._per_token, who, "token", window)
            headers |= {
                "X-Ratelimit-Auth-Token-Limit": str(self._per_token),
                "X-Ratelimit-Auth-Token-Remaining": str(max(0, left)),
                "X-Ratelimit-Auth-Token-Reset": str(ends_ms),
            }
            exceeded |= left < 0
        if self._per_route:
            left = self._left(self._per_route, who, route, window)
            headers |= {
                "X-Ratelimit-Route-Limit": str(self._per_route),
                "X-Ratelimit-Route-Remaining": str(max(0, left)),
            }
            exceeded |= left < 0
        if exceeded:
            # Whole seconds, and never too early.
            headers["Retry-After"] = str(max(1, math.ceil(ends_ms / 1000 - now)))
            raise Exceeded(Allowance(headers))
        return Allowance(headers)

    def _left(self, limit: int, who: str, what: str, window: int) -> int:
        item = RateLimitItemPerSecond(limit, WINDOW_SECONDS)
        with state_errors():
            return limit - self._storage.incr(item.key_for(who, what, str(window)), WINDOW_SECONDS)
