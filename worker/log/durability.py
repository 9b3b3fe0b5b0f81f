"""What the state server really keeps, against what the setting promises (rule 23)."""

from __future__ import annotations

from typing import cast

import redis
from redis.exceptions import ResponseError

from worker.settings import Durability
from worker.state import state_errors

_ASKED = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")


def broken_promises(client: redis.Redis, durability: Durability) -> list[str]:
    """Compare the server's configuration with the mode; ask again after every reconnect, for it may have changed.

    Returns:
        A sentence for each promise that the server does not keep, with the setting that would; empty when all is
        well. A managed server that does not let itself be asked yields one sentence that says so.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        try:
            found = cast("dict[bytes | str, bytes | str]", client.config_get(*_ASKED))
        except ResponseError:
            return [f"the state server does not tell its configuration: SEGSYNC_DURABILITY={durability} is unverified"]
    configured = {_text(name): _text(value) for name, value in found.items()}
    wanted = {"maxmemory-policy": "noeviction"}
    if durability in {"fsync", "everysec"}:
        wanted |= {"appendonly": "yes", "appendfsync": "always" if durability == "fsync" else "everysec"}
    if durability == "fsync":
        wanted["no-appendfsync-on-rewrite"] = "no"
    return [
        f"state server has `{name} {configured.get(name, '?')}`, but SEGSYNC_DURABILITY={durability} needs `{value}`"
        for name, value in wanted.items()
        if not _keeps(name, configured.get(name, "?"), value)
    ]


def _keeps(name: str, configured: str, wanted: str) -> bool:
    # A server that flushes on every write keeps what one that flushes every second would.
    return configured == wanted or (name == "appendfsync" and configured == "always")


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
