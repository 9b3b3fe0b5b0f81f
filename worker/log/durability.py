"""What the state server really keeps, against what the setting promises (rule 23)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import redis
from redis.exceptions import ResponseError

from worker.settings import Durability
from worker.state import state_errors

# Where CONFIG is forbidden, as on managed servers, INFO still tells some of it.
_TOLD_BY_INFO = {"maxmemory-policy": "maxmemory_policy", "appendonly": "aof_enabled"}

RISK_OF_MEMORY = (
    "SEGSYNC_DURABILITY=memory: when the state server ends, what was answered 2xx since its last save is lost; "
    "for an append-only file set fsync or everysec, for a replica set replica"
)


def broken_promises(client: redis.Redis, durability: Durability, replicas: int = 1) -> list[str]:
    """Compare the server with the mode; ask again after every reconnect, for it may have changed.

    Args:
        client: of the state server.
        durability: what a 2xx promises.
        replicas: how many replicas it takes where ``durability`` is "replica".

    Returns:
        A sentence for each promise that the server does not keep, with the setting that would, and one for what it
        does not tell; empty when all is verified and well.

    Raises:
        Unavailable: the state server is away.
    """
    wanted = {"maxmemory-policy": "noeviction"}
    if durability in {"fsync", "everysec"}:
        wanted |= {"appendonly": "yes", "appendfsync": "always" if durability == "fsync" else "everysec"}
    if durability == "fsync":
        wanted["no-appendfsync-on-rewrite"] = "no"
    configured = _configured(client, list(wanted))
    broken = [
        f"state server has `{name} {configured[name]}`, but SEGSYNC_DURABILITY={durability} needs `{value}`"
        for name, value in wanted.items()
        if name in configured and not _keeps(name, configured[name], value)
    ]
    untold = [f"`{name} {value}`" for name, value in wanted.items() if name not in configured]
    if untold:
        broken.append(
            f"the state server does not tell whether it has {', '.join(untold)}: "
            f"SEGSYNC_DURABILITY={durability} is unverified"
        )
    if durability == "replica":
        broken += _missing_replicas(client, replicas)
    return broken


def _configured(client: redis.Redis, names: list[str]) -> dict[str, str]:
    """The server's settings; those are missing that it does not tell."""
    with state_errors():
        try:
            found = cast("Mapping[bytes | str, bytes | str]", client.config_get(*names))
        except ResponseError:
            return _told_by_info(client, names)
    return {_text(name): _text(value) for name, value in found.items()}


def _told_by_info(client: redis.Redis, names: list[str]) -> dict[str, str]:
    info = {**_info(client, "memory"), **_info(client, "persistence")}
    told = {name: str(info[field]) for name, field in _TOLD_BY_INFO.items() if name in names and field in info}
    return {name: {"0": "no", "1": "yes"}.get(value, value) for name, value in told.items()}


def _missing_replicas(client: redis.Redis, wanted: int) -> list[str]:
    info = _info(client, "replication")
    if "role" not in info:
        return ["the state server does not tell its replicas: SEGSYNC_DURABILITY=replica is unverified"]
    if info["role"] != "master":
        return ["the state server is a replica itself, and takes no writes: SEGSYNC_STATE_URL must name the primary"]
    replicas = [info[f"slave{number}"] for number in range(int(info.get("connected_slaves", 0)))]
    online = sum(replica.get("state") == "online" for replica in replicas)
    if online >= wanted:
        return []
    return [
        f"state server has {online} replicas online, but SEGSYNC_DURABILITY=replica needs SEGSYNC_REPLICAS={wanted}"
    ]


def _info(client: redis.Redis, section: str) -> dict[str, Any]:
    """A section of INFO; empty where that is forbidden, too."""
    with state_errors():
        try:
            return client.info(section)
        except ResponseError:
            return {}


def _keeps(name: str, configured: str, wanted: str) -> bool:
    # A server that flushes on every write keeps what one that flushes every second would.
    return configured == wanted or (name == "appendfsync" and configured == "always")


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
