"""``segsync apply``: print what is to be done, and do it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.connection import DataDir, open_wiring
from worker.cli.console import AsJson, counted, print_json, printable

if TYPE_CHECKING:
    from worker.cli.apply.declaration import Declaration
    from worker.cli.apply.plan import Step
    from worker.wiring import Wiring


def command(
    file: Annotated[Path, typer.Option("--file", "-f", help="TOML file that says what there is to be.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan alone.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make projects, environments, stores and tokens as a file declares them; nothing is removed.

    Prints the plan first: + is made, ~ is changed. What the file does not name is left alone. Secrets are named by
    where they are: password = { env = "FLAGS_PASSWORD" } or { file = "/run/secrets/flags" }. A token without a value
    is made and shown once. Applied again, it changes nothing.
    """
    from worker.cli.apply.declaration import read_declaration
    from worker.cli.apply.plan import Changer, plan

    declared = read_declaration(file)
    with open_wiring(data_dir) as wiring:
        steps = plan(wiring.directory.fresh(0.0), declared)
        shown: dict[str, str] = {}
        if not as_json:
            _print_plan(steps)
        if not dry_run:
            _check_keys(wiring, declared)
            changer = Changer(wiring.client, wiring.records, wiring.store_records)
            for step in steps:
                secret = step.act(changer)
                if secret is not None:
                    shown[step.subject.removeprefix("token ")] = secret
    if as_json:
        print_json(_described(steps, shown, dry_run=dry_run))
        return
    for name, secret in shown.items():
        print(f"token {printable(name)}: {secret} (this is the only time that it is shown)")
    if not dry_run and any(step.sign != "=" for step in steps):
        print("Done; running receivers and workers follow within five seconds.")


def _check_keys(wiring: Wiring, declared: Declaration) -> None:
    """Find out now whether secrets can be kept: not when half of the plan is done.

    Raises:
        Misconfigured: they cannot.
    """
    from worker.records.secret_box import secrets_of

    for project in declared.projects.values():
        for environment in project.environments.values():
            for store in environment.stores.values():
                for secret in secrets_of(store.configuration).values():
                    wiring.box.seal(secret)


def _print_plan(steps: list[Step]) -> None:
    for step in steps:
        if step.sign != "=":
            told = f": {'; '.join(step.changes)}" if step.changes else ""
            print(printable(f"{step.sign} {step.subject}{told}"))
    same = sum(step.sign == "=" for step in steps)
    if same == len(steps):
        print(f"Nothing to do: {counted(same, 'thing')} as declared.")
    elif same:
        print(f"= {same:,} as declared already")


def _described(steps: list[Step], shown: dict[str, str], *, dry_run: bool) -> dict[str, object]:
    signs = {"+": "create", "~": "update", "=": "none"}
    return {
        "dryRun": dry_run,
        "steps": [{"action": signs[each.sign], "subject": each.subject, "changes": each.changes} for each in steps],
        "tokens": shown,
    }
