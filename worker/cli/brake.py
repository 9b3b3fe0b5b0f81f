"""``segsync brake``: integrations that are not drained because most of their recent batches died."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.batch_filters import InEnvironment
from worker.cli.connection import DataDir, environment_name, environments, find_environment
from worker.cli.console import AsJson, print_json, printable
from worker.cli.quiet import quiet_wiring
from worker.cli.store_facts import moment
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Collection

    from worker.records.brake_states import Release
    from worker.wiring import Wiring

app = typer.Typer(
    no_args_is_help=True,
    help="When most batches of an integration die, the deploy is at fault and not the data: it is not drained.",
)


@app.command("list")
def show_all(as_json: AsJson = False, environment: InEnvironment = None, data_dir: DataDir = None) -> None:
    """List the brakes that are on, and those that a release keeps off while batches may die."""
    from worker.cli.held_back import braked

    with quiet_wiring(data_dir) as wiring:
        chosen = environments(wiring) if environment is None else [find_environment(wiring, environment)]
        ids = {found.environment_id for found in chosen}
        if as_json:
            print_json([*_on(wiring, ids), *_kept_off(wiring, ids)])
            return
        lines = [
            *braked(wiring, ids),
            *(
                f"{each['integrationKey']} in {each['environment']} {_unbraked(each['letDieUntilMs'])}; "
                f"`segsync brake release {each['integrationKey']}` ends that"
                for each in _kept_off(wiring, ids)
            ),
        ]
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
    so that what waits behind it is applied. Said again while batches may die, it ends that, or says until when anew.
    """
    with quiet_wiring(data_dir) as wiring:
        chosen = environments(wiring) if environment is None else [find_environment(wiring, environment)]
        released: list[dict[str, Any]] = []
        lines: list[str] = []
        for found in chosen:
            done = wiring.brakes.release(
                found.environment_id, integration, by="command", spare_seconds=let_die_minutes * 60
            )
            if done is None:
                continue
            name = environment_name(wiring.directory.current, found.environment_id)
            lines.append(f"{integration} in {name} {_released(done)}")
            released.append(
                {
                    "environmentId": found.environment_id,
                    "environment": name,
                    "wasOn": done.was_engaged,
                    "letDieUntilMs": done.let_die_until_ms,
                }
            )
    if as_json:
        print_json({"integrationKey": integration, "released": released})
    for line in () if as_json else lines:
        print(printable(line))
    if not released:
        raise Misconfigured(f"no brake is on for {integration!r}; `segsync brake list` shows those that are")


def _on(wiring: Wiring, environment_ids: Collection[str]) -> list[dict[str, Any]]:
    """The brakes that are on in these environments, as they are printed in JSON."""
    return [
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
            "letDieUntilMs": None,
        }
        for state in wiring.brakes.list()
        if state.environment_id in environment_ids
    ]


def _kept_off(wiring: Wiring, environment_ids: Collection[str]) -> list[dict[str, Any]]:
    """The brakes that no death puts on for now: since no time, for no reason, and until when."""
    nothing = dict.fromkeys(("sinceMs", "reason", "dead", "of", "probes", "nextProbeMs", "by"))
    return [
        {
            "environmentId": each.environment_id,
            "environment": environment_name(wiring.directory.current, each.environment_id),
            "integrationKey": each.integration_key,
            **nothing,
            "letDieUntilMs": each.until_ms,
        }
        for each in wiring.brakes.let_die()
        if each.environment_id in environment_ids
    ]


def _released(done: Release) -> str:
    """What has become of an integration, after its name."""
    if done.let_die_until_ms is not None:
        begun = "is drained again, within seconds, and " if done.was_engaged else ""
        return f"{begun}{_unbraked(done.let_die_until_ms)}."
    if done.was_engaged:
        return "is drained again; it begins within seconds."
    return "is braked again as soon as most of its batches die; before, they could for a while."


def _unbraked(until_ms: int) -> str:
    return f"is not braked until {moment(until_ms)}, however many of its batches die"
