"""Entry: the receiver with the management API beside it, for any ASGI server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from worker.api.app import PREFIX, create_api
from worker.api.batches import BatchesApi
from worker.api.service import Service
from worker.logs import configure_logs
from worker.receiver.app import create_receiver
from worker.settings import Settings, load_settings


def create_app() -> Starlette:
    """What the environment configures."""
    settings = load_settings()
    configure_logs(settings.log_level)
    return create_service(settings)


def create_service(settings: Settings) -> Starlette:
    """Everything that is reached over HTTP, as one application.

    Raises:
        Misconfigured: the manifests directory cannot be read.
    """
    app = create_receiver(settings)
    service = Service(settings)
    batches = BatchesApi(service)
    api = create_api(service)
    receiving, unknown = app.router.lifespan_context, app.router.default

    @asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        async with receiving(app):
            service.bound_threads()
            try:
                yield
            finally:
                batches.close()
                service.close()

    async def elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
        """What no route of the receiver's is for. So payloads pass nothing of the management API's on their way."""
        managed = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (api if managed else unknown)(scope, receive, send)

    app.router.lifespan_context = running
    app.router.routes.extend(batches.routes())
    app.router.default = elsewhere
    return app
