"""``segsync manifest test``: golden payloads, each tried by its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.console import AsJson, counted, print_json, printable, shortened
from worker.cli.manifest_choice import SomeManifests, choose

if TYPE_CHECKING:
    from worker.manifest.golden import Difference
    from worker.manifest.request_parser import Fault
    from worker.receiver.golden_run import Failure, GoldenRun, GoldenRuns

LONGEST_VALUE = 200


def command(
    manifests: SomeManifests = None,
    golden: Annotated[
        list[Path] | None,
        typer.Option(
            "--golden", metavar="DIR", help="A directory of your own golden payloads, DIR/KEY/*.json; may be repeated."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try manifests on golden payloads: bodies as partners send them, with what each must come to beside it.

    They are the bundled ones, those in the directory golden/KEY of SEGSYNC_MANIFESTS, and those of --golden.

    A file of your own hides the bundled one of its name.

    Exit code 1 when one does not hold, or when a manifest that was named has none.
    """
    from worker.manifest.catalog import load_catalog
    from worker.manifest.golden import own_directories
    from worker.receiver.golden_run import run_all
    from worker.settings import load_settings

    overlay = load_settings().manifests
    own = own_directories(overlay, golden or [])
    chosen = [choose(name) for name in manifests] if manifests else list(load_catalog(overlay).values())
    found = run_all(chosen, own, named=bool(manifests))
    if as_json:
        print_json({"ok": found.ok, "manifests": [_document(run) for run in found.runs], "notes": found.notes})
    else:
        for line in _lines(found):
            print(line)
    if not found.ok:
        raise typer.Exit(1)


def _lines(found: GoldenRuns) -> Iterator[str]:
    width = max((len(printable(run.key)) for run in found.runs), default=0)
    for run in found.runs:
        counts = f"{run.files:3} files  {run.add:3} add  {run.remove:3} remove"
        remarks = f"  ({'; '.join(map(printable, run.notes))})" if run.notes else ""
        yield f"{printable(run.key):{width}}  {counts}  {_verdict(run)}{remarks}"
        for fault in run.manifest_faults:
            yield f"  the manifest cannot be used: {printable(fault.pointer or 'the file')} {printable(fault.message)}"
        if run.manifest_faults:
            yield "  `segsync manifest lint` says what to write instead"
        for failure in run.failures:
            yield from _failure(failure)
    yield from map(printable, found.notes)


def _verdict(run: GoldenRun) -> str:
    if not run.ok:
        return "failed"
    return "ok" if run.files else "-"


def _failure(failure: Failure) -> Iterator[str]:
    yield f"  {printable(failure.file)}"
    if failure.fault is not None:
        yield f"    {printable(failure.fault.pointer or 'the file')} {printable(failure.fault.message)}"
    if failure.refused is not None:
        yield f"    refused: {printable(failure.refused)}"
    if failure.problem is not None:
        yield f"    its jsonResponseBody was left out: {printable(failure.problem)}"
    for difference in failure.differences:
        yield f"    {printable(difference.pointer or 'the outcome')}"
        yield f"      expected {_shown(difference.expected)}"
        yield f"      actual   {_shown(difference.actual)}"
    if failure.more:
        yield f"    and {counted(failure.more, 'more difference')}"


def _shown(value: str | None) -> str:
    return "(nothing)" if value is None else shortened(value, LONGEST_VALUE)


def _document(run: GoldenRun) -> dict[str, Any]:
    return {
        "key": run.key,
        "files": run.files,
        "add": run.add,
        "remove": run.remove,
        "ok": run.ok,
        "notes": run.notes,
        "manifestFaults": [_fault(fault) for fault in run.manifest_faults],
        "failures": [
            {
                "file": failure.file,
                "fault": failure.fault and _fault(failure.fault),
                "refused": failure.refused,
                "problem": failure.problem,
                "differences": [_difference(difference) for difference in failure.differences],
                "more": failure.more,
            }
            for failure in run.failures
        ],
    }


def _fault(fault: Fault) -> dict[str, str]:
    return {"pointer": fault.pointer, "message": fault.message}


def _difference(difference: Difference) -> dict[str, Any]:
    """``expected`` and ``actual`` are JSON values; one that is not there is left out."""
    from msgspec import Raw

    values = {"expected": difference.expected, "actual": difference.actual}
    given = {name: Raw(value.encode()) for name, value in values.items() if value is not None}
    return {"pointer": difference.pointer, **given}
