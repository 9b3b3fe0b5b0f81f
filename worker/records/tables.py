"""Where the records are in the state server, and the one way in which they change."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import WatchError

from worker.state import state_errors

# string: random, another with every change, so that a cached snapshot knows when it is old. No counter: after the
# state server was wiped and filled again, a counter may stand where it stood.
VERSION = "segsync:records"
PROJECTS = "segsync:projects"  # hash: project key -> JSON
ENVIRONMENTS = "segsync:environments"  # hash: environment id -> JSON
ALIASES = "segsync:aliases"  # hash: another id that payloads may carry -> environment id
TOKENS = "segsync:tokens"  # hash: SHA-256 of the token -> JSON
REVOKED = "segsync:revoked"  # set: SHA-256 of tokens that were removed: no start of ours makes them again
STORES = "segsync:stores"  # hash: store id -> JSON, its secrets sealed: see secret_box.py
USES = "segsync:token_uses"  # zset: token id -> when it was last used, epoch ms; telling changes no version
POLICIES = "segsync:policies"  # hash: environment id / integration key -> what becomes of members that cannot be read
# zset: id of a store that was removed -> when, by the state server's clock (ms), until its cursors are deleted
FORGOTTEN = "segsync:forgotten"

# Queues the commands of one change on a pipeline; called once for each try.
Writes = Callable[[Any], object]


class Superseded(Exception):
    """Raised when the records are no longer those on whose strength they were to be changed; nothing was written."""


def write_records(client: redis.Redis, queue: Writes, *, expected_version: str | None = None) -> None:
    """Change records in one step, as ``queue`` says; with a version, only if it is still that of the records.

    Raises:
        Superseded: somebody else has changed the records since that version.
        Unavailable: the state server is away; it was written or not.
    """
    with state_errors(), client.pipeline(transaction=True) as pipe:
        if expected_version is not None:
            pipe.watch(VERSION)
            if (pipe.get(VERSION) or b"") != expected_version.encode():
                raise Superseded
            pipe.multi()
        queue(pipe)
        pipe.set(VERSION, secrets.token_hex(8))
        try:
            pipe.execute()
        except WatchError:
            raise Superseded from None


def write_record(
    client: redis.Redis, table: str, field: str, text: str | None, *, expected_version: str | None = None
) -> None:
    """Write one record; None removes it.

    Raises:
        Superseded: a version was expected, and somebody else has changed the records since.
        Unavailable: the state server is away; it was written or not.
    """
    write_records(
        client,
        lambda pipe: pipe.hdel(table, field) if text is None else pipe.hset(table, field, text),
        expected_version=expected_version,
    )
