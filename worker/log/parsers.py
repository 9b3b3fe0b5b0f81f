"""The requestParsers that entries were accepted under, kept by digest in the state server (rule 3)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import redis

from worker.log import keyspace
from worker.state import state_errors


@lru_cache(maxsize=256)
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


def publish_parsers(client: redis.Redis, current: Mapping[str, tuple[str, str] | None]) -> None:
    """Say which requestParser each integration has now: what a replay parses with.

    Args:
        client: the state server.
        current: integration key -> (digest, canonical text); None for one that has no usable manifest any more.

    Raises:
        Unavailable: the state server is away; some may have been written.
    """
    usable = {key: parser for key, parser in current.items() if parser is not None}
    gone = [key for key in current if key not in usable]
    with state_errors(), client.pipeline(transaction=True) as pipe:
        for digest, text in usable.values():
            pipe.hset(keyspace.MANIFESTS, digest, text)
        if usable:
            pipe.hset(keyspace.CURRENT_PARSERS, mapping={key: digest for key, (digest, _) in usable.items()})
        if gone:
            pipe.hdel(keyspace.CURRENT_PARSERS, *gone)
        pipe.execute()


def read_current_parser(client: redis.Redis, integration_key: str) -> tuple[str, str] | None:
    """The (digest, canonical text) of the requestParser that an integration has now; None when it has no usable one.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        digest = client.hget(keyspace.CURRENT_PARSERS, integration_key)
    if digest is None:
        return None
    text = read_parser(client, digest.decode())  # type: ignore[union-attr]
    return None if text is None else (digest.decode(), text)  # type: ignore[union-attr]
