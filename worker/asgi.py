"""Entry: the receiver with the management API beside it, for any ASGI server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from worker.api.batches import BatchesApi
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
    api = BatchesApi(settings)
    receiving = app.router.lifespan_context

    @asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        async with receiving(app):
            try:
                yield
            finally:
                api.close()

    app.router.lifespan_context = running
    app.router.routes.extend(api.routes())
    return app
