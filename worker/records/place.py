"""Where a store is, as it is compared: two stores at one place would write over each other."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from worker.model import RedisStoreConfiguration, StoreConfiguration

_ACCOUNT_OF_A_ROLE = 4  # arn:aws:iam::ACCOUNT:role/NAME
_PORTS = {"http": 80, "https": 443}


def place_of(configuration: StoreConfiguration) -> tuple[object, ...]:
    """What makes it this store and no other, however its host is written; the rest is how to get there.

    Nobody is asked: two names of one machine, or two roles that lead to one account, are not found out.
    """
    if isinstance(configuration, RedisStoreConfiguration):
        host = _host(configuration.host)
        # An empty prefix means the SDKs' default; a configuration that was copied may still have it.
        return "redis", host, configuration.port, configuration.database, configuration.prefix or "launchdarkly"
    # Tables of one name in two accounts are two tables, and a role belongs to an account.
    account = "".join(configuration.roleArn.split(":")[_ACCOUNT_OF_A_ROLE:][:1])
    endpoint = _endpoint(configuration.endpoint, configuration.region)
    return "dynamodb", account, configuration.tableName, configuration.region, endpoint, configuration.prefix


def _host(host: str) -> str:
    plain = host.lower().removesuffix(".")
    if plain == "localhost":
        return "127.0.0.1"
    try:
        return str(ip_address(plain))
    except ValueError:
        return plain


def _endpoint(endpoint: str | None, region: str) -> tuple[str, int | None] | None:
    """None for AWS's own, which may be named or left out."""
    parts = urlsplit(endpoint or "")
    if not parts.hostname or parts.hostname == f"dynamodb.{region}.amazonaws.com":
        return None
    return _host(parts.hostname), parts.port or _PORTS.get(parts.scheme)
