"""``segsync keys``: the keys that encrypt what is secret in the records."""

from __future__ import annotations

import sys

import typer

from worker.cli.connection import DataDir
from worker.cli.console import AsJson, print_json
from worker.cli.quiet import quiet_wiring

app = typer.Typer(
    no_args_is_help=True, help="The keys, SEGSYNC_SECRET_KEYS, under which passwords and tokens of stores are kept."
)


@app.command("new")
def new() -> None:
    """Print a new key. Every process needs the same: receivers, workers, schedulers, and these commands."""
    from worker.records.secret_box import new_key

    print(new_key())


@app.command("rotate")
def rotate(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Encrypt all secrets anew, under the first key; those in plain text of older versions, too.

    To change the key: put the new one first, the old one behind it, everywhere; run this; then leave the old one out.
    Exit code 1 when there are stores whose secrets none of the keys opens: they stay as they are.
    """
    from worker.records.reseal import reseal

    with quiet_wiring(data_dir) as wiring:
        done = reseal(wiring.client, wiring.box)
    if as_json:
        print_json({"stores": done.stores, "locked": done.locked})
    else:
        stores = "1 store is" if done.stores == 1 else f"{done.stores} stores are"
        print(f"The secrets of {stores} encrypted under the first key.")
    for store_id in done.locked:
        print(
            f"segsync: none of the keys opens the secrets of store {store_id}: put its key behind the others, or give "
            "it its secrets anew with `segsync store set`",
            file=sys.stderr,
        )
    if done.locked:
        raise typer.Exit(1)
