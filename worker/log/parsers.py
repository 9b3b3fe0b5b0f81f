"""The requestParsers that entries were accepted under, kept by digest in the state server (rule 3)."""

from __future__ import annotations

import redis

from worker.log import keyspace
from worker.state import state_errors


def parser_entry(digest: str, text: str) -> tuple[str, str, str]:
    """The hash entry (key, field, value) that keeps a canonical requestParser: a prerequisite of every append."""
    return keyspace.MANIFESTS, digest, text


def read_parser(client: redis.Redis, digest: str) -> str | None:
    """The canonical requestParser with that digest, or None.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        text = client.hget(keyspace.MANIFESTS, digest)
    return None if text is None else text.decode()  # type: ignore[union-attr]
