"""``segsync store``: the stores of an environment, each of which follows by itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.connection import (
    DataDir,
    EnvironmentName,
    environment_name,
    environments,
    find_environment,
    open_wiring,
)
from worker.cli.console import AsJson, console, print_json, printable
from worker.cli.held_back import braked
from worker.cli.store_facts import find_store, moment, read_facts, told
from worker.cli.store_options import dynamodb_store, has_password, redis_store
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.cli.store_facts import StoreFacts
    from worker.model import StoreConfiguration, StoreRecord
    from worker.wiring import Wiring

app = typer.Typer(
    no_args_is_help=True,
    help="The stores that your SDKs read: each environment has any number, none waits for another.",
)
Store = Annotated[str, typer.Argument(metavar="ID|NAME", help="The store's id, or its name in the environment.")]
_URL_VARIABLE = "SEGSYNC_STORE_URL"
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        envvar=_URL_VARIABLE,
        help="Redis that your SDKs read, redis:// or rediss://; - reads it from stdin, where passwords belong.",
        show_default=False,
    ),
]


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it.")],
    *,
    redis_url: RedisUrl = None,
    dynamodb_table: Annotated[str | None, typer.Option(help="DynamoDB table that your SDKs read, instead.")] = None,
    dynamodb_region: Annotated[str | None, typer.Option(help="The table's region.")] = None,
    dynamodb_endpoint: Annotated[str | None, typer.Option(help="Another endpoint than AWS's.")] = None,
    role_arn: Annotated[str | None, typer.Option(help="Role to assume, for a table of another account.")] = None,
    external_id: Annotated[str | None, typer.Option(help="External ID that the role asks for.")] = None,
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
    from worker.records.stores import StoreRecords

    if dynamodb_table and _from_environment(context):
        redis_url = None  # the variable tells of the first store; what is typed is meant
    if bool(redis_url) == bool(dynamodb_table):
        raise Misconfigured("which store? name one: --redis-url, or --dynamodb-table with --dynamodb-region")
    configuration: StoreConfiguration
    if redis_url:
        if dynamodb_region or dynamodb_endpoint or role_arn or external_id:
            raise Misconfigured("--dynamodb-region, --dynamodb-endpoint, --role-arn and --external-id need a table")
        _warn_of_password(context, redis_url)
        configuration = redis_store(redis_url, prefix)
    else:
        configuration = dynamodb_store(
            str(dynamodb_table),
            dynamodb_region,
            endpoint=dynamodb_endpoint,
            role_arn=role_arn,
            external_id=external_id,
            prefix=prefix,
        )
    with open_wiring(data_dir) as wiring:
        found = find_environment(wiring, environment)
        made = StoreRecords(wiring.client).add(
            found.environment_id, name, configuration, on=not off, rebuild_when_wiped=rebuild_when_wiped
        )
        _tell(
            wiring,
            made,
            as_json,
            f"added to {environment_name(wiring.directory.current, found.environment_id)}, with id {made.store_id}.",
            f"It is off: `segsync store on {made.name}` begins to fill it."
            if off
            else "It fills itself from snapshots and logs, while payloads keep arriving; "
            "`segsync store list` shows how far it is.",
            f"`segsync store check {made.name}` tries from here whether it can be written.",
        )


@app.command("list")
def show_all(as_json: AsJson = False, environment: EnvironmentName = None, data_dir: DataDir = None) -> None:
    """List the stores: where they are, how far they are behind (by their worst segment), and what keeps them.

    States: new (not reached yet), current (nothing waits for longer than five seconds), catching up, away (with the
    reason; tried again by itself), off, wiped (waits for `segsync rebuild`).
    """
    with open_wiring(data_dir) as wiring:
        chosen = environments(wiring) if environment is None else [find_environment(wiring, environment)]
        directory = wiring.directory.current
        found = [facts for one in chosen for facts in read_facts(wiring, directory.stores_of(one.environment_id))]
        brakes = braked(wiring, {one.environment_id for one in chosen})
    if as_json:
        print_json([facts.described() for facts in found])
    elif found:
        _print_table(found)
    else:
        print("There are no stores: `segsync store add` adds one.")
    for line in () if as_json else brakes:
        print(printable(line))


@app.command("show")
def show(store: Store, as_json: AsJson = False, environment: EnvironmentName = None, data_dir: DataDir = None) -> None:
    """Show everything that is known of a store, without its secrets."""
    with open_wiring(data_dir) as wiring:
        [facts] = read_facts(wiring, [find_store(wiring, environment, store)])
    if as_json:
        print_json(facts.described())
    else:
        _print(facts)


@app.command("on")
def switch_on(
    store: Store, as_json: AsJson = False, environment: EnvironmentName = None, data_dir: DataDir = None
) -> None:
    """Go on with a store that was off: it catches up from where it was."""
    from worker.records.stores import StoreRecords

    with open_wiring(data_dir) as wiring:
        found = StoreRecords(wiring.client).set(find_store(wiring, environment, store).store_id, on=True)
        _tell(wiring, found, as_json, "is on; it catches up from where it was, within seconds if it can.")


@app.command("off")
def switch_off(
    store: Store, as_json: AsJson = False, environment: EnvironmentName = None, data_dir: DataDir = None
) -> None:
    """Write nothing more to a store until it is on again; what it misses is kept for it."""
    from worker.records.stores import StoreRecords

    with open_wiring(data_dir) as wiring:
        found = StoreRecords(wiring.client).set(find_store(wiring, environment, store).store_id, on=False)
        _tell(
            wiring,
            found,
            as_json,
            "is off; writes end within five seconds.",
            "Its SDKs see it grow old. What it misses is kept in the logs until it is on again, or removed.",
        )


@app.command("set")
def change(
    context: typer.Context,
    store: Store,
    *,
    rename: Annotated[str | None, typer.Option(help="Another name.")] = None,
    redis_url: Annotated[
        str | None,
        typer.Option("--redis-url", help="Where a Redis store is now, with its content, or another login; - is stdin."),
    ] = None,
    rebuild_when_wiped: Annotated[
        bool | None, typer.Option(help="Whether it is filled anew by itself when it has lost its content.")
    ] = None,
    as_json: AsJson = False,
    environment: EnvironmentName = None,
    data_dir: DataDir = None,
) -> None:
    """Change a store's name, login or what becomes of it when it has lost its content."""
    from worker.records.stores import StoreChanges, StoreRecords

    with open_wiring(data_dir) as wiring:
        found = find_store(wiring, environment, store)
        changes = StoreChanges()
        if rename is not None:
            changes["name"] = rename
        if rebuild_when_wiped is not None:
            changes["rebuild_when_wiped"] = rebuild_when_wiped
        if redis_url is not None:
            if found.configuration.kind != "redis":
                raise Misconfigured(f"{found.name} is no Redis store; --redis-url is for those")
            _warn_of_password(context, redis_url)
            changes["configuration"] = redis_store(redis_url, found.configuration.prefix)
        if not changes:
            raise Misconfigured("nothing to change; see `segsync store set --help`")
        _tell(wiring, StoreRecords(wiring.client).set(found.store_id, **changes), as_json, "is changed.")


@app.command("remove")
def remove(
    store: Store,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    environment: EnvironmentName = None,
    data_dir: DataDir = None,
) -> None:
    """Remove a store: nothing more is written to it, and how far it was is forgotten; its content stays in it."""
    from worker.records.stores import StoreRecords

    with open_wiring(data_dir) as wiring:
        found = find_store(wiring, environment, store)
        if not yes:
            _ask(found)
        StoreRecords(wiring.client).remove(found.store_id)
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


@app.command("check")
def check(store: Store, as_json: AsJson = False, environment: EnvironmentName = None, data_dir: DataDir = None) -> None:
    """Try from this machine what segsync needs of a store; exit code 1 when something is wrong.

    A store that was away and is found well is tried again by the workers at once.
    """
    from worker.stores import open_store

    with open_wiring(data_dir) as wiring:
        found = find_store(wiring, environment, store)
        opened = open_store(found)
        try:
            findings = opened.check()
        finally:
            opened.close()
        if not findings:
            wiring.circuits.reset(found.store_id)
    if as_json:
        print_json({"id": found.store_id, "name": found.name, "ok": not findings, "findings": findings})
    else:
        for finding in findings:
            print(printable(finding))
        if not findings:
            print("ok")
    if findings:
        raise typer.Exit(1)


def _tell(wiring: Wiring, store: StoreRecord, as_json: bool, news: str, *more: str) -> None:
    """Say what has become of a store."""
    if as_json:
        [facts] = read_facts(wiring, [store])
        print_json(facts.described())
        return
    print(f"{printable(f'{store.name} ({store.configuration})')} {news}")
    for line in more:
        print(line)


def _ask(store: StoreRecord) -> None:
    if not _can_be_asked():
        raise Misconfigured("removing a store cannot be undone; say --yes")
    print(f"{printable(f'{store.name} ({store.configuration})')}", file=sys.stderr)
    print("Nothing more is written to it, and how far it was is forgotten; its content stays in it.", file=sys.stderr)
    typer.confirm("Remove it?", abort=True, err=True)


def _can_be_asked() -> bool:
    return sys.stdin.isatty()


def _from_environment(context: typer.Context) -> bool:
    source = context.get_parameter_source("redis_url")
    return source is not None and source.name == "ENVIRONMENT"


def _warn_of_password(context: typer.Context, url: str) -> None:
    if has_password(url) and not _from_environment(context):
        print(
            f"segsync: a command line can be read by others of this machine; next time say --redis-url - and give the "
            f"URL on stdin, or in {_URL_VARIABLE}",
            file=sys.stderr,
        )


def _print_table(found: list[StoreFacts]) -> None:
    from rich.table import Table

    table = Table()
    several = len({facts.environment for facts in found}) > 1
    columns = ("Store", "Name", *(("Environment",) if several else ()), "Place", "On", "Behind", "State")
    for column in columns:
        table.add_column(column, overflow="fold")
    for facts in found:
        record = facts.record
        table.add_row(
            record.store_id,
            printable(record.name),
            *((facts.environment,) if several else ()),
            printable(str(record.configuration)),
            "on" if record.on else "off",
            told(facts.lag),
            printable(facts.state),
        )
    console().print(table)


def _print(facts: StoreFacts) -> None:
    record, circuit, lag = facts.record, facts.circuit, facts.lag
    rows: list[tuple[str, Any]] = [
        ("id", record.store_id),
        ("name", record.name),
        ("environment", f"{facts.environment} ({record.environment_id})"),
        ("state", facts.state),
        ("behind", told(lag) + (f"; furthest in {lag.segment_key}, {lag.segments} in all" if lag.segment_key else "")),
        ("on", "yes" if record.on else "no"),
        ("when wiped", "filled anew by itself" if record.rebuild_when_wiped else "waits for `segsync rebuild`"),
        ("version", record.version),
        *((name, value) for name, value in record.configuration.model_dump(mode="json").items()),
    ]
    if circuit.open:
        rows.append(("away since", moment(circuit.since_ms or 0)))
        rows.append(("failures", f"{circuit.failures}, the last: {circuit.fault}"))
        rows.append(("tried again", "now" if circuit.due else moment(circuit.retry_at_ms or 0)))
    if facts.notes.wiped_ms is not None:
        rows.append(("wiped", f"noticed {moment(facts.notes.wiped_ms)}"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {printable(str(value))}")
