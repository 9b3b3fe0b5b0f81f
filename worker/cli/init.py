"""``segsync init``: the first records of a real deployment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.store_options import dynamodb_store, redis_store
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.model import StoreConfiguration
    from worker.records.stores import ExistingStore
    from worker.settings import Settings


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
    replace_store: Annotated[
        bool, typer.Option("--replace-store", help="Leave the store there is, as it is, and fill this one instead.")
    ] = False,
    writer_token: Annotated[
        str | None, typer.Option(envvar="SEGSYNC_WRITER_TOKEN", help="Token for partners. Default: a new one.")
    ] = None,
    admin_token: Annotated[
        str | None, typer.Option(envvar="SEGSYNC_ADMIN_TOKEN", help="Token for people. Default: a new one.")
    ] = None,
) -> None:
    """Create project, environment, store and tokens in the state server; what is there already stays.

    Prints the facts as JSON. A token made here is printed this once; one given, or made before, is null.

    A store that was removed since is not made again, unless one is named here.
    """
    from worker.settings import load_settings
    from worker.wiring import open_records

    settings = load_settings()
    store, wish = _store(settings, store_url, dynamodb_table, dynamodb_region, dynamodb_endpoint, prefix)
    made = open_records(settings).bootstrap(
        environment_id=environment_id,
        store_configuration=store,
        existing_store="replace" if replace_store else wish,
        writer_token=writer_token,
        admin_token=admin_token,
    )
    facts = {
        "project_key": made.project_key,
        "environment_key": made.environment_key,
        "environment_id": made.environment_id,
        "writer_token": None if writer_token else made.writer_token,
        "admin_token": None if admin_token else made.admin_token,
        # Passwords come out as asterisks.
        "store": made.settled and made.settled.configuration.model_dump(mode="json"),
    }
    print(json.dumps(facts, indent=2))


def _store(  # noqa: PLR0917 - the options, one by one
    settings: Settings,
    store_url: str | None,
    table: str | None,
    region: str | None,
    endpoint: str | None,
    prefix: str | None,
) -> tuple[StoreConfiguration, ExistingStore]:
    """The store that the options name, and what to do with one that is there already.

    Raises:
        Misconfigured: the options contradict each other, or cannot be read.
    """
    if store_url and table:
        raise Misconfigured("--store-url and --dynamodb-table are two stores; run `segsync init` once for each")
    if table:
        return dynamodb_store(table, region, endpoint=endpoint, prefix=prefix), "refuse"
    if region or endpoint:
        raise Misconfigured("--dynamodb-region and --dynamodb-endpoint need --dynamodb-table")
    # Told nothing, init must not touch a store that somebody chose before.
    wish: ExistingStore = "refuse" if store_url or prefix else "keep"
    return redis_store(store_url or settings.state_url.get_secret_value(), prefix), wish
