"""Where the records are in the state server, and the one way in which they change."""

from __future__ import annotations

import secrets

import redis

from worker.state import state_errors

# string: random, another with every change, so that a cached snapshot knows when it is old. No counter: after the
# state server was wiped and filled again, a counter may stand where it stood.
VERSION = "segsync:records"
PROJECTS = "segsync:projects"  # hash: project key -> JSON
ENVIRONMENTS = "segsync:environments"  # hash: environment id -> JSON
ALIASES = "segsync:aliases"  # hash: another id that payloads may carry -> environment id
TOKENS = "segsync:tokens"  # hash: SHA-256 of the token -> JSON
STORES = "segsync:stores"  # hash: store id -> JSON, with the store's password
POLICIES = "segsync:policies"  # hash: environment id / integration key -> what becomes of members that cannot be read


def write_record(client: redis.Redis, table: str, field: str, text: str | None, *, gone: str | None = None) -> None:
    """Write a record, in place of the one that is ``gone``; None removes it.

    Raises:
        Unavailable: the state server is away; it was written or not.
    """
    with state_errors(), client.pipeline(transaction=True) as pipe:
        if gone is not None:
            pipe.hdel(table, gone)
        if text is None:
            pipe.hdel(table, field)
        else:
            pipe.hset(table, field, text)
        pipe.set(VERSION, secrets.token_hex(8))
        pipe.execute()
