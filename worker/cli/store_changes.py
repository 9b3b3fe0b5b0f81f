"""``segsync store``, the commands that change something: add, set, on, off, remove, create-table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.connection import DataDir, EnvironmentName, environment_name, find_environment, open_wiring
from worker.cli.console import AsJson, print_json, printable
from worker.cli.store_facts import Store, find_store, read_facts
from worker.cli.store_options import (
    STORE_URL_VARIABLE,
    AccessToken,
    DynamoDBEndpoint,
    DynamoDBRegion,
    DynamoDBTable,
    ExternalId,
    LaunchDarklyUri,
    RedisUrl,
    RoleArn,
    WriteMode,
    changed_store,
    chosen_store,
    has_password,
)
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.model import StoreRecord
    from worker.wiring import Wiring


def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it.")],
    *,
    redis_url: RedisUrl = None,
    dynamodb_table: DynamoDBTable = None,
    dynamodb_region: DynamoDBRegion = None,
    dynamodb_endpoint: DynamoDBEndpoint = None,
    write_mode: WriteMode = None,
    role_arn: RoleArn = None,
    external_id: ExternalId = None,
    launchdarkly_project: Annotated[
        str | None, typer.Option(help="Project of LaunchDarkly whose segments are to be written themselves, instead.")
    ] = None,
    launchdarkly_environment: Annotated[str | None, typer.Option(help="Environment of that project.")] = None,
    launchdarkly_uri: LaunchDarklyUri = None,
    access_token: AccessToken = None,
    prefix: Annotated[str | None, typer.Option(help="Prefix of the store's keys. Default: the SDKs' own.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Do not fill it yet; `segsync store on` does.")] = False,
    rebuild_when_wiped: Annotated[
        bool,
        typer.Option(
            help="Fill it anew by itself when it has lost its content; else it waits for `segsync rebuild`.",
        ),
    ] = True,
    as_json: AsJson = False,
    environment: EnvironmentName = None,
    data_dir: DataDir = None,
) -> None:
    """Give an environment one more store. It fills itself, while payloads keep arriving."""
    if (dynamodb_table or launchdarkly_project) and _from_environment(context):
        redis_url = None  # the variable tells of the first store; what is typed is meant
    if redis_url:
        _warn_of_password(context, redis_url)
    configuration = chosen_store(
        redis_url=redis_url,
        dynamodb_table=dynamodb_table,
        dynamodb_region=dynamodb_region,
        dynamodb_endpoint=dynamodb_endpoint,
        write_mode=write_mode,
        role_arn=role_arn,
        external_id=external_id,
        launchdarkly_project=launchdarkly_project,
        launchdarkly_environment=launchdarkly_environment,
        launchdarkly_uri=launchdarkly_uri,
        access_token=access_token if launchdarkly_project or not _from_environment(context, "access_token") else None,
        prefix=prefix,
    )
    with open_wiring(data_dir) as wiring:
        found = find_environment(wiring, environment)
        made = wiring.store_records.add(
            found.environment_id, name, configuration, on=not off, rebuild_when_wiped=rebuild_when_wiped
        )
        _tell(
            wiring,
            made,
            as_json,
            f"added to {environment_name(wiring.directory.current, found.environment_id)}, with id {made.store_id}.",
            f"It is off: `segsync store on {made.label}` begins to fill it."
            if off
            else "It fills itself from snapshots and logs, while payloads keep arriving; "
            "`segsync store list` shows how far it is.",
            f"`segsync store check {made.label}` tries from here whether it can be written.",
        )


def switch_on(
    store: Store, as_json: AsJson = False, environment: EnvironmentName = None, data_dir: DataDir = None
) -> None:
    """Go on with a store that was off: it catches up from where it was."""
    with open_wiring(data_dir) as wiring:
        found = wiring.store_records.set(find_store(wiring, environment, store).store_id, on=True)
        _tell(wiring, found, as_json, "is on; it catches up from where it was, within seconds if it can.")


def switch_off(
    store: Store, as_json: AsJson = False, environment: EnvironmentName = None, data_dir: DataDir = None
) -> None:
    """Write nothing more to a store until it is on again; what it misses is kept for it."""
    with open_wiring(data_dir) as wiring:
        found = wiring.store_records.set(find_store(wiring, environment, store).store_id, on=False)
        _tell(
            wiring,
            found,
            as_json,
            "is off; writes end within five seconds.",
            "Its SDKs see it grow old. What it misses is kept in the logs until it is on again, or removed.",
        )


def change(
    context: typer.Context,
    store: Store,
    *,
    rename: Annotated[str | None, typer.Option(help="Another name.")] = None,
    redis_url: Annotated[
        str | None,
        typer.Option("--redis-url", help="Where a Redis store is now, with its content, or another login; - is stdin."),
    ] = None,
    write_mode: WriteMode = None,
    role_arn: RoleArn = None,
    external_id: ExternalId = None,
    access_token: Annotated[
        str | None, typer.Option(help="Another access token of a LaunchDarkly store; - is stdin.", show_default=False)
    ] = None,
    rebuild_when_wiped: Annotated[
        bool | None, typer.Option(help="Whether it is filled anew by itself when it has lost its content.")
    ] = None,
    as_json: AsJson = False,
    environment: EnvironmentName = None,
    data_dir: DataDir = None,
) -> None:
    """Change a store's name, login or what becomes of it when it has lost its content."""
    from worker.records.stores import StoreChanges

    with open_wiring(data_dir) as wiring:
        found = find_store(wiring, environment, store)
        changes = StoreChanges()
        if rename is not None:
            changes["name"] = rename
        if rebuild_when_wiped is not None:
            changes["rebuild_when_wiped"] = rebuild_when_wiped
        if redis_url is not None:
            _warn_of_password(context, redis_url)
        configuration = changed_store(
            found,
            redis_url=redis_url,
            write_mode=write_mode,
            role_arn=role_arn,
            external_id=external_id,
            access_token=access_token,
        )
        if configuration != found.configuration:
            changes["configuration"] = configuration
        if not changes:
            raise Misconfigured("nothing to change; see `segsync store set --help`")
        _tell(wiring, wiring.store_records.set(found.store_id, **changes), as_json, "is changed.")


def remove(
    store: Store,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    environment: EnvironmentName = None,
    data_dir: DataDir = None,
) -> None:
    """Remove a store: nothing more is written to it, and how far it was is forgotten; its content stays in it."""
    with open_wiring(data_dir) as wiring:
        found = find_store(wiring, environment, store)
        if not yes:
            _ask(found)
        wiring.store_records.remove(found.store_id)
        _tell(
            wiring,
            found,
            as_json,
            "is removed; writes end within five seconds.",
            "What lies in it stays. Added again, it is filled from the beginning: how far it was is forgotten.",
        )
        if not wiring.directory.fresh(0).stores_of(found.environment_id):
            print(
                "segsync: the environment has no store now: what is accepted waits in the logs until one is added",
                file=sys.stderr,
            )


def create_table(
    store: Store, as_json: AsJson = False, environment: EnvironmentName = None, data_dir: DataDir = None
) -> None:
    """Create the table of a DynamoDB store, on demand capacity, with the keys that SDKs look for; one there is stays.

    Needs permission for CreateTable and DescribeTable. The workers take the store up at once.
    """
    with open_wiring(data_dir) as wiring:
        found = find_store(wiring, environment, store)
        configuration = found.configuration
        if configuration.kind != "dynamodb":
            raise Misconfigured(f"{found.label} is no DynamoDB store, and needs no table")
        # boto3 is slow to import, and only this command needs it here.
        from worker.stores.dynamodb.table import create_table as create

        made = create(configuration)
        wiring.circuits.reset(found.store_id)
        news = "has its table now." if made else "had its table already."
        _tell(wiring, found, as_json, news, f"`segsync store check {found.label}` tries whether it can be written.")


def _tell(wiring: Wiring, store: StoreRecord, as_json: bool, news: str, *more: str) -> None:
    """Say what has become of a store."""
    if as_json:
        [facts] = read_facts(wiring, [store])
        print_json(facts.described())
        return
    print(f"{printable(f'{store.label} ({store.configuration})')} {news}")
    for line in more:
        print(line)


def _ask(store: StoreRecord) -> None:
    if not _can_be_asked():
        raise Misconfigured("removing a store cannot be undone; say --yes")
    print(f"{printable(f'{store.label} ({store.configuration})')}", file=sys.stderr)
    print("Nothing more is written to it, and how far it was is forgotten; its content stays in it.", file=sys.stderr)
    typer.confirm("Remove it?", abort=True, err=True)


def _can_be_asked() -> bool:
    return sys.stdin.isatty()


def _from_environment(context: typer.Context, parameter: str = "redis_url") -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "ENVIRONMENT"


def _warn_of_password(context: typer.Context, url: str) -> None:
    if has_password(url) and not _from_environment(context):
        print(
            f"segsync: a command line can be read by others of this machine; next time say --redis-url - and give the "
            f"URL on stdin, or in {STORE_URL_VARIABLE}",
            file=sys.stderr,
        )
