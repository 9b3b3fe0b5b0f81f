"""How commands read which store is meant: a Redis URL, a DynamoDB table or an environment of LaunchDarkly itself."""

from __future__ import annotations

import getpass
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import typer

from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.model import (
        DynamoDBStoreConfiguration,
        LaunchDarklyStoreConfiguration,
        RedisStoreConfiguration,
        StoreConfiguration,
        StoreRecord,
    )

STORE_URL_VARIABLE = "SEGSYNC_STORE_URL"
Mode = Literal["update", "transact"]

RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        envvar=STORE_URL_VARIABLE,
        help="Redis that your SDKs read: redis://, rediss://, redis+cluster://, redis+sentinel:// or unix://; "
        "- reads it from stdin, where passwords belong.",
        show_default=False,
    ),
]
DynamoDBTable = Annotated[str | None, typer.Option(help="DynamoDB table that your SDKs read, instead.")]
DynamoDBRegion = Annotated[str | None, typer.Option(help="The table's region.")]
DynamoDBEndpoint = Annotated[str | None, typer.Option(help="Another endpoint than AWS's.")]
RoleArn = Annotated[str | None, typer.Option(help="Role to assume, for a table of another account.")]
ExternalId = Annotated[str | None, typer.Option(help="External ID that the role asks for.")]
WriteMode = Annotated[
    str | None,
    typer.Option(
        metavar="update|transact",
        help="How a table is written: a unit for each member, or a hundred in a request at two units each, for far "
        "less of our CPU. Default: update.",
    ),
]
LaunchDarklyUri = Annotated[
    str | None, typer.Option(help="LaunchDarkly's instance, as https://app.eu.launchdarkly.com; default: the US one.")
]
AccessToken = Annotated[
    str | None,
    typer.Option(
        envvar="SEGSYNC_LAUNCHDARKLY_TOKEN",
        help="LaunchDarkly access token that may create segments and update their members; - reads it from stdin.",
        show_default=False,
    ),
]

_ROLE = re.compile(r"arn:[\w-]+:iam::\d{12}:role/\S+")
_OF_A_TABLE = {
    "dynamodb_region": "--dynamodb-region",
    "dynamodb_endpoint": "--dynamodb-endpoint",
    "role_arn": "--role-arn",
    "external_id": "--external-id",
    "write_mode": "--write-mode",
}
_OF_LAUNCHDARKLY = {
    "launchdarkly_environment": "--launchdarkly-environment",
    "launchdarkly_uri": "--launchdarkly-uri",
    "access_token": "--access-token",
}


def chosen_store(**options: str | None) -> StoreConfiguration:
    """The one store that the options name; see ``segsync store add``.

    Raises:
        Misconfigured: they name none or several, or do not go together, or one cannot be read.
    """
    given = {name: value for name, value in options.items() if value is not None}
    kinds = [name for name in ("redis_url", "dynamodb_table", "launchdarkly_project") if given.get(name)]
    if len(kinds) != 1:
        raise Misconfigured(
            "which store? name one: --redis-url, or --dynamodb-table with --dynamodb-region, "
            "or --launchdarkly-project with --launchdarkly-environment"
        )
    _refuse(given, {} if kinds == ["dynamodb_table"] else _OF_A_TABLE, "a table: --dynamodb-table")
    _refuse(given, {} if kinds == ["launchdarkly_project"] else _OF_LAUNCHDARKLY, "--launchdarkly-project")
    if kinds == ["redis_url"]:
        return redis_store(given["redis_url"], given.get("prefix"))
    if kinds == ["dynamodb_table"]:
        return dynamodb_store(
            given["dynamodb_table"],
            given.get("dynamodb_region"),
            endpoint=given.get("dynamodb_endpoint"),
            role_arn=given.get("role_arn"),
            external_id=given.get("external_id"),
            write_mode=given.get("write_mode"),
            prefix=given.get("prefix"),
        )
    if given.get("prefix"):
        raise Misconfigured("--prefix is of stores that SDKs read; LaunchDarkly has none")
    return launchdarkly_store(
        given["launchdarkly_project"],
        given.get("launchdarkly_environment"),
        uri=given.get("launchdarkly_uri"),
        access_token=given.get("access_token"),
    )


def changed_store(store: StoreRecord, **options: str | None) -> StoreConfiguration:
    """A store's configuration with what these options change of it; see ``segsync store set``.

    Raises:
        Misconfigured: they are another kind's, or cannot be read.
    """
    found = store.configuration
    given = {name: value for name, value in options.items() if value is not None}
    if found.kind == "redis":
        _refuse(given, _OF_A_TABLE, "a DynamoDB store")
        _refuse(given, _OF_LAUNCHDARKLY, "a LaunchDarkly store")
        return redis_store(given["redis_url"], found.prefix) if "redis_url" in given else found
    if "redis_url" in given:
        raise Misconfigured(f"{store.label} is no Redis store; --redis-url is for those")
    if found.kind == "dynamodb":
        _refuse(given, _OF_LAUNCHDARKLY, "a LaunchDarkly store")
        changed = dynamodb_store(
            found.tableName,
            found.region,
            endpoint=found.endpoint,
            role_arn=given.get("role_arn", found.roleArn),
            external_id=given.get("external_id"),
            write_mode=given.get("write_mode", found.writeMode),
            prefix=found.prefix,
        )
        # One that is kept need not go with a role: the API makes one for each table.
        return changed if "external_id" in given else changed.model_copy(update={"externalId": found.externalId})
    _refuse(given, _OF_A_TABLE, "a DynamoDB store")
    if "access_token" not in given:
        return found
    return launchdarkly_store(
        found.projectKey, found.environmentKey, uri=found.baseUri, access_token=given["access_token"]
    )


def redis_store(url: str, prefix: str | None) -> RedisStoreConfiguration:
    """The Redis store at a URL; "-" stands for a line of standard input, as a command line is no place for passwords.

    Raises:
        Misconfigured: it is no such URL; the message never repeats it.
    """
    from worker.model import RedisStoreConfiguration

    try:
        return RedisStoreConfiguration.from_url(_line("The store's URL") if url == "-" else url, prefix or "")
    except ValueError as error:
        raise Misconfigured(f"the store's URL {error}") from None


def dynamodb_store(
    table: str,
    region: str | None,
    *,
    endpoint: str | None = None,
    role_arn: str | None = None,
    external_id: str | None = None,
    write_mode: str | None = None,
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
    modes: dict[str | None, Mode] = {None: "update", **{mode: mode for mode in get_args(Mode)}}
    if write_mode not in modes:
        raise Misconfigured("--write-mode must be update or transact")
    return DynamoDBStoreConfiguration(
        tableName=table,
        region=region,
        endpoint=endpoint,
        roleArn=role_arn or "",
        externalId=external_id or "",
        prefix=prefix or "",
        writeMode=modes[write_mode],
    )


def launchdarkly_store(
    project: str, environment: str | None, *, uri: str | None = None, access_token: str | None = None
) -> LaunchDarklyStoreConfiguration:
    """The environment of LaunchDarkly that these options name; an access token of "-" is read from standard input.

    Raises:
        Misconfigured: one is missing, or cannot be read; the message never repeats the token.
    """
    from pydantic import SecretStr

    from worker.model import LaunchDarklyStoreConfiguration

    if not environment:
        raise Misconfigured("--launchdarkly-project needs --launchdarkly-environment")
    token = _line("The access token") if access_token == "-" else access_token  # noqa: S105 - no token, a dash
    if not token:
        raise Misconfigured("--launchdarkly-project needs --access-token; - reads it from stdin, where it belongs")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Misconfigured("--access-token must be the token alone, without blanks")
    if uri and not _is_endpoint(uri):
        raise Misconfigured("--launchdarkly-uri must read https://host[:port]")
    address: dict[str, Any] = {"baseUri": uri.rstrip("/")} if uri else {}
    return LaunchDarklyStoreConfiguration(
        projectKey=project, environmentKey=environment, accessToken=SecretStr(token), **address
    )


def has_password(url: str) -> bool:
    """Whether that is a URL with a password in it."""
    try:
        parts = urlsplit(url)
        return ":" in parts.netloc.rpartition("@")[0] or "password=" in parts.query
    except ValueError:
        return False


def _refuse(given: dict[str, str], options: dict[str, str], needed: str) -> None:
    wrong = [option for name, option in options.items() if name in given]
    if wrong:
        raise Misconfigured(f"{' and '.join(wrong)}: that is for {needed}")


def _line(prompt: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(f"{prompt} (not shown): ").strip()
    return sys.stdin.readline().strip()


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        login = parts.username is not None or parts.password is not None  # which would be shown with the address
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and not login
    except ValueError:
        return False
