"""What all routes of the management API share: wiring, who asks, how much is done at once."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self

import anyio.to_thread
from starlette.requests import Request

from worker.api.rate_limits import RateLimits
from worker.api.uploads import Uploads
from worker.receiver.refusals import Refused
from worker.records.directory import Directory
from worker.records.projects import ProjectRecords
from worker.settings import Settings
from worker.sync.tasks import create_celery
from worker.sync.wake_ups import WakeUpSender
from worker.wiring import Wiring

# Handlers are plain functions, and this many of them run at a time: who sends payloads must not wait for who manages.
THREADS: Final = 4
# Requests that are being read, wait for a thread or are in one.
MOST_AT_ONCE: Final = 128


class Service:
    """One management API: what its routes work with. Made after forks, as the wiring is.

    Attributes:
        wiring: of its own: its directory is as fresh as each request, the receiver's is seconds old.
        wake_ups: tells workers what an append has made due.
    """

    def __init__(self, settings: Settings, wiring: Wiring | None = None) -> None:
        self.settings = settings
        self.wiring = wiring or Wiring(settings)
        self.wake_ups = WakeUpSender(create_celery(settings))
        self.projects = ProjectRecords(self.wiring.client)
        self.tokens = self.wiring.token_records
        self.limits = RateLimits(
            self.wiring.client,
            per_token=settings.api_rate_limit,
            per_route=settings.api_route_rate_limit,
        )
        self.uploads = Uploads(settings.import_bytes)
        # Who may ask must not wait behind who has asked.
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="api-records")
        self._look_lock = threading.Lock()
        self._next_look: asyncio.Future[Directory] | None = None
        self._closing = False
        self._at_once = 0

    @staticmethod
    def bound_threads() -> None:
        """Bound the threads in which Starlette runs plain functions; call it on the event loop that serves."""
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS

    async def directory(self) -> Directory:
        """The records as they are now: whoever has been answered sees what was done. One look for all who wait.

        Raises:
            Unavailable: the state server is away.
        """
        with self._look_lock:
            # One that has begun may have read what is old by now: only one that has not is joined.
            if self._next_look is None:
                self._next_look = asyncio.get_running_loop().run_in_executor(self._looking, self._look)
            look = self._next_look
        return await asyncio.shield(look)

    def _look(self) -> Directory:
        with self._look_lock:
            self._next_look = None
        self.tokens.tell_uses()
        return self.wiring.directory.fresh(0.0)

    def last_used(self) -> dict[str, int]:
        """When each token was last used (epoch ms), by its id, with what this process knows.

        Raises:
            Unavailable: the state server is away.
        """
        self.tokens.tell_uses()
        return self.tokens.last_used()

    def __enter__(self) -> Self:
        """Count one request more, or refuse it.

        Raises:
            Refused: 503 when the process is ending, 429 when too many are here.
        """
        if self._closing:
            raise Refused(503, "The service is stopping; try again", reason="stopping")
        if self._at_once >= MOST_AT_ONCE:
            raise Refused(429, "Too many requests at once; try again later", reason="overload")
        self._at_once += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._at_once -= 1

    def close(self) -> None:
        """Take no more requests, and give everything back."""
        self._closing = True
        self._looking.shutdown(wait=False, cancel_futures=True)
        self.limits.close()
        self.wake_ups.close()
        self.wiring.close()


async def the_service(request: Request) -> Service:
    """The service, for handlers: ``service: Annotated[Service, Depends(the_service)]``."""
    found: Service = request.app.state.service
    return found
