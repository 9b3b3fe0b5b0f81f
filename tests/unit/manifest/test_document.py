"""JSON text looked into place by place: elements one after the other, nesting, encodings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from worker.manifest.document import Document, Places, find
from worker.manifest.json_text import elements, is_utf8, nesting, sound_object

texts = st.text(st.sampled_from('a"\\[]{},: \né\U0001f600'), max_size=6)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=12,
)
layouts = st.sampled_from(
    [{"separators": (",", ":")}, {"indent": 1}, {"separators": (" , ", " : ")}, {"ensure_ascii": False}]
)


def depth(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0


@given(st.lists(values, max_size=6), layouts)
def test_elements_are_those_of_the_array(array: list[Any], layout: dict[str, Any]) -> None:
    text = json.dumps(array, **layout).encode()

    assert [json.loads(bytes(element)) for element in elements(Raw(text))] == array


@pytest.mark.parametrize(
    "member",
    [
        {"id": "}"},
        {"id": "{"},
        {"id": "[1]"},
        {"id": '"}"'},
        {"}": "}"},
        {"id": "}{"},
        {"id": {"a": "}"}},
        {"a": [{}]},
        {},
    ],
)
def test_braces_in_strings_do_not_end_an_element(member: dict[str, Any]) -> None:
    array = [member, {"id": 1}, member, [member, member], "}", member]

    found = elements(Raw(json.dumps(array).encode()))

    assert [json.loads(bytes(element)) for element in found] == array


def test_elements_have_no_blanks_around_them() -> None:
    found = elements(Raw(b'[ true , null\n, "a" , 5\t, [ 1 ] , { } , {"a": [1]}\r\n]'))

    assert list(map(bytes, found)) == [b"true", b"null", b'"a"', b"5", b"[ 1 ]", b"{ }", b'{"a": [1]}']


@pytest.mark.parametrize("text", [b"[]", b"[ ]", b"[\n\t]"])
def test_an_empty_array_has_no_elements(text: bytes) -> None:
    assert list(elements(Raw(text))) == []


@pytest.mark.parametrize("count", [399, 400, 401, 1200])
def test_an_element_of_many_parts_is_one_element(count: int) -> None:
    array = [["x,]"] * count, "y", {"k": '"' * count}, [[1] * count] * 3]

    found = elements(Raw(json.dumps(array).encode()))

    assert [json.loads(bytes(element)) for element in found] == array


def test_elements_of_elements_are_found_by_large_indices_too() -> None:
    array = [[index, index * 2] for index in range(300)]
    root = Raw(json.dumps({"a": array}).encode())

    for index in (0, 64, 65, 299):
        found = find(root, ("a", str(index), "1"))
        assert found is not None
        assert bytes(found) == str(index * 2).encode()
    assert find(root, ("a", "300", "1")) is None


@given(values, layouts)
def test_nesting_is_the_depth_of_the_deepest_value(value: Any, layout: dict[str, Any]) -> None:
    assert nesting(json.dumps(value, **layout).encode()) == depth(value)


@pytest.mark.parametrize("filler", ['"', "[", "\\", '\\"[', "x", '"["'])
@pytest.mark.parametrize("offset", range(4))
def test_nesting_is_told_over_the_borders_of_pieces(filler: str, offset: int) -> None:
    long = ["x" * offset, *[filler * 3] * 150_000, [[["deep"]]], {"a": filler}]

    assert nesting(json.dumps(long).encode()) == 4


@pytest.mark.parametrize("key", ['q"', "back\\slash", "\x01", "q[{,"])
def test_a_key_that_json_escapes_is_found_and_the_last_of_its_name_counts(key: str) -> None:
    pairs = [("x", [1, {key: "inner"}]), (key, 1), ("", {}), (key, {"deep": 2}), ("y", key)]
    text = "{" + ", ".join(f"{json.dumps(name)} : {json.dumps(value)}" for name, value in pairs) + "}"

    found = find(Raw(text.encode()), (key, "deep"))

    assert found is not None
    assert bytes(found).strip() == b"2"
    assert find(Raw(b'[1, "x"]'), (key,)) is None
    assert find(Raw(b"{}"), (key,)) is None


keys = st.sampled_from(["a", "b", 'q"', "0", ""])
places = st.one_of(st.none(), st.lists(keys, max_size=2).map(tuple))
small = st.one_of(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=2), st.dictionaries(keys, st.integers(0, 9)))


@given(st.lists(places, max_size=4), st.one_of(small, st.dictionaries(keys, small)))
def test_places_looked_up_together_are_those_looked_up_alone(together: list[Any], value: Any) -> None:
    text = Raw(json.dumps(value).encode())

    found = Places(together).find(text)

    alone = [None if tokens is None else find(text, tokens) for tokens in together]
    assert [item and bytes(item).strip() for item in found] == [item and bytes(item).strip() for item in alone]


def test_what_several_pointers_share_is_looked_up_once() -> None:
    document = Document(sound_object(b'{"a": {"b": [5, {"c": 6}]}}'))

    first = document.find(("a", "b", "1"))
    assert document.find(("a", "b", "1")) is first
    assert document.find(("a", "b", "0", "c")) is None
    assert document.find(("a", "x", "y")) is None


@pytest.mark.parametrize("offset", range(5))
@pytest.mark.parametrize("character", ["é", "\N{EURO SIGN}", "\U0001f600"])
def test_utf_8_is_told_over_the_borders_of_pieces(character: str, offset: int) -> None:
    body = b"x" * offset + character.encode() * 200_000

    assert is_utf8(body)
    assert not is_utf8(body + character.encode()[:1])
    assert not is_utf8(body[:-1] + b"x")
    assert not is_utf8(body + b"\xed\xa0\x80")
