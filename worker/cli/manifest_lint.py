"""``segsync manifest lint``: what is wrong with manifests, where, and what to write instead."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.console import printable
from worker.cli.manifest_choice import choose

if TYPE_CHECKING:
    from worker.manifest.lint.finding import Finding
    from worker.manifest.manifest import BrokenManifest, Manifest


def command(
    manifests: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY|FILE]...", help="Integration keys, or manifests' files; all manifests without."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as a JSON list.")] = False,
) -> None:
    """Check manifests for faults, and for what makes payloads fail or mean something else; exit code 1 on errors."""
    from worker.manifest.lint.lint import lint

    chosen = _chosen(manifests or [])
    findings = [(name, finding) for name, manifest in chosen for finding in lint(manifest)]
    if as_json:
        print(json.dumps([{"manifest": name, **finding._asdict()} for name, finding in findings], indent=2))
    else:
        for name, finding in findings:
            for line in _block(name, finding):
                print(printable(line))
            print()
        print(_summary(len(chosen), [finding for _, finding in findings]))
    if any(strict or finding.severity == "error" for _, finding in findings):
        raise typer.Exit(1)


def _chosen(wanted: Sequence[str]) -> list[tuple[str, Manifest | BrokenManifest]]:
    """The manifests to check, each under the name that it was asked for by."""
    if wanted:
        return [(name, choose(name)) for name in dict.fromkeys(wanted)]
    from worker.manifest.catalog import load_catalog
    from worker.settings import load_settings

    return sorted(load_catalog(load_settings().manifests).items())


def _block(name: str, finding: Finding) -> Iterator[str]:
    yield f"{name}: {finding.severity} [{finding.check}]"
    yield f"  at      {finding.pointer or 'the file as a whole'}"
    yield f"  problem {finding.message}"
    yield f"  remedy  {finding.remedy}"


def _summary(manifests: int, findings: Sequence[Finding]) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    found = f"{_counted(errors, 'error')}, {_counted(len(findings) - errors, 'warning')}"
    return f"{_counted(manifests, 'manifest')} checked: {found}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
