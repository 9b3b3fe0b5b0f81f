"""``segsync rejected-members``: what the policy ``skip`` left out of accepted payloads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.connection import DataDir, EnvironmentName, find_environment, open_wiring
from worker.cli.console import AsJson, counted, print_json, printable
from worker.cli.member_faults import sentence

if TYPE_CHECKING:
    from worker.log.rejected import RejectedMembers


def command(
    segment: Annotated[str | None, typer.Option(help="Only this segment's batches.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="How many batches to list at the most; the latest come first.")
    ] = 20,
    as_json: AsJson = False,
    environment: EnvironmentName = None,
    data_dir: DataDir = None,
) -> None:
    """List accepted batches of which members were left out, the latest first: how many, which, and why.

    Of each batch the first hundred members are named, by their place in the request's body.

    Batches are listed as long as they are in the log.
    """
    from worker.log.rejected import read_rejected

    with open_wiring(data_dir) as wiring:
        environment_id = find_environment(wiring, environment).environment_id
        keys = wiring.segment_keys.registered(environment_id) if segment is None else [segment]
        segments = [status.segment for status in wiring.upkeep.statuses(environment_id, keys, ())]
        found = read_rejected(wiring.client, segments, limit)
    if as_json:
        print_json([_described(batch) for batch in found])
        return
    for batch in found:
        _print(batch)
    if not found:
        print("No members were left out of any batch in the log.")


def _described(batch: RejectedMembers) -> dict[str, Any]:
    return {
        "batchId": batch.batch_id,
        "acceptedAt": batch.accepted_ms,
        "integrationKey": batch.integration_key,
        "segmentKey": batch.segment.segment_key,
        "rejectedCount": batch.rejected.count,
        "rejected": [member._asdict() for member in batch.rejected.listed],
    }


def _print(batch: RejectedMembers) -> None:
    accepted = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(batch.accepted_ms / 1000))
    print(f"{accepted} UTC  batch {batch.batch_id}  segment {batch.segment.segment_key}")
    print(f"  {counted(batch.rejected.count, 'member')} left out")
    for member in batch.rejected.listed:
        print(f"    {printable(sentence(member.pointer, member.reason))}")
    if more := batch.rejected.count - len(batch.rejected.listed):
        print(f"    and {more:,} more")
