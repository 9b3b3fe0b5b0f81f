"""`segsync manifest lint`, as a person and a script run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from worker.cli.app import app
from worker.errors import Misconfigured
from worker.manifest.catalog import load_catalog

PARSER = {
    "environmentIdPath": "/env",
    "cohortIdPath": "/id",
    "cohortNamePath": "/name",
    "memberArrayPath": "/members",
    "arrayInclusion": {"path": "/action", "matcher": "^(add_member|remove_member)$"},
    "memberArrayParser": {"memberIdPath": "/id"},
}
SOUND = PARSER | {"arrayInclusion": {"path": "/action", "matcher": "^add_member$"}}
NOT_ANCHORED = PARSER | {"arrayInclusion": {"path": "/action", "matcher": "add_member"}}


def write(file: Path, parser: Any) -> str:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"capabilities": {"syncedSegment": {"requestParser": parser}}}))
    return str(file)


def lint(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["manifest", "lint", *arguments])


def test_without_arguments_all_bundled_manifests_are_checked_and_sound() -> None:
    result = lint("--strict")

    assert result.exit_code == 0
    assert result.output == f"{len(load_catalog())} manifests checked: 0 errors, 0 warnings\n"


def test_manifests_of_one_s_own_are_checked_with_the_bundled_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "tealium-synced-segments.json", PARSER)
    write(tmp_path / "acme" / "manifest.json", SOUND)
    monkeypatch.setenv("SEGSYNC_MANIFESTS", str(tmp_path))

    result = lint()

    assert result.exit_code == 1
    assert result.output.startswith("tealium-synced-segments: error [matcher-both-ways]\n")
    assert result.output.endswith(f"\n{len(load_catalog()) + 1} manifests checked: 1 error, 0 warnings\n")
    assert lint("acme").exit_code == 0


def test_a_finding_is_a_block_with_place_problem_and_remedy(tmp_path: Path) -> None:
    file = write(tmp_path / "acme.json", PARSER)

    result = lint(file)

    assert result.exit_code == 1
    assert result.output == (
        f"{file}: error [matcher-both-ways]\n"
        "  at      /capabilities/syncedSegment/requestParser/arrayInclusion/matcher\n"
        "  problem accepts both 'add_member' and 'remove_member': a payload that removes members would add them\n"
        "  remedy  name only the words that add, and whatever does not match is removed: ^add_member$\n"
        "\n"
        "1 manifest checked: 1 error, 0 warnings\n"
    )


def test_a_warning_fails_only_a_strict_run(tmp_path: Path) -> None:
    file = write(tmp_path / "acme.json", NOT_ANCHORED)

    assert lint(file).exit_code == 0
    assert lint(file).output.endswith("1 manifest checked: 0 errors, 1 warning\n")
    assert lint(file, "--strict").exit_code == 1


def test_json_is_a_list_of_findings_and_nothing_else(tmp_path: Path) -> None:
    file = write(tmp_path / "acme.json", NOT_ANCHORED)

    result = lint("amplitude", file, "--json")

    assert result.exit_code == 0
    (finding,) = json.loads(result.stdout)
    assert list(finding) == ["manifest", "severity", "check", "pointer", "message", "remedy"]
    assert (finding["manifest"], finding["severity"], finding["check"]) == (file, "warning", "matcher-not-anchored")


def test_json_of_sound_manifests_is_an_empty_list() -> None:
    assert json.loads(lint("--json").stdout) == []


def test_every_fault_of_a_broken_manifest_is_a_finding(tmp_path: Path) -> None:
    file = write(tmp_path / "acme.json", {"memberArrayParser": [], "environmentIdPath": "env"})

    result = lint(file, "--json")

    assert result.exit_code == 1
    places = [finding["pointer"].rpartition("/")[2] for finding in json.loads(result.stdout)]
    assert places == ["environmentIdPath", "cohortIdPath", "cohortNamePath", "memberArrayParser", "memberArrayPath"]
    assert [finding["remedy"] for finding in json.loads(result.stdout)][:2] == [
        "write /env",
        "add it: a JSON pointer, such as /cohortId",
    ]


def test_a_file_that_is_no_json_is_an_error_of_the_file_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "acme.json"
    file.write_text("{")

    result = lint(str(file))

    assert result.exit_code == 1
    assert "  at      the file as a whole\n  problem is no JSON: line 1, column 2: " in result.output


def test_a_manifest_asked_for_twice_is_checked_once(tmp_path: Path) -> None:
    file = write(tmp_path / "acme.json", PARSER)

    assert lint(file, file).output.endswith("1 manifest checked: 1 error, 0 warnings\n")


def test_what_a_manifest_says_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    file = write(tmp_path / "acme.json", SOUND | {"cohortIdPath": "/\x1b[31mid\n "})

    result = lint(file)

    assert "\x1b" not in result.output
    assert "pointer-blanks" in result.output
    assert len(result.output.splitlines()) == 6


@pytest.mark.parametrize("wanted", ["nowhere.json", "no-such-integration"])
def test_a_manifest_that_is_not_there_is_one_line_on_stderr(wanted: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "worker", "manifest", "lint", "amplitude", wanted, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (1, "[]\n")
    assert ran.stderr.startswith("segsync: ")
    assert ran.stderr.count("\n") == 1
    assert wanted in ran.stderr


def test_beside_a_manifest_that_is_not_there_the_others_are_checked(tmp_path: Path) -> None:
    result = lint("amplitude", str(tmp_path / "nowhere.json"), "zeotap")

    assert result.exit_code == 1
    assert "2 manifests checked: 0 errors, 0 warnings" in result.stdout
    assert "nowhere.json" in result.stderr


def test_a_directory_that_is_not_there_is_a_wrong_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSYNC_MANIFESTS", str(tmp_path / "nowhere"))

    assert isinstance(lint().exception, Misconfigured)
