"""``segsync serve``: the receiver, on uvicorn."""

from __future__ import annotations

import contextlib
import gc
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.roles import Strict, Supervisor, check_promises, load_role_settings, note_supervisor

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

_GRACEFUL_SECONDS = 6  # longer than a request may wait for its append
_STARTUP_FAILURE = 3  # uvicorn's own exit code for it


def http_server(make_application: Callable[[], Starlette]) -> uvicorn.Config:
    """How an application is served; the benchmarks serve what they compare the receiver with in the same way."""
    import uvicorn

    from worker.cli.listener import BACKLOG

    return uvicorn.Config(
        make_application,
        factory=True,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,  # its lines go the way of all others
        access_log=False,
        server_header=False,
        # Nothing here looks at the client's address; a header that anybody can send must not change it.
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
    )


def _spare_the_collector() -> None:
    """What lives as long as the process is looked through no more, and the rest less often: 4 % of the accepts."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


def command(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: SEGSYNC_HOST, else 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; 0 picks a free one. Default: SEGSYNC_PORT, else 8080."),
    ] = None,
    fd: Annotated[int | None, typer.Option(hidden=True, help="A listening socket, inherited.")] = None,
    strict: Strict = False,
    supervisor: Supervisor = None,
) -> None:
    """Run the receiver: takes partners' payloads. Start as many as needed, on as many machines."""
    note_supervisor(supervisor)

    from worker.asgi import create_service
    from worker.cli.listener import listen, url_of
    from worker.cli.receiver_server import ReceiverServer
    from worker.processes import announce_ready, return_freed_memory

    settings = load_role_settings(strict=strict)
    if settings.strict:  # the receiver itself judges a state server that is away now, and warns of one that is not
        check_promises(settings, wait=False)
    return_freed_memory()
    listener = (
        socket.socket(fileno=fd)
        if fd is not None
        else listen(host or settings.host, settings.port if port is None else port)
    )

    def announce() -> None:
        _spare_the_collector()
        print(f"segsync receiver: listening on {url_of(listener)}", flush=True)
        announce_ready()

    server = ReceiverServer(http_server(partial(create_service, settings)), announce)
    with contextlib.closing(listener):
        server.run(sockets=[listener])
    if not (server.started or server.told_to_stop):
        raise typer.Exit(_STARTUP_FAILURE)
