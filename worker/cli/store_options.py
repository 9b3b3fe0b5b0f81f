"""How commands read which store is meant: a Redis URL, or a DynamoDB table, with the options that go with it."""

from __future__ import annotations

import getpass
import re
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.model import DynamoDBStoreConfiguration, RedisStoreConfiguration

_ROLE = re.compile(r"arn:[\w-]+:iam::\d{12}:role/\S+")


def redis_store(url: str, prefix: str | None) -> RedisStoreConfiguration:
    """The Redis store at a URL; "-" stands for a line of standard input, as a command line is no place for passwords.

    Raises:
        Misconfigured: it is no such URL; the message never repeats it.
    """
    from worker.model import RedisStoreConfiguration

    try:
        return RedisStoreConfiguration.from_url(_line() if url == "-" else url, prefix or "")
    except ValueError as error:
        raise Misconfigured(f"the store's URL {error}") from None


def dynamodb_store(
    table: str,
    region: str | None,
    *,
    endpoint: str | None = None,
    role_arn: str | None = None,
    external_id: str | None = None,
    prefix: str | None = None,
) -> DynamoDBStoreConfiguration:
    """The DynamoDB store of these options.

    Raises:
        Misconfigured: one is missing, or cannot be read.
    """
    from worker.model import DynamoDBStoreConfiguration

    if not region:
        raise Misconfigured("--dynamodb-table needs --dynamodb-region")
    if external_id and not role_arn:
        raise Misconfigured("--external-id needs --role-arn: it is what the role asks for")
    if role_arn and not _ROLE.fullmatch(role_arn):
        raise Misconfigured("--role-arn must read arn:aws:iam::ACCOUNT:role/NAME, with the account's twelve digits")
    if endpoint and not _is_endpoint(endpoint):
        raise Misconfigured("--dynamodb-endpoint must read http://host[:port] or https://host[:port]")
    return DynamoDBStoreConfiguration(
        tableName=table,
        region=region,
        endpoint=endpoint,
        roleArn=role_arn or "",
        externalId=external_id or "",
        prefix=prefix or "",
    )


def has_password(url: str) -> bool:
    """Whether that is a URL with a password in it."""
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return False


def _line() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("The store's URL (not shown): ").strip()
    return sys.stdin.readline().strip()


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
