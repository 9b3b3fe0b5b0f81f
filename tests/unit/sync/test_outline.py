"""The outline of a body tells its shape, and nothing that it says."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sync.outline import MOST_DEPTH, MOST_KEYS, outline


def shape(value: Any, pointer: str | None = None) -> Any:
    return outline(json.dumps(value).encode(), pointer).described()["shape"]


def test_keys_types_and_lengths_are_told_and_of_arrays_the_first_element() -> None:
    body = {"id": "env", "n": 7, "f": 1.5, "on": True, "none": None, "list": [{"id": "ann"}, {"id": "bob"}, None]}
    assert outline(json.dumps(body).encode()).described() == {
        "length": 103,
        "json": True,
        "cut": False,
        "shape": {
            "type": "object",
            "length": 6,
            "keys": {
                "id": {"type": "string", "length": 3},
                "n": {"type": "integer"},
                "f": {"type": "number"},
                "on": {"type": "boolean"},
                "none": {"type": "null"},
                "list": {
                    "type": "array",
                    "length": 3,
                    "types": {"object": 2, "null": 1},
                    "elements": {"0": {"type": "object", "length": 1, "keys": {"id": {"type": "string", "length": 3}}}},
                },
            },
        },
    }


def test_a_person_reads_it_in_lines() -> None:
    body = {"name": "", "batch": [{"id": "ann"}, {"id": 1}, 3], "tags": ["a", "b"]}
    assert list(outline(json.dumps(body).encode(), "/batch/1/id").lines()) == [
        "object",
        "  name: empty string",
        "  batch: array of 3: 2 object, 1 integer",
        "    [0]: object",
        "      id: string of 3",
        "    [1]: object",
        "      id: integer",
        "  tags: array of 2: 2 string",
    ]


def test_what_lies_on_the_way_of_a_pointer_is_told_wherever_it_is() -> None:
    value: Any = {"bad": [1, 2, {"a/b": "x"}]}
    for _ in range(MOST_DEPTH):
        value = {"deeper": value}
    found = shape(value, "/deeper" * MOST_DEPTH + "/bad/2/a~1b")
    for _ in range(MOST_DEPTH):
        found = found["keys"]["deeper"]
    assert found["keys"]["bad"]["elements"]["2"]["keys"] == {"(a key of 3 characters)": {"type": "string", "length": 1}}
    assert "elements" not in shape(value)["keys"]["deeper"]


def test_keys_that_may_be_data_are_not_told() -> None:
    many = {f"key{number}": number for number in range(MOST_KEYS + 1)}
    assert shape(many) == {"type": "object", "length": MOST_KEYS + 1}
    assert list(shape(many, "/key7")["keys"]) == ["key7"]
    assert list(shape(many, f"/key{MOST_KEYS}")["keys"]) == [f"key{MOST_KEYS}"]
    assert shape({"ann@example.com": 1})["keys"] == {"(a key of 15 characters)": {"type": "integer"}}
    assert shape({"4915112345678": 1})["keys"] == {"(a key of 13 characters)": {"type": "integer"}}
    assert list(shape({"Anonymous ID": 1, "$type": 2, "größe": 3})["keys"]) == ["Anonymous ID", "$type", "größe"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_whatever_is_json_is_walked_through(value: Any, ascii_only: bool, indent: int | None) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(errors="replace")
    found = outline(body)
    assert (found.fault, found.cut) == ("", False)
    assert found.root is not None
    if isinstance(value, list | dict | str):
        assert found.root.length == (len(value) if not isinstance(value, str) else len(body) - 2)


@given(st.binary(max_size=40) | st.text('{}[]",:\\u0 1e-tnul', max_size=30).map(str.encode))
def test_what_is_no_json_is_called_so_and_only_that(body: bytes) -> None:
    try:
        json.loads(body.decode("utf-8-sig"), parse_constant=_refuse)
        sound = True
    except ValueError:
        sound = False
    assert (outline(body).fault == "") == sound


def _refuse(constant: str) -> None:
    raise ValueError(constant)


@pytest.mark.parametrize(
    ("body", "fault", "at"),
    [
        (b"", "it ends too early", 0),
        (b'{"a": [1, 2', "it ends too early", 11),
        (b'{"a": "b', "a string does not end", 6),
        (b'{"a" 1}', "a colon was expected", 5),
        (b'{"a": 1 "b": 2}', "a comma or the end was expected", 8),
        (b"[1, ]", "a value was expected", 4),
        (b"{1: 2}", "a key was expected", 1),
        (b"[1] x", "more after the end", 4),
        (b"[NaN]", "a value was expected", 1),
        (b'["\xff"]', "bytes that are not UTF-8", 2),
        (b'["\\x"]', "a string with a character or an escape that JSON does not have", 1),
        (b"[" * 2000, "it is too deep", 1000),
    ],
)
def test_where_it_breaks_is_told_by_the_byte(body: bytes, fault: str, at: int) -> None:
    found = outline(body)
    assert (found.fault, found.fault_at) == (fault, at)


def test_of_a_large_body_the_first_bytes_are_looked_at() -> None:
    body = json.dumps({"batch": [{"id": f"person-{number}"} for number in range(50_000)]}).encode()
    found = outline(body, most_bytes=10_000)
    assert (found.cut, found.fault) == (True, "")
    assert found.root is not None
    assert 300 < found.root.keys["batch"].length < 500
    for end in range(1, 60):
        assert outline('{"ключ": ["значение", 12345, true]}'.encode(), most_bytes=end).fault == ""


def test_no_value_is_told() -> None:
    body = json.dumps({"a": ["secret-1", {"b": "secret-2"}], "c": 424242}).encode()
    found = outline(body, "/a/1/b")
    said = json.dumps(found.described()) + "".join(found.lines())
    assert "secret" not in said
    assert "4242" not in said


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * 500_000 + b'"',
        b'"' + b"\\\\" * 500_000 + b'"',
        b"[" + b'"",' * 300_000 + b"1]",
        b'{"a":' * 900 + b"1" * 1_000_000,
        b" " * 1_000_000,
        b'{"' + b"a" * 1_000_000 + b'":1}',
    ],
    ids=["escaped quotes", "backslashes", "empty strings", "a long number", "spaces", "a long key"],
)
def test_whatever_the_body_it_takes_a_second_or_two(body: bytes) -> None:
    began = time.monotonic()
    outline(body)
    assert time.monotonic() - began < 10
