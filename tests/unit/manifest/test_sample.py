"""Sample bodies: made from a requestParser's own pointers, and taken by its decoder unless nothing could be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parser_documents import BOOLEAN, INCLUSION, SPLIT

from worker.errors import InvalidBatch
from worker.manifest.catalog import load_catalog
from worker.manifest.decoder import compile_parser
from worker.manifest.lint.sample import Body, found, place, sample_body
from worker.manifest.manifest import Manifest
from worker.manifest.request_parser import RequestParser, faults_of
from worker.model import Payload


def parser_of(document: dict[str, Any], **changes: Any) -> RequestParser:
    return RequestParser.model_validate(document | changes)


def decoded(parser: RequestParser, **wanted: Any) -> Payload:
    return compile_parser(parser).decode(json.dumps(sample_body(parser, **wanted)).encode())


@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("manifest", load_catalog().values(), ids=lambda manifest: manifest.key)
def test_every_bundled_manifest_takes_its_sample_in_both_directions(manifest: Manifest, added: bool) -> None:
    payload = decoded(manifest.parser, environment_id="e", cohort_id="c", cohort_name="C", added=added)

    (cohort,) = payload.cohorts
    assert (payload.environment_id, cohort.cohort_id, cohort.name) == ("e", "c", "C")
    if manifest.parser.mode == "array inclusion":
        assert cohort.members == ({"user-1": True} if added else {"user-2": False})
    else:
        assert cohort.members == {"user-1": True, "user-2": False}


def test_a_sample_has_what_the_pointers_name_and_nothing_else() -> None:
    assert sample_body(parser_of(SPLIT)) == {
        "environmentId": "environment-1",
        "cohortId": "cohort-1",
        "cohortName": "Cohort 1",
        "add": [{"id": "user-1"}],
        "remove": [{"id": "user-2"}],
    }


def test_what_is_optional_is_there_unless_it_is_not_wanted() -> None:
    parser = parser_of(SPLIT, contextKindPath="/kind", cohortUrlPath="/url")

    assert sample_body(parser).keys() >= {"kind", "url"}
    assert sample_body(parser, context_kind=None, cohort_url=None).keys().isdisjoint({"kind", "url"})


def test_members_are_those_asked_for() -> None:
    payload = decoded(parser_of(SPLIT), add=["a", 2], remove=[])

    assert payload.cohorts[0].members == {"a": True, "2": True}
    assert sample_body(parser_of(SPLIT), add=[], remove=[])["add"] == []


def test_an_array_is_as_long_as_a_pointer_into_it_needs() -> None:
    body = sample_body(parser_of(BOOLEAN, cohortIdPath="/batch/3/cohortId"), add=["a"], remove=[])

    assert [member["userId"] for member in body["batch"]] == ["a", "member-2", "member-3", "member-4"]


@pytest.mark.parametrize(
    "matcher",
    [
        "^add$",
        "^(members|add_members)$",
        "(?i)^ENTER(ED)?$",
        r"^audience\.(entered|joined)$",
        "^true$",
        r"^\d{3}$",
        "[Aa]dd",
    ],
)
@pytest.mark.parametrize("added", [True, False])
def test_the_action_is_a_word_for_the_direction_wanted(matcher: str, added: bool) -> None:
    parser = parser_of(INCLUSION, arrayInclusion={"path": "/action", "matcher": matcher})

    (membership,) = decoded(parser, added=added).cohorts[0].members.values()
    assert membership is added


def test_the_word_for_a_removal_is_the_counterpart_of_the_word_that_adds() -> None:
    parser = parser_of(INCLUSION, arrayInclusion={"path": "/action", "matcher": "^(members|add_members)$"})

    assert sample_body(parser)["action"] == "add_members"
    assert sample_body(parser, added=False)["action"] == "remove_members"
    assert sample_body(parser, action=7)["action"] == 7


def test_an_action_may_be_called_for_that_nothing_matches() -> None:
    parser = parser_of(INCLUSION, arrayInclusion={"path": "/action", "matcher": "^$"})

    assert decoded(parser).cohorts[0].members == {"user-1": False}


@pytest.mark.parametrize(
    "changes",
    [
        {"cohortIdPath": "/fields/1/value/0", "environmentIdPath": "/fields/0/value"},  # arrays that hold no members
        {"cohortIdPath": "/a~1b/~0", "environmentIdPath": "/a~1b/x y"},
        {"cohortIdPath": "/list/-", "environmentIdPath": "/list/01"},  # keys of an object
        {"cohortIdPath": "/list/0", "environmentIdPath": "/list/x"},
        {"cohortNamePath": "/cohortId", "contextKindPath": "/cohortId"},  # one value for all
        {"contextKindPath": "/environmentId/kind"},  # is never found, and optional
        {"memberArrayParser": {"memberIdPath": ""}},  # bare ids
        {"memberArrayParser": {"memberIdPath": "", "cohortIdPath": "/cohort"}},
        {"memberArrayParser": {"memberIdPath": "/0"}},  # a member is an object all the same
        {"memberArrayParser": {"memberIdPath": "/ids/0"}},
        {"memberArrayParser": {"memberIdPath": "/id", "cohortIdPath": "/cohort/id", "cohortNamePath": "/cohort"}},
        {"addMemberArrayPath": "/list/0/add", "removeMemberArrayPath": "/list/1/remove"},
    ],
)
def test_unusual_pointers_are_satisfied_when_they_can_be(changes: dict[str, Any]) -> None:
    assert decoded(parser_of(SPLIT, **changes)).cohorts[0].members == {"user-1": True, "user-2": False}


@pytest.mark.parametrize(
    ("document", "changes", "pointer"),
    [
        (SPLIT, {"cohortIdPath": "/cohort", "cohortNamePath": "/cohort/name"}, "/cohort/name"),
        (SPLIT, {"cohortIdPath": ""}, ""),
        (SPLIT, {"cohortIdPath": "/add"}, "/add"),
        (SPLIT, {"cohortIdPath": "/add/-/id"}, "/add/-/id"),
        (BOOLEAN, {"cohortIdPath": "/batch/01/id"}, "/batch/01/id"),
        (BOOLEAN, {"memberArrayPath": "", "cohortIdPath": "/id", "cohortNamePath": "/name"}, ""),
        (BOOLEAN, {"memberArrayParser": {"memberIdPath": "", "booleanMembershipPath": "/value"}}, "/batch/0"),
        (BOOLEAN, {"memberArrayParser": {"memberIdPath": "/id", "booleanMembershipPath": "/id"}}, "/batch/0/id"),
        (SPLIT, {"cohortIdPath": "/x" * 200}, "/x" * 200),
    ],
)
def test_pointers_that_contradict_one_another_are_told_by_the_decoder(
    document: dict[str, Any], changes: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidBatch) as refusal:
        decoded(parser_of(document, **changes))

    assert (refusal.value.pointer or "").startswith(pointer)


POINTERS = st.lists(st.sampled_from(["a", "b", "c", "0", "1", "-"]), min_size=1, max_size=3).map(
    lambda tokens: "".join(f"/{token}" for token in tokens)
)
MEMBERS = st.fixed_dictionaries(
    {"memberIdPath": POINTERS | st.just("")},
    optional=dict.fromkeys(("booleanMembershipPath", "cohortIdPath", "cohortNamePath"), POINTERS),
)
PARSERS = st.fixed_dictionaries(
    dict.fromkeys(("environmentIdPath", "cohortIdPath", "cohortNamePath"), POINTERS) | {"memberArrayParser": MEMBERS},
    optional={
        "contextKindPath": POINTERS,
        "memberArrayPath": POINTERS,
        "arrayInclusion": st.fixed_dictionaries({"path": POINTERS, "matcher": st.just("^add$")}),
    },
).filter(lambda document: not faults_of(document))


def pieces(parser: dict[str, Any]) -> list[str]:
    """Every pointer of a parser, a member's as for the first member."""
    member = [parser["memberArrayPath"] + "/0" + pointer for pointer in parser["memberArrayParser"].values()]
    names = ("environmentIdPath", "cohortIdPath", "cohortNamePath", "contextKindPath")
    action = [parser["arrayInclusion"]["path"]] if "arrayInclusion" in parser else []
    return [*(parser[name] for name in names if name in parser), *action, *member]


@settings(max_examples=200, deadline=None)
@given(document=PARSERS, data=st.data())
def test_where_any_body_with_members_is_taken_the_sample_is(document: dict[str, Any], data: st.DataObject) -> None:
    parser = RequestParser.model_validate(document)
    array = tuple(document["memberArrayPath"].split("/")[1:])
    body: Body = {}
    for pointer in data.draw(st.permutations(pieces(document))):
        value = data.draw(st.sampled_from(["x", True]))
        place(body, tuple(pointer.split("/")[1:]), value, {array})
    try:
        taken = compile_parser(parser).decode(json.dumps(body).encode())
    except InvalidBatch:
        return
    assert any(cohort.members for cohort in taken.cohorts)

    assert decoded(parser).cohorts


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [("", True), ("/a/1", True), ("/a/2", False), ("/a/-", False), ("/a/01", False), ("/b", False), ("/a/0/x", False)],
)
def test_a_pointer_finds_what_is_there(pointer: str, expected: bool) -> None:
    assert found({"a": ["x", "y"]}, pointer) is expected
