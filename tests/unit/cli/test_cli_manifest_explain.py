"""`segsync manifest explain`, as a person and a script run it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from typer.testing import CliRunner, Result

from worker.cli.app import app
from worker.errors import Misconfigured


def batch(*members: Any) -> bytes:
    named = [{"cohortId": "c1", "cohortName": "Cohort 1", **member} for member in members]
    return json.dumps({"environmentId": "env-1", "batch": named}).encode()


def member(user_id: str, *, value: bool = True, **more: Any) -> dict[str, Any]:
    return {"userId": user_id, "value": value, **more}


def explain(*arguments: str, body: bytes = b"") -> Result:
    return CliRunner().invoke(app, ["manifest", "explain", *arguments], input=body)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "payload.json"


def test_a_person_reads_who_is_added_and_removed_and_what_is_answered(file: Path) -> None:
    file.write_bytes(batch(member("ann", cohortUrl="https://cohorts.example/c1"), member("bob", value=False)))

    result = explain("amplitude", str(file))

    assert result.exit_code == 0
    assert result.output == (
        "Accepted. Environment env-1, context kind user.\n"
        "\n"
        "Segment amplitude-c1\n"
        "  cohort  c1\n"
        "  name    Cohort 1\n"
        "  url     https://cohorts.example/c1\n"
        "  add     1 member\n"
        "    ann\n"
        "  remove  1 member\n"
        "    bob\n"
        "\n"
        "Answer: 204, without a body\n"
    )


def test_of_many_members_the_first_ten_are_shown_and_all_are_counted() -> None:
    output = explain("amplitude", "-", body=batch(*(member(f"m{number:04}") for number in range(1200)))).output

    assert "add     1,200 members\n    m0000\n" in output
    assert "    m0009\n    and 1,190 more\n" in output
    assert "m0010" not in output


def test_json_has_all_of_them_on_one_line() -> None:
    result = explain("amplitude", "-", "--json", body=batch(*(member(f"m{number}") for number in range(1200))))

    assert result.output.count("\n") == 1
    assert json.loads(result.output)["segments"][0]["add"] == [f"m{number}" for number in range(1200)]


def test_a_refused_payload_exits_1_and_json_says_why() -> None:
    result = explain("amplitude", "-", "--json", body=b"[]")

    assert result.exit_code == 1
    assert json.loads(result.output)["error"] == {
        "pointer": "",
        "reason": "malformed",
        "message": "the body must be a JSON object",
    }


def test_a_payload_refused_for_a_member_tells_of_all_such_members_and_of_the_policy_skip() -> None:
    body = batch(member("ann"), *({"value": True} for _ in range(12)), {"userId": "bob"})

    result = explain("amplitude", "-", body=body)

    assert result.exit_code == 1
    assert result.output.startswith("Refused (member_id): /batch/1/userId is missing.\n")
    assert "\n12 further members cannot be read:\n  /batch/2/userId is no id" in result.output
    assert "  /batch/11/userId" in result.output
    assert "/batch/12/userId" not in result.output
    assert "  and 2 more\nWith the policy `skip` the others would be taken: --policy skip" in result.output
    assert 'Answer: 400 {"code":"invalid_request"' in result.output


def test_the_only_member_that_cannot_be_read_is_told_once() -> None:
    output = explain("amplitude", "-", body=batch(member("ann"), {"value": True})).output

    assert output.startswith(
        "Refused (member_id): /batch/1/userId is missing.\nWith the policy `skip` the others would be taken"
    )
    assert "is no id" not in output


def test_members_that_the_policy_skip_would_not_save_do_not_speak_of_it() -> None:
    many = [member(f"m{number}", cohortId=f"c{number}") for number in range(1001)]

    result = explain("amplitude", "-", body=batch({"value": True}, *many))

    assert result.output.startswith("Refused (member_id): /batch/0/userId is missing.\n\nAnswer: 400")


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("add", 'Action "add" matches ^add$: all members are added.'),
        ("bogus", 'Action "bogus" does not match ^add$: all members are removed.'),
        (True, 'Action "true" does not match ^add$: all members are removed.'),
        (7, 'Action "7" does not match ^add$: all members are removed.'),
        ("add\x1b", 'Action "add\N{REPLACEMENT CHARACTER}" does not match ^add$: all members are removed.'),
        ("a" * 101, f'Action "{"a" * 100}…" does not match ^add$: all members are removed.'),
    ],
)
def test_an_action_is_told_with_what_it_was_taken_for(action: object, told: str) -> None:
    members = [{"integration_distinct_id": "ann"}]
    body = {"environmentId": "e", "cohortId": "c", "cohortName": "C", "action": action, "members": members}

    assert explain("hightouch", "-", body=json.dumps(body).encode()).output.splitlines()[1] == told


def test_a_template_that_does_not_come_out_as_json_is_told_with_the_answer(tmp_path: Path) -> None:
    bundled = json.loads((Path(__file__).parents[3] / "manifests" / "amplitude.json").read_text())
    bundled["capabilities"]["syncedSegment"]["jsonResponseBody"] = '{"id": {{requestBody.environmentId}} }'
    (tmp_path / "mine.json").write_text(json.dumps(bundled))
    file, body = str(tmp_path / "mine.json"), batch(member("ann"))

    told = explain(file, "-", body=body).output
    as_json = json.loads(explain(file, "-", "--json", body=body).output)

    assert "Answer: 204, without a body\n  its jsonResponseBody was left out: what the template renders is no" in told
    assert as_json["response"].keys() == {"status", "body", "problem"}


@pytest.mark.parametrize(("packed", "name"), [(gzip.compress, "gzip"), (zstandard.compress, "zstd")])
def test_a_packed_body_is_told_how_to_be_unpacked(packed: Callable[[bytes], bytes], name: str) -> None:
    output = explain("amplitude", "-", body=packed(batch(member("ann")))).output

    assert output.startswith("Refused (malformed): the body is not UTF-8.\n")
    assert f"It begins like {name}; give it unpacked: {name} -dc FILE | segsync manifest explain KEY -" in output


def test_json_that_is_broken_is_said_to_be_so_once() -> None:
    output = explain("amplitude", "-", body=b"{,}").output

    assert output.startswith("Refused (malformed): the body is not JSON: ")
    assert "malformed:" not in output.partition("not JSON")[2]


def test_a_fault_of_the_payload_itself_says_nothing_of_members_and_skip() -> None:
    result = explain("amplitude", "-", body=b'{"environmentId": "env-1", "batch": []}')

    assert result.exit_code == 1
    assert "Refused (cohort): /batch/0/cohortId is missing." in result.output
    assert "skip" not in result.output


def test_with_the_policy_skip_it_shows_who_is_left_out() -> None:
    result = explain("amplitude", "-", "--policy", "skip", body=batch(member("ann"), {"value": True}))

    assert result.exit_code == 0
    assert "Left out, because they cannot be read: 1 member\n  /batch/1/userId is no id" in result.output
    assert "Answer: 204" in result.output


def test_more_than_a_hundred_that_are_left_out_are_all_counted() -> None:
    result = explain("amplitude", "-", "--policy", "skip", body=batch(member("ann"), *[{}] * 150))

    assert "cannot be read: 150 members\n" in result.output
    assert "  and 140 more\n" in result.output


def test_an_unknown_policy_is_a_wrong_call() -> None:
    assert explain("amplitude", "-", "--policy", "lenient", body=batch(member("ann"))).exit_code == 2


def test_the_answer_of_a_templating_manifest_is_shown() -> None:
    body = b'{"parameters": {"environment_id": "env-1"}, "heap": {"data": {"segment": {"id": 7, "name": "S"}}}}'

    output = explain("heap-inbound", "-", body=body).output

    assert 'Answer: 200 {"projectId":"default","environmentId":"production","segmentId":"heap-inbound-7"' in output


def test_what_a_partner_writes_is_shown_and_not_obeyed() -> None:
    evil = "\x1b[31mred\nline"
    body = batch(member(evil, cohortId=evil, cohortName=evil, cohortUrl=evil)).replace(b"env-1", b"env\\u001b")

    output = explain("amplitude", "-", body=body).output

    assert "\x1b" not in output
    assert output.count("\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}line") == 4


def test_a_manifest_of_ones_own_is_named_by_its_file(tmp_path: Path) -> None:
    bundled = Path(__file__).parents[3] / "manifests" / "amplitude.json"
    (tmp_path / "mine.json").write_bytes(bundled.read_bytes())

    result = explain(str(tmp_path / "mine.json"), "-", "--json", body=batch(member("ann")))

    assert json.loads(result.output)["segments"][0]["segmentKey"] == "mine-c1"


def test_a_broken_manifest_is_refused_and_its_faults_are_told(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"capabilities": {"syncedSegment": {"requestParser": {}}}}')

    result = explain(str(tmp_path / "mine.json"), "-", body=b"{}")

    assert result.exit_code == 1
    assert "the manifest of mine cannot be used" in result.output
    assert "/capabilities/syncedSegment/requestParser/environmentIdPath" in result.output
    assert "\n`segsync manifest lint` says what to write instead.\n\nAnswer: 503" in result.output


def test_a_body_over_the_bound_is_refused_and_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSYNC_MAX_BODY_BYTES", "1024")
    body = batch(member("a" * 2000))

    told = explain("amplitude", "-", body=body)
    as_json = json.loads(explain("amplitude", "-", "--json", body=body).output)

    assert told.exit_code == 1
    assert "SEGSYNC_MAX_BODY_BYTES" in told.output
    assert "Answer: 413" in told.output
    assert (as_json["error"]["reason"], as_json["response"]["status"]) == ("too_large", 413)


def test_a_body_of_just_the_bound_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSYNC_MAX_BODY_BYTES", "1024")
    body = batch(member("ann"))

    assert explain("amplitude", "-", body=body + b" " * (1024 - len(body))).exit_code == 0
    assert explain("amplitude", "-", body=body + b" " * (1025 - len(body))).exit_code == 1


def test_a_directory_stands_for_the_manifest_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = Path(__file__).parents[3] / "manifests" / "amplitude.json"
    (tmp_path / "acme" / "assets").mkdir(parents=True)
    (tmp_path / "acme" / "manifest.json").write_bytes(bundled.read_bytes())
    monkeypatch.chdir(tmp_path / "acme" / "assets")

    for name in ("../../acme", "..", str(tmp_path / "acme"), "../manifest.json"):
        assert json.loads(explain(name, "-", "--json", body=batch(member("ann"))).output)["segments"][0][
            "segmentKey"
        ] == ("acme-c1")


def test_a_file_of_any_name_is_a_manifest_unless_an_integration_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = Path(__file__).parents[3] / "manifests" / "amplitude.json"
    monkeypatch.chdir(tmp_path)
    for name in ("acme", "hightouch"):
        (tmp_path / name).write_bytes(bundled.read_bytes())

    assert '"segmentKey":"acme-c1"' in explain("acme", "-", "--json", body=batch(member("ann"))).output
    assert "/cohortId is missing" in explain("hightouch", "-", body=batch(member("ann"))).output


@pytest.mark.parametrize("name", ["missing.json", "empty", "no/such/file"])
def test_a_manifest_s_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()

    error = explain(str(tmp_path / name), "-", body=b"{}").exception

    assert isinstance(error, Misconfigured)
    assert str(error).startswith(f"cannot read {tmp_path / name}")
    assert str(error).endswith("No such file or directory")


def test_a_standard_input_that_is_closed_is_one_line() -> None:
    run = subprocess.run(
        ["sh", "-c", '"$0" -m worker manifest explain amplitude - <&-', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode, run.stderr) == (
        1,
        "segsync: cannot read -: standard input is closed; name a file, or pipe the body in\n",
    )


@pytest.mark.parametrize("arguments", [("nobody", "-"), ("amplitude", "no/such/payload.json"), ("amplitude", "/")])
def test_what_is_not_there_is_one_line(arguments: tuple[str, str]) -> None:
    error = explain(*arguments, body=b"{}").exception

    assert isinstance(error, Misconfigured)
    assert arguments[arguments[0] == "amplitude"] in str(error)


def test_bytes_come_from_standard_input_as_they_are_and_json_goes_out_as_utf8() -> None:
    # In a terminal that can do ASCII only; CliRunner would decode.
    run = subprocess.run(
        [sys.executable, "-m", "worker", "manifest", "explain", "amplitude", "-", "--json"],
        input=b"\xef\xbb\xbf"
        + batch(member("zo\N{LATIN SMALL LETTER E WITH DIAERESIS}")).replace(b"\\u00eb", b"\xc3\xab"),
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )

    assert json.loads(run.stdout)["segments"][0]["add"] == ["zoë"]


def test_a_million_members_are_explained(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSYNC_MAX_BODY_BYTES", str(64 * 1024 * 1024))
    members = b",".join(b'{"id":"m%07d"}' % number for number in range(1_000_000))
    head = b'{"environmentId":"e","cohortId":"c","cohortName":"C"'
    file.write_bytes(head + b',"listData":{"add":[' + members + b'],"remove":[{}]}}')

    refused, skipping = explain("rudderstack", str(file)), explain("rudderstack", str(file), "--policy", "skip")

    assert refused.output.startswith("Refused (member_id): /listData/remove/0/id is missing.\n")
    assert "add     1,000,000 members\n" in skipping.output
    assert skipping.exit_code == 0
