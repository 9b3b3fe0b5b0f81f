"""``segsync brake``: integrations that are not drained because most of their recent batches died."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from worker.cli.batch_filters import InEnvironment
from worker.cli.connection import DataDir, environment_name, environments, find_environment
from worker.cli.console import AsJson, print_json, printable
from worker.cli.quiet import quiet_wiring
from worker.errors import Misconfigured

app = typer.Typer(
    no_args_is_help=True,
    help="When most batches of an integration die, the deploy is at fault and not the data: it is not drained.",
)


@app.command("list")
def show_all(as_json: AsJson = False, environment: InEnvironment = None, data_dir: DataDir = None) -> None:
    """List the brakes that are on."""
    from worker.cli.held_back import braked

    with quiet_wiring(data_dir) as wiring:
        chosen = environments(wiring) if environment is None else [find_environment(wiring, environment)]
        ids = {found.environment_id for found in chosen}
        if as_json:
            print_json(
                [
                    {
                        "environmentId": state.environment_id,
                        "environment": environment_name(wiring.directory.current, state.environment_id),
                        "integrationKey": state.integration_key,
                        "sinceMs": state.since_ms,
                        "reason": state.reason,
                        "dead": state.dead,
                        "of": state.of,
                        "probes": state.probes,
                        "nextProbeMs": state.next_probe_ms,
                        "by": state.by,
                    }
                    for state in wiring.brakes.list()
                    if state.environment_id in ids
                ]
            )
            return
        lines = braked(wiring, ids)
    for line in lines:
        print(printable(line))
    if not lines:
        print("No brake is on.")


@app.command("release")
def release(
    integration: Annotated[str, typer.Argument(help="Integration key, such as segment-audiences.")],
    let_die_minutes: Annotated[
        int, typer.Option(min=0, max=24 * 60, help="For so long, the brake stays off however many batches die.")
    ] = 0,
    as_json: AsJson = False,
    environment: InEnvironment = None,
    data_dir: DataDir = None,
) -> None:
    """Drain an integration again: once the manifest is mended, or the version rolled back.

    If most of what waits dies again, the brake is on again. Where the data is at fault, let it die (it can be replayed)
    so that what waits behind it is applied.
    """
    with quiet_wiring(data_dir) as wiring:
        chosen = environments(wiring) if environment is None else [find_environment(wiring, environment)]
        released: list[dict[str, Any]] = []
        for found in chosen:
            if wiring.brakes.release(
                found.environment_id, integration, by="command", spare_seconds=let_die_minutes * 60
            ):
                name = environment_name(wiring.directory.current, found.environment_id)
                released.append({"environmentId": found.environment_id, "environment": name})
    if as_json:
        print_json({"integrationKey": integration, "released": released})
    for each in () if as_json else released:
        print(f"{printable(integration)} is drained again in {each['environment']}; it begins within seconds.")
    if not released:
        raise Misconfigured(f"no brake is on for {integration!r}; `segsync brake list` shows those that are")
