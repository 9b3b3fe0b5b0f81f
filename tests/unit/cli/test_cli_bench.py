from __future__ import annotations

import io
import json
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from worker.cli.app import app
from worker.cli.bench import command as command_module
from worker.cli.bench.measuring import Plan, Result, alternate, over
from worker.cli.bench.payloads import body, people, segment_body
from worker.cli.bench.report import TARGETS, Target, print_table, write_json
from worker.errors import Misconfigured
from worker.manifest.catalog import load_catalog
from worker.manifest.manifest import Manifest

MACHINE = {"processor": "a fast one", "cores": 2, "system": "Linux", "python": "3.11"}


def test_sides_take_turns_at_going_first() -> None:
    turns: list[str] = []
    clock = count()

    def side(name: str) -> float:
        turns.append(name)
        return next(clock)

    found = alternate(Plan(rounds=3), lambda: side("ours"), lambda: side("theirs"))
    assert turns == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert found == [[0, 3, 4], [1, 2, 5]]


def test_a_rounds_rate_is_that_of_all_its_turns() -> None:
    rates = {"ours": iter([10, 30]), "theirs": iter([4, 12])}
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return next(rates[name])

    found = alternate(Plan(rounds=1), lambda: side("ours"), lambda: side("theirs"), turns=2)
    assert order == ["ours", "theirs", "theirs", "ours"]
    assert found == [[15], [6]]


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    result = over("speed", [10, 30, 90], [10, 10, 10], said="fast")
    assert (result.value, list(result.rounds), result.unit) == (3, [1, 3, 9], "ratio")


def test_bench_json_has_the_machine_and_each_figure_with_its_rounds(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    write_json(path, MACHINE, [Result("idle_cost", 0.007, "share", [0.006, 0.007, 0.008], "of one core")])
    assert json.loads(path.read_text()) == {
        "machine": MACHINE,
        "results": {"idle_cost": {"value": 0.007, "unit": "share", "rounds": [0.006, 0.007, 0.008]}},
    }


@pytest.mark.parametrize(
    ("target", "value", "verdict"),
    [
        (Target(0.8, 1.0), 1.0, "aim"),
        (Target(0.8, 1.0), 0.8, "must"),
        (Target(0.8, 1.0), 0.79, "MISSED"),
        (Target(150, 40), 40, "aim"),
        (Target(150, 40), 150, "must"),
        (Target(150, 40), 151, "MISSED"),
    ],
)
def test_a_value_is_held_against_what_it_must_be_and_aims_at(target: Target, value: float, verdict: str) -> None:
    assert target.verdict(value) == verdict


def test_the_table_has_figures_with_a_target_first_in_the_targets_order() -> None:
    output = io.StringIO()
    results = [Result(name, 2.0, "ratio", [2.0]) for name in ("stage", *reversed(list(TARGETS)))]
    print_table(Console(file=output, width=200), MACHINE, results)
    lines = output.getvalue().splitlines()
    assert lines[0].startswith("a fast one, 2 cores")
    names = [line.split()[0] for line in lines if " 2 " in line and not line.startswith("a fast")]
    assert names == [*TARGETS, "stage"]


def test_the_same_people_come_in_every_run() -> None:
    assert people(3, "a") == people(3, "a") != people(3, "b")


def test_the_bodies_are_what_their_partners_manifests_read() -> None:
    catalog, members = load_catalog(), people(10)
    for key, sent in (
        ("rudderstack", body("environment", "cohort", members[:6], members[6:])),
        ("segment-audiences", segment_body("environment", "cohort", members[:6])),
    ):
        manifest = catalog[key]
        assert isinstance(manifest, Manifest)
        payload = manifest.decoder.decode(sent)
        assert payload.environment_id == "environment"
        assert [name for name, added in payload.cohorts[0].members.items() if added] == members[:6]


def test_a_benchmark_by_itself_prints_a_table_and_writes_its_figures(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    done = CliRunner().invoke(app, ["bench", "--quick", "--only", "stages", "--out", str(out)])
    assert done.exit_code == 0, done.output
    figures = json.loads(out.read_text())
    assert figures["machine"]["cores"] >= 1
    assert {"cpu_us_decode", "cpu_us_hash", "cpu_us_pack"} <= figures["results"].keys()
    assert all(len(each["rounds"]) == 3 and each["value"] > 0 for each in figures["results"].values())
    assert "cpu_us_decode" in done.output


def test_what_was_measured_before_one_failed_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Plan) -> list[Result]:
        raise Misconfigured("somebody is missing in the store")

    measured = Result("idle_cost", 0.007, "share", [0.007], "of one core")
    monkeypatch.setattr(command_module, "_benchmarks", lambda: {"idle_cost": lambda _: [measured], "apply": fail})
    out = tmp_path / "bench.json"
    told = CliRunner().invoke(app, ["bench", "--out", str(out)])
    assert isinstance(told.exception, Misconfigured)
    assert list(json.loads(out.read_text())["results"]) == ["idle_cost"]
    assert "idle_cost" in told.output


def test_an_unknown_benchmark_is_told_with_those_that_there_are() -> None:
    with pytest.raises(Misconfigured, match=r"called speed; there are apply, .*stages"):
        CliRunner().invoke(app, ["bench", "--only", "speed"], catch_exceptions=False)
