"""``segsync init``: the first records of a real deployment."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote, urlsplit

import typer

from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.model import StoreConfiguration


def command(
    *,
    environment_id: Annotated[
        str | None, typer.Option(help="Client-side ID that payloads carry. Default: a new one, if there is none yet.")
    ] = None,
    store_url: Annotated[
        str | None,
        typer.Option(
            envvar="SEGSYNC_STORE_URL",
            help="Redis that your SDKs read, redis:// or rediss://; - reads it from stdin. Default: the state server.",
            show_default=False,
        ),
    ] = None,
    dynamodb_table: Annotated[str | None, typer.Option(help="DynamoDB table that your SDKs read, instead.")] = None,
    dynamodb_region: Annotated[str | None, typer.Option(help="The table's region.")] = None,
    dynamodb_endpoint: Annotated[str | None, typer.Option(help="Another endpoint than AWS's.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Prefix of the store's keys. Default: the SDKs' own.")] = None,
    writer_token: Annotated[
        str | None, typer.Option(envvar="SEGSYNC_WRITER_TOKEN", help="Token for partners. Default: a new one.")
    ] = None,
    admin_token: Annotated[
        str | None, typer.Option(envvar="SEGSYNC_ADMIN_TOKEN", help="Token for people. Default: a new one.")
    ] = None,
) -> None:
    """Create project, environment, store and tokens in the state server; what is there already stays.

    Prints the facts as JSON. A token made here is printed this once; one given, or made before, is null.
    """
    from worker.settings import load_settings
    from worker.wiring import open_records

    settings = load_settings()
    configuration: StoreConfiguration
    if dynamodb_table is not None:
        configuration = _dynamodb(dynamodb_table, dynamodb_region, dynamodb_endpoint, prefix)
    else:
        url = sys.stdin.readline().strip() if store_url == "-" else store_url
        configuration = redis_configuration(url or settings.state_url.get_secret_value(), prefix)
    made = open_records(settings).bootstrap(
        environment_id=environment_id,
        store_configuration=configuration,
        writer_token=writer_token,
        admin_token=admin_token,
    )
    facts = {
        "project_key": made.project_key,
        "environment_key": made.environment_key,
        "environment_id": made.environment_id,
        "writer_token": None if writer_token else made.writer_token,
        "admin_token": None if admin_token else made.admin_token,
        "store": made.store.configuration.model_dump(mode="json"),  # passwords come out as asterisks
    }
    print(json.dumps(facts, indent=2))


def redis_configuration(url: str, prefix: str | None) -> StoreConfiguration:
    """Read a ``redis://`` or ``rediss://`` URL as a store's configuration.

    Raises:
        Misconfigured: it is no such URL; it is not repeated, it may hold a password.
    """
    from pydantic import SecretStr, ValidationError

    from worker.model import RedisStoreConfiguration

    try:
        parts = urlsplit(url)
        if parts.scheme not in {"redis", "rediss"}:
            raise Misconfigured("the store's URL must begin with redis:// or rediss://")
        return RedisStoreConfiguration(
            host=parts.hostname or "",
            port=parts.port or 6379,
            username=unquote(parts.username or ""),
            password=SecretStr(unquote(parts.password or "")),
            tlsEnabled=parts.scheme == "rediss",
            database=int(parts.path.strip("/") or 0),
            prefix=prefix or "",
        )
    except (ValueError, ValidationError):
        raise Misconfigured("the store's URL must read redis://[user:password@]host[:port][/database]") from None


def _dynamodb(table: str, region: str | None, endpoint: str | None, prefix: str | None) -> StoreConfiguration:
    from worker.model import DynamoDBStoreConfiguration

    if not region:
        raise Misconfigured("--dynamodb-table needs --dynamodb-region")
    return DynamoDBStoreConfiguration(tableName=table, region=region, endpoint=endpoint, prefix=prefix or "")
