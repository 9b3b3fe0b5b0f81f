"""``segsync manifest lint``: what is wrong with manifests, where, and what to write instead."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.console import AsJson, counted, print_json, printable
from worker.cli.manifest_choice import SomeManifests, choose
from worker.errors import Misconfigured

if TYPE_CHECKING:
    from worker.manifest.lint.finding import Finding
    from worker.manifest.manifest import BrokenManifest, Manifest


def command(
    manifests: SomeManifests = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check manifests for faults, and for what makes payloads fail or mean something else; exit code 1 on errors."""
    from worker.manifest.lint.lint import lint

    chosen, missing = _chosen(manifests or [])
    findings = [(name, finding) for name, manifest in chosen for finding in lint(manifest)]
    if as_json:
        print_json([{"manifest": name, **finding._asdict()} for name, finding in findings])
    else:
        for name, finding in findings:
            for line in _block(name, finding):
                print(printable(line))
            print()
        print(_summary(len(chosen), [finding for _, finding in findings]))
    for problem in missing:
        print(f"segsync: {problem}", file=sys.stderr)
    if missing or any(strict or finding.severity == "error" for _, finding in findings):
        raise typer.Exit(1)


def _chosen(wanted: Sequence[str]) -> tuple[list[tuple[str, Manifest | BrokenManifest]], list[str]]:
    """The manifests to check, each under the name that it was asked for by; and why the others cannot be had."""
    if wanted:
        chosen: list[tuple[str, Manifest | BrokenManifest]] = []
        missing = []
        for name in dict.fromkeys(wanted):
            try:
                chosen.append((name, choose(name)))
            except Misconfigured as error:
                missing.append(str(error))
        return chosen, missing
    from worker.manifest.catalog import load_catalog
    from worker.settings import load_settings

    return sorted(load_catalog(load_settings().manifests).items()), []


def _block(name: str, finding: Finding) -> Iterator[str]:
    yield f"{name}: {finding.severity} [{finding.check}]"
    yield f"  at      {finding.pointer or 'the file as a whole'}"
    yield f"  problem {finding.message}"
    yield f"  remedy  {finding.remedy}"


def _summary(manifests: int, findings: Sequence[Finding]) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    found = f"{counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}"
    return f"{counted(manifests, 'manifest')} checked: {found}"
