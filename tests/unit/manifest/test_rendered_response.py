"""The rendered jsonResponseBody: what templates may say, and that what comes out is JSON or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.manifest.catalog import load_catalog
from worker.manifest.manifest import Manifest
from worker.manifest.response import ResponseFacts, ResponseTemplate, render

BODY = json.dumps(
    {"action": "add", "text": 'q"\\\n<&>é', "n": 5, "zero": 0, "flag": True, "list": [{"x": "y"}]}
).encode()


def rendered(source: str, body: bytes = BODY, **facts: Any) -> Any:
    answer = ResponseTemplate(source).render(ResponseFacts(body, **({"status_code": 200} | facts)))
    return None if answer is None else json.loads(answer)


def manifest_of(key: str) -> Manifest:
    manifest = load_catalog()[key]
    assert isinstance(manifest, Manifest)
    return manifest


def test_a_manifest_without_a_template_asks_for_no_answer_of_its_own() -> None:
    assert render(manifest_of("rudderstack"), ResponseFacts(b"{}", 200)) is None


def test_heap_is_told_of_success() -> None:
    facts = ResponseFacts(b"{}", 200, "", "default", "production", "heap-inbound-5", "https://segsync/s/5")

    answer = render(manifest_of("heap-inbound"), facts)

    assert answer is not None
    assert json.loads(answer) == {
        "projectId": "default",
        "environmentId": "production",
        "segmentId": "heap-inbound-5",
        "segmentUrl": "https://segsync/s/5",
        "status": "success",
    }


def test_heap_is_told_of_failure() -> None:
    answer = render(manifest_of("heap-inbound"), ResponseFacts(b"not json", 400, "the body is not JSON"))

    assert answer is not None
    assert json.loads(answer)["error"] == {"message": "the body is not JSON", "code": 400}


def test_a_template_may_quote_the_request() -> None:
    answer = render(manifest_of("example-synced-segment-integration2"), ResponseFacts(b'{"contextKind":"org"}', 200))

    assert answer is not None
    assert json.loads(answer)["contextKind"] == "org"


@given(st.text())
def test_any_text_survives_two_braces_and_three(text: str) -> None:
    body = json.dumps({"text": text}).encode()
    source = '{"two": "{{requestBody.text}}", "three": "{{{requestBody.text}}}", "fact": "{{segmentKey}}"}'

    assert rendered(source, body, segment_key=text) == {"two": text, "three": text, "fact": text}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{requestBody.n}}", 5),
        ("{{requestBody.flag}}", True),
        ("{{statusCode}}", 200),
        ('"{{requestBody.missing.too}}"', ""),
        ('"{{requestBody.list.[0].x}}"', "y"),
        ('"{{lookup requestBody "action"}}"', "add"),
        ('"{{#each requestBody.list}}{{x}}{{/each}}"', "y"),
        ('"{{#with requestBody}}{{action}}{{/with}}"', "add"),
        ('"{{@root.requestBody.action}}"', "add"),
        ("{{#if requestBody.zero}}1{{else}}2{{/if}}", 2),
        ("{{#if errorMessage}}1{{else}}2{{/if}}", 2),
        ('"{{log requestBody.action}}"', ""),
    ],
)
def test_values_stand_as_json_text(source: str, value: Any) -> None:
    assert rendered(source) == value


@pytest.mark.parametrize(
    "source", ["{{requestBody.action}}", '{"a": }', "", "{{nohelper x}}", "{{> nopartial}}", "NaN"]
)
def test_what_does_not_come_out_as_json_is_no_answer(source: str) -> None:
    assert rendered(source) is None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"5"])
def test_a_request_that_is_no_json_object_is_quoted_as_nothing(body: bytes) -> None:
    assert rendered('"{{requestBody.action}}"', body, status_code=400) == ""


def test_a_template_with_wrong_syntax_is_refused_when_compiled() -> None:
    with pytest.raises(ValueError, match="unclosed"):
        ResponseTemplate("{{#if x}}")


def test_nothing_is_printed_by_a_template_that_logs(capsys: pytest.CaptureFixture[str]) -> None:
    rendered('"{{log requestBody.action}}"')

    assert capsys.readouterr().out == ""
