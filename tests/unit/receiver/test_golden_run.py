"""A manifest tried on golden payloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from worker.manifest.catalog import bundled_directory, load_catalog
from worker.manifest.golden import Difference
from worker.manifest.manifest import BrokenManifest, Manifest, read_manifest
from worker.manifest.request_parser import Fault
from worker.receiver.golden_run import MOST_DIFFERENCES, run_all, run_golden

HIGHTOUCH = load_catalog()["hightouch"]


def golden(directory: Path, name: str, action: str, expected: Any, *ids: str) -> Path:
    members = [{"integration_distinct_id": member} for member in ids]
    body = {"environmentId": "e", "cohortId": "c", "cohortName": "C", "action": action, "members": members}
    file = directory / name
    file.write_text(json.dumps({"body": body, "expected": expected}))
    return file


def templated(json_response_body: str) -> Manifest | BrokenManifest:
    document = json.loads((bundled_directory() / "hightouch.json").read_text())
    document["capabilities"]["syncedSegment"]["jsonResponseBody"] = json_response_body
    return read_manifest("hightouch", json.dumps(document).encode())


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


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ({"ok": True}, "/action must be a non-empty string, a boolean or an integer"),
        ({"segments": [{"add": ["ann"]}]}, "/action must be a non-empty string, a boolean or an integer"),
        ({"ok": False, "error": {"reason": "cohort"}}, None),  # why is among the differences
    ],
)
def test_a_payload_that_is_refused_unexpectedly_says_why(tmp_path: Path, expected: Any, told: str | None) -> None:
    run = run_golden(HIGHTOUCH, [golden(tmp_path, "a.json", "", expected, "ann")])

    assert run.failures[0].refused == told


def test_a_payload_that_is_accepted_unexpectedly_has_no_reason(tmp_path: Path) -> None:
    run = run_golden(HIGHTOUCH, [golden(tmp_path, "a.json", "add", {"ok": False}, "ann")])

    [failure] = run.failures
    assert (failure.refused, failure.differences) == (None, [Difference("/ok", "false", "true")])


def test_a_template_that_does_not_come_out_is_told_beside_what_it_changed(tmp_path: Path) -> None:
    run = run_golden(templated("{ {{requestBody.action}} }"), [golden(tmp_path, "a.json", "add", {"response": {}})])
    assert run.ok

    file = golden(tmp_path, "a.json", "add", {"response": {"status": 200}})
    [failure] = run_golden(templated("{ {{requestBody.action}} }"), [file]).failures

    assert failure.differences == [Difference("/response/status", "200", "204")]
    assert failure.problem is not None
    assert failure.problem.startswith("what the template renders is no JSON at character 3")


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


def test_all_manifests_are_tried_in_the_order_of_their_keys_and_strays_are_noted(tmp_path: Path) -> None:
    (tmp_path / "hightuch").mkdir()
    golden(tmp_path / "hightuch", "a.json", "add", {"ok": True})

    found = run_all([*load_catalog().values()][::-1], [tmp_path], named=False)

    assert [run.key for run in found.runs] == sorted(load_catalog())
    assert found.notes == [f"{tmp_path}/hightuch: no integration has the key 'hightuch'"]
    assert found.ok


@pytest.mark.parametrize("named", [True, False])
def test_a_manifest_without_golden_payloads_is_ok_unless_it_was_named(*, named: bool) -> None:
    assert isinstance(HIGHTOUCH, Manifest)
    mine = Manifest("mine", "Mine", HIGHTOUCH.parser)

    found = run_all([HIGHTOUCH, mine], [], named=named)

    assert found.ok is not named
    assert [run.notes for run in found.runs] == [[], ["no golden payloads"]]


def test_what_hides_a_bundled_golden_payload_is_noted_and_a_broken_manifest_lacks_nothing(tmp_path: Path) -> None:
    (tmp_path / "hightouch").mkdir()
    golden(tmp_path / "hightouch", "add.json", "add", {"segments": [{"add": ["ann"]}]}, "ann")
    broken = BrokenManifest("hightouch", (Fault("", "is no JSON"),))

    for manifest in (HIGHTOUCH, broken):
        [run] = run_all([manifest], [tmp_path], named=True).runs
        assert run.notes == ["the bundled add.json is hidden by one of your own"]
