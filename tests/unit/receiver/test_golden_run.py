"""A manifest tried on golden payloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from worker.manifest.catalog import load_catalog
from worker.manifest.golden import Difference
from worker.manifest.manifest import BrokenManifest
from worker.manifest.request_parser import Fault
from worker.receiver.golden_run import MOST_DIFFERENCES, run_golden

HIGHTOUCH = load_catalog()["hightouch"]


def golden(directory: Path, name: str, action: str, expected: Any, *ids: str) -> Path:
    members = [{"integration_distinct_id": member} for member in ids]
    body = {"environmentId": "e", "cohortId": "c", "cohortName": "C", "action": action, "members": members}
    file = directory / name
    file.write_text(json.dumps({"body": body, "expected": expected}))
    return file


def test_golden_payloads_that_hold_are_counted_by_direction(tmp_path: Path) -> None:
    run = run_golden(
        HIGHTOUCH,
        [
            golden(tmp_path, "add.json", "add", {"segments": [{"add": ["ann"]}]}, "ann"),
            golden(tmp_path, "remove.json", "gone", {"segments": [{"remove": ["ann"]}]}, "ann"),
            golden(tmp_path, "nobody.json", "add", {"ok": True}),
        ],
    )

    assert run.ok
    assert (run.files, run.add, run.remove, run.lacking) == (3, 1, 1, [])


@pytest.mark.parametrize(("action", "lacking"), [("add", "none removes anybody"), ("remove", "none adds anybody")])
def test_a_direction_that_no_golden_payload_shows_is_lacking(tmp_path: Path, action: str, lacking: str) -> None:
    run = run_golden(HIGHTOUCH, [golden(tmp_path, "a.json", action, {"segments": [{action: ["ann"]}]}, "ann")])

    assert (run.ok, run.lacking) == (True, [lacking])


def test_without_golden_payloads_nothing_failed_and_all_is_lacking() -> None:
    run = run_golden(HIGHTOUCH, [])

    assert (run.ok, run.lacking) == (True, ["no golden payloads"])


def test_a_golden_payload_that_does_not_hold_tells_where(tmp_path: Path) -> None:
    expected = {"ok": True, "segments": [{"add": [], "remove": ["ann"]}]}
    run = run_golden(HIGHTOUCH, [golden(tmp_path, "a.json", "add", expected, "ann")])

    [failure] = run.failures
    assert not run.ok
    assert failure.file == str(tmp_path / "a.json")
    assert failure.differences == [
        Difference("/segments/0/add/0", None, '"ann"'),
        Difference("/segments/0/remove/0", '"ann"', None),
    ]
    assert failure.more == 0


def test_of_many_differences_the_first_are_told_and_the_others_counted(tmp_path: Path) -> None:
    ids = [f"m{number}" for number in range(12)]
    run = run_golden(HIGHTOUCH, [golden(tmp_path, "a.json", "add", {"segments": [{"add": []}]}, *ids)])

    assert len(run.failures[0].differences) == MOST_DIFFERENCES
    assert run.failures[0].more == 12 - MOST_DIFFERENCES


def test_a_misspelt_member_of_what_is_expected_is_a_difference_and_never_overlooked(tmp_path: Path) -> None:
    run = run_golden(HIGHTOUCH, [golden(tmp_path, "a.json", "add", {"segmnets": []}, "ann")])

    assert run.failures[0].differences == [Difference("/segmnets", "[]", None)]


def test_files_that_cannot_be_read_fail_and_the_others_are_tried(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("{")
    files = [tmp_path / "none.json", tmp_path / "b.json", golden(tmp_path, "a.json", "add", {"ok": True})]

    run = run_golden(HIGHTOUCH, files)

    assert [(Path(failure.file).name, failure.fault and failure.fault.pointer) for failure in run.failures] == [
        ("none.json", ""),
        ("b.json", ""),
    ]


def test_a_broken_manifest_fails_as_such(tmp_path: Path) -> None:
    fault = Fault("/capabilities", "is required")
    run = run_golden(BrokenManifest("mine", (fault,)), [golden(tmp_path, "a.json", "add", {"ok": False})])

    assert not run.ok
    assert (run.manifest_faults, run.failures) == ([fault], [])
