"""``segsync env``: projects and their environments."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.connection import DataDir, environment_name, find_environment, open_wiring
from worker.cli.console import AsJson, console, print_json, printable
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.records.directory import Directory, Environment

app = typer.Typer(
    no_args_is_help=True,
    help="Environments, whose ids payloads carry; each has segments and stores of its own, and belongs to a project.",
)


@app.command("list")
def show(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List projects and environments, their ids (LaunchDarkly's client-side IDs) and how many stores they have."""
    with open_wiring(data_dir) as wiring:
        directory = wiring.directory.fresh(0)
    found = [environment for key in sorted(directory.projects) for environment in directory.environments_of(key)]
    if as_json:
        print_json([_described(directory, environment) for environment in found])
        return
    if not found:
        print("There are no environments: `segsync env add` makes one.")
        return
    from rich.table import Table

    table = Table()
    for column in ("Environment", "Name", "Id", "Stores"):
        table.add_column(column, overflow="fold")
    for environment in found:
        table.add_row(
            environment_name(directory, environment.environment_id),
            printable(environment.name),
            environment.environment_id,
            str(len(directory.stores_of(environment.environment_id))),
        )
    console().print(table)


@app.command("add")
def add(
    environment: Annotated[str, typer.Argument(metavar="PROJECT/KEY", help="Its project, and its key in there.")],
    *,
    name: Annotated[str | None, typer.Option(help="For people. Default: its key.")] = None,
    environment_id: Annotated[
        str | None,
        typer.Option("--id", help="The id that payloads carry: the client-side ID of an environment in LaunchDarkly."),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make an environment; its project, too, where there is none. It has no store yet: `segsync store add`."""
    from worker.records.projects import ProjectRecords, new_environment

    project_key, separator, key = environment.partition("/")
    if not (project_key and separator and key):
        raise Misconfigured("an environment is named by its project and its key: default/production")
    with open_wiring(data_dir) as wiring:
        records, directory = ProjectRecords(wiring.client), wiring.directory.fresh(0)
        made = new_environment(project_key, key, name or key, environment_id=environment_id)
        if directory.project(project_key) is None:
            records.add_project(project_key, project_key, environments=[made])
        else:
            made = records.add_environment(project_key, key, made.name, environment_id=made.environment_id)
        directory = wiring.directory.fresh(0)
    if as_json:
        print_json(_described(directory, made))
        return
    print(f"{environment} is made, with id {made.environment_id}: payloads carry it.")
    print(f"It has no store yet: `segsync store add NAME --environment {environment}` gives it one.")


@app.command("remove")
def remove(
    environment: Annotated[str, typer.Argument(metavar="PROJECT/KEY", help="Its project/key, its key or its id.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Remove an environment: payloads for it are answered 403, its stores are written no more and keep what they have.

    Its project goes with its last environment.
    """
    from worker.records.projects import ProjectRecords

    with open_wiring(data_dir) as wiring:
        found = find_environment(wiring, environment)
        name = environment_name(wiring.directory.current, found.environment_id)
        if not yes:
            if not sys.stdin.isatty():
                raise Misconfigured("removing an environment cannot be undone; say --yes")
            print(f"{name} ({found.environment_id}): payloads for it are refused from then on.", file=sys.stderr)
            typer.confirm("Remove it?", abort=True, err=True)
        records = ProjectRecords(wiring.client)
        records.remove_environment(found.project_key, found.environment_key)
        if not wiring.directory.fresh(0).environments_of(found.project_key):
            records.remove_project(found.project_key)
    print(f"{name} is removed; within five seconds nothing is accepted for it, and its stores are written no more.")


def _described(directory: Directory, environment: Environment) -> dict[str, object]:
    return {
        "id": environment.environment_id,
        "key": environment.environment_key,
        "projectKey": environment.project_key,
        "name": environment.name,
        "tags": environment.tags,
        "stores": [store.store_id for store in directory.stores_of(environment.environment_id)],
    }
