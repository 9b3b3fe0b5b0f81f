"""``segsync store``: the stores of an environment, each of which follows by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from worker.cli import store_changes
from worker.cli.connection import DataDir, EnvironmentName, environments, find_environment, open_wiring
from worker.cli.console import AsJson, console, counted, print_json, printable
from worker.cli.held_back import braked
from worker.cli.store_facts import Store, find_store, moment, read_facts, told
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.cli.store_facts import StoreFacts
    from worker.log.refused_members import Refusal

app = typer.Typer(
    no_args_is_help=True,
    help="The stores that your SDKs read: each environment has any number, none waits for another.",
)
app.command("add")(store_changes.add)
app.command("set")(store_changes.change)
app.command("on")(store_changes.switch_on)
app.command("off")(store_changes.switch_off)
app.command("remove")(store_changes.remove)
app.command("create-table")(store_changes.create_table)


@app.command("list")
def show_all(as_json: AsJson = False, environment: EnvironmentName = None, data_dir: DataDir = None) -> None:
    """List the stores: where they are, how far they are behind (by their worst segment), and what keeps them.

    States: new (not reached yet), current (nothing waits for longer than five seconds), catching up, away (with the
    reason; tried again by itself), off, locked (its secrets cannot be decrypted), wiped (waits for `segsync rebuild`).
    """
    with open_wiring(data_dir) as wiring:
        chosen = environments(wiring) if environment is None else [find_environment(wiring, environment)]
        directory = wiring.directory.current
        found = [facts for one in chosen for facts in read_facts(wiring, directory.stores_of(one.environment_id))]
        brakes = braked(wiring, {one.environment_id for one in chosen})
    if as_json:
        print_json([facts.described() for facts in found])
    elif found:
        _print_table(found)
    else:
        print("There are no stores: `segsync store add` adds one.")
    for line in () if as_json else brakes:
        print(printable(line))


@app.command("show")
def show(store: Store, as_json: AsJson = False, environment: EnvironmentName = None, data_dir: DataDir = None) -> None:
    """Show everything that is known of a store, without its secrets."""
    with open_wiring(data_dir) as wiring:
        [facts] = read_facts(wiring, [find_store(wiring, environment, store)])
    if as_json:
        print_json(facts.described())
    else:
        _print(facts)


@app.command("check")
def check(store: Store, as_json: AsJson = False, environment: EnvironmentName = None, data_dir: DataDir = None) -> None:
    """Try from this machine what segsync needs of a store; exit code 1 when something is wrong.

    A store that was away and is found well is tried again by the workers at once.
    """
    from worker.records.secret_box import LOCKED
    from worker.stores import open_store

    with open_wiring(data_dir) as wiring:
        found = find_store(wiring, environment, store)
        if found.locked:
            raise Misconfigured(f"{found.label} cannot be tried: {LOCKED}")
        opened = open_store(found)
        try:
            findings = opened.check()
        finally:
            opened.close()
        if not findings:
            wiring.circuits.reset(found.store_id)
    if as_json:
        print_json({"id": found.store_id, "name": found.name, "ok": not findings, "findings": findings})
    else:
        for finding in findings:
            print(printable(finding))
        if not findings:
            print("ok")
    if findings:
        raise typer.Exit(1)


@app.command("refused")
def refused(
    store: Store, as_json: AsJson = False, environment: EnvironmentName = None, data_dir: DataDir = None
) -> None:
    """List the members whom a store does not take while it takes others: context hashes, and what it says of them.

    They hold nobody up. Each is written again with the next payload that names it, or by `segsync verify --repair`,
    and leaves the list when the store takes it.
    """
    with open_wiring(data_dir) as wiring:
        found = wiring.refused_members.listed(find_store(wiring, environment, store).store_id)
    if as_json:
        print_json([_described(refusal) for refusal in found])
        return
    for refusal in found:
        place = f"{refusal.context_hash}  {refusal.segment.ref}{' (excluded)' * (refusal.of == 'excluded')}"
        print(f"{moment(refusal.since_ms)}  {printable(place)}: {printable(refusal.reason)}")
    if not found:
        print("The store refuses nobody.")


def _described(refusal: Refusal) -> dict[str, Any]:
    return {
        "contextHash": refusal.context_hash,
        "segmentKey": refusal.segment.segment_key,
        "segmentRef": refusal.segment.ref,
        "list": refusal.of,
        "reason": refusal.reason,
        "sinceMs": refusal.since_ms,
    }


def _print_table(found: list[StoreFacts]) -> None:
    from rich.table import Table

    table = Table()
    several = len({facts.environment for facts in found}) > 1
    columns = ("Store", "Name", *(("Environment",) if several else ()), "Place", "On", "Behind", "State")
    for column in columns:
        table.add_column(column, overflow="fold")
    for facts in found:
        record = facts.record
        table.add_row(
            record.store_id,
            printable(record.label),
            *((facts.environment,) if several else ()),
            printable(str(record.configuration)),
            "on" if record.on else "off",
            told(facts.lag),
            printable(facts.state),
        )
    console().print(table)


def _print(facts: StoreFacts) -> None:
    record, circuit, lag = facts.record, facts.circuit, facts.lag
    rows: list[tuple[str, Any]] = [
        ("id", record.store_id),
        ("name", record.name),
        ("environment", f"{facts.environment} ({record.environment_id})"),
        ("state", facts.state),
        ("behind", told(lag) + (f"; furthest in {lag.segment_key}, {lag.segments} in all" if lag.segment_key else "")),
        ("on", "yes" if record.on else "no"),
        ("when wiped", "filled anew by itself" if record.rebuild_when_wiped else "waits for `segsync rebuild`"),
        ("version", record.version),
        *((name, value) for name, value in record.configuration.model_dump(mode="json").items()),
    ]
    if circuit.open:
        rows.append(("away since", moment(circuit.since_ms or 0)))
        rows.append(("failures", f"{circuit.failures}, the last: {circuit.fault}"))
        rows.append(("tried again", "now" if circuit.due else moment(circuit.retry_at_ms or 0)))
    if facts.refused:
        rows.append(("refused", f"{counted(facts.refused, 'member')}; see `segsync store refused`"))
    if facts.notes.wiped_ms is not None:
        rows.append(("wiped", f"noticed {moment(facts.notes.wiped_ms)}"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {printable(str(value))}")
