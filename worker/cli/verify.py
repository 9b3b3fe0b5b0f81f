"""``segsync verify``: count over what was accepted, and compare the stores with the logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.batch_filters import InEnvironment
from worker.cli.connection import DataDir, environment_name, environments, find_environment
from worker.cli.console import AsJson, console, counted, print_json, printable
from worker.cli.progress import progress
from worker.cli.quiet import quiet_wiring
from worker.cli.store_facts import find_store, waits_for_rebuild
from worker.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from worker.log.rejected_bodies import RejectedTotals
    from worker.model import SegmentId, StoreRecord
    from worker.sync.accounts import Account
    from worker.sync.audit import Comparison
    from worker.wiring import Wiring

_MOST_LISTED = 20


@dataclass(slots=True)
class _Verified:
    """What was found in one environment.

    Attributes:
        stores: those that were asked about, in order.
        compared: store id -> how it compares with the logs; those that are off, away or wiped are left out.
        away: store id -> why it could not be compared.
        wiped: store id -> that it has lost its content, and what it waits for.
        refused: store id -> how many members it does not take; they are missing from it.
    """

    environment: str
    account: Account
    stores: Sequence[StoreRecord]
    compared: dict[str, Comparison] = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)
    wiped: dict[str, str] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        if not self.account.balanced or self.away or self.wiped:
            return False
        return all(one.agrees and not one.uncertain for one in self.compared.values())


def command(
    *,
    store: Annotated[str | None, typer.Option(metavar="ID|NAME", help="Compare only this store.")] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Put right what is wrong: remove whom no log knows of, and write who is missing again."
        ),
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Look for so many members of each segment only, and not for those who should be out."),
    ] = None,
    segment: Annotated[list[str] | None, typer.Option(help="Only this segment; may be said again.")] = None,
    as_json: AsJson = False,
    environment: InEnvironment = None,
    data_dir: DataDir = None,
) -> None:
    """Check that nothing accepted was lost, and that the stores hold what the logs say; payloads may keep arriving.

    Accepted = applied + pending + dead + discarded + expired, for each store; bodies that were answered 400 are counted
    apart. Exit code 1 when something is wrong, also when it was put right.
    """
    with quiet_wiring(data_dir) as wiring:
        found = [
            _verify(wiring, environment_id, stores, segment, repair=repair, sample=sample)
            for environment_id, stores in _chosen(wiring, environment, store)
        ]
        rejected = wiring.rejected.totals()
    if as_json:
        print_json({"environments": [_described(each) for each in found], "rejected": _rejected(rejected)})
    else:
        for each in found:
            _print(each)
        print(
            f"Bodies answered 400: {rejected.kept:,} kept; {rejected.waiting:,} wait, {rejected.replayed:,} replayed, "
            f"{rejected.discarded:,} discarded, {rejected.expired:,} expired, {rejected.dropped:,} dropped for room"
        )
    if not all(each.well for each in found):
        raise typer.Exit(1)


def _chosen(wiring: Wiring, environment: str | None, store: str | None) -> list[tuple[str, Sequence[StoreRecord]]]:
    if store is not None:
        found = find_store(wiring, environment, store)
        return [(found.environment_id, [found])]
    chosen = environments(wiring) if environment is None else [find_environment(wiring, environment)]
    directory = wiring.directory.current
    return [(one.environment_id, directory.stores_of(one.environment_id)) for one in chosen]


def _verify(
    wiring: Wiring,
    environment_id: str,
    stores: Sequence[StoreRecord],
    keys: Sequence[str] | None,
    *,
    repair: bool,
    sample: int | None,
) -> _Verified:
    from worker.sync.accounts import count_over
    from worker.sync.audit import Audit

    segments = _segments(wiring, environment_id, keys)
    ids = [store.store_id for store in stores]
    with progress("counting batches") as tell:
        account = count_over(wiring, segments, ids, partial(tell, total=len(segments)))
    found = _Verified(environment_name(wiring.directory.current, environment_id), account, stores)
    for store in stores:
        if not store.on:
            continue
        if (waits := _waits_for_rebuild(wiring, store)) is not None:
            found.wiped[store.store_id] = waits
            continue
        with progress(f"comparing {store.label}") as tell:
            show = partial(tell, total=len(segments))
            audit = Audit(wiring, store, repair=repair, sample=sample, progress=show)
            try:
                compared = audit.run(keys)
            except Unavailable as error:
                if error.dependency != "store":
                    raise
                found.away[store.store_id] = str(error)
                continue
        # Comparing may be what notices it: then nothing of the store could be judged, and never will be.
        if (waits := _waits_for_rebuild(wiring, store)) is not None:
            found.wiped[store.store_id] = waits
        else:
            found.compared[store.store_id] = compared
            found.refused[store.store_id] = wiring.refused_members.count(store.store_id)
    return found


def _waits_for_rebuild(wiring: Wiring, store: StoreRecord) -> str | None:
    return waits_for_rebuild(store, wiring.incarnations.notes(store.store_id))


def _segments(wiring: Wiring, environment_id: str, keys: Sequence[str] | None) -> list[SegmentId]:
    wanted = wiring.segment_keys.registered(environment_id) if keys is None else keys
    found = [status.segment for status in wiring.upkeep.statuses(environment_id, wanted, ())]
    if keys is not None and (missing := set(keys) - {segment.segment_key for segment in found}):
        raise Misconfigured(f"there is no segment {', '.join(sorted(missing))}")
    return found


def _print(found: _Verified) -> None:
    from rich.table import Table

    account = found.account
    table = Table(title=f"Stores of {found.environment}", title_justify="left")
    table.add_column("Store", overflow="fold")
    for column in ("Accepted", "Applied", "Pending", "Dead", "Discarded", "Expired", "Members"):
        table.add_column(column, justify="right")
    table.add_column("Verdict", overflow="fold")
    for store in found.stores:
        share, compared = account.stores[store.store_id], found.compared.get(store.store_id)
        numbers = (account.accepted, share.applied, share.pending, account.dead, account.discarded, account.expired)
        table.add_row(
            printable(store.label),
            *(f"{number:,}" for number in numbers),
            "" if compared is None else f"{compared.members:,}",
            printable(_verdict(found, store)),
        )
    if found.stores:
        console().print(table)
    else:
        print(f"{found.environment} has no store; {account.accepted:,} batches were accepted")
    if account.lost > 0:
        print(f"Lost: {account.lost:,} of what was accepted are nowhere")
    elif account.lost:
        print(f"There are {-account.lost:,} batches more in the logs than they ever took")
    _print_some(account.problems)
    _print_some(list(found.wiped.values()))
    for store in found.stores:
        compared = found.compared.get(store.store_id)
        if compared is not None:
            _print_some([f"{store.label}: {key}: {_wrong(*wrong)}" for key, wrong in compared.wrong.items()])
            _print_some([f"{store.label}: {key}: could not be judged; try again" for key in compared.uncertain])
            if refused := found.refused.get(store.store_id):
                print(
                    f"{printable(store.label)} refuses {counted(refused, 'member')}, who are missing from it: "
                    f"`segsync store refused {store.store_id}`"
                )
            if compared.counted:
                print(f"The count of members of {counted(compared.counted, 'segment')} is exact again.")


def _verdict(found: _Verified, store: StoreRecord) -> str:
    if not store.on:
        return "off: not compared"
    if store.store_id in found.wiped:
        return "wiped: not compared"
    if store.store_id in found.away:
        return f"away: {found.away[store.store_id]}"
    compared = found.compared[store.store_id]
    if not compared.agrees:
        return f"{_wrong(compared.missing, compared.strays)}{'; repaired' if compared.repaired else ''}"
    if compared.uncertain:
        return f"{counted(len(compared.uncertain), 'segment')} not judged"
    return "agrees, by a sample" if compared.sampled else "agrees"


def _wrong(missing: int, strays: int) -> str:
    parts = [
        *((f"{counted(missing, 'member')} missing",) if missing else ()),
        *((f"{counted(strays, 'member')} in it who should not be",) if strays else ()),
    ]
    return ", ".join(parts)


def _print_some(lines: Sequence[str]) -> None:
    for line in lines[:_MOST_LISTED]:
        print(printable(line))
    if len(lines) > _MOST_LISTED:
        print(f"and {len(lines) - _MOST_LISTED:,} more")


def _described(found: _Verified) -> dict[str, Any]:
    account = found.account
    return {
        "environment": found.environment,
        "accepted": account.accepted,
        "dead": account.dead,
        "discarded": account.discarded,
        "expired": account.expired,
        "lost": account.lost,
        "problems": account.problems,
        "stores": [
            {
                "id": store.store_id,
                "name": store.name,
                "applied": account.stores[store.store_id].applied,
                "pending": account.stores[store.store_id].pending,
                "verdict": _verdict(found, store),
                "refusedMembers": found.refused.get(store.store_id, 0),
                "comparison": _comparison(found.compared.get(store.store_id)),
            }
            for store in found.stores
        ],
        "ok": found.well,
    }


def _comparison(compared: Comparison | None) -> dict[str, Any] | None:
    if compared is None:
        return None
    return {
        "segments": compared.segments,
        "members": compared.members,
        "missing": compared.missing,
        "strays": compared.strays,
        "sampled": compared.sampled,
        "repaired": compared.repaired,
        "wrong": {key: {"missing": missing, "strays": strays} for key, (missing, strays) in compared.wrong.items()},
        "uncertain": compared.uncertain,
    }


def _rejected(totals: RejectedTotals) -> dict[str, int]:
    return {
        "kept": totals.kept,
        "waiting": totals.waiting,
        "replayed": totals.replayed,
        "discarded": totals.discarded,
        "expired": totals.expired,
        "dropped": totals.dropped,
    }
