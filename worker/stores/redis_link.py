"""One connection of the Redis store: single commands and their replies, and who is at its other end."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import redis
from redis.exceptions import ResponseError

from worker.stores.layout import redis_sentinel_key
from worker.stores.segment_store import Sentinel

_CLIENT_NAME: Final = "segsync"


class Greeting(NamedTuple):
    """What a session knows from its checkout; see ``WriteSession``."""

    connection: str | None
    sentinel: Sentinel | None
    process: str


def ask(link: redis.Connection, *command: str | int) -> Any:
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


def ask_all(link: redis.Connection, *commands: tuple[str | int, ...]) -> list[Any]:
    """Several commands in one round trip: to each its reply, or the error that it is answered with."""
    try:
        link.send_packed_command(link.pack_commands(commands), check_health=False)
        return [_reply_or_refusal(link) for _ in commands]
    except BaseException:
        link.disconnect()
        raise


def greet(link: redis.Connection, prefix: str) -> Greeting:
    """Name the connection, and ask who it is, who the server is and whose store this is; one round trip for all.

    A server that tells nobody who its clients are is not fenced, and one that does not tell who it is itself is not
    noticed when it restarts; but one that refuses the sentinel has not said that there is none.

    Raises:
        ResponseError: the sentinel cannot be read.
    """
    _, client, server, replication, sentinel = ask_all(
        link,
        ("CLIENT", "SETNAME", _CLIENT_NAME),
        ("CLIENT", "INFO"),
        ("INFO", "server"),
        ("INFO", "replication"),
        ("GET", redis_sentinel_key(prefix)),
    )
    if isinstance(sentinel, ResponseError):
        raise sentinel
    return Greeting(_connection(client), read_sentinel(sentinel), _process(server, replication))


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
    if not fields.get("id") or not fields.get("addr"):
        return None
    return f"{fields['id']} {fields['addr']}"


def _process(server: bytes | ResponseError | None, replication: bytes | ResponseError | None) -> str:
    """A run of a server, its role, and the history that it has: a failover changes the last or both of the others."""
    run, history = told(server), told(replication)
    fields = (run.get("run_id"), history.get("role"), history.get("master_replid"))
    return "/".join(field or "" for field in fields) if any(fields) else ""


def _reply_or_refusal(link: redis.Connection) -> Any:
    try:
        return link.read_response()
    except ResponseError as refusal:
        return refusal
