"""``segsync alias``: other ids that payloads may carry for an environment."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli.connection import DataDir, EnvironmentName, environment_name, find_environment, open_wiring

app = typer.Typer(
    no_args_is_help=True, help="Ids of partners' own that payloads may carry for an environment, as Mixpanel's do."
)
Alias = Annotated[str, typer.Argument(help="The id, as the partner sends it.")]


@app.command("add")
def add(alias: Alias, environment: EnvironmentName = None, data_dir: DataDir = None) -> None:
    """Take payloads with this id for the environment's."""
    from worker.records.environment_options import EnvironmentOptions

    with open_wiring(data_dir) as wiring:
        found = find_environment(wiring, environment)
        EnvironmentOptions(wiring.client).add_alias(alias, found.environment_id)
        print(f"{alias} is an alias of {environment_name(wiring.directory.current, found.environment_id)}")


@app.command("remove")
def remove(alias: Alias, data_dir: DataDir = None) -> None:
    """Answer payloads with this id 403 from now on."""
    from worker.records.environment_options import EnvironmentOptions

    with open_wiring(data_dir) as wiring:
        EnvironmentOptions(wiring.client).remove_alias(alias)
        print(f"{alias} is no alias any more")


@app.command("list")
def show(data_dir: DataDir = None) -> None:
    """List aliases and the environments that they mean."""
    with open_wiring(data_dir) as wiring:
        directory = wiring.directory.fresh()
        for alias, environment_id in sorted(directory.aliases.items()):
            print(f"{alias}  {environment_name(directory, environment_id)}")
        if not directory.aliases:
            print("There are no aliases.")
