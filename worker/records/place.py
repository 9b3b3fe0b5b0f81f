"""Where a store is, as it is compared: two stores at one place would write over each other."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from worker.model import LaunchDarklyStoreConfiguration, RedisStoreConfiguration, StoreConfiguration

_ACCOUNT_OF_A_ROLE = 4  # arn:aws:iam::ACCOUNT:role/NAME
_PORTS = {"http": 80, "https": 443}


def places_of(configuration: StoreConfiguration) -> frozenset[tuple[object, ...]]:
    """What makes it this store and no other, however its host is written; the rest is how to get there.

    Two stores that have a place in common are one: of a cluster, each node that is named is one of its places. Nobody
    is asked: two names of one machine, two nodes of one cluster, or two roles that lead to one account, are not found
    out here (the second of two stores at one place finds the sentinel of the first, and members of whom it knows
    nothing: see ``worker.incarnation``).
    """
    if isinstance(configuration, RedisStoreConfiguration):
        return frozenset(_redis_places(configuration))
    if isinstance(configuration, LaunchDarklyStoreConfiguration):
        where = _endpoint(configuration.baseUri)
        return frozenset({("launchdarkly", where, configuration.projectKey, configuration.environmentKey)})
    # Tables of one name in two accounts are two tables, and a role belongs to an account.
    account = "".join(configuration.roleArn.split(":")[_ACCOUNT_OF_A_ROLE:][:1])
    named = urlsplit(configuration.endpoint or "").hostname
    endpoint = None if named in _aws(configuration.region) else _endpoint(configuration.endpoint or "")
    return frozenset(
        {("dynamodb", account, configuration.tableName, configuration.region, endpoint, configuration.prefix)}
    )


def _redis_places(configuration: RedisStoreConfiguration) -> Iterator[tuple[object, ...]]:
    # An empty prefix means the SDKs' default; a configuration that was copied may still have it.
    within = configuration.database, configuration.prefix or "launchdarkly"
    if configuration.unixSocket:
        yield "redis", configuration.unixSocket, *within
        return
    for host, port in configuration.addresses:
        yield "redis", configuration.service, _host(host), port, *within


def _host(host: str) -> str:
    plain = host.lower().removesuffix(".")
    if plain == "localhost":
        return "127.0.0.1"
    try:
        return str(ip_address(plain))
    except ValueError:
        return plain


def _endpoint(url: str) -> tuple[str, int | None] | None:
    parts = urlsplit(url)
    return None if not parts.hostname else (_host(parts.hostname), parts.port or _PORTS.get(parts.scheme))


def _aws(region: str) -> tuple[str | None, ...]:
    """AWS's own endpoint, which may be named or left out."""
    return None, f"dynamodb.{region}.amazonaws.com"
