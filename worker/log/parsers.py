"""The requestParsers that entries were accepted under, kept by digest in the state server (rule 3)."""

from __future__ import annotations

import redis

from worker.log import keyspace
from worker.state import state_errors


def keep_parser(client: redis.Redis, digest: str, text: str) -> None:
    """Keep a canonical requestParser, before the first entry that refers to it is appended. Idempotent.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        client.hset(keyspace.MANIFESTS, digest, text)


def read_parser(client: redis.Redis, digest: str) -> str | None:
    """The canonical requestParser with that digest, or None.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        text = client.hget(keyspace.MANIFESTS, digest)
    return None if text is None else text.decode()  # type: ignore[union-attr]
