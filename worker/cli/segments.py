"""``segsync segments``: the segments of each environment, their members, and how far their stores are behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.cli.connection import DataDir, environments, open_wiring
from worker.cli.console import console, printable
from worker.cli.held_back import held_back, not_followed

if TYPE_CHECKING:
    from rich.table import Table

    from worker.log.upkeep import SegmentStatus
    from worker.wiring import Wiring


def command(data_dir: DataDir = None) -> None:
    """List segments with their member counts and lag, and what holds batches back: brakes, stores that are not well."""
    out = console()
    with open_wiring(data_dir) as wiring:
        found = environments(wiring)
        for environment in found:
            out.print(_table(wiring, environment.environment_id, environment.environment_key))
        ids = {environment.environment_id for environment in found}
        for line in (*held_back(wiring, ids), *not_followed(wiring, ids)):
            print(printable(line))


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
