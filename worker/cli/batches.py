"""``segsync batches``: dead letters, and bodies that were answered 400: looked at, replayed, discarded."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import batch_decisions
from worker.cli.batch_filters import InEnvironment, Integration, Reason, SegmentKey, Since, Status, Until, read_filter
from worker.cli.connection import DataDir
from worker.cli.console import AsJson, print_json
from worker.cli.quiet import quiet_wiring
from worker.errors import Misconfigured

app = typer.Typer(
    no_args_is_help=True,
    help="Batches that changed nothing: dead letters, which were accepted, and bodies that were answered 400.",
)

# An outline of a body in a command holds up nobody.
_OUTLINED_BYTES = 16 * 1024 * 1024


@app.command("list")
def show_all(
    *,
    status: Status = None,
    reason: Reason = None,
    integration: Integration = None,
    segment: SegmentKey = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to list at the most; the latest come first.")] = 20,
    before: Annotated[
        str | None, typer.Option(help="Go on from where a list ended: what it printed at its end.")
    ] = None,
    as_json: AsJson = False,
    environment: InEnvironment = None,
    data_dir: DataDir = None,
) -> None:
    """List batches, the latest first."""
    from worker.api.forms import batch_form
    from worker.cli.batch_texts import print_table
    from worker.sync.batches import Batches, KeptBatch, parse_page_key

    if before is not None:
        try:
            parse_page_key(before)
        except ValueError:
            raise Misconfigured("--before takes what a list printed at its end") from None
    with quiet_wiring(data_dir) as wiring:
        wanted = read_filter(
            wiring,
            status=status,
            reason=reason,
            integration=integration,
            segment=segment,
            since=since,
            until=until,
            environment=environment,
        )
        found: list[KeptBatch] = []
        batches = Batches(wiring)
        while True:
            page = batches.page(wanted, before, limit - len(found))
            found += page.batches
            before = page.before
            if before is None or len(found) == limit:
                break
    if as_json:
        print_json({"items": [batch_form(batch) for batch in found], "before": before})
        return
    if found:
        print_table(found)
    else:
        print("There are none.")
    if before is not None:
        print(f"More: --before {before}")


@app.command("show")
def show(
    batch: Annotated[str, typer.Argument(help="The batch's id.")], as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Show everything that is known of a batch: the outline of its body, where it failed, what a replay would do now.

    Of the body, the shape is shown and no value.
    """
    from worker.api.forms import examined_form
    from worker.cli.batch_texts import print_examined
    from worker.sync.examine import examine

    with quiet_wiring(data_dir) as wiring, batch_decisions.parser() as isolated:
        found = examine(wiring, isolated, batch, _OUTLINED_BYTES)
        if found is None:
            raise Misconfigured(f"there is no batch {batch!r} that died or was refused")
        if as_json:
            print_json(examined_form(found))
        else:
            print_examined(found, wiring.directory.fresh())


app.command("replay")(batch_decisions.replay)
app.command("discard")(batch_decisions.discard)
