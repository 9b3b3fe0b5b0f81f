"""``segsync member``: which segments include or exclude a context, as each store says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.connection import DataDir, environments, open_wiring
from worker.cli.console import printable

if TYPE_CHECKING:
    from worker.log.segments import Segment


def command(
    context_key: Annotated[str, typer.Argument(help="The context's key, as partners send it.")],
    data_dir: DataDir = None,
) -> None:
    """Show which segments a context key is in, and which exclude it, read from the stores that SDKs read."""
    from worker.errors import Unavailable
    from worker.log.segments import read_segments

    away = False
    with open_wiring(data_dir) as wiring:
        for environment in environments(wiring):
            keys = wiring.segment_keys.registered(environment.environment_id)
            known = {
                f"{segment.segment_key}.g{segment.generation}": segment
                for segment in read_segments(wiring.client, environment.environment_id, keys)
            }
            for record in wiring.stores_of(environment.environment_id):
                print(f"{environment.environment_key}, store {record.label}: ", end="")
                try:
                    store = wiring.stores.get(record.store_id)
                    refs = sorted(store.included(context_key)) if store else []
                    excluded = sorted(store.excluded(context_key)) if store else []
                except Unavailable as error:
                    print(f"away ({error})")
                    away = True
                    continue
                # Refs of other generations, or of nobody's segments, are in the store but no SDK asks for them.
                found = [known[ref] for ref in refs if ref in known]
                print(f"in {len(found)} of {len(known)} segments")
                for segment in found:
                    print(f"  {_told(segment)}")
                for segment in (known[ref] for ref in excluded if ref in known):
                    print(f"  {_told(segment)}: excluded{', but included all the same' if segment in found else ''}")
    if away:
        raise typer.Exit(1)


def _told(segment: Segment) -> str:
    return segment.segment_key + (f"  ({printable(segment.name)})" if segment.name else "")
