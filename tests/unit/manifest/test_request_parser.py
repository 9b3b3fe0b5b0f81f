"""The requestParser model: what it takes, what it refuses and where, and the identity of equal parsers."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from parser_documents import BOOLEAN, INCLUSION, SPLIT
from pydantic import ValidationError

from worker.manifest.catalog import load_catalog
from worker.manifest.manifest import Manifest
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
