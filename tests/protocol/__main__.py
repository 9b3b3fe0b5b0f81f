"""``python tests/protocol``: every scenario and every rule removed, as a table; with part of a name, its trace, too."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar, cast

from cells import CellRules, goes_unnoticed
from claims import ClaimRules, claims_too_much
from crashes import CrashRules, judges_wrong
from deletions import DeletionRules, goes_wrong
from explore import find_violation
from late_appends import LateRules, resurrects
from scenarios import HOLDS, NEEDED
from slot import RULES
from world import Scenario

Rules = TypeVar("Rules")


def _row(name: str, scenario: Scenario, *, holds: bool, told: bool) -> bool:
    began = time.perf_counter()
    states, trace = find_violation(scenario)
    verdict = "violation" if trace else "holds"
    unexpected = "" if (trace is None) == holds else "   <-- unexpected"
    print(f"{name:58} {states:8,} states {time.perf_counter() - began:6.1f} s  {verdict}{unexpected}", flush=True)
    if trace and (told or unexpected):
        print(*(f"      {line}" for line in trace), sep="\n")
    return not unexpected


def _small(rules: Callable[..., Rules], goes_wrong: Callable[[Rules], bool]) -> bool:
    """A model that is small enough to have no scenarios."""
    whole = rules()
    right = not goes_wrong(whole)
    print(f"\n{type(whole).__name__:58} {'holds' if right else 'violation   <-- unexpected'}")
    for field in fields(cast("Any", whole)):
        wrong = goes_wrong(rules(**{field.name: False}))
        print(f"  {field.name:56} {'violation' if wrong else 'holds   <-- unexpected'}")
        right = right and wrong
    return right


def _main(wanted: str) -> int:
    right = [_row(name, scenario, holds=True, told=True) for name, scenario in HOLDS.items() if wanted in name]
    print("\nwithout the rule")
    for rule, scenario in NEEDED.items():
        if wanted in rule:
            without = replace(scenario, rules=replace(RULES, **{rule: False}))
            right.append(_row(f"  {rule}", without, holds=False, told=bool(wanted)))
    if not wanted:
        right += [
            _small(LateRules, resurrects),
            _small(ClaimRules, claims_too_much),
            _small(CrashRules, judges_wrong),
            _small(CellRules, goes_unnoticed),
            _small(DeletionRules, goes_wrong),
        ]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1] if len(sys.argv) > 1 else ""))
