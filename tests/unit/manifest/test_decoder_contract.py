"""What a payload means, case by case: values, modes, overrides, and the place and reason of every refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.errors import InvalidBatch
from worker.manifest.decoder import Decoder, compile_parser, decoder_from_text
from worker.manifest.request_parser import RequestParser
from worker.model import Cohort, Payload

ENVIRONMENT = "env-1"
SPLIT = {
    "environmentIdPath": "/env",
    "contextKindPath": "/kind",
    "cohortIdPath": "/id",
    "cohortNamePath": "/name",
    "cohortUrlPath": "/url",
    "addMemberArrayPath": "/data/add",
    "removeMemberArrayPath": "/data/remove",
    "memberArrayParser": {"memberIdPath": "/id"},
}
BOOLEAN = {
    "environmentIdPath": "/env",
    "cohortIdPath": "/batch/0/cohort",
    "cohortNamePath": "/batch/0/name",
    "cohortUrlPath": "/batch/0/url",
    "memberArrayPath": "/batch",
    "memberArrayParser": {
        "memberIdPath": "/user",
        "booleanMembershipPath": "/value",
        "cohortIdPath": "/cohort",
        "cohortNamePath": "/name",
    },
}
INCLUSION = {
    "environmentIdPath": "/env",
    "cohortIdPath": "/id",
    "cohortNamePath": "/name",
    "memberArrayPath": "/members",
    "arrayInclusion": {"path": "/action", "matcher": "^add$"},
    "memberArrayParser": {"memberIdPath": "/id"},
}


def decoder_of(parser: dict[str, Any]) -> Decoder:
    return compile_parser(RequestParser.model_validate(parser))


def decode(parser: dict[str, Any], body: dict[str, Any] | bytes) -> Payload:
    return decoder_of(parser).decode(body if isinstance(body, bytes) else json.dumps(body).encode())


def refusal(parser: dict[str, Any], body: dict[str, Any] | bytes) -> InvalidBatch:
    with pytest.raises(InvalidBatch) as caught:
        decode(parser, body)
    return caught.value


def split(**fields: Any) -> dict[str, Any]:
    return {"env": ENVIRONMENT, "id": "c", "name": "C", "data": {"add": [{"id": "u"}]}} | fields


def boolean(*members: dict[str, Any]) -> dict[str, Any]:
    return {"env": ENVIRONMENT, "batch": list(members)}


def member(user: Any = "u", value: Any = True, **fields: Any) -> dict[str, Any]:
    return {"user": user, "cohort": "c", "name": "C", "value": value} | fields


def inclusion(action: Any, **fields: Any) -> dict[str, Any]:
    return {"env": ENVIRONMENT, "id": "c", "name": "C", "action": action, "members": [{"id": "u"}]} | fields


# --- the body -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b'{"env":"e"} trailing',
        b'{"env":NaN}',
        b'{"env":"\xff"}',
        b'{"env":"e","unused":"\xff"}',
        b'{"env":"e","unused":"\\ud800"}',
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b"[]",
        b'"text"',
        b"null",
        b"[" * 100_000,
        b'{"env":"e","unused":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"env":"e","unused":' + b"[" * 128 + b"]" * 128 + b"}",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_is_no_sound_json_object_is_malformed_and_names_no_environment(body: bytes) -> None:
    fault = refusal(SPLIT, body)

    assert (fault.reason, fault.environment_id) == ("malformed", None)


def test_nesting_up_to_the_bound_is_accepted() -> None:
    body = json.dumps(split()).encode()[:-1] + b',"unused":' + b"[" * 127 + b"]" * 127 + b"}"

    assert decode(SPLIT, body).cohorts[0].members == {"u": True}


@pytest.mark.parametrize("levels", [124, 125, 126])
def test_an_array_in_another_array_s_member_counts_for_the_bound_too(levels: int) -> None:
    parser = SPLIT | {"addMemberArrayPath": "/a", "removeMemberArrayPath": "/a/0/b"}
    deep = b"[" * levels + b"]" * levels
    body = b'{"env":"e","id":"c","name":"C","a":[{"id":"u","b":[{"id":"v","x":%b}]}]}' % deep

    if levels + 5 <= 128:
        assert decode(parser, body).cohorts[0].members == {"u": True, "v": False}
    else:
        assert refusal(parser, body).reason == "malformed"


def test_one_byte_order_mark_is_ignored() -> None:
    assert decode(SPLIT, b"\xef\xbb\xbf" + json.dumps(split()).encode()).environment_id == ENVIRONMENT


def test_of_duplicate_keys_the_last_counts() -> None:
    body = b'{"env":"old","env":"env-1","id":"c","name":"C","data":{"add":[{"id":"x"}]},"data":{"remove":[{"id":"y"}]}}'

    assert decode(SPLIT, body) == Payload(ENVIRONMENT, "user", [Cohort("c", "C", None, {"y": False})])


def test_numbers_that_no_pointer_names_may_be_of_any_size() -> None:
    body = json.dumps(split()).encode()[:-1] + b',"x":1e999,"y":' + b"9" * 5000 + b"}"

    assert decode(SPLIT, body).cohorts[0].members == {"u": True}


# --- scalars ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        ('"u-1"', "u-1"),
        ('" "', " "),
        ('"\\ud83d\\ude00 \\u0000"', "\U0001f600 \0"),
        ("0", "0"),
        ("-0", "0"),
        ("-12", "-12"),
        ("18446744073709551616", "18446744073709551616"),
        ("9" * 6000, "9" * 6000),
    ],
)
def test_a_scalar_is_its_string_or_its_integer_in_decimal_text(literal: str, text: str) -> None:
    body = f'{{"env":{literal},"id":{literal},"name":{literal},"data":{{"add":[{{"id":{literal}}}]}}}}'

    assert decode(SPLIT, body.encode()) == Payload(text, "user", [Cohort(text, text, None, {text: True})])


@pytest.mark.parametrize("value", ["", None, True, False, 1.0, 1e2, [], {}, ["u"]])
@pytest.mark.parametrize(("field", "reason"), [("env", "environment"), ("id", "cohort"), ("name", "cohort")])
def test_a_required_scalar_must_be_a_non_empty_string_or_an_integer(field: str, reason: str, value: Any) -> None:
    fault = refusal(SPLIT, split(**{field: value}))

    assert (fault.reason, fault.pointer) == (reason, f"/{field}")
    assert fault.message == f"/{field} must be a non-empty string or an integer"


@pytest.mark.parametrize("field", ["env", "id", "name"])
def test_a_required_scalar_that_is_missing_is_named(field: str) -> None:
    body = split()
    del body[field]

    assert refusal(SPLIT, body).message == f"/{field} is missing"


@pytest.mark.parametrize("value", ["", None])
def test_an_optional_scalar_that_is_null_or_empty_is_absent(value: Any) -> None:
    payload = decode(SPLIT, split(kind=value, url=value))

    assert payload.context_kind == "user"
    assert payload.cohorts[0].url is None


@pytest.mark.parametrize(("field", "reason"), [("kind", "context_kind"), ("url", "cohort")])
@pytest.mark.parametrize("value", [True, 1.5, [], {}])
def test_an_optional_scalar_of_another_type_is_refused(field: str, reason: str, value: Any) -> None:
    fault = refusal(SPLIT, split(**{field: value}))

    assert (fault.reason, fault.pointer, fault.environment_id) == (reason, f"/{field}", ENVIRONMENT)


@pytest.mark.parametrize("kind", ["org", "A.b_c-1", 9])
def test_a_context_kind_of_letters_digits_and_a_few_marks_is_taken(kind: Any) -> None:
    assert decode(SPLIT, split(kind=kind)).context_kind == str(kind)


@pytest.mark.parametrize("kind", ["x" * 257, "kind", "multi", "a b", "org\n", "ä", "a/b", -1.5])
def test_a_context_kind_that_launchdarkly_would_not_take_is_refused(kind: Any) -> None:
    assert refusal(SPLIT, split(kind=kind)).reason == "context_kind"


@pytest.mark.parametrize(("field", "pointer"), [("id", "/id"), ("name", "/name"), ("url", "/url")])
def test_what_is_said_of_a_cohort_may_be_long_but_not_absurdly(field: str, pointer: str) -> None:
    cohort = decode(SPLIT, split(**{field: "x" * 65_536})).cohorts[0]
    fault = refusal(SPLIT, split(**{field: "x" * 65_537}))

    assert len(getattr(cohort, {"id": "cohort_id"}.get(field, field))) == 65_536
    assert (fault.reason, fault.message) == ("cohort", f"{pointer} is longer than 65536 characters")


@pytest.mark.parametrize("field", ["cohort", "name"])
def test_an_absurdly_long_override_is_a_fault_of_its_member(field: str) -> None:
    assert refusal(BOOLEAN, boolean(member(), member(**{field: "x" * 65_537}))).pointer == f"/batch/1/{field}"


# --- the order of faults ------------------------------------------------------------------------------------------


def test_the_environment_is_read_before_anything_else_is_judged() -> None:
    fault = refusal(SPLIT, {"env": ENVIRONMENT, "kind": "multi", "data": 5})

    assert (fault.reason, fault.environment_id) == ("context_kind", ENVIRONMENT)


def test_a_fault_of_the_environment_itself_has_no_environment() -> None:
    assert refusal(SPLIT, split(env=1.5)).environment_id is None


def test_a_message_never_holds_a_value_of_the_payload() -> None:
    secret = "ada@example.com"
    faults = [
        refusal(SPLIT, split(kind=secret)),
        refusal(BOOLEAN, boolean(member(user={secret: secret}))),
        refusal(INCLUSION, inclusion([secret])),
        refusal(SPLIT, b'{"env":"' + secret.encode() + b'"'),
    ]

    assert not any(secret in fault.message for fault in faults)


# --- split arrays -------------------------------------------------------------------------------------------------


def test_adds_are_read_first_and_removes_last() -> None:
    data = {"remove": [{"id": "b"}, {"id": "c"}], "add": [{"id": "a"}, {"id": "b"}]}

    assert list(decode(SPLIT, split(data=data)).cohorts[0].members.items()) == [("a", True), ("b", False), ("c", False)]


@pytest.mark.parametrize("data", [{}, {"add": None}, {"add": [], "remove": None}, None, "text", 5])
def test_arrays_that_are_missing_or_null_are_empty_and_the_cohort_stays(data: Any) -> None:
    assert decode(SPLIT, split(data=data, url="https://c")).cohorts == [Cohort("c", "C", "https://c", {})]


@pytest.mark.parametrize("value", ["abc", "", 0, False, {}])
def test_an_array_of_another_type_is_refused(value: Any) -> None:
    fault = refusal(SPLIT, split(data={"remove": value}))

    assert (fault.reason, fault.message) == ("members", "/data/remove must be an array")


@pytest.mark.parametrize("value", [None, "u", 5, ["u"]])
def test_a_member_that_is_no_object_is_refused_at_its_index(value: Any) -> None:
    fault = refusal(SPLIT, split(data={"add": [{"id": "a"}, value]}))

    assert (fault.reason, fault.pointer, fault.environment_id) == ("member", "/data/add/1", ENVIRONMENT)


# --- boolean ------------------------------------------------------------------------------------------------------


def test_true_adds_and_false_removes() -> None:
    payload = decode(BOOLEAN, boolean(member("a", value=True), member("b", value=False)))

    assert payload.cohorts[0].members == {"a": True, "b": False}


@pytest.mark.parametrize("value", ["true", 1, 0, None, "", [], {}])
def test_a_membership_that_is_no_boolean_is_refused_at_its_place(value: Any) -> None:
    fault = refusal(BOOLEAN, boolean(member(), member(value=value)))

    assert (fault.reason, fault.message) == ("membership", "/batch/1/value must be true or false")


def test_a_member_without_an_id_is_refused_at_its_place() -> None:
    members = [member(f"u{index}") for index in range(20)]
    del members[17]["user"]

    fault = refusal(BOOLEAN, boolean(*members))

    assert (fault.pointer, fault.message) == ("/batch/17/user", "/batch/17/user is missing")


def test_an_empty_batch_whose_cohort_lies_in_its_first_member_is_refused() -> None:
    fault = refusal(BOOLEAN, boolean())

    assert (fault.reason, fault.pointer, fault.environment_id) == ("cohort", "/batch/0/cohort", ENVIRONMENT)


def test_the_member_array_is_required() -> None:
    parser = BOOLEAN | {"cohortIdPath": "/id", "cohortNamePath": "/name"}

    assert refusal(parser, {"env": ENVIRONMENT, "id": "c", "name": "C"}).message == "/batch is missing"
    assert decode(parser, {"env": ENVIRONMENT, "id": "c", "name": "C", "batch": []}).cohorts == [Cohort("c", "C")]


def test_of_a_member_named_twice_the_last_counts_and_its_place_stays() -> None:
    members = [member("a", value=True), member("b", value=True), member("a", value=False)]

    assert list(decode(BOOLEAN, boolean(*members)).cohorts[0].members.items()) == [("a", False), ("b", True)]


def test_an_integer_id_and_its_text_are_the_same_member() -> None:
    members = [member(7, value=True), member("7", value=False), member(8, value=True)]

    assert decode(BOOLEAN, boolean(*members)).cohorts[0].members == {"7": False, "8": True}


# --- overrides ----------------------------------------------------------------------------------------------------


def test_members_may_belong_to_other_cohorts_than_the_payload_s_own() -> None:
    members = [
        member("a", cohort="own", name="Own", url="https://own"),
        member("b", cohort="second", name="Second", url="https://second"),
        member("c", cohort="third", name=None),
        member("d", cohort=None, name=None),
        member("a", cohort="third", name="", value=False),
    ]

    assert decode(BOOLEAN, boolean(*members)).cohorts == [
        Cohort("own", "Own", "https://own", {"a": True, "d": True}),
        Cohort("second", "Second", None, {"b": True}),
        Cohort("third", "Own", None, {"c": True, "a": False}),
    ]


def test_the_last_name_said_of_a_cohort_counts_and_beats_an_inherited_one() -> None:
    members = [
        member("a", cohort="own", name="Old"),
        member("b", cohort="other", name="Other"),
        member("c", cohort="other", name=None),
        member("d", cohort="own", name="New"),
        member("e", cohort="third", name=None),
    ]

    names = {cohort.cohort_id: cohort.name for cohort in decode(BOOLEAN, boolean(*members)).cohorts}

    assert names == {"own": "New", "other": "Other", "third": "Old"}


def test_an_integer_cohort_id_and_its_text_are_the_same_cohort() -> None:
    members = [member("a", cohort=5), member("b", cohort="5"), member("c", cohort=5)]

    assert decode(BOOLEAN, boolean(*members)).cohorts == [Cohort("5", "C", None, {"a": True, "b": True, "c": True})]


@pytest.mark.parametrize("field", ["cohort", "name"])
def test_an_override_of_another_type_is_a_fault_of_its_member(field: str) -> None:
    fault = refusal(BOOLEAN, boolean(member(), member(**{field: 1.5})))

    assert (fault.reason, fault.pointer) == ("member_cohort", f"/batch/1/{field}")


def test_a_thousand_cohorts_are_taken_and_one_more_is_refused() -> None:
    members = [member(f"u{index}", cohort=f"c{index}") for index in range(1001)]

    assert len(decode(BOOLEAN, boolean(*members[:1000])).cohorts) == 1000
    fault = refusal(BOOLEAN, boolean(*members))
    assert (fault.reason, fault.environment_id) == ("too_many_cohorts", ENVIRONMENT)


# --- array inclusion ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matcher", "action", "added"),
    [
        ("^add$", "add", True),
        ("^add$", "remove", False),
        ("^add$", "add\n", False),
        ("^add$", "re-add", False),
        ("add", "re-add", True),
        ("^true$", True, True),
        ("^true$", False, False),
        ("^1$", 1, True),
        ("^0$", -0, True),
        ("", "anything", True),
        ("ä+", "xäy", True),
    ],
)
def test_a_match_anywhere_adds_all_and_anything_else_removes_all(matcher: str, action: Any, added: bool) -> None:
    parser = INCLUSION | {"arrayInclusion": {"path": "/action", "matcher": matcher}}

    assert decode(parser, inclusion(action)).cohorts[0].members == {"u": added}


@pytest.mark.parametrize("action", [None, "", [], {}, ["add"], 1.5])
def test_an_action_that_is_no_scalar_is_refused(action: Any) -> None:
    fault = refusal(INCLUSION, inclusion(action))

    assert (fault.reason, fault.pointer, fault.environment_id) == ("action", "/action", ENVIRONMENT)


def test_a_missing_action_is_refused_even_without_members() -> None:
    body = inclusion("add", members=[])
    del body["action"]

    assert refusal(INCLUSION, body).message == "/action is missing"


def test_beside_an_array_inclusion_the_boolean_membership_is_not_looked_at() -> None:
    parser = INCLUSION | {"memberArrayParser": {"memberIdPath": "/id", "booleanMembershipPath": "/value"}}
    members = [{"id": "a", "value": False}, {"id": "b", "value": "nonsense"}, {"id": "c"}]

    assert decode(parser, inclusion("add", members=members)).cohorts[0].members == {"a": True, "b": True, "c": True}


# --- pointers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pointer", "document"),
    [
        ("/a~1b/m~0n", {"a/b": {"m~n": "c"}}),
        ("/~01", {"~1": "c"}),
        ("/", {"": "c"}),
        ("/list/1", {"list": ["x", "c"]}),
        ("/list/0/deep/1", {"list": [{"deep": [None, "c"]}]}),
        ("/object/0", {"object": {"0": "c"}}),
        ("/object/-", {"object": {"-": "c"}}),
        ("/object/01", {"object": {"01": "c"}}),
        ('/quo"te', {'quo"te': "c"}),
        ("/ä", {"ä": "c"}),
    ],
)
def test_pointers_are_followed_by_rfc_6901(pointer: str, document: dict[str, Any]) -> None:
    payload = decode(SPLIT | {"cohortIdPath": pointer}, split() | document)

    assert payload.cohorts == [Cohort("c", "C", None, {"u": True})]


@pytest.mark.parametrize("pointer", ["/list/-", "/list/01", "/list/1", "/list/x", "/list/0/x", "/nowhere/at/all"])
def test_what_a_pointer_does_not_find_is_missing(pointer: str) -> None:
    assert refusal(SPLIT | {"cohortIdPath": pointer}, split(list=["c"])).message == f"{pointer} is missing"


def test_the_whole_document_is_never_a_scalar() -> None:
    assert refusal(SPLIT | {"cohortIdPath": ""}, split()).message == "the body must be a non-empty string or an integer"


def test_members_may_be_bare_ids() -> None:
    parser = SPLIT | {"memberArrayParser": {"memberIdPath": ""}}

    assert decode(parser, split(data={"add": ["a", 5, "5"], "remove": ["a"]})).cohorts[0].members == {
        "a": False,
        "5": True,
    }
    assert refusal(parser, split(data={"add": ["a", {"id": "b"}]})).pointer == "/data/add/1"


def test_a_member_s_id_may_lie_deeper() -> None:
    parser = SPLIT | {"memberArrayParser": {"memberIdPath": "/keys/0/key"}}

    assert decode(parser, split(data={"add": [{"keys": [{"key": "a"}]}]})).cohorts[0].members == {"a": True}
    assert refusal(parser, split(data={"add": [{"keys": []}]})).pointer == "/data/add/0/keys/0/key"


# --- the decoder itself -------------------------------------------------------------------------------------------


def test_a_decoder_from_a_parser_s_text_reads_alike_and_is_made_once() -> None:
    text = RequestParser.model_validate(SPLIT).text

    assert decoder_from_text(text) is decoder_from_text(text)
    assert decoder_from_text(text).decode(json.dumps(split()).encode()) == decode(SPLIT, split())
