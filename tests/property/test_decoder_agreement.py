"""Decoder against the reference parser over generated parsers and bodies, in a form that hypothesis can shrink.

`make fuzz` compares many more; what it finds is best looked at here.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
import reference_parser
from fuzz import bodies, parsers
from fuzz.agreement import POLICIES, Agreed, Comparison
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

BOOLEAN = {
    "environmentIdPath": "/env",
    "cohortIdPath": "/m/0/cid",
    "cohortNamePath": "/m/0/cname",
    "memberArrayPath": "/m",
    "memberArrayParser": {
        "memberIdPath": "/id",
        "booleanMembershipPath": "/v",
        "cohortIdPath": "/cid",
        "cohortNamePath": "/cname",
    },
}
SPLIT = {
    "environmentIdPath": "/env",
    "contextKindPath": "/kind",
    "cohortIdPath": "/cid",
    "cohortNamePath": "/cname",
    "cohortUrlPath": "/url",
    "addMemberArrayPath": "/data/add",
    "removeMemberArrayPath": "/data/remove",
    "memberArrayParser": {"memberIdPath": "/id"},
}

quick = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
policies = st.sampled_from(POLICIES)
randoms = st.randoms(use_true_random=False)


def check(parser: dict[str, Any], body: bytes, policy: Any = "reject") -> Agreed:
    agreed = compare(parser, body, policy)
    event(str(agreed.outcome[0] if agreed.accepted else agreed.outcome[:2]))
    return agreed


def compare(parser: dict[str, Any], body: bytes, policy: Any = "reject") -> Agreed:
    return Comparison(parser).check(body, policy)


@quick
@given(randoms, policies)
def test_every_way_to_read_agrees_with_the_reference_on_any_parser_and_body(random: Random, policy: str) -> None:
    parser = parsers.parser(random)
    check(parser, bodies.body(random, parser), policy)


@quick
@given(randoms, policies, st.sampled_from([BOOLEAN, SPLIT]))
def test_every_way_to_read_agrees_with_the_reference_on_the_commonest_shapes(
    random: Random, policy: str, parser: dict[str, Any]
) -> None:
    check(parser, bodies.body(random, parser), policy)


@quick
@given(randoms, policies)
def test_every_way_to_read_agrees_with_the_reference_on_hostile_bodies(random: Random, policy: str) -> None:
    parser = random.choice((BOOLEAN, SPLIT, parsers.parser(random)))
    body = bodies.with_a_field(random, bodies.body(random, parser), random.choice(bodies.FIELDS))
    check(parser, bodies.splintered(random, body) if random.choice((False, True)) else body, policy)


@quick
@given(st.binary(max_size=40), policies)
def test_bytes_of_any_kind_are_refused_as_malformed_or_read_alike(body: bytes, policy: str) -> None:
    check(BOOLEAN, body, policy)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "m", "v", ""]), inner),
    max_leaves=8,
)


@quick
@given(st.lists(json_values, max_size=4), policies)
def test_members_of_any_kind_are_read_or_rejected_alike(members: list[Any], policy: str) -> None:
    document = {"env": "e", "cid": "c", "cname": "n", "data": {"add": members, "remove": members[::-1]}}
    check(SPLIT, json.dumps(document).encode(), policy)


@pytest.mark.parametrize(
    "body",
    [
        b'{"env":"e","m":[{"id":1,"v":true,"cid":"c","cname":"n"},{"id":"1","v":false},{"id":1,"v":true}]}',
        b'{"env":"e","m":[{"id":"u","v":true,"cid":5,"cname":"n"},{"id":"u","v":false,"cid":"5","cname":"m"}]}',
    ],
)
def test_a_member_or_cohort_that_is_named_by_text_and_by_number_is_one(body: bytes) -> None:
    [(_, _, _, members)] = compare(BOOLEAN, body).outcome[3]

    assert len(members) == 1


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("letter", ["a", "\U0001f600"])
@pytest.mark.parametrize("field", ["cid", "cname"])
def test_cohort_texts_of_a_member_are_taken_up_to_the_same_length(field: str, letter: str, policy: str) -> None:
    longest = 65_536
    first = {"id": "ann", "v": True, "cid": "c", "cname": "C"}
    bodies_of = [
        json.dumps({"env": "e", "m": [first, {"id": "bob", "v": True, field: letter * length}]}).encode()
        for length in (longest, longest + 1)
    ]
    fitting, too_long = (compare(BOOLEAN, body, policy) for body in bodies_of)

    assert (fitting.accepted, fitting.rejected) == (True, 0)
    assert too_long.rejected == 1 if policy == "skip" else too_long.outcome[1:3] == ("member_cohort", f"/m/1/{field}")


@pytest.mark.parametrize("field", ["cid", "cname", "url"])
def test_cohort_texts_of_a_payload_are_taken_up_to_the_same_length(field: str) -> None:
    fitting, too_long = (compare(SPLIT, split(**{field: "a" * length})) for length in (65_536, 65_537))

    assert (fitting.accepted, too_long.outcome[:3]) == (True, ("refused", "cohort", f"/{field}"))


# --- the reference itself -----------------------------------------------------------------------------------------
# Where both could be wrong together: what the contract says, on bodies read by hand.


def split(**fields: Any) -> bytes:
    return json.dumps({"env": "e", "cid": "c", "cname": "C", "data": {"add": [{"id": "u"}]}} | fields).encode()


def test_the_reference_reads_a_plain_payload() -> None:
    reading = reference_parser.read(SPLIT, split(kind="org", url=7))

    assert reading == ("e", "org", [("c", "C", "7", [("u", True)])], 0, [])


def test_the_reference_leaves_out_what_it_cannot_read_under_skip() -> None:
    members = {"add": [{"id": "u"}, {"id": 1.5}, 3], "remove": [{"id": "u"}, {}]}
    reading = reference_parser.read(SPLIT, split(data=members), "skip")

    assert reading.cohorts == [("c", "C", None, [("u", False)])]
    assert reading.rejected == 3
    assert reading.listed == [
        ("/data/add/1/id", "member_id"),
        ("/data/add/2", "member"),
        ("/data/remove/1/id", "member_id"),
    ]


def test_the_reference_lists_the_first_hundred_members_that_it_left_out() -> None:
    reading = reference_parser.read(SPLIT, split(data={"add": [0] * 250}), "skip")

    assert (reading.rejected, len(reading.listed), reading.listed[-1]) == (250, 100, ("/data/add/99", "member"))


@pytest.mark.parametrize(
    ("body", "reason", "pointer", "environment_id"),
    [
        (b"[]", "malformed", "", None),
        (b"{", "malformed", None, None),
        (b'{"a":NaN}', "malformed", None, None),
        (b'{"a":"\\ud800","a":1}', "malformed", None, None),
        (b'{"a":' + b"[" * 128 + b"]" * 128 + b"}", "malformed", None, None),
        (split(env=True), "environment", "/env", None),
        (split(kind="multi"), "context_kind", "/kind", "e"),
        (split(cid=""), "cohort", "/cid", "e"),
        (split(url=[]), "cohort", "/url", "e"),
        (split(data={"remove": {}}), "members", "/data/remove", "e"),
        (split(data={"add": [{"id": "u"}, {"id": None}]}), "member_id", "/data/add/1/id", "e"),
    ],
)
def test_the_reference_says_what_is_wrong_and_where(
    body: bytes, reason: str, pointer: str | None, environment_id: str | None
) -> None:
    with pytest.raises(reference_parser.Refused) as caught:
        reference_parser.read(SPLIT, body)

    assert caught.value.args == (reason, pointer, environment_id)
