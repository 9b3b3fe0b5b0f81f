"""``segsync segments``: the segments of each environment, how far their stores are behind; mapped and deleted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.connection import DataDir, EnvironmentName, environments, find_environment, open_wiring
from worker.cli.console import console, printable
from worker.cli.held_back import held_back, not_followed
from worker.cli.quiet import quiet_wiring
from worker.errors import Misconfigured, NotFound

if TYPE_CHECKING:
    from rich.table import Table

    from worker.log.upkeep import SegmentStatus
    from worker.wiring import Wiring


app = typer.Typer(
    invoke_without_command=True,
    help="List segments with their member counts and lag, and what holds batches back: brakes, stores that are not "
    "well. Or bind a cohort to a segment of your choice, or delete one.",
)


@app.callback()
def command(context: typer.Context, data_dir: DataDir = None) -> None:
    """List them, unless another command is named."""
    if context.invoked_subcommand is not None:
        return
    out = console()
    with open_wiring(data_dir) as wiring:
        found = environments(wiring)
        for environment in found:
            out.print(_table(wiring, environment.environment_id, environment.environment_key))
        ids = {environment.environment_id for environment in found}
        for line in (*held_back(wiring, ids), *not_followed(wiring, ids)):
            print(printable(line))


@app.command("map")
def bind(
    integration: Annotated[str, typer.Argument(help="Integration key, such as amplitude.")],
    cohort: Annotated[str, typer.Argument(help="The cohort's id, as the partner sends it.")],
    *,
    key: Annotated[str, typer.Option(help="The segment's key.")],
    generation: Annotated[int, typer.Option(help="Its generation, as LaunchDarkly's API tells it.")] = 1,
    environment: EnvironmentName = None,
    data_dir: DataDir = None,
) -> None:
    """Let a cohort feed a segment that flags target already: before its first payload, or once its own is deleted.

    Two cohorts for one segment are refused.
    """
    from worker.sync.mapping import map_cohort

    with quiet_wiring(data_dir) as wiring:
        found = find_environment(wiring, environment)
        verdict = map_cohort(wiring, found.environment_id, integration, cohort, key=key, generation=generation)
    told = "is" if verdict == "mapped" else "is already"
    print(
        printable(
            f"{integration} {cohort} {told} segment {key}, generation {generation}: SDKs look up {key}.g{generation}"
        )
    )


@app.command("delete")
def delete(
    key: Annotated[str, typer.Argument(help="The segment's key.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    environment: EnvironmentName = None,
    data_dir: DataDir = None,
) -> None:
    """Delete a segment: its members leave the stores. Its cohort's next payload begins another generation, empty."""
    from worker.log.segments import read_segments
    from worker.sync.confirm import appends_of
    from worker.sync.deleting import delete_segment
    from worker.sync.tasks import create_celery
    from worker.sync.wake_ups import send

    with quiet_wiring(data_dir) as wiring:
        environment_id = find_environment(wiring, environment).environment_id
        segment = next(iter(read_segments(wiring.client, environment_id, [key])), None)
        if segment is None:
            raise NotFound(f"there is no segment {key!r}; `segsync segments` shows those there are")
        if not yes:
            if not sys.stdin.isatty():
                raise Misconfigured("deleting a segment cannot be undone; say --yes")
            print(f"{key}, generation {segment.generation}: {segment.members:,} members", file=sys.stderr)
            typer.confirm("Delete it?", abort=True, err=True)
        due = delete_segment(wiring, appends_of(wiring), environment_id, key, by="cli")
        # Else its members would stay until the sweeper comes by.
        send(create_celery(wiring.settings), due)
    print(f"{key} is deleted; its members leave the stores within seconds, and where a store is away, when it is back.")


def _table(wiring: Wiring, environment_id: str, environment_key: str) -> Table | str:
    from rich.table import Table

    from worker.log.segments import read_segments

    keys = sorted(wiring.segment_keys.registered(environment_id))
    stores = [store.store_id for store in wiring.stores_of(environment_id)]
    statuses = {status.segment.segment_key: status for status in wiring.upkeep.statuses(environment_id, keys, stores)}
    now_ms = wiring.upkeep.server_ms()
    table = Table(title=f"Segments of {environment_key}", title_justify="left")
    for column, justify in (("Segment", "left"), ("Name", "left"), ("Kind", "left"), ("Members", "right")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_column("Behind", justify="right")
    segments = read_segments(wiring.client, environment_id, keys)
    for segment in segments:
        members = f"{segment.members:,}" if segment.members_exact else f"~{segment.members:,}"
        table.add_row(
            segment.segment_key,
            printable(segment.name),
            segment.context_kind,
            members,
            _behind(statuses[segment.segment_key], now_ms),
        )
    return table if segments else f"No segments in {environment_key} yet: they are created by their first payload."


def _behind(status: SegmentStatus, now_ms: int) -> str:
    """How far the store that is furthest behind is behind."""
    batches = max((store.batches_behind for store in status.stores.values()), default=0)
    oldest = min((store.oldest_ms for store in status.stores.values() if store.oldest_ms is not None), default=None)
    if oldest is None:
        return "0"
    return f"{batches:,} {'batch' if batches == 1 else 'batches'}, {max(0, now_ms - oldest) / 1000:.1f} s"
