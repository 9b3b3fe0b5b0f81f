"""One connection of the Redis store: single commands and their replies, and who is at its other end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import redis
from redis.exceptions import ResponseError

from worker.stores.segment_store import Sentinel

Command = tuple[str | int | bytes, ...]

_CLIENT_NAME: Final = "segsync"
# Name the connection, and ask who it is and who the server is.
GREETING: Final[tuple[Command, ...]] = (
    ("CLIENT", "SETNAME", _CLIENT_NAME),
    ("CLIENT", "INFO"),
    ("INFO", "server"),
    ("INFO", "replication"),
)


class Greeting(NamedTuple):
    """Who is at the two ends of a connection.

    Attributes:
        connection: this one's id and address, as the server sees it; None where it does not tell.
        process: a run of a server, its role, and the history that it has; "" where it does not tell.
        role: ``master`` or ``slave``; "" where it does not tell.
    """

    connection: str | None
    process: str
    role: str


def ask(link: redis.Connection, *command: str | int | bytes) -> Any:
    """One command, one reply; whatever goes wrong between the two closes the connection.

    Raises:
        ResponseError: the reply, when it is an error.
    """
    try:
        link.send_packed_command(link.pack_command(*command), check_health=False)
        return link.read_response()
    except ResponseError:
        raise
    except BaseException:
        link.disconnect()
        raise


def ask_all(link: redis.Connection, *commands: Command) -> list[Any]:
    """Several commands in one round trip: to each its reply, or the error that it is answered with."""
    send_all(link, commands)
    return read_all(link, len(commands))


def send_all(link: redis.Connection, commands: Sequence[Command]) -> None:
    """The first half of ``ask_all``."""
    try:
        link.send_packed_command(link.pack_commands(commands), check_health=False)
    except BaseException:
        link.disconnect()
        raise


def read_all(link: redis.Connection, count: int) -> list[Any]:
    """The second half of ``ask_all``."""
    try:
        return [_reply_or_refusal(link) for _ in range(count)]
    except BaseException:
        link.disconnect()
        raise


def read_greeting(replies: Sequence[Any]) -> Greeting:
    """What the replies to ``GREETING`` tell.

    A server that tells nobody who its clients are is not fenced, and one that does not tell who it is itself is not
    noticed when it restarts: neither is a reason not to write to it.
    """
    _, client, server, replication = replies
    return Greeting(_connection(client), _process(server, replication), told(replication).get("role", ""))


def read_sentinel(value: bytes | None) -> Sentinel | None:
    """The sentinel in the value of its key; what somebody else left there is a sentinel that nobody knows."""
    if value is None:
        return None
    incarnation, _, beat = value.decode(errors="backslashreplace").partition(" ")
    return Sentinel(incarnation, int(beat) if beat.isdecimal() and beat.isascii() else 0)


def write_sentinel(sentinel: Sentinel) -> str:
    """The value of the sentinel's key."""
    return f"{sentinel.incarnation} {sentinel.beat_ms}"


def told(info: bytes | ResponseError | None) -> dict[str, str]:
    """The fields of an INFO reply; empty when it is refused."""
    if not isinstance(info, bytes):
        return {}
    return dict(line.partition(":")[::2] for line in info.decode(errors="replace").splitlines())


def _connection(info: bytes | ResponseError | None) -> str | None:
    """As the server sees it: behind NAT our own idea of our address is of no use to CLIENT KILL."""
    if not isinstance(info, bytes):
        return None
    fields = dict(pair.partition("=")[::2] for pair in info.decode().split())
    if not fields.get("id") or ":" not in fields.get("addr", ""):
        return None  # also the path of a socket with a space in it
    return f"{fields['id']} {fields['addr']}"


def _process(server: bytes | ResponseError | None, replication: bytes | ResponseError | None) -> str:
    """A failover changes the run and the history, or one of them."""
    run, history = told(server), told(replication)
    fields = (run.get("run_id"), history.get("role"), history.get("master_replid"))
    return "/".join(field or "" for field in fields) if any(fields) else ""


def _reply_or_refusal(link: redis.Connection) -> Any:
    try:
        return link.read_response()
    except ResponseError as refusal:
        return refusal
