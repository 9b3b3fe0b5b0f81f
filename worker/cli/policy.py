"""``segsync policy``: what becomes of payloads in which single members cannot be read."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.connection import DataDir, EnvironmentName, environment_name, find_environment, open_wiring
from worker.cli.console import printable

if TYPE_CHECKING:
    from worker.model import MemberPolicy

app = typer.Typer(no_args_is_help=True, help="What becomes of payloads in which single members cannot be read.")
Integration = Annotated[str, typer.Argument(help="Integration key, such as segment-audiences.")]


@app.command("reject")
def reject(integration: Integration, environment: EnvironmentName = None, data_dir: DataDir = None) -> None:
    """Answer such payloads 400 and store nothing of them: LaunchDarkly's way, and the default."""
    _set(integration, "reject", environment, data_dir)


@app.command("skip")
def skip(integration: Integration, environment: EnvironmentName = None, data_dir: DataDir = None) -> None:
    """Accept such payloads without these members; `segsync rejected-members` lists them."""
    _set(integration, "skip", environment, data_dir)


@app.command("list")
def show(data_dir: DataDir = None) -> None:
    """List the integrations whose policy is not the default, by environment."""
    with open_wiring(data_dir) as wiring:
        directory = wiring.directory.fresh()
        for name, policy in sorted(directory.policies.items()):
            environment_id, _, integration = name.partition("/")
            print(f"{environment_name(directory, environment_id)}  {printable(integration)}  {policy}")
        if not directory.policies:
            print("Every integration's policy is the default, reject.")


def _set(integration: str, policy: MemberPolicy, environment: str | None, data_dir: DataDir) -> None:
    from worker.manifest.catalog import load_catalog
    from worker.records.environment_options import EnvironmentOptions

    with open_wiring(data_dir) as wiring:
        found = find_environment(wiring, environment)
        if integration not in load_catalog(wiring.settings.manifests):
            # Receivers may have manifests that this machine has not; but it may be a slip, too.
            print(f"segsync: there is no manifest {integration!r} here; check the key", file=sys.stderr)
        EnvironmentOptions(wiring.client).set_policy(found.environment_id, integration, policy)
        print(f"{environment_name(wiring.directory.current, found.environment_id)}  {printable(integration)}  {policy}")
