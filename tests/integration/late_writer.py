"""The predecessor of test_late_writers.py: a process that writes to a Redis store until it is ended or told no.

    python late_writer.py PORT ANSWER_TIMEOUT_S MEMBER_COUNT

Says on stdout: the connection's identity, once it waits to be told to go; "sent" for each window that the kernel took
over; then "answered", or "gave up" and whether what it sent may still land.
"""

from __future__ import annotations

import sys
from socket import socket

from worker.errors import Unavailable
from worker.model import RedisStoreConfiguration, SegmentPatch
from worker.stores.redis import RedisStore

REF = "beta-users.g1"


class Telling:
    """A socket that says when it has handed over what it was given."""

    def __init__(self, socket: socket) -> None:
        self._socket = socket

    def sendall(self, commands: bytes) -> None:
        self._socket.sendall(commands)
        print("sent", flush=True)


def members_of(count: int) -> list[str]:
    return [f"user-{number}" for number in range(count)]


def main() -> None:
    port, answer_timeout_s, count = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    store = RedisStore(RedisStoreConfiguration(host="127.0.0.1", port=port), answer_timeout_s=answer_timeout_s)
    with store.session() as session:
        [(lane, socket)] = session._sockets.items()
        session._sockets[lane] = Telling(socket)  # type: ignore[assignment]
        print(session.connection, flush=True)
        sys.stdin.readline()
        try:
            session.write(SegmentPatch(REF, members_of(count), []), lambda: None)
            print("answered", flush=True)
        except Unavailable as error:
            print(f"gave up, fate unknown: {error.fate_unknown}", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main()
