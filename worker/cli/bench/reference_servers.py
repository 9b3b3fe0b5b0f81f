"""What the receiver is compared with: the same HTTP server, in a process of its own, with less or something else in it.

``python -m worker.cli.bench.reference_servers bare|tasks FD``: on a listening socket that it inherits.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import uvicorn
from celery import Celery
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.cli.embedded import HOST
from worker.cli.listener import listen, url_of
from worker.cli.ourselves import environment
from worker.cli.serve import http_server
from worker.processes import end_with_parent

PATH = "/api/v2/segment-targets/{integration_key}"
TASK = QUEUE = "segsync-bench"
_BROKER = "SEGSYNC_BENCH_BROKER"
_END_SECONDS = 10.0


@contextmanager
def reference_server(kind: str, broker_url: str = "") -> Iterator[str]:
    """One while entered; yields its URL. A request that comes before it has started waits for it.

    Args:
        kind: "bare" reads a body and answers 204; "tasks" hands it to Celery in between.
        broker_url: of Celery's broker.
    """
    with closing(listen(HOST, 0)) as listener:
        fd = listener.fileno()
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", __name__, kind, str(fd)],
            stdin=subprocess.DEVNULL,
            env={**environment(), _BROKER: broker_url},  # not among its arguments, which `ps` shows
            pass_fds=(fd,),
        )
        try:
            yield url_of(listener)
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def bare() -> Starlette:
    """Reads the body, and answers."""

    async def receive(request: Request) -> Response:
        await request.body()
        return Response(status_code=204)

    return Starlette(routes=[Route(PATH, receive, methods=["POST"])])


def tasks() -> Starlette:
    """A message for each body, as most such services are built: the broker has it before the answer goes out."""
    celery = Celery(TASK, broker=os.environ[_BROKER])
    celery.conf.update(task_default_queue=QUEUE, task_ignore_result=True)

    @celery.task(name=TASK)
    def take(body: str) -> None:
        raise NotImplementedError(body)  # nobody runs it

    async def receive(request: Request) -> Response:
        body = (await request.body()).decode()
        # In the event loop: from Starlette's pool of threads it manages fewer, for they only wait for one another.
        take.delay(body)
        return Response(status_code=204)

    return Starlette(routes=[Route(PATH, receive, methods=["POST"])])


def main(kind: str, fd: str) -> None:
    """Serve until told to stop."""
    end_with_parent()
    server = uvicorn.Server(http_server({"bare": bare, "tasks": tasks}[kind]))
    with closing(socket.socket(fileno=int(fd))) as listener:
        server.run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
