"""How batches, and what a replay would do, are told to a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from worker.cli.connection import environment_name
from worker.cli.console import console, counted, printable, shortened
from worker.cli.store_facts import moment

if TYPE_CHECKING:
    from worker.records.directory import Directory
    from worker.sync.batches import KeptBatch
    from worker.sync.examine import Examined
    from worker.sync.planned import Replay, Target
    from worker.sync.preview import Change, Obstacle, Preview
    from worker.sync.replaying import Outcome

_MOST_LISTED = 20
_MESSAGE = 60


def print_table(batches: Sequence[KeptBatch]) -> None:
    """A line for each batch."""
    from rich.table import Table

    table = Table()
    for column in ("Batch", "Status", "Accepted", "Integration", "Segment", "Reason"):
        table.add_column(column, overflow="fold")
    table.add_column("Attempts", justify="right")
    table.add_column("Message", overflow="fold")
    for batch in batches:
        table.add_row(
            batch.batch_id,
            batch.status,
            moment(batch.accepted_ms),
            printable(batch.integration_key),
            batch.segment.segment_key if batch.segment else "",
            batch.reason,
            f"{batch.attempts:,}",
            shortened(batch.message, _MESSAGE),
        )
    console().print(table)


def print_examined(examined: Examined, directory: Directory) -> None:
    """Everything that is known of one batch."""
    for batch in examined.entries:
        for line in _batch_lines(batch, directory):
            print(printable(line))
    if examined.outline is None:
        print("Nothing is left of its body.")
    else:
        print(f"Its body, {counted(examined.outline.length, 'byte')}:")
        for line in examined.outline.lines():
            print(f"  {printable(line)}")
    if examined.planned is not None:
        print("A replay now:")
        for line in _replay_lines(examined.planned):
            print(f"  {printable(line)}")


def print_preview(preview: Preview) -> None:
    """What replaying some batches would do."""
    from rich.table import Table

    of = "" if preview.replayable == preview.batches else f" of {preview.batches:,}"
    noun = "batch" if preview.batches == 1 else "batches"
    print(f"{preview.replayable:,}{of} {noun} would be replayed")
    if preview.segments:
        table = Table()
        table.add_column("Segment", overflow="fold")
        for column in ("Batches", "Added", "Removed", "Unchanged", "Decided later"):
            table.add_column(column, justify="right")
        listed = sorted(preview.segments.items())
        for segment, change in listed[:_MOST_LISTED]:
            new = "" if segment.generation else " (new)"
            table.add_row(f"{segment.segment_key}{new}", *_numbers(change))
        if len(listed) > _MOST_LISTED:
            table.add_row(f"and {len(listed) - _MOST_LISTED:,} more segments")
        if len(listed) > 1:
            table.add_section()
            table.add_row("in all", *_numbers(preview.total))
        console().print(table)
    _print_moves(preview)
    if preview.left_out:
        print(f"{counted(preview.left_out, 'member')} cannot be read, and would be left out, by the policy `skip`.")
    if waiting := sum(change.waits for change in preview.segments.values()):
        print(
            f"In {counted(waiting, 'segment')}, accepted batches wait to be applied: what they decide is not counted."
        )
    if preview.approximate:
        print("These are many members: batches that are about the same one are counted as if each were alone.")
    _print_obstacles("cannot be replayed", preview.obstacles)
    _print_obstacles("cannot be replayed in one segment", preview.skipped)


def print_outcome(outcome: Outcome) -> None:
    """What replaying some batches did."""
    print(f"{batches_counted(outcome.replayed)} replayed, into {counted(len(outcome.upto), 'segment')}")
    _print_some(
        f"{batches_counted(len(outcome.problems))} could not be replayed:",
        (f"{batch_id}: {problem}" for batch_id, problem in outcome.problems.items()),
        len(outcome.problems),
    )
    _print_some(
        f"{batches_counted(len(outcome.skipped))} could not be replayed in all of their segments:",
        (
            f"{batch_id}: {key}: {problem}"
            for batch_id, problems in outcome.skipped.items()
            for key, problem in problems.items()
        ),
        len(outcome.skipped),
    )


def batches_counted(count: int) -> str:
    """So many of them: ``1 batch``, ``1,200 batches``."""
    return f"{count:,} {'batch' if count == 1 else 'batches'}"


def _batch_lines(batch: KeptBatch, directory: Directory) -> Iterator[str]:
    where = environment_name(directory, batch.environment_id) if batch.environment_id else "unknown"
    rows = [
        ("batch", batch.batch_id),
        ("status", batch.status),
        ("accepted" if batch.segment else "refused", f"{moment(batch.accepted_ms)}, at position {batch.position}"),
        ("integration", batch.integration_key),
        ("environment", where),
        *((("segment", batch.segment.ref),) if batch.segment else ()),
        ("reason", f"{batch.reason}: {batch.message}"),
        *((("failed at", batch.pointer),) if batch.pointer else ()),
        ("attempts", f"{batch.attempts:,}"),
        ("kept", counted(batch.size_bytes, "byte")),
    ]
    if batch.decided_ms is not None:
        rows.append(
            ("decided", f"{moment(batch.decided_ms)} by {batch.decided_by}: {batch.decided_why or 'no reason'}")
        )
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        yield f"{name:{width}}  {value}"


def _replay_lines(planned: Replay) -> Iterator[str]:
    if planned.problem is not None:
        place = f" at {planned.pointer}" if planned.pointer else ""
        yield f"is not possible: {planned.problem}{place}"
    for target in planned.targets:
        yield f"{target.segment.segment_key}: {_target(target)}"
    if planned.rejected.count:
        yield f"{counted(planned.rejected.count, 'member')} cannot be read, and would be left out, by the policy `skip`"
    for entry in planned.leaves:
        yield f"{entry.segment.segment_key}: leaves it, for today's manifest names it no more"
    for segment in planned.already_live:
        yield f"{segment.segment_key}: has it already"


def _target(target: Target) -> str:
    if target.skipped is not None:
        return f"nothing, for {target.skipped}"
    moved = "comes to it from elsewhere; " if target.moved else ""
    new = "" if target.segment.generation else "creates it; "
    return (
        f"{new}{moved}{target.added:,} added, {target.removed:,} removed, {target.unchanged:,} unchanged, "
        f"{target.decided_later:,} left alone, for a later batch decided about them"
        f"{'; what waits there to be applied is not counted' if target.waits else ''}"
    )


def _numbers(change: Change) -> list[str]:
    numbers = (change.batches, change.added, change.removed, change.unchanged, change.decided_later)
    return [f"{number:,}" for number in numbers]


def _print_moves(preview: Preview) -> None:
    """Where batches come to that died elsewhere, or were moved before; and which segments they leave."""
    coming = {segment: change.moved for segment, change in sorted(preview.segments.items()) if change.moved}
    _print_some(
        "By today's manifests these segments get batches that died in others:",
        (f"{segment.segment_key}: {batches_counted(count)}" for segment, count in coming.items()),
        len(coming),
    )
    _print_some(
        "and these are not theirs any more:",
        (f"{segment.segment_key}: {batches_counted(count)}" for segment, count in sorted(preview.leaving.items())),
        len(preview.leaving),
    )


def _print_obstacles(what: str, obstacles: Mapping[str, Obstacle]) -> None:
    for reason, each in obstacles.items():
        problem = "" if each.problem == reason else f", as {each.batch_id}: {each.problem}"
        print(printable(f"{batches_counted(each.count)} {what}: {reason}{problem}"))


def _print_some(title: str, lines: Iterable[str], count: int) -> None:
    if not count:
        return
    print(title)
    listed = list(lines)
    for line in listed[:_MOST_LISTED]:
        print(f"  {printable(line)}")
    if len(listed) > _MOST_LISTED:
        print(f"  and {len(listed) - _MOST_LISTED:,} more")
