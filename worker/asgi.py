"""Entry: the receiver, for any ASGI server."""

from __future__ import annotations

from starlette.applications import Starlette

from worker.logs import configure_logs
from worker.receiver.app import create_receiver
from worker.settings import load_settings


def create_app() -> Starlette:
    """The receiver, as the environment configures it."""
    settings = load_settings()
    configure_logs(settings.log_level)
    return create_receiver(settings)
