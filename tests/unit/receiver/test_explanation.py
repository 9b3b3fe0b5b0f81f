"""What a payload would do, told without a server."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from worker.manifest.catalog import load_catalog
from worker.manifest.manifest import BrokenManifest, Manifest, read_manifest
from worker.manifest.request_parser import Fault
from worker.receiver.explanation import explain, unreadable_members
from worker.records.segment_keys import wished_keys

CATALOG = load_catalog()
MUST_BE_SCALAR = "/e must be a non-empty string or an integer"


def explained(key: str, body: Any, **options: Any) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.loads(msgspec.json.encode(explain(CATALOG[key], content, **options)))


def batch(*members: Any, **more: Any) -> dict[str, Any]:
    return {"environmentId": "env-1", "batch": [_cohort(member) for member in members], **more}


def _cohort(member: Any) -> Any:
    return {"cohortId": "c1", "cohortName": "C 1", **member} if isinstance(member, dict) else member


def heap(**data: Any) -> dict[str, Any]:
    return {"parameters": {"environment_id": "env-1"}, "heap": {"data": {"segment": {"id": 7, "name": "S"}, **data}}}


def test_an_accepted_payload_has_exactly_this_form() -> None:
    body = batch({"userId": "ann", "value": True}, {"userId": "bob", "value": False}, contextKind="device")

    assert explained("segment-audiences", body) == {
        "ok": True,
        "environmentId": "env-1",
        "contextKind": "device",
        "segments": [
            {
                "segmentKey": "segment-audiences-c1",
                "cohortId": "c1",
                "cohortName": "C 1",
                "cohortUrl": None,
                "add": ["ann"],
                "remove": ["bob"],
            }
        ],
        "rejected": [],
        "response": {"status": 204, "body": None},
    }


def test_a_refused_payload_has_exactly_this_form() -> None:
    message = "/batch/1/userId is missing"

    assert explained("amplitude", batch({"userId": "ann", "value": True}, {"value": True})) == {
        "ok": False,
        "error": {"pointer": "/batch/1/userId", "reason": "member_id", "message": message},
        "response": {"status": 400, "body": {"code": "invalid_request", "message": message}},
    }


def test_a_fault_without_a_place_has_no_pointer() -> None:
    error = explained("amplitude", b"{")["error"]

    assert error["pointer"] is None
    assert error["reason"] == "malformed"


def test_with_skip_the_bad_members_are_listed_and_the_answer_is_the_success_answer() -> None:
    found = explained("amplitude", batch({"userId": "ann", "value": True}, {"value": True}, 5), policy="skip")

    assert (found["ok"], found["response"]) == (True, {"status": 204, "body": None})
    assert found["segments"][0]["add"] == ["ann"]
    assert found["rejected"] == [
        {"pointer": "/batch/1/userId", "reason": "member_id"},
        {"pointer": "/batch/2", "reason": "member"},
    ]


@pytest.mark.parametrize(("bad", "count"), [(100, None), (101, 101)])
def test_the_rejected_are_counted_when_they_are_too_many_to_be_listed(bad: int, count: int | None) -> None:
    found = explained("amplitude", batch({"userId": "ann", "value": True}, *[{}] * bad), policy="skip")

    assert len(found["rejected"]) == 100
    assert found.get("rejectedCount") == count


def test_every_cohort_of_a_payload_has_its_segment_and_the_answer_names_the_first() -> None:
    body = batch(
        {"userId": "ann", "value": True}, {"userId": "ann", "value": False, "cohortId": "c 2", "cohortName": "2"}
    )

    segments = explained("amplitude", body)["segments"]

    assert [found["segmentKey"] for found in segments] == ["amplitude-c1", wished_keys("amplitude", "c 2")[0]]
    assert [(found["add"], found["remove"]) for found in segments] == [(["ann"], []), ([], ["ann"])]


def test_ids_stand_in_the_order_in_which_the_body_first_names_them() -> None:
    flags = (("z", False), ("a", True), ("m", True), ("z", True))
    body = batch(*({"userId": member, "value": value} for member, value in flags))

    assert explained("amplitude", body)["segments"][0]["add"] == ["z", "a", "m"]


def test_the_answer_is_the_manifests_own_with_the_facts_of_a_request() -> None:
    facts = {"base_url": "https://segsync.example/", "project_key": "shop", "environment_key": "test"}

    assert explained("heap-inbound", heap(), **facts)["response"] == {
        "status": 200,
        "body": {
            "projectId": "shop",
            "environmentId": "test",
            "segmentId": "heap-inbound-7",
            "segmentUrl": "https://segsync.example/shop/test/segments/heap-inbound-7",
            "status": "success",
        },
    }


def test_a_refusal_is_answered_by_the_manifests_own_template_too() -> None:
    found = explained("heap-inbound", heap(add="nobody"))

    assert found["response"]["status"] == 400
    assert found["response"]["body"]["error"] == {"code": 400, "message": found["error"]["message"]}


def answering(template: str) -> Manifest | BrokenManifest:
    parser = {
        "environmentIdPath": "/e",
        "cohortIdPath": "/c",
        "cohortNamePath": "/c",
        "addMemberArrayPath": "/a",
        "removeMemberArrayPath": "/r",
        "memberArrayParser": {"memberIdPath": ""},
    }
    capability = {"requestParser": parser, "jsonResponseBody": template}
    return read_manifest("mine", json.dumps({"capabilities": {"syncedSegment": capability}}).encode())


def test_an_answer_keeps_every_digit_that_the_partner_sent() -> None:
    manifest = answering('{"c": {{requestBody.c}} }')

    found = msgspec.json.encode(explain(manifest, b'{"e": "env-1", "c": 12345678901234567890123}'))

    assert b"12345678901234567890123 }" in found


@pytest.mark.parametrize(("environment_id", "status"), [("env-1", 204), ([], 400)])
def test_an_answer_whose_template_fails_is_the_plain_one_and_says_why(environment_id: object, status: int) -> None:
    manifest = answering("{{requestBody.c}}, {{statusCode}}")
    body = json.dumps({"e": environment_id, "c": 5}).encode()

    response = json.loads(msgspec.json.encode(explain(manifest, body)))["response"]

    assert response["status"] == status
    assert response["body"] == (None if status == 204 else {"code": "invalid_request", "message": MUST_BE_SCALAR})
    assert response["problem"].startswith("what the template renders is no JSON at character 2, between")


def test_a_body_over_the_receivers_bound_is_413_and_one_of_just_its_size_is_taken() -> None:
    body = json.dumps(batch({"userId": "ann", "value": True})).encode()

    assert explained("amplitude", body, max_body_bytes=len(body))["ok"]
    refused = explained("amplitude", body, max_body_bytes=len(body) - 1)

    assert refused["error"]["reason"] == "too_large"
    assert refused["response"] == {
        "status": 413,
        "body": {"code": "payload_too_large", "message": refused["error"]["message"]},
    }


def test_a_broken_manifest_is_503_and_its_faults_are_told() -> None:
    broken = BrokenManifest("mine", (Fault("/capabilities", "is required"), Fault("/name", "is no string")))

    found = json.loads(msgspec.json.encode(explain(broken, b"{}", max_body_bytes=1)))

    assert (found["ok"], found["error"]["reason"], found["error"]["pointer"]) == (False, "manifest", None)
    assert found["error"]["faults"] == [
        {"pointer": "/capabilities", "message": "is required"},
        {"pointer": "/name", "message": "is no string"},
    ]
    assert found["response"]["status"] == 503
    assert found["response"]["body"]["code"] == "service_unavailable"


def test_unreadable_members_are_counted_whatever_the_policy_would_be() -> None:
    manifest = CATALOG["amplitude"]
    assert isinstance(manifest, Manifest)

    found = unreadable_members(manifest, json.dumps(batch({"userId": "ann", "value": 1}, {}, 5)).encode())

    assert [(member.pointer, member.reason) for member in found.listed] == [
        ("/batch/0/value", "membership"),
        ("/batch/1/value", "membership"),
        ("/batch/2", "member"),
    ]
    assert unreadable_members(manifest, b"{}").count == 0
