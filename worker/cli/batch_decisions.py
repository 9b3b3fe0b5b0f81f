"""``segsync batches replay`` and ``discard``: what a person decides about batches that wait."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.batch_filters import InEnvironment, Integration, Reason, SegmentKey, Since, Status, Until, read_filter
from worker.cli.connection import DataDir
from worker.cli.console import AsJson, print_json
from worker.cli.progress import progress, wait_for_workers, warn
from worker.cli.quiet import quiet_wiring
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.sync.batches import Batches, BatchFilter, Group
    from worker.sync.isolation import IsolatedParser
    from worker.sync.preview import Preview
    from worker.sync.replaying import Outcome
    from worker.wiring import Wiring

BatchIds = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Batches by their ids; or say which by options.")
]
Everything = Annotated[bool, typer.Option("--all", help="All that wait, of every environment and integration.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
By = Annotated[str | None, typer.Option(help="Who decides. Default: the name of this machine's user.")]


def replay(
    ids: BatchIds = None,
    *,
    status: Status = None,
    reason: Reason = None,
    integration: Integration = None,
    segment: SegmentKey = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen, and end.")] = False,
    yes: Yes = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the stores that are on have applied it.")] = False,
    by: By = None,
    as_json: AsJson = False,
    environment: InEnvironment = None,
    data_dir: DataDir = None,
) -> None:
    """Replay batches, each at its own place in the order: members that a later batch decided about stay as they are.

    They are read by today's manifests, so mending a manifest and replaying is the normal repair. A preview comes
    first. Exit code 1 when some could not be replayed.
    """
    with quiet_wiring(data_dir) as wiring, parser() as isolated:
        from worker.api.forms import outcome_form, preview_form
        from worker.cli.batch_texts import print_outcome, print_preview
        from worker.sync.batches import Batches

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
        batches = Batches(wiring)
        groups = _select(batches, ids, wanted, everything=everything, named_status=status is not None)
        previewed = _preview(wiring, isolated, batches, groups)
        if not as_json:
            print_preview(previewed)
        answer = {"preview": preview_form(previewed), "outcome": None}
        if dry_run or not previewed.replayable:
            if as_json:
                print_json(answer)
            raise typer.Exit(0 if dry_run else int(previewed.batches > 0))
        if not yes and (as_json or not can_be_asked()):
            if as_json:
                print_json(answer)
            warn("nothing was replayed: say --yes")
            raise typer.Exit(1)
        if not yes:
            _confirm("Replay them?", "Nothing was replayed.")
        outcome = _replay(wiring, isolated, batches, groups, by or user_name())
        if as_json:
            print_json({**answer, "outcome": outcome_form(outcome)})
        else:
            print_outcome(outcome)
        if wait:
            _wait(wiring, outcome)
    if outcome.problems or outcome.skipped:
        raise typer.Exit(1)


def discard(
    ids: BatchIds = None,
    *,
    why: Annotated[str | None, typer.Option(help="The reason, which is recorded.")] = None,
    status: Status = None,
    reason: Reason = None,
    integration: Integration = None,
    segment: SegmentKey = None,
    since: Since = None,
    until: Until = None,
    everything: Everything = False,
    yes: Yes = False,
    by: By = None,
    as_json: AsJson = False,
    environment: InEnvironment = None,
    data_dir: DataDir = None,
) -> None:
    """Decide that batches are never replayed; who decided so, and why, is recorded."""
    with quiet_wiring(data_dir) as wiring:
        from worker.cli.batch_texts import batches_counted
        from worker.sync.batches import Batches
        from worker.sync.preview import portions

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
        batches = Batches(wiring)
        groups = _select(batches, ids, wanted, everything=everything, named_status=status is not None)
        if why is None and groups:
            if not can_be_asked():
                raise Misconfigured("say why: --why is recorded with them")
            why = typer.prompt("Why", err=True)
        if groups and not yes:
            if as_json or not can_be_asked():
                raise Misconfigured("discarding cannot be undone; say --yes")
            _confirm(f"Discard {batches_counted(len(groups))} for good?", "Nothing was discarded.")
        discarded = 0
        with progress("discarding") as tell:
            for portion in portions(groups):
                discarded += batches.discard(batches.read(portion), by=by or user_name(), why=why or "")
                tell(discarded, len(groups))
    if as_json:
        print_json({"discarded": discarded})
    else:
        print(f"{batches_counted(discarded)} discarded")


@contextmanager
def parser() -> Iterator[IsolatedParser]:
    """What parses bodies for a command; where it cannot, for reasons that are not theirs, that is told in one line."""
    from worker.sync.isolation import IsolatedParser, ParserInterrupted

    try:
        with IsolatedParser() as isolated:
            yield isolated
    except ParserInterrupted as error:
        raise Misconfigured(str(error)) from None


def user_name() -> str:
    """Who runs this command, as decisions are recorded."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container's user may have no name
        return "cli:unknown"


def can_be_asked() -> bool:
    """Whether a person sits at the other end."""
    return sys.stdin.isatty()


def _confirm(question: str, otherwise: str) -> None:
    """Ask the person at the terminal, who needs no advice after a no: then say so, and end with exit code 1."""
    if not typer.confirm(question, err=True):
        print(otherwise, file=sys.stderr)
        raise typer.Exit(1)


def _select(
    batches: Batches, ids: Sequence[str] | None, wanted: BatchFilter, *, everything: bool, named_status: bool
) -> list[Group]:
    """The batches that are meant, in the order in which they were accepted."""
    from worker.log.position import order
    from worker.sync.batches import WAITING, Group

    if wanted.statuses is not None and wanted.statuses - WAITING:
        raise Misconfigured("--status: only dead and rejected batches wait for a decision")
    if not ids:
        if wanted.means_all and not everything:
            raise Misconfigured(
                "which batches? name them, or say --integration, --segment, … ; --all means all of them"
            )
        return batches.select(wanted)
    if everything or named_status or not wanted.means_all:
        raise Misconfigured("name batches, or say which by options: not both")
    groups: dict[str, Group] = {}
    for batch_id in dict.fromkeys(ids):
        found = batches.find(batch_id)
        if not found:
            raise Misconfigured(f"there is no batch {batch_id!r} that died or was refused")
        for batch in found:
            if batch.waits:
                groups.setdefault(batch_id, Group(batch_id, batch.position)).add(batch)
        if batch_id not in groups:
            warn(f"{batch_id} does not wait any more: it is {found[0].status}")
    return sorted(groups.values(), key=lambda group: order(group.position))


def _preview(wiring: Wiring, isolated: IsolatedParser, batches: Batches, groups: Sequence[Group]) -> Preview:
    from worker.sync.preview import Preview, preview
    from worker.sync.replay_plan import Planner

    found = Preview()
    with progress("looking at what would happen") as tell:
        for found in preview(batches, Planner(wiring, isolated), groups):
            tell(found.batches, len(groups))
    return found


def _replay(wiring: Wiring, isolated: IsolatedParser, batches: Batches, groups: Sequence[Group], by: str) -> Outcome:
    from worker.sync.replay import Replayer
    from worker.sync.replay_plan import Planner
    from worker.sync.replaying import Outcome, replay
    from worker.sync.tasks import create_celery
    from worker.sync.wake_ups import send

    outcome = Outcome()
    try:
        with progress("replaying") as tell:
            for outcome in replay(batches, Planner(wiring, isolated), Replayer(wiring, by), groups):
                tell(outcome.done, len(groups))
    finally:
        # Also of what was replayed before it was cut short.
        send(create_celery(wiring.settings), outcome.wake_ups)
    return outcome


def _wait(wiring: Wiring, outcome: Outcome) -> None:
    from worker.cli.held_back import held_back
    from worker.sync.following import Following

    environments = {segment.environment_id for segment in outcome.upto}
    with progress("waiting for the stores") as tell:
        wait_for_workers(
            Following(wiring, outcome.upto),
            lambda standing: tell(standing.done, standing.total),
            lambda: held_back(wiring, environments),
        )
