"""The receiver's ASGI application: its routes, what it starts and stops, and its health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.errors import Unavailable
from worker.manifest.catalog import Catalog, load_catalog
from worker.manifest.manifest import BrokenManifest
from worker.receiver.answers import error_answer, json_answer
from worker.receiver.appender import Appender
from worker.receiver.webhook import Webhook, endpoints
from worker.settings import Settings
from worker.sync.tasks import create_celery
from worker.sync.wake_ups import WakeUpSender
from worker.wiring import Wiring

# New tokens, environments and stores take effect within this time.
REFRESH_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class Receiver:
    """One receiver process: everything its routes share."""

    def __init__(self, settings: Settings) -> None:
        self.wiring = Wiring(settings)
        self.catalog: Catalog = load_catalog(settings.manifests)
        self.appender = Appender(self.wiring)
        self.wake_ups = WakeUpSender(create_celery(settings))
        self.webhook = Webhook(self.wiring, self.catalog, self.appender, self.wake_ups)
        for key, broken in self.broken_manifests().items():
            _log.error("manifest.broken", integration=key, faults=[str(fault) for fault in broken.faults])

    def broken_manifests(self) -> dict[str, BrokenManifest]:
        """The integrations whose endpoint answers 503, and why."""
        return {key: found for key, found in self.catalog.items() if isinstance(found, BrokenManifest)}

    @asynccontextmanager
    async def running(self, _app: Starlette) -> AsyncIterator[None]:
        """Serve appends and keep the records fresh for as long as the application lives."""
        await self._refresh_once()
        tasks = [asyncio.create_task(self.appender.run()), asyncio.create_task(self._refresh())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self.appender.close()
            self.wake_ups.close()
            self.wiring.close()

    async def healthz(self, _request: Request) -> Response:
        """The process lives."""
        return json_answer(200, {"status": "ok"})

    async def readyz(self, _request: Request) -> Response:
        """Whether payloads can be accepted, and what is promised; broken manifests and promises are named."""
        problems: list[str] = []
        try:
            await asyncio.to_thread(self.wiring.records.version)
            await asyncio.to_thread(self.appender.check_durability)
        except Unavailable as error:
            problems.append(str(error))
        if not self.wiring.directory.current.version:
            problems.append("no records yet: run `segsync init`")
        return json_answer(
            503 if problems else 200,
            {
                "status": "unavailable" if problems else "ready",
                "problems": problems,
                "durability": self.wiring.settings.durability,
                "broken_promises": self.appender.broken_promises,
                "broken_manifests": {
                    key: [{"pointer": fault.pointer, "message": fault.message} for fault in broken.faults]
                    for key, broken in self.broken_manifests().items()
                },
            },
        )

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._refresh_once()

    async def _refresh_once(self) -> None:
        try:
            await asyncio.to_thread(self.wiring.directory.fresh, 0.0)
        except Unavailable as error:
            _log.warning("state.away", error=str(error))


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = error_answer(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _bug(_request: Request, _error: Exception) -> Response:
    # The server logs the traceback; the client has no use for it.
    return error_answer(500, "An error of ours; send it again later")


def create_receiver(settings: Settings) -> Starlette:
    """The receiver as an ASGI application.

    Raises:
        Misconfigured: the manifests directory cannot be read.
    """
    receiver = Receiver(settings)
    return Starlette(
        routes=[
            *(Route(path, receiver.webhook.receive, methods=["POST"]) for path in endpoints()),
            Route("/healthz", receiver.healthz, methods=["GET"]),
            Route("/readyz", receiver.readyz, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _bug},
        lifespan=receiver.running,
    )
