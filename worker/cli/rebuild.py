"""``segsync rebuild``: write a store anew from the logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.connection import DataDir, EnvironmentName
from worker.cli.console import AsJson, counted, print_json, printable
from worker.cli.progress import progress, wait_for_workers, warn
from worker.cli.quiet import quiet_wiring
from worker.cli.store_facts import find_store

if TYPE_CHECKING:
    from worker.model import StoreRecord
    from worker.sync.audit import Comparison
    from worker.sync.following import Standing
    from worker.sync.rebuild import Begun, Rebuild
    from worker.wiring import Wiring

_INTERRUPTED = 130


def command(
    *,
    store: Annotated[str, typer.Option(metavar="ID|NAME", help="The store's id, or its name in the environment.")],
    segment: Annotated[list[str] | None, typer.Option(help="Only this segment; may be said again.")] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Begin again, also with what a rebuild that was cut short has done.")
    ] = False,
    as_json: AsJson = False,
    environment: EnvironmentName = None,
    data_dir: DataDir = None,
) -> None:
    """Write a store anew from the logs, while payloads keep arriving: workers write, this shows how far they are.

    At the end the store is compared with the logs, and whom no log knows of is removed. Cut short, the workers go on;
    run again, it goes on as well.
    """
    from worker.sync.rebuild import Rebuild

    with quiet_wiring(data_dir) as wiring:
        record = find_store(wiring, environment, store)
        rebuild = Rebuild(wiring, record, segment or None)
        begun = rebuild.begin(anew=anew)
        if begun.continued and not anew:
            warn("this goes on with the rebuild that was begun before; --anew begins again")
        try:
            found = _run(wiring, rebuild, record, begun)
        except KeyboardInterrupt:
            warn("the workers go on; run this again to see them finish, and to remove whom no log knows of")
            raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        print_json(
            {
                "store": record.store_id,
                "segments": found.segments,
                "members": found.members,
                "missing": found.missing,
                "strays": found.strays,
                "uncertain": found.uncertain,
                "continued": begun.continued,
                "afterWipe": begun.after_wipe,
            }
        )
    else:
        _print(record, found)
    if found.missing:
        raise typer.Exit(1)


def _run(wiring: Wiring, rebuild: Rebuild, record: StoreRecord, begun: Begun) -> Comparison:
    from worker.cli.held_back import held_back
    from worker.sync.tasks import create_celery
    from worker.sync.wake_ups import send

    with progress("voiding cursors") as tell:
        due = rebuild.void(lambda done: tell(done, begun.segments))
    send(create_celery(wiring.settings), due)
    with progress("writing segments") as tell:

        def show(standing: Standing) -> None:
            rebuild.touch()
            tell(standing.done, standing.total, f"{standing.batches_left:,} batches left")

        wait_for_workers(rebuild.follow(), show, lambda: held_back(wiring, {record.environment_id}))
    with progress("comparing") as tell:
        return rebuild.finish(lambda done: tell(done, begun.segments))


def _print(record: StoreRecord, found: Comparison) -> None:
    print(
        printable(
            f"{record.label} is written anew: {counted(found.segments, 'segment')}, {counted(found.members, 'member')}"
        )
    )
    if found.strays:
        print(f"{counted(found.strays, 'member')} of whom no log knows removed")
    if found.missing:
        print(f"{counted(found.missing, 'member')} missing all the same, and being written once more")
    if found.uncertain:
        print(f"{counted(len(found.uncertain), 'segment')} could not be compared: `segsync verify` tries again")
