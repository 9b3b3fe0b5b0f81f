"""The rendered jsonResponseBody: what templates may say, and that what comes out is JSON or a reason."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.manifest.catalog import load_catalog
from worker.manifest.manifest import Manifest
from worker.manifest.response.bounds import (
    LARGEST_ANSWER_BYTES,
    LARGEST_OPENED_BYTES,
    MOST_OPENED_BYTES,
    MOST_READ_BYTES,
    MOST_STEPS,
)
from worker.manifest.response.template import ResponseFacts, ResponseTemplate, UnrenderableResponse

BODY = json.dumps(
    {"action": "add", "text": 'q"\\\n<&>é', "n": 5, "zero": 0, "flag": True, "list": [{"x": "y"}]}
).encode()


def rendered(source: str, body: bytes = BODY, **facts: Any) -> Any:
    return json.loads(ResponseTemplate(source).render(ResponseFacts(body, **({"status_code": 200} | facts))))


def why_not(source: str, body: bytes = BODY) -> str:
    with pytest.raises(UnrenderableResponse) as caught:
        ResponseTemplate(source).render(ResponseFacts(body, 200))
    return str(caught.value)


def manifest_of(key: str) -> Manifest:
    manifest = load_catalog()[key]
    assert isinstance(manifest, Manifest)
    return manifest


def rendered_for(key: str, facts: ResponseFacts) -> bytes:
    template = manifest_of(key).response_template
    assert template is not None
    return template.render(facts)


def test_a_manifest_without_a_template_asks_for_no_answer_of_its_own() -> None:
    assert manifest_of("rudderstack").response_template is None


def test_heap_is_told_of_success() -> None:
    facts = ResponseFacts(b"{}", 200, "", "default", "production", "heap-inbound-5", "https://segsync/s/5")

    answer = rendered_for("heap-inbound", facts)

    assert json.loads(answer) == {
        "projectId": "default",
        "environmentId": "production",
        "segmentId": "heap-inbound-5",
        "segmentUrl": "https://segsync/s/5",
        "status": "success",
    }


def test_heap_is_told_of_failure() -> None:
    answer = rendered_for("heap-inbound", ResponseFacts(b"not json", 400, "the body is not JSON"))

    assert json.loads(answer)["error"] == {"message": "the body is not JSON", "code": 400}


def test_a_template_may_quote_the_request() -> None:
    answer = rendered_for("example-synced-segment-integration2", ResponseFacts(b'{"contextKind":"org"}', 200))

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


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"5"])
def test_a_request_that_is_no_json_object_is_quoted_as_nothing(body: bytes) -> None:
    assert rendered('"{{requestBody.action}}"', body, status_code=400) == ""


def test_a_template_with_wrong_syntax_is_refused_when_compiled() -> None:
    with pytest.raises(ValueError, match="unclosed"):
        ResponseTemplate("{{#if x}}")


def test_nothing_is_printed_by_a_template_that_logs(capsys: pytest.CaptureFixture[str]) -> None:
    rendered('"{{log requestBody.action}}"')

    assert capsys.readouterr().out == ""


# Finite numbers only, and no unpaired surrogates: other bodies are refused before any template looks at them.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_any_value_of_the_body_comes_out_as_itself(value: Any, ascii_only: bool) -> None:
    body = json.dumps({"value": value}, ensure_ascii=ascii_only).encode()
    quoted = isinstance(value, str) or value is None  # null is empty: it has no text of its own
    source = (
        '["{{requestBody.value}}", "{{{requestBody.value}}}"]'
        if quoted
        else "[{{requestBody.value}},{{{requestBody.value}}}]"
    )

    came_out = rendered(source, body)

    expected = "" if value is None else value
    assert came_out == [expected, expected]
    assert [type(one) for one in came_out] == [type(expected)] * 2


@given(JSON)
def test_a_body_comes_out_whole(value: Any) -> None:
    body = {"value": value}

    assert rendered("{{requestBody}}", json.dumps(body).encode()) == body
    assert rendered("{{this}}", json.dumps(body).encode())["requestBody"] == body


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_names_survive_where_a_loop_shows_them(members: dict[str, Any]) -> None:
    source = '[{{#each requestBody}}{{#unless @first}},{{/unless}}"{{@key}}"{{/each}}]'

    assert rendered(source, json.dumps(members).encode()) == list(members)


@given(st.text(min_size=1), JSON.filter(lambda value: not isinstance(value, str | None)))
def test_a_value_is_looked_up_by_any_name_that_the_body_says(name: str, value: Any) -> None:
    body = json.dumps({"name": name, "values": {name: value}}).encode()

    assert rendered("{{lookup requestBody.values requestBody.name}}", body) == value


CONTAINERS = json.dumps(
    {"object": {"a": [1, {"b": None}]}, "array": [True, "x", 1.50], "one": 1, "e": [], "o": {}}
).encode()


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{requestBody.object}}", {"a": [1, {"b": None}]}),
        ("{{requestBody.array}}", [True, "x", 1.5]),
        ("{{requestBody.e}}", []),
        ("{{requestBody.o}}", {}),
        ("{{#with requestBody.object}}{{this}}{{/with}}", {"a": [1, {"b": None}]}),
        ("{{#with requestBody.object}}{{a}}{{/with}}", [1, {"b": None}]),
        ("[{{#each requestBody.object.a}}{{this}}{{#unless @last}},{{/unless}}{{/each}}]", [1, {"b": None}]),
        ("{{#each requestBody.object as |v k|}}{{v}}{{/each}}", [1, {"b": None}]),
        ('{{lookup requestBody "array"}}', [True, "x", 1.5]),
        ("{{lookup requestBody.object.a requestBody.one}}", {"b": None}),
        ('{{#with (lookup requestBody "object")}}{{a}}{{/with}}', [1, {"b": None}]),
        ("{{@root.requestBody.array}}", [True, "x", 1.5]),
        ('{{#*inline "part"}}{{x}}{{/inline}}{{> part x=requestBody.object}}', {"a": [1, {"b": None}]}),
        ("{{#if requestBody.e}}1{{else}}2{{/if}}", 2),
        ("{{#if requestBody.o}}1{{else}}2{{/if}}", 1),
        ("[{{#requestBody.array}}{{@index}}{{#unless @last}},{{/unless}}{{/requestBody.array}}]", [0, 1, 2]),
        ('"{{requestBody.array.[9]}}{{lookup requestBody.array 9}}{{lookup requestBody.one 0}}"', ""),
    ],
)
def test_containers_stand_as_json_wherever_they_are_met(source: str, value: Any) -> None:
    assert rendered(source, CONTAINERS) == value


@pytest.mark.parametrize("number", ["0.10", "-0.0", "1e400", "1" * 5000, "-7E-2"])
def test_a_number_keeps_its_digits(number: str) -> None:
    body = f'{{"n":{number}}}'.encode()

    assert ResponseTemplate("{{requestBody.n}}").render(ResponseFacts(body, 200)) == number.encode()


@pytest.mark.parametrize(("number", "truth"), [("0", 2), ("-0.0", 2), ("0e5", 2), ("1e-9", 1), ("-1", 1)])
def test_zero_is_false_however_it_is_written(number: str, truth: int) -> None:
    assert rendered("{{#if requestBody.n}}1{{else}}2{{/if}}", f'{{"n":{number}}}'.encode()) == truth


def test_facts_that_are_no_unicode_do_not_take_the_answer_away() -> None:
    assert rendered('"{{errorMessage}}"', error_message="a\ud800b") == "a?b"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ('{"a": }', "at character 7, between '{\"a\": ' and '}': Expecting value"),
        ("", "at character 1, between '' and '': Expecting value"),
        ("1 2", "at character 3, between '1 ' and '2': Extra data"),
        ('{"a": {{requestBody.action}}, "b": 1}', "at character 7, between '{\"a\": ' and '…, \"b\": 1}'"),
        ('{"a": "{{requestBody.action}}" "b": 1}', "between '{\"a\": \"…\" ' and '\"b\": 1}': Expecting ','"),
        ('"{{requestBody.list}}"', "between '\"' and '…\"'"),
        ("[NaN]", "NaN or Infinity"),
        ("-Infinity", "NaN or Infinity"),
        ('"\\ud800"', "an unpaired surrogate"),
        ('"\ud800"', "an unpaired surrogate"),
        ("[" * 5000 + "]" * 5000, "nested too deep"),
        ("{{nohelper requestBody.action}}", 'Missing helper: "nohelper"'),
        ("{{> nopartial}}", "The partial nopartial could not be found"),
        ("{{lookup requestBody}}", "lookup takes two arguments"),
        ('{{#*inline "a"}}{{> a}}{{/inline}}{{> a}}', "nest too deep"),
    ],
)
def test_an_answer_that_is_no_json_says_why_and_where(source: str, says: str) -> None:
    assert says in why_not(source)


SECRETS = json.dumps({"action": "s3cret-value", "s3cret-name": ["s3cret-value"], "n": 5353}).encode()


@pytest.mark.parametrize(
    "source",
    [
        "{{requestBody.action}}",
        '"{{requestBody}}"',
        '{"a": "{{requestBody.action}}" "{{requestBody.n}}"}',
        "{{#each requestBody}}{{@key}}{{this}}{{/each}}",
        "{{> (lookup requestBody 'action')}}",
        "{{> (lookup requestBody 'n')}}",
        "{{lookup requestBody.action}}",
        '[{{requestBody.n}} {{requestBody.action}}"]',
        "{{lookup requestBody requestBody.action requestBody.n}}",
    ],
)
def test_a_reason_holds_nothing_of_the_request(source: str) -> None:
    assert "s3cret" not in why_not(source, SECRETS)
    assert "5353" not in why_not(source, SECRETS)


@pytest.mark.parametrize(
    "source", ["{{/}}", "{{#*inline}}{{/inline}}", "{{}}", "{{{{raw}}}}", "\x02", '"\x03"', "{{{x}}"]
)
def test_whatever_the_library_cannot_read_is_a_wrong_template(source: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ResponseTemplate(source)


LARGE_ARRAY = b'{"action":"add","members":[' + b",".join([b'{"id":"m","n":[1]}'] * 30_000) + b"]}"
LARGE_OBJECT = b'{"action":"a","o":{' + b"".join(b'"%d":1,' % n for n in range(60_000)) + b'"action":"b"}}'


@pytest.mark.parametrize(
    ("body", "source", "value"),
    [
        (LARGE_ARRAY, "{{requestBody.action}}", "add"),
        (LARGE_ARRAY, "{{requestBody.members.[0].id}}", "m"),
        (LARGE_ARRAY, "{{requestBody.members.[15].n.[0]}}", "1"),
        (LARGE_ARRAY, "{{requestBody.members.[1000].n.[0]}}", "1"),
        (LARGE_ARRAY, "{{requestBody.members.[999999].id}}", ""),
        (LARGE_OBJECT, '{{requestBody.o.[a"b]}}', ""),
        (LARGE_ARRAY, "{{#if requestBody.members}}yes{{/if}}", "yes"),
        (LARGE_ARRAY, "{{lookup requestBody.members.[1] 'id'}}", "m"),
        (LARGE_OBJECT, "{{requestBody.o.action}}", "b"),
        (LARGE_OBJECT, "{{lookup requestBody.o requestBody.o.action}}", ""),
        (b'{"list":["' + b"x" * LARGEST_OPENED_BYTES + b'"]}', "{{requestBody.list.[3]}}", ""),
        (b'{"a\\u0063":1,"x":"' + b"x" * LARGEST_OPENED_BYTES + b'","ac":2}', "{{requestBody.ac}}", "2"),
    ],
)
def test_a_large_body_is_read_where_the_template_says(body: bytes, source: str, value: str) -> None:
    assert rendered(f'"{source}"', body) == value


# More looks than the bound lets through, each at all of the large object.
NAMES = MOST_READ_BYTES // len(LARGE_OBJECT) + 2
NESTED = b'{"a":' * 25 + b"1" + b"}" * 25


@pytest.mark.parametrize(
    ("body", "source", "says"),
    [
        (LARGE_ARRAY, "{{#each requestBody.members}}{{id}}{{/each}}", "goes through an array"),
        (LARGE_OBJECT, "{{#each requestBody.o}}{{@key}}{{/each}}", "goes through an array or object"),
        (
            b'{"name":"' + b"n" * 2000 + b'",' + LARGE_OBJECT[1:],
            "{{lookup requestBody requestBody.name}}",
            "a name of more than 1024 characters",
        ),
        (
            b'{"names":[' + b",".join(b'"n%d"' % n for n in range(NAMES)) + b"]," + LARGE_OBJECT[1:],
            "{{#each requestBody.names}}{{lookup ../requestBody.o this}}{{/each}}",
            "looks too often into an array or object",
        ),
        (
            b'{"m":[' + b",".join([b"1"] * 30_000) + b"]}",
            "{{#each requestBody.m}}x{{/each}}",
            f"more than {MOST_STEPS} values",
        ),
        (
            b'{"m":[' + b",".join([b"1"] * 1000) + b"]}",
            "{{#each requestBody.m}}{{#each ../requestBody.m}}x{{/each}}{{/each}}",
            f"more than {MOST_STEPS} values",
        ),
        (
            NESTED,
            '{{#*inline "t"}}{{#if a}}{{#with a}}{{> t}}{{> t}}{{/with}}{{/if}}{{/inline}}{{> t requestBody}}',
            f"more than {MOST_STEPS} values",
        ),
        (
            b'{"m":[' + b",".join([b"[" + b",".join([b"1"] * 100_000) + b"]"] * 11) + b"]}",
            "".join(f"{{{{requestBody.m.[{n}].[0]}}}}" for n in range(11)),
            f"opens arrays and objects of more than {MOST_OPENED_BYTES} bytes",
        ),
        (
            b'{"text":"' + b"x" * LARGEST_ANSWER_BYTES + b'"}',
            '"{{requestBody.text}}"',
            f"quotes more than {LARGEST_ANSWER_BYTES} bytes",
        ),
        (
            b'{"m":[' + b",".join([b"1"] * 5_000) + b"]}",
            '"{{#each requestBody.m}}' + "x" * 400 + '{{/each}}"',
            f"longer than {LARGEST_ANSWER_BYTES} bytes",
        ),
    ],
)
def test_a_hostile_body_cannot_make_a_template_do_much(body: bytes, source: str, says: str) -> None:
    assert says in why_not(source, body)


def test_the_same_body_is_bounded_anew_for_each_answer() -> None:
    template = ResponseTemplate('"{{#each requestBody.m}}{{this}}{{/each}}"')
    facts = ResponseFacts(b'{"m":[' + b",".join([b"1"] * (MOST_STEPS // 2)) + b"]}", 200)

    assert len({template.render(facts) for _ in range(3)}) == 1


def test_threads_share_a_template_and_mix_nothing_up() -> None:
    template = ResponseTemplate('["{{segmentKey}}"{{#each requestBody.m}},{{this}}{{/each}}]')
    wrong: list[Any] = []

    def use(number: int) -> None:
        body = json.dumps({"m": [number] * 50}).encode()
        for _ in range(50):
            answer = json.loads(template.render(ResponseFacts(body, 200, segment_key=str(number))))
            if answer != [str(number), *[number] * 50]:
                wrong.append(answer)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
