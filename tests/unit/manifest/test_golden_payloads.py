"""Every bundled manifest against the bodies its partner sends, in both directions; and how golden files are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

import worker
from worker.errors import InvalidBatch, Misconfigured
from worker.manifest import golden as golden_module
from worker.manifest.catalog import load_catalog
from worker.manifest.examples import Change, example, example_keys
from worker.manifest.golden import (
    Golden,
    GoldenFiles,
    bundled_golden_directory,
    differences,
    directions,
    golden_files,
    own_directories,
    read_golden,
    stray_keys,
)
from worker.manifest.manifest import Manifest
from worker.manifest.request_parser import Fault
from worker.receiver.golden_run import compare, run_golden

CATALOG = load_catalog()
KEYS = sorted(CATALOG)
BUNDLED = [(key, file) for key in KEYS for file in golden_files(key).files]
NAMES = [f"{key}/{file.stem}" for key, file in BUNDLED]

each_golden = pytest.mark.parametrize(("key", "file"), BUNDLED, ids=NAMES)


def manifest_of(key: str) -> Manifest:
    manifest = CATALOG[key]
    assert isinstance(manifest, Manifest)
    return manifest


def golden_of(file: Path) -> Golden:
    golden = read_golden(file.read_bytes())
    assert isinstance(golden, Golden), golden
    return golden


@each_golden
def test_a_golden_body_comes_to_what_is_written_beside_it(key: str, file: Path) -> None:
    assert list(compare(manifest_of(key), golden_of(file))) == []


@each_golden
def test_a_golden_body_takes_the_fast_way_and_the_exact_one_agrees(key: str, file: Path) -> None:
    golden, decoder = golden_of(file), manifest_of(key).decoder
    expected = json.loads(bytes(golden.expected))
    assert decoder._fast is not None

    fast = decoder._fast.read(golden.body)

    if expected["ok"] and not expected.get("rejected"):
        assert fast == decoder._exact.read(golden.body)
    else:
        assert fast is None
        with pytest.raises(InvalidBatch):
            decoder._exact.read(golden.body)


@pytest.mark.parametrize("key", KEYS)
def test_every_bundled_manifest_has_golden_bodies_of_both_directions(key: str) -> None:
    assert run_golden(manifest_of(key), golden_files(key).files).lacking == []


def test_golden_bodies_are_of_bundled_manifests_only() -> None:
    assert {path.name for path in bundled_golden_directory().iterdir() if path.is_dir()} == set(KEYS)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("add", "remove"), [(["m1", "m2"], []), ([], ["m1", "m2"]), (["m1"], ["m2"])])
def test_example_bodies_say_the_change_they_were_made_from(key: str, add: list[str], remove: list[str]) -> None:
    change = Change("env-1", "123", "Cohort", add, remove)

    said: dict[str, bool] = {}
    for body in example(key, change):
        payload = manifest_of(key).decoder.decode(json.dumps(body).encode())
        assert (payload.environment_id, payload.context_kind) == ("env-1", "user")
        assert [(cohort.cohort_id, cohort.name) for cohort in payload.cohorts] == [("123", "Cohort")]
        said |= payload.cohorts[0].members

    assert said == dict.fromkeys(add, True) | dict.fromkeys(remove, False)


def test_every_bundled_manifest_has_an_example() -> None:
    assert example_keys() == KEYS


def test_an_installation_without_golden_payloads_is_told_to_be_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "__file__", str(tmp_path / "worker" / "__init__.py"))

    with pytest.raises(Misconfigured, match="golden payloads are missing"):
        bundled_golden_directory()


def test_a_golden_body_is_taken_byte_for_byte() -> None:
    body = b'{ "a" : 1.50, "a":\t99999999999999999999 }'
    golden = read_golden(b'\xef\xbb\xbf{"expected": {"ok": true}, "policy": "skip", "body": %s }' % body)

    assert isinstance(golden, Golden)
    assert (golden.body, golden.policy) == (body, "skip")


WRONG_FORMS = {
    "": ("", "is no JSON in UTF-8"),
    "[]": ("", "must be an object with body and expected"),
    '{"body": {}, "expected": {"ok": true}} {}': ("", "is no JSON in UTF-8"),
    '{"body": {}}': ("/expected", "is required"),
    '{"expected": {"ok": true}}': ("/body", "is required"),
    '{"body": {}, "expected": {}}': ("/expected", "is empty: nothing would be compared"),
    '{"body": {}, "expected": []}': ("/expected", "must be an object, as explain --json prints it"),
    '{"body": {}, "expected": null}': ("/expected", "must be an object"),
    '{"body": {}, "expected": {"ok": "\\ud800"}}': ("", "is no JSON in UTF-8"),
    f'{{"body": {{}}, "expected": {{"ok": {"1" * 5000}}}}}': ("/expected", "cannot be read"),
    '{"body": {}, "expected": {"ok": true}, "policy": "lenient"}': ("/policy", "must be 'reject' or 'skip'"),
    '{"body": {}, "expected": {"ok": true}, "policy": "Skip"}': ("/policy", "must be 'reject' or 'skip'"),
    '{"body": {}, "expected": {"ok": true}, "policy": 1e999}': ("/policy", "must be 'reject' or 'skip'"),
    '{"body": {}, "expected": {"ok": true}, "policy": null}': ("/policy", "must be 'reject' or 'skip'"),
    '{"body": {}, "expected": {"ok": true}, "description": 5}': ("/description", "must be a string"),
    '{"body": {}, "expectd": {"ok": true}}': ("/expectd", "is no member of a golden payload; perhaps expected is"),
    '{"body": {}, "expected": {"ok": true}, "a/b": 1}': ("/a~1b", "there are body, expected, description, policy"),
    f'{{"body": {"[" * 100_000}{"]" * 100_000}, "expected": {{"ok": true}}}}': ("", "is nested too deep"),
}


@pytest.mark.parametrize(("content", "fault"), WRONG_FORMS.items(), ids=[text[:60] for text in WRONG_FORMS])
def test_what_is_wrong_with_a_golden_file_is_told_with_its_place(content: str, fault: tuple[str, str]) -> None:
    found = read_golden(content.encode())

    assert isinstance(found, Fault)
    assert found.pointer == fault[0]
    assert fault[1] in found.message


def test_a_golden_file_that_is_no_utf8_is_told() -> None:
    found = read_golden(b'{"description": "\xff", "body": {}, "expected": {"ok": true}}')
    assert isinstance(found, Fault)
    assert "UTF-8" in found.message


@pytest.mark.parametrize("expected", ['{"segments": 5}', '{"segments": [{"add": 5}]}', '{"segments": [7]}'])
def test_what_has_not_the_form_of_an_outcome_shows_no_direction_and_is_compared_all_the_same(expected: str) -> None:
    golden = read_golden(b'{"body": {}, "expected": %s}' % expected.encode())
    assert isinstance(golden, Golden)

    assert directions(golden) == (False, False)
    assert [found.pointer for found in compare(manifest_of("amplitude"), golden)] == ["/segments"]


@pytest.mark.parametrize(
    ("expected", "refusal"), [('{"ok": false}', True), ('{"ok":  true}', False), ('{"segments": []}', False)]
)
def test_a_golden_payload_says_whether_it_expects_a_refusal(expected: str, *, refusal: bool) -> None:
    golden = read_golden(b'{"body": {}, "expected": %s}' % expected.encode())
    assert isinstance(golden, Golden)

    assert golden.expects_refusal is refusal


def test_ones_own_directories_are_the_one_among_ones_manifests_and_those_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "more" / "mine").mkdir(parents=True)
    (tmp_path / "more" / "mine" / "a.json").touch()

    assert own_directories(None) == []
    assert own_directories(tmp_path, [tmp_path / "more"]) == [tmp_path / "golden", tmp_path / "more"]


def test_directories_of_keys_that_nobody_has_are_strays_if_they_hold_golden_files(tmp_path: Path) -> None:
    for name in ("a/mine/1.json", "a/min/1.json", "b/nobody/1.json", "b/notes/readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    assert stray_keys([tmp_path / "a", tmp_path / "b", tmp_path / "none"], ["mine"]) == [
        tmp_path / "a/min",
        tmp_path / "b/nobody",
    ]


def differences_of(expected: Any, actual: Any) -> list[tuple[Any, ...]]:
    wanted, found = (
        Raw(value if isinstance(value, bytes) else msgspec.json.encode(value)) for value in (expected, actual)
    )
    return [tuple(difference) for difference in differences(wanted, found)]


@pytest.mark.parametrize(
    ("expected", "actual", "found"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": 3}, []),  # only members that are given are compared
        ({"a": {"b": 1}}, {"a": {"b": 2}}, [("/a/b", "1", "2")]),
        ({"a": 1, "b": 2}, {"a": 3}, [("/a", "1", "3"), ("/b", "2", None)]),
        ({"a": None}, {}, [("/a", "null", None)]),
        ([1, 2], [1, 2], []),
        ([1, 2], [2, 1], [("/0", "1", "2"), ("/1", "2", "1")]),
        ([1], [1, 2], [("/1", None, "2")]),
        ([1, 2], [1], [("/1", "2", None)]),
        ([{"a": 1}], [{"a": 1, "b": 2}], []),
        ({"a": []}, {"a": {}}, [("/a", "[]", "{}")]),
        ({"a": "1"}, {"a": 1}, [("/a", '"1"', "1")]),
        ({"a": True}, {"a": 1}, [("/a", "true", "1")]),
        ({"a": 1}, {"a": 1.0}, [("/a", "1", "1.0")]),
        (b'{"a": "\\u00e9\\n"}', {"a": "é\n"}, []),
        (b'{"a":   [ 1 ,\n {} ]}', {"a": [1, {}]}, []),
        (b'{"a": 99999999999999999998}', {"a": 99999999999999999999}, [("/a", "9" * 19 + "8", "9" * 20)]),
        ({"a/b": {"c~d": 1}}, {"a/b": {"c~d": 2}}, [("/a~1b/c~0d", "1", "2")]),
        (1, 1, []),
        ({"a": 1}, 5, [("", '{"a":1}', "5")]),
    ],
)
def test_differences_are_told_by_pointer_in_the_order_expected(
    expected: Any, actual: Any, found: list[tuple[Any, ...]]
) -> None:
    assert differences_of(expected, actual) == found


def test_ones_own_golden_files_join_the_bundled_ones_and_hide_those_of_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "bundled/mine/a.json",
        "bundled/mine/b.json",
        "own/mine/b.json",
        "own/mine/.c.json",
        "more/mine/b.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(golden_module, "bundled_golden_directory", lambda: tmp_path / "bundled")

    assert golden_files("mine", [tmp_path / "own", tmp_path / "more", tmp_path / "none"]) == GoldenFiles(
        [tmp_path / "bundled/mine/a.json", tmp_path / "own/mine/b.json", tmp_path / "more/mine/b.json"],
        [tmp_path / "bundled/mine/b.json"],
    )
    assert golden_files("other", [tmp_path / "own"]) == ([], [])
