"""``segsync manifest test``: golden payloads, each tried by its manifest."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from worker.cli.console import printable
from worker.cli.manifest_choice import choose
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.manifest.golden import Difference
    from worker.manifest.manifest import BrokenManifest, Manifest
    from worker.receiver.golden_run import Failure, GoldenRun

MOST_CHARACTERS = 200


class _Tried(NamedTuple):
    run: GoldenRun
    notes: list[str]


def command(
    manifests: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY|FILE]...", help="Integration keys or manifest files; else all.")
    ] = None,
    golden: Annotated[
        list[Path] | None,
        typer.Option(
            "--golden", metavar="DIR", help="A directory of your own golden payloads, DIR/KEY/*.json; may be repeated."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what came of it as JSON.")] = False,
) -> None:
    """Try manifests on golden payloads: bodies as partners send them, with what each must come to beside it.

    They are the bundled ones, those in the golden/KEY of SEGSYNC_MANIFESTS, and those of --golden. A file of your own
    hides the bundled one of its name. Exit code 1 when one does not hold, or a KEY that was named has none.
    """
    from worker.manifest.catalog import load_catalog
    from worker.settings import load_settings

    overlay = load_settings().manifests
    own = [*([overlay / "golden"] if overlay else []), *_checked(golden or [])]
    chosen = [choose(name) for name in manifests] if manifests else list(load_catalog(overlay).values())
    tried = [_try(manifest, own) for manifest in sorted(chosen, key=lambda found: found.key)]
    notes = [] if manifests else list(_strays(own, {manifest.key for manifest in chosen}))
    ok = all(run.ok and (run.files or not manifests) for run, _ in tried)
    if as_json:
        _print_json(tried, notes, ok=ok)
    else:
        for line in _lines(tried, notes):
            print(line)
    if not ok:
        raise typer.Exit(1)


def _checked(directories: Sequence[Path]) -> Sequence[Path]:
    for directory in directories:
        if not directory.is_dir():
            raise Misconfigured(f"--golden {directory}: is no directory")
        if not any(directory.glob("*/*.json")):
            raise Misconfigured(f"--golden {directory}: holds no golden payloads; they lie in {directory}/KEY/*.json")
    return directories


def _try(manifest: Manifest | BrokenManifest, own: Sequence[Path]) -> _Tried:
    from worker.manifest.golden import golden_files
    from worker.receiver.golden_run import run_golden

    files, hidden = golden_files(manifest.key, own)
    run = run_golden(manifest, files)
    notes = [] if run.manifest_faults else run.lacking
    return _Tried(run, [*notes, *(f"the bundled {file.name} is hidden by one of your own" for file in hidden)])


def _strays(own: Sequence[Path], keys: set[str]) -> Iterator[str]:
    """Golden payloads that no manifest asks for: most likely the directory is misspelt."""
    for directory in own:
        for stray in sorted({file.parent for file in directory.glob("*/*.json")} - {directory / key for key in keys}):
            yield f"{stray}: no integration has the key {stray.name!r}"


def _lines(tried: Sequence[_Tried], notes: Sequence[str]) -> Iterator[str]:
    width = max((len(printable(run.key)) for run, _ in tried), default=0)
    for run, about in tried:
        counts = f"{run.files:3} files  {run.add:3} add  {run.remove:3} remove"
        remarks = f"  ({'; '.join(map(printable, about))})" if about else ""
        yield f"{printable(run.key):{width}}  {counts}  {_verdict(run)}{remarks}"
        for fault in run.manifest_faults:
            yield f"  the manifest cannot be used: {printable(fault.pointer)} {printable(fault.message)}"
        for failure in run.failures:
            yield from _failure(failure)
    yield from map(printable, notes)


def _verdict(run: GoldenRun) -> str:
    if not run.ok:
        return "failed"
    return "ok" if run.files else "-"


def _failure(failure: Failure) -> Iterator[str]:
    yield f"  {printable(failure.file)}"
    if failure.fault is not None:
        yield f"    {printable(failure.fault.pointer or 'the file')} {printable(failure.fault.message)}"
    for difference in failure.differences:
        yield f"    {printable(difference.pointer or 'the outcome')}"
        yield f"      expected {_shown(difference.expected)}"
        yield f"      actual   {_shown(difference.actual)}"
    if failure.more:
        yield f"    and {failure.more:,} more differences"


def _shown(value: str | None) -> str:
    if value is None:
        return "(nothing)"
    return printable(value[:MOST_CHARACTERS]) + ("…" if len(value) > MOST_CHARACTERS else "")


def _print_json(tried: Sequence[_Tried], notes: Sequence[str], *, ok: bool) -> None:
    import msgspec

    document = {"ok": ok, "manifests": [_document(run, about) for run, about in tried], "notes": notes}
    sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")
    sys.stdout.buffer.flush()


def _document(run: GoldenRun, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "key": run.key,
        "files": run.files,
        "add": run.add,
        "remove": run.remove,
        "ok": run.ok,
        "notes": notes,
        "manifestFaults": [fault._asdict() for fault in run.manifest_faults],
        "failures": [
            {
                "file": failure.file,
                "fault": failure.fault and failure.fault._asdict(),
                "differences": [_difference(difference) for difference in failure.differences],
                "more": failure.more,
            }
            for failure in run.failures
        ],
    }


def _difference(difference: Difference) -> dict[str, Any]:
    """``expected`` and ``actual`` are JSON values; one that is not there is left out."""
    from msgspec import Raw

    values = {"expected": difference.expected, "actual": difference.actual}
    given = {name: Raw(value.encode()) for name, value in values.items() if value is not None}
    return {"pointer": difference.pointer, **given}
