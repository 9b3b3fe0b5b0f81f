"""The report of a run: one table for people, bench.json for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from worker.cli.bench.measuring import Result


class Target(NamedTuple):
    """What a figure must be, and what it aims at; smaller is better where the aim is the smaller one."""

    must: float
    aim: float

    def verdict(self, value: float) -> str:
        """How a value stands to it."""
        low = self.aim < self.must
        if value <= self.aim if low else value >= self.aim:
            return "aim"
        return "must" if (value <= self.must if low else value >= self.must) else "MISSED"


TARGETS: Mapping[str, Target] = {
    "apply_vs_limit": Target(0.80, 1.00),
    "apply_vs_redis_py": Target(3, 5),
    "accept_vs_bare": Target(0.40, 0.70),
    "accept_vs_task_per_payload": Target(5, 10),
    "fold_gain": Target(3, 10),
    "memory_ratio": Target(4, 2),
    "flatness": Target(1.3, 1.1),
    "segments_flatness": Target(1.3, 1.1),
    "freshness_p99_ms": Target(150, 40),
    "idle_cost": Target(0.03, 0.01),
}


def write_json(path: Path, machine: Mapping[str, Any], results: Sequence[Result]) -> None:
    """``{"machine": {…}, "results": {name: {"value", "unit", "rounds"}}}``; shares are fractions."""
    found = {each.name: {"value": each.value, "unit": each.unit, "rounds": list(each.rounds)} for each in results}
    path.write_text(json.dumps({"machine": dict(machine), "results": found}, indent=2) + "\n")


def print_table(console: Console, machine: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Figures that have a target first, in its order; then the others, in theirs."""
    console.print(f"{machine['processor']}, {machine['cores']} cores; {machine['system']}; Python {machine['python']}")
    table = Table(show_edge=False)
    table.add_column("")
    for column in ("median", "least", "most", "must", "aim", "reached"):
        table.add_column(column, justify="right")
    table.add_column("")
    order = list(TARGETS)
    for each in sorted(results, key=lambda result: order.index(result.name) if result.name in TARGETS else len(order)):
        target = TARGETS.get(each.name)
        bounds = (f"{target.must:g}", f"{target.aim:g}", target.verdict(each.value)) if target else ("", "", "")
        figures = [_figure(value) for value in (each.value, min(each.rounds), max(each.rounds))]
        unit = "" if each.unit == "ratio" else f"{each.unit}; " if each.said else each.unit
        table.add_row(each.name, *figures, *bounds, f"{unit}{each.said}")
    console.print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004 - four digits need no fraction
