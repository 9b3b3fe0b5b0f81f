"""``segsync bench``: starts what it needs, measures, prints a table, writes bench.json."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.console import console

if TYPE_CHECKING:
    from worker.cli.bench.measuring import Plan, Result

_ROUNDS, _QUICK_ROUNDS = 5, 3


def command(
    quick: Annotated[bool, typer.Option("--quick", help="Three rounds of less work: a first impression.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Measure this alone; again for another.")] = None,
    out: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = Path("bench.json"),
) -> None:
    """Measure this installation on this machine, each figure against what the machine could do, in the same run."""
    from worker.cli.bench.measuring import Plan
    from worker.cli.bench.report import print_table, write_json
    from worker.errors import Misconfigured

    try:
        from worker.cli.bench.machine import describe
    except ImportError:
        raise Misconfigured("benchmarks watch processes with psutil: pip install 'segsync[bench]'") from None
    plan = Plan(rounds=_QUICK_ROUNDS if quick else _ROUNDS, quick=quick)
    benchmarks = _benchmarks()
    if unknown := sorted(set(only or ()) - benchmarks.keys()):
        raise Misconfigured(f"no benchmark is called {unknown[0]}; there are {', '.join(benchmarks)}")
    results: list[Result] = []
    began = time.monotonic()
    try:
        for name, measure in benchmarks.items():
            if only is None or name in only:
                print(f"{time.monotonic() - began:4.0f} s  {name}", file=sys.stderr)
                results += measure(plan)
    finally:  # what was measured before one failed, or somebody had enough of it, took minutes
        machine = describe()
        write_json(out, machine, results)
        print_table(console(), machine, results)
    print(f"{time.monotonic() - began:.0f} s in all; figures: {out}", file=sys.stderr)


def _benchmarks() -> Mapping[str, Callable[[Plan], list[Result]]]:
    """By what ``--only`` takes; a benchmark may give several figures."""
    from worker.cli.bench import accept, apply, folding, freshness, idle, memory, segments, stages

    return {
        "apply": apply.apply_rates,
        "accept": accept.accept,
        "fold_gain": folding.fold_gain,
        "memory_ratio": memory.memory_ratio,
        "flatness": apply.flatness,
        "segments_flatness": segments.segments_flatness,
        "freshness": freshness.freshness,
        "idle_cost": idle.idle,
        "apply_elsewhere": apply.apply_elsewhere,
        "two_workers": apply.two_workers,
        "sizes": apply.sizes,
        "stages": stages.stages,
    }
