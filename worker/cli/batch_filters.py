"""The filters of ``segsync batches``, and times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.connection import find_environment
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.sync.batches import BatchFilter
    from worker.wiring import Wiring

_AGO = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

Status = Annotated[
    list[str] | None,
    typer.Option(
        help="dead, rejected, replayed, discarded or moved; may be said again. Default: those that wait, "
        "dead and rejected.",
        show_default=False,
    ),
]
Reason = Annotated[str | None, typer.Option(help="Of this reason, such as members or crashed.")]
Integration = Annotated[str | None, typer.Option(help="Of this integration.")]
SegmentKey = Annotated[str | None, typer.Option("--segment", help="That died in this segment.")]
Since = Annotated[
    str | None,
    typer.Option(help="Accepted, or refused, then or later: 2h or 3d ago, or ISO 8601 (UTC, if it names no offset)."),
]
Until = Annotated[str | None, typer.Option(help="Accepted, or refused, before that.")]
InEnvironment = Annotated[
    str | None, typer.Option("--environment", help="Its id, its key, or project/key. Default: all.")
]


def read_filter(
    wiring: Wiring,
    *,
    status: Sequence[str] | None,
    reason: str | None,
    integration: str | None,
    segment: str | None,
    since: str | None,
    until: str | None,
    environment: str | None,
) -> BatchFilter:
    """The filter that these options mean.

    Raises:
        Misconfigured: a status that there is not, a time that cannot be read, or an unknown environment.
        Unavailable: the state server is away.
    """
    from worker.sync.batches import STATUSES, WAITING, BatchFilter

    statuses = frozenset(status or WAITING)
    if unknown := statuses.difference(STATUSES):
        raise Misconfigured(f"--status {min(unknown)}: there are {', '.join(STATUSES)}")
    now_ms = wiring.upkeep.server_ms() if since or until else 0
    return BatchFilter(
        statuses=statuses,
        reason=reason,
        integration_key=integration,
        environment_id=None if environment is None else find_environment(wiring, environment).environment_id,
        segment_key=segment,
        since_ms=None if since is None else read_time(since, now_ms),
        until_ms=None if until is None else read_time(until, now_ms),
    )


def read_time(text: str, now_ms: int) -> int:
    """A time in epoch milliseconds: so long ago, or by ISO 8601.

    Raises:
        Misconfigured: it is neither.
    """
    if ago := _AGO.fullmatch(text):
        return now_ms - int(ago[1]) * _SECONDS[ago[2]] * 1000
    try:
        found = datetime.fromisoformat(text)
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Misconfigured(f"{text!r} is no time: say 90m, 2h or 3d for so long ago, or 2026-08-01T12:00") from None
