"""The listening socket of the receiver: opened before anything else is started, so that a port in use costs nothing."""

from __future__ import annotations

import errno
import os
import socket
import time

from worker.errors import Misconfigured

BACKLOG = 2048
_RETRY_SECONDS = 0.05


def listen(host: str, port: int, *, patience: float = 0.0) -> socket.socket:
    """Listen on a TCP port; 0 picks a free one.

    Args:
        host: a name or an address.
        port: the port.
        patience: seconds to go on trying while the port is in use: processes of a killed `segsync up` are just
            about to leave it.

    Raises:
        Misconfigured: the port is in use, or cannot be had.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            return socket.create_server(address[:2], family=family, backlog=BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(_RETRY_SECONDS)
                continue
            raise Misconfigured(_explain(error, host, port)) from None


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another one with --port, or 0 for any that is free"
    if isinstance(error, socket.gaierror):
        return f"no address for the host {host!r}; choose another one with --host"
    if error.errno == errno.EACCES:
        return f"not allowed to listen on port {port}; choose one above 1023 with --port"
    return f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}; choose others with --host and --port"


def url_of(listener: socket.socket) -> str:
    """The URL at which this machine reaches a listener; one that listens everywhere is reached over loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
