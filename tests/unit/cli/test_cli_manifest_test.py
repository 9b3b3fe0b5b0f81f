"""`segsync manifest test`, as a person and a script run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from worker.cli.app import app
from worker.errors import Misconfigured
from worker.manifest.catalog import bundled_directory, load_catalog


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["manifest", "test", *map(str, arguments)])


def golden(directory: Path, key: str, name: str, expected: Any, *, body: Any = None) -> Path:
    flagged = {"userId": "ann", "cohortId": "c", "cohortName": "C", "value": True}
    file = directory / key / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"body": body or {"environmentId": "e", "batch": [flagged]}, "expected": expected}))
    return file


def manifest_of_my_own(directory: Path, name: str = "mine") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_bytes((bundled_directory() / "amplitude.json").read_bytes())
    return directory / f"{name}.json"


def test_all_bundled_manifests_pass_and_each_has_a_line() -> None:
    result = run()

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == sorted(load_catalog())
    assert all(line.endswith("  ok") for line in result.output.splitlines())


def test_only_the_manifests_that_are_named_are_tried() -> None:
    result = run("heap-inbound", "amplitude")

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == ["amplitude", "heap-inbound"]


def test_a_failure_names_the_file_the_places_and_both_values(tmp_path: Path) -> None:
    expected = {"contextKind": "device", "segments": [{"add": ["ann", "bob"]}], "rejectedCount": 3}
    file = golden(tmp_path, "amplitude", "mine.json", expected)

    result = run("amplitude", "--golden", tmp_path)

    assert result.exit_code == 1
    line, *rest = result.output.splitlines()
    assert line.endswith("  failed")
    assert rest == [
        f"  {file}",
        "    /contextKind",
        '      expected "device"',
        '      actual   "user"',
        "    /segments/0/add/1",
        '      expected "bob"',
        "      actual   (nothing)",
        "    /rejectedCount",
        "      expected 3",
        "      actual   (nothing)",
    ]


def test_only_what_is_given_is_compared(tmp_path: Path) -> None:
    golden(tmp_path, "amplitude", "mine.json", {"segments": [{"add": ["ann"]}]})

    assert run("amplitude", "--golden", tmp_path).exit_code == 0


def test_many_differences_are_cut_short_and_counted(tmp_path: Path) -> None:
    golden(tmp_path, "amplitude", "mine.json", {"segments": [{"add": [f"m{number}" for number in range(20)]}]})

    output = run("amplitude", "--golden", tmp_path).output

    assert output.count("expected") == 5
    assert "and 15 more differences" in output


def test_a_golden_file_of_a_wrong_form_is_a_failure_that_names_file_and_place(tmp_path: Path) -> None:
    file = golden(tmp_path, "amplitude", "empty.json", {})
    (tmp_path / "amplitude" / "no.json").write_text("{")

    result = run("amplitude", "--golden", tmp_path)

    assert result.exit_code == 1
    assert f"  {file}\n    /expected is empty" in result.output
    assert f"  {tmp_path / 'amplitude' / 'no.json'}\n    the file is no JSON" in result.output


def test_a_payload_that_is_refused_unexpectedly_is_told_why_in_text_and_json(tmp_path: Path) -> None:
    golden(tmp_path, "amplitude", "a.json", {"ok": True}, body={"environmentId": "e", "batch": [{}]})

    text = run("amplitude", "--golden", tmp_path).output
    document = json.loads(run("amplitude", "--golden", tmp_path, "--json").output)

    assert "\n    refused: /batch/0/cohortId is missing\n    /ok\n      expected true\n" in text
    assert document["manifests"][0]["failures"][0]["refused"] == "/batch/0/cohortId is missing"


def test_a_template_that_fails_is_told_in_text_and_json(tmp_path: Path) -> None:
    file = manifest_of_my_own(tmp_path)
    document = json.loads(file.read_text())
    document["capabilities"]["syncedSegment"]["jsonResponseBody"] = "{ {{statusCode}} }"
    file.write_text(json.dumps(document))
    golden(tmp_path / "golden", "mine", "a.json", {"response": {"status": 200}})

    text = run(file, "--golden", tmp_path / "golden").output
    [failure] = json.loads(run(file, "--golden", tmp_path / "golden", "--json").output)["manifests"][0]["failures"]

    assert "\n    its jsonResponseBody was left out: what the template renders is no JSON at character 3" in text
    assert failure["problem"].startswith("what the template renders is no JSON at character 3")


def test_json_says_the_same(tmp_path: Path) -> None:
    file = golden(tmp_path, "amplitude", "a.json", {"contextKind": "device", "nothing": None})
    broken = golden(tmp_path, "amplitude", "b.json", {})

    result = run("amplitude", "--golden", tmp_path, "--json")

    document = json.loads(result.output)
    [manifest] = document["manifests"]
    assert (result.exit_code, document["ok"], manifest["ok"], manifest["key"]) == (1, False, False, "amplitude")
    assert manifest["failures"] == [
        {
            "file": str(file),
            "fault": None,
            "refused": None,
            "problem": None,
            "differences": [
                {"pointer": "/contextKind", "expected": "device", "actual": "user"},
                {"pointer": "/nothing", "expected": None},
            ],
            "more": 0,
        },
        {
            "file": str(broken),
            "fault": {"pointer": "/expected", "message": "is empty: nothing would be compared"},
            "refused": None,
            "problem": None,
            "differences": [],
            "more": 0,
        },
    ]


def test_json_of_all_bundled_manifests_is_ok() -> None:
    document = json.loads(run("--json").output)

    assert document["ok"]
    assert document["notes"] == []
    assert all(found["add"] and found["remove"] and not found["notes"] for found in document["manifests"])


def test_a_manifest_that_was_named_and_has_no_golden_payloads_fails(tmp_path: Path) -> None:
    file = manifest_of_my_own(tmp_path)

    result = run(file)

    assert result.exit_code == 1
    assert "(no golden payloads)" in result.output


def test_a_manifest_that_was_not_named_and_has_none_is_noted_and_so_is_one_that_lacks_a_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest_of_my_own(tmp_path)
    manifest_of_my_own(tmp_path, "other")
    golden(tmp_path / "golden", "other", "add.json", {"segments": [{"add": ["ann"]}]})
    monkeypatch.setenv("SEGSYNC_MANIFESTS", str(tmp_path))

    result = run()

    lines = {line.split()[0]: line for line in result.output.splitlines()}
    assert result.exit_code == 0
    assert lines["mine"].endswith("  -  (no golden payloads)")
    assert lines["other"].endswith("  ok  (none removes anybody)")


def test_golden_payloads_are_found_beside_ones_own_manifests_and_in_every_directory_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest_of_my_own(tmp_path / "manifests")
    for directory in (tmp_path / "manifests" / "golden", tmp_path / "a", tmp_path / "b"):
        golden(directory, "mine", "add.json", {"segments": [{"add": ["ann"]}]})
    monkeypatch.setenv("SEGSYNC_MANIFESTS", str(tmp_path / "manifests"))

    result = run("mine", "--golden", tmp_path / "a", "--golden", tmp_path / "b")

    assert result.exit_code == 0
    assert result.output.split()[:4] == ["mine", "3", "files", "3"]


def test_bundled_golden_payloads_hold_for_a_manifest_that_hides_the_bundled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads((bundled_directory() / "tealium-synced-segments.json").read_text())
    inclusion = document["capabilities"]["syncedSegment"]["requestParser"]["arrayInclusion"]
    inclusion["matcher"] = "^(add_member|remove_member)$"  # as published
    (tmp_path / "tealium-synced-segments.json").write_text(json.dumps(document))
    monkeypatch.setenv("SEGSYNC_MANIFESTS", str(tmp_path))

    result = run("tealium-synced-segments")

    assert result.exit_code == 1
    assert "remove.json" in result.output


def test_a_golden_file_of_ones_own_hides_the_bundled_one_of_its_name_and_that_is_said(tmp_path: Path) -> None:
    golden(tmp_path, "amplitude", "add.json", {"segments": [{"add": ["ann"]}]})
    before = json.loads(run("amplitude", "--json").output)["manifests"][0]["files"]

    result = run("amplitude", "--golden", tmp_path, "--json")

    [manifest] = json.loads(result.output)["manifests"]
    assert (manifest["ok"], manifest["files"]) == (True, before)
    assert manifest["notes"] == ["the bundled add.json is hidden by one of your own"]


def test_a_broken_manifest_fails_and_its_faults_are_told(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    golden(tmp_path / "golden", "mine", "add.json", {"ok": True})

    result = run(tmp_path / "mine.json", "--golden", tmp_path / "golden")

    assert result.exit_code == 1
    assert "the manifest cannot be used: /capabilities/syncedSegment/requestParser is required" in result.output
    assert "segsync manifest lint" in result.output
    [manifest] = json.loads(run(tmp_path / "mine.json", "--golden", tmp_path / "golden", "--json").output)["manifests"]
    assert [(fault.keys(), fault["pointer"]) for fault in manifest["manifestFaults"]] == [
        ({"pointer", "message"}, "/capabilities/syncedSegment/requestParser")
    ]


def test_a_manifest_that_is_no_json_fails_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{")

    assert "the manifest cannot be used: the file is no JSON: line 1" in run(tmp_path / "mine.json").output


def test_golden_payloads_of_a_key_that_nobody_has_are_noted(tmp_path: Path) -> None:
    golden(tmp_path, "amplitud", "add.json", {"ok": True})

    result = run("--golden", tmp_path)

    assert result.exit_code == 0
    assert f"{tmp_path}/amplitud: no integration has the key 'amplitud'" in result.output


@pytest.mark.parametrize(("content", "why"), [(None, "is no directory"), ("{}", "holds none; they lie in")])
def test_a_golden_directory_that_cannot_be_one_is_one_line(tmp_path: Path, content: str | None, why: str) -> None:
    directory = tmp_path / "golden"
    if content:
        directory.mkdir()
        (directory / "add.json").write_text(content)  # its place is golden/{key}/add.json

    error = run("--golden", directory).exception

    assert isinstance(error, Misconfigured)
    assert why in str(error)


def test_what_a_golden_file_says_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    golden(tmp_path, "amplitude", "a.json", {"\x1b[31m": "\x1b"})

    assert "\x1b" not in run("amplitude", "--golden", tmp_path).output
