"""The requestParser model: what it takes, what it refuses and where, and the identity of equal parsers."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parser_documents import BOOLEAN, INCLUSION, SPLIT
from pydantic import ValidationError

from worker.manifest.catalog import load_catalog
from worker.manifest.lint.lint import lint
from worker.manifest.manifest import BrokenManifest, Manifest, read_manifest
from worker.manifest.request_parser import RequestParser, faults_of


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the value at a dotted path set, or dropped when it is ``...``."""
    document = copy.deepcopy(document)
    *parents, name = path.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    place[name] = value
    if value is ...:
        del place[name]
    return document


def pointers(document: object) -> list[str]:
    return [fault.pointer for fault in faults_of(document)]


@pytest.mark.parametrize(
    ("document", "mode"), [(BOOLEAN, "boolean"), (SPLIT, "split arrays"), (INCLUSION, "array inclusion")]
)
def test_each_mode_is_told_by_the_properties_given(document: dict[str, Any], mode: str) -> None:
    assert faults_of(document) == []
    assert RequestParser.model_validate(document).mode == mode


def test_array_inclusion_wins_over_a_boolean_membership() -> None:
    both = changed(INCLUSION, "memberArrayParser.booleanMembershipPath", "/value")

    assert faults_of(both) == []
    assert RequestParser.model_validate(both).mode == "array inclusion"


@pytest.mark.parametrize("name", ["environmentIdPath", "cohortIdPath", "cohortNamePath", "memberArrayParser"])
def test_a_required_property_that_is_missing_is_a_fault_at_its_place(name: str) -> None:
    assert pointers(changed(SPLIT, name, ...)) == [f"/{name}"]


@pytest.mark.parametrize(
    ("document", "path", "value", "pointer"),
    [
        (SPLIT, "memberArrayParser.memberIdPath", ..., "/memberArrayParser/memberIdPath"),
        (SPLIT, "removeMemberArrayPath", ..., "/removeMemberArrayPath"),
        (SPLIT, "addMemberArrayPath", None, "/addMemberArrayPath"),
        (SPLIT, "memberArrayPath", "/members", "/memberArrayPath"),
        (SPLIT, "arrayInclusion", INCLUSION["arrayInclusion"], "/arrayInclusion"),
        (INCLUSION, "memberArrayPath", ..., "/memberArrayPath"),
        (INCLUSION, "arrayInclusion.matcher", ..., "/arrayInclusion/matcher"),
        (INCLUSION, "arrayInclusion.matcher", "add(", "/arrayInclusion/matcher"),
        (INCLUSION, "arrayInclusion.matcher", "(?!remove)", "/arrayInclusion/matcher"),
        (INCLUSION, "arrayInclusion.path", "action", "/arrayInclusion/path"),
        (BOOLEAN, "memberArrayParser.booleanMembershipPath", ..., "/memberArrayParser/booleanMembershipPath"),
        (BOOLEAN, "cohortIdPath", "/batch~2", "/cohortIdPath"),
        (BOOLEAN, "cohortIdPath", "batch/0", "/cohortIdPath"),
        (BOOLEAN, "cohortIdPath", 5, "/cohortIdPath"),
        (BOOLEAN, "cohortIDPath", "/x", "/cohortIDPath"),
        (BOOLEAN, "memberArrayParser.a/b~", "/x", "/memberArrayParser/a~1b~0"),
    ],
)
def test_a_fault_is_located(document: dict[str, Any], path: str, value: Any, pointer: str) -> None:
    broken = changed(document, path, value)

    assert pointers(broken) == [pointer]
    with pytest.raises(ValidationError):
        RequestParser.model_validate(broken)


def test_all_faults_are_told_at_once() -> None:
    broken = changed(changed(SPLIT, "cohortIdPath", "no pointer"), "memberArrayPath", "/x")

    assert pointers(changed(broken, "removeMemberArrayPath", ...)) == [
        "/cohortIdPath",
        "/removeMemberArrayPath",
        "/memberArrayPath",
    ]


@pytest.mark.parametrize("document", [None, [], "x", 5])
def test_what_is_no_object_is_a_fault_at_the_parser_itself(document: object) -> None:
    assert pointers(document) == [""]


@pytest.mark.parametrize("manifest", load_catalog().values(), ids=lambda manifest: manifest.key)
def test_a_parser_rebuilt_from_its_text_is_the_same_parser(manifest: Manifest) -> None:
    rebuilt = RequestParser.from_text(manifest.parser.text)

    assert rebuilt == manifest.parser
    assert rebuilt.digest == manifest.parser.digest


def test_order_and_nulls_do_not_change_the_digest() -> None:
    shuffled = dict(reversed(list(BOOLEAN.items()))) | {"contextKindPath": None}

    assert RequestParser.model_validate(shuffled).digest == RequestParser.model_validate(BOOLEAN).digest


def test_another_pointer_is_another_digest() -> None:
    other = changed(BOOLEAN, "memberArrayParser.memberIdPath", "/id")

    assert RequestParser.model_validate(other).digest != RequestParser.model_validate(BOOLEAN).digest


def test_the_text_is_canonical_json_under_launchdarkly_s_names() -> None:
    text = RequestParser.model_validate(BOOLEAN).text

    assert json.loads(text) == BOOLEAN
    assert text == json.dumps(BOOLEAN, sort_keys=True, separators=(",", ":"))


# --- many faults at once, and in plain words ---------------------------------------------------------------------


def sentences(document: object) -> dict[str, str]:
    found = faults_of(document)
    told = {fault.pointer: fault.message for fault in found}
    assert len(told) == len(found), "no two faults at one place"
    return told


def test_faults_of_every_sort_come_at_once() -> None:
    broken = {
        "environmentIdPath": None,
        "cohortIdPath": "$.batch[0].cohortId",
        "cohortNamePath": ["/name"],
        "cohortUrl": "/url",
        "booleanMembershipPath": "/value",
        "addMemberArrayPath": "/add",
        "memberArrayPath": 5,
        "arrayInclusion": {"path": "/a~", "matcher": "add(", "match": "x"},
        "memberArrayParser": {"memberID": "/id"},
    }

    assert sentences(broken) == {
        "/environmentIdPath": "is required, and must not be null",
        "/cohortIdPath": ("is no JSON pointer (RFC 6901); perhaps /batch/0/cohortId is meant"),
        "/cohortNamePath": "must be a string: a JSON pointer",
        "/cohortUrl": "is no property of requestParser; perhaps cohortUrlPath is meant",
        "/booleanMembershipPath": "is no property of requestParser; it belongs into memberArrayParser",
        "/removeMemberArrayPath": "is required: the add and the remove array come only together",
        "/memberArrayPath": "cannot stand beside addMemberArrayPath and removeMemberArrayPath",
        "/arrayInclusion": "cannot stand beside addMemberArrayPath and removeMemberArrayPath",
        "/arrayInclusion/path": "is no JSON pointer (RFC 6901); perhaps /a~0 is meant",
        "/arrayInclusion/matcher": "is no RE2 pattern: missing ): add(",
        "/arrayInclusion/match": "is no property of arrayInclusion",
        "/memberArrayParser/memberIdPath": "is required",
        "/memberArrayParser/memberID": "is no property of memberArrayParser; perhaps memberIdPath is meant",
    }


def test_a_parser_of_no_mode_is_told_so_once() -> None:
    broken = changed(changed(BOOLEAN, "memberArrayPath", ...), "memberArrayParser.booleanMembershipPath", ...)

    assert sentences(broken) == {
        "/memberArrayPath": "is required unless addMemberArrayPath and removeMemberArrayPath are given"
    }


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("arrayInclusion", "^add$", "must be an object with path and matcher"),
        ("memberArrayParser", ["/id"], "must be an object"),
        ("arrayInclusion.matcher", True, "must be a string: an RE2 pattern"),
        ("arrayInclusion.matcher", "\ud800", "is no RE2 pattern"),
        ("cohortIdPath", "/\ud800", "has an unpaired surrogate"),
        ("cohort_id_path", "/id", "is no property of requestParser"),
        ("memberArrayParser.cohortUrlPath", "/url", "it belongs into requestParser"),
    ],
)
def test_a_fault_is_told_in_a_sentence_of_ours(path: str, value: Any, sentence: str) -> None:
    (message,) = sentences(changed(INCLUSION, path, value)).values()

    assert sentence in message


@pytest.mark.parametrize(
    ("path", "text", "meant"),
    [
        ("memberArrayPath", "$.batch[*]", "/batch"),
        ("memberArrayPath", "batch[]", "/batch"),
        ("memberArrayPath", "lists[*].members[*]", "/lists/0/members"),
        ("memberArrayParser.memberIdPath", "$.batch[*].userId", "/userId"),
        ("memberArrayParser.memberIdPath", "batch[0].userId", "/userId"),
        ("memberArrayParser.memberIdPath", "emails[0].value", "/emails/0/value"),
        ("memberArrayParser.memberIdPath", "$.batch[?(@.value)].userId", "/userId"),
        ("memberArrayParser.memberIdPath", "@", '""'),
        ("memberArrayParser.booleanMembershipPath", "@.value", "/value"),
        ("cohortIdPath", "$.batch[*].cohortId", "/batch/0/cohortId"),
        ("cohortIdPath", "{{ cohortId }}", "/cohortId"),
    ],
)
def test_the_pointer_that_is_meant_is_one_that_its_property_can_have(path: str, text: str, meant: str) -> None:
    (fault,) = faults_of(changed(BOOLEAN, path, text))

    assert fault.message == f"is no JSON pointer (RFC 6901); perhaps {meant} is meant"
    assert fault.remedy == f"write {meant}"


def test_a_member_s_pointer_is_compared_with_the_array_that_is_meant() -> None:
    broken = changed(changed(BOOLEAN, "memberArrayPath", "$.users"), "memberArrayParser.memberIdPath", "users.0.id")

    assert [fault.remedy for fault in faults_of(broken)] == ["write /users", "write /id"]


@pytest.mark.parametrize("text", ["*", "$", "$[*]", "!!"])
def test_where_no_pointer_can_be_guessed_an_example_is_given(text: str) -> None:
    (fault,) = faults_of(changed(BOOLEAN, "cohortIdPath", text))

    assert fault.remedy == "write a JSON pointer, such as /cohortId"


@pytest.mark.parametrize(
    ("document", "path", "value", "remedy"),
    [
        (SPLIT, "cohortIdPath", ..., "add it: a JSON pointer, such as /cohortId"),
        (SPLIT, "memberArrayParser.memberIdPath", None, "write a JSON pointer that begins at a member"),
        (SPLIT, "memberArrayParser", [], 'write an object such as {"memberIdPath": "/userId"}'),
        (SPLIT, "cohortsUrlPath", "/url", "rename it to cohortUrlPath"),
        (SPLIT, "memberArrayParser.contextKindPath", "/kind", "move it into requestParser"),
        (SPLIT, "memberArrayParser.comment", "x", "drop it; memberArrayParser has memberIdPath, "),
        (SPLIT, "removeMemberArrayPath", ..., "add it; or, if the partner has one array for both"),
        (SPLIT, "memberArrayPath", "/members", "drop it, or drop addMemberArrayPath and removeMemberArrayPath"),
        (INCLUSION, "memberArrayPath", ..., "add it: a JSON pointer to the array of members"),
        (INCLUSION, "arrayInclusion.path", ..., "add it: a JSON pointer, such as /action"),
        (INCLUSION, "arrayInclusion.matcher", "(add", "write an RE2 pattern, such as ^add$"),
        (INCLUSION, "arrayInclusion.matcher", "^(?!remove)", "RE2 looks neither ahead nor back"),
        (BOOLEAN, "memberArrayParser.booleanMembershipPath", ..., "or add arrayInclusion"),
    ],
)
def test_a_fault_comes_with_what_to_do(document: dict[str, Any], path: str, value: Any, remedy: str) -> None:
    (fault,) = faults_of(changed(document, path, value))

    assert remedy in fault.remedy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
PROPERTIES = [*RequestParser.model_json_schema()["properties"], "path", "matcher", "memberIdPath", "x"]
PARSERS = st.dictionaries(
    st.sampled_from(PROPERTIES), JSON | st.dictionaries(st.sampled_from(PROPERTIES), JSON, max_size=4), max_size=11
)


@settings(max_examples=300, deadline=None)
@given(document=JSON | PARSERS)
def test_any_json_is_judged_and_what_has_no_fault_is_taken(document: Any) -> None:
    if sentences(document):
        assert not any("Input should" in message for message in sentences(document).values())
        with pytest.raises(ValidationError):
            RequestParser.model_validate(document)
    else:
        assert RequestParser.model_validate(document).digest


@settings(max_examples=300, deadline=None)
@given(
    capability=JSON | st.fixed_dictionaries({}, optional={"requestParser": JSON | PARSERS, "jsonResponseBody": JSON})
)
def test_any_json_is_a_manifest_or_says_what_is_wrong_with_it(capability: Any) -> None:
    document = {"capabilities": {"syncedSegment": capability}}

    manifest = read_manifest("acme", json.dumps(document).encode())

    assert isinstance(manifest, Manifest) or manifest.faults
    errors = [finding for finding in lint(manifest) if finding.severity == "error"]
    assert isinstance(manifest, Manifest) or errors


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{\n  "name": "Acme",\n}', "is no JSON: line 3, column 1: "),
        (b"{'name': 1}", "is no JSON: line 1, column 2: "),
        (b"", "is no JSON: line 1, column 1: "),
        (b'{"name": "\xff"}', "is not UTF-8: invalid start byte at byte 10"),
        (b'{"name": "\\ud800"}', "an unpaired surrogate"),
        (b'{"name": NaN}', "is no JSON"),
        (b'{"x":' * 200_000, "is nested too deep"),
    ],
)
def test_a_file_that_is_no_json_says_where(content: bytes, sentence: str) -> None:
    manifest = read_manifest("acme", content)

    assert isinstance(manifest, BrokenManifest)
    (fault,) = manifest.faults
    assert fault.pointer == ""
    assert sentence in fault.message


@pytest.mark.parametrize(
    ("document", "hint"),
    [
        ({"capabilities": {"syncedSegments": {}}}, "; perhaps 'syncedSegments' is meant to be 'syncedSegment'"),
        (
            {"capabilities": {"syncedSegment": {"request_parser": {}}}},
            "'request_parser' is meant to be 'requestParser'",
        ),
        ({"capability": {}}, "'capability' is meant to be 'capabilities'"),
    ],
)
def test_a_misspelt_way_to_the_request_parser_is_named(document: Any, hint: str) -> None:
    manifest = read_manifest("acme", json.dumps(document).encode())

    assert isinstance(manifest, BrokenManifest)
    assert hint in manifest.faults[0].message


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"capabilities": {"syncedSegment": SPLIT}}, "at /capabilities/syncedSegment"),
        ({"name": "Acme", "requestParser": SPLIT}, "at /requestParser"),
        ({"list": [{"requestParser": SPLIT}], "capabilities": []}, "at /list/0/requestParser"),
        (SPLIT, "at the top of the file"),
    ],
)
def test_a_request_parser_in_a_wrong_place_is_told_where_it_lies_and_where_it_belongs(
    document: Any, place: str
) -> None:
    manifest = read_manifest("acme", json.dumps(document).encode())

    assert isinstance(manifest, BrokenManifest)
    (fault,) = manifest.faults
    assert fault.message == f"is required; what should be in it, such as environmentIdPath, lies {place}"
    assert fault.remedy == f"move what lies {place} to /capabilities/syncedSegment/requestParser"


@pytest.mark.parametrize(
    ("template", "remedy"),
    [
        ('"{{requestBody.m.0.id}}"', "put an index into brackets, such as requestBody.batch.[0].id"),
        ('{"a":{{"b":1}}}', "put a blank between braces that are JSON's"),
        ('"{{#if errorMessage}}x"', "close every {{#if}} with {{/if}}"),
        ('"{{/if}}"', "close every block by its own name"),
        ('"{{segmentKey}"', "close every {{ with }}"),
        ('"{{{{segmentKey}}}}"', "two or three braces"),
    ],
)
def test_a_template_that_cannot_be_read_comes_with_what_to_do(template: str, remedy: str) -> None:
    capability = {"requestParser": SPLIT, "jsonResponseBody": template}
    manifest = read_manifest("acme", json.dumps({"capabilities": {"syncedSegment": capability}}).encode())

    assert isinstance(manifest, BrokenManifest)
    assert remedy in manifest.faults[0].remedy


@pytest.mark.parametrize("template", [0, False, [], {}])
def test_a_response_body_that_is_falsy_is_still_no_string(template: Any) -> None:
    capability = {"requestParser": SPLIT, "jsonResponseBody": template}
    manifest = read_manifest("acme", json.dumps({"capabilities": {"syncedSegment": capability}}).encode())

    assert isinstance(manifest, BrokenManifest)


@pytest.mark.parametrize("template", [None, ""])
def test_a_response_body_that_is_null_or_empty_is_none(template: Any) -> None:
    capability = {"requestParser": SPLIT, "jsonResponseBody": template}
    manifest = read_manifest("acme", json.dumps({"capabilities": {"syncedSegment": capability}}).encode())

    assert isinstance(manifest, Manifest)
    assert manifest.json_response_body is None


def test_of_duplicate_keys_in_a_manifest_the_last_counts() -> None:
    parser = json.dumps(SPLIT)
    content = f'{{"capabilities":{{"syncedSegment":{{"requestParser":5,"requestParser":{parser}}}}}}}'

    manifest = read_manifest("acme", content.encode())

    assert isinstance(manifest, Manifest)
    assert manifest.repeated_properties == ("/capabilities/syncedSegment/requestParser",)


def test_what_else_a_capability_has_is_remembered() -> None:
    capability = {"requestParser": SPLIT, "jsonResponsebody": "x", "a": 1}
    manifest = read_manifest("acme", json.dumps({"capabilities": {"syncedSegment": capability}}).encode())

    assert isinstance(manifest, Manifest)
    assert manifest.unknown_properties == ("a", "jsonResponsebody")
