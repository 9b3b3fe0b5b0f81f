"""JSON Patch on a document of which a part may be changed: RFC 6902's operations, and each refusal's own status."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from worker.api.json_patch import MOST_OPERATIONS, PatchRefused, apply_patch

DOCUMENT = {
    "_id": "1",
    "version": 3,
    "name": "one",
    "on": True,
    "tags": ["a", "b"],
    "config": {"host": "h", "password": "sup********123"},
}
EDITABLE = ("name", "on", "tags", "config")


def patched(*operations: Any) -> dict[str, Any]:
    document = deepcopy(DOCUMENT)
    found = apply_patch(document, list(operations), EDITABLE)
    assert document == DOCUMENT
    return found


def refusal(*operations: Any) -> PatchRefused:
    with pytest.raises(PatchRefused) as refused:
        patched(*operations)
    return refused.value


@pytest.mark.parametrize(
    ("operation", "changed"),
    [
        ({"op": "add", "path": "/tags/-", "value": "c"}, {"tags": ["a", "b", "c"]}),
        ({"op": "add", "path": "/tags/1", "value": "c"}, {"tags": ["a", "c", "b"]}),
        ({"op": "add", "path": "/name", "value": "two"}, {"name": "two"}),
        ({"op": "remove", "path": "/tags/0"}, {"tags": ["b"]}),
        ({"op": "replace", "path": "/config/host", "value": "i"}, {"config": {**DOCUMENT["config"], "host": "i"}}),  # type: ignore[dict-item]
        ({"op": "move", "from": "/tags/0", "path": "/tags/1"}, {"tags": ["b", "a"]}),
        ({"op": "copy", "from": "/name", "path": "/tags/0"}, {"tags": ["one", "a", "b"]}),
        ({"op": "copy", "from": "/_id", "path": "/name"}, {"name": "1"}),
        ({"op": "test", "path": "/version", "value": 3}, {}),
        ({"op": "test", "path": "/version", "value": 3.0}, {}),
        ({"op": "replace", "path": "/on", "value": False, "from": "/x", "comment": "ignored"}, {"on": False}),
    ],
)
def test_each_operation_does_what_the_rfc_says(operation: dict[str, Any], changed: dict[str, Any]) -> None:
    assert patched(operation) == DOCUMENT | changed


def test_operations_are_applied_in_order_and_all_or_none() -> None:
    assert patched({"op": "replace", "path": "/name", "value": "x"}, {"op": "test", "path": "/name", "value": "x"})
    assert (
        refusal({"op": "replace", "path": "/name", "value": "x"}, {"op": "remove", "path": "/config/y"}).status == 422
    )


def test_an_empty_patch_changes_nothing() -> None:
    assert patched() == DOCUMENT


@pytest.mark.parametrize(
    "operation",
    [
        None,
        "add",
        [],
        {},
        {"op": "zip", "path": "/name", "value": 1},
        {"op": ["add"], "path": "/name", "value": 1},
        {"op": "add", "path": "name", "value": 1},
        {"op": "add", "path": "/na~2me", "value": 1},
        {"op": "add", "path": None, "value": 1},
        {"op": "add", "path": 7, "value": 1},
        {"op": "add", "value": 1},
        {"op": "add", "path": "/name"},
        {"op": "replace", "path": "/name"},
        {"op": "test", "path": "/name"},
        {"op": "copy", "path": "/name"},
        {"op": "move", "path": "/name", "from": "tags"},
    ],
)
def test_what_is_no_operation_is_400(operation: object) -> None:
    assert refusal(operation).status == 400


@pytest.mark.parametrize("patch", [None, {}, {"patch": []}, "x", 1])
def test_what_is_no_array_is_400(patch: object) -> None:
    with pytest.raises(PatchRefused) as refused:
        apply_patch(DOCUMENT, patch, EDITABLE)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/version", "value": 9},
        {"op": "add", "path": "/_id", "value": "9"},
        {"op": "remove", "path": "/_id"},
        {"op": "move", "from": "/version", "path": "/name"},
        {"op": "move", "from": "/name", "path": "/version"},
        {"op": "copy", "from": "/name", "path": "/_id"},
        {"op": "replace", "path": "/_id/x", "value": 1},
        {"op": "replace", "path": "", "value": {}},
        {"op": "remove", "path": ""},
        {"op": "move", "from": "", "path": "/config/x"},
    ],
)
def test_what_is_read_only_is_400(operation: dict[str, Any]) -> None:
    found = refusal(operation)
    assert found.status == 400
    assert "read-only" in found.message


@pytest.mark.parametrize(
    ("path", "value"),
    [("/version", 4), ("/on", 1), ("/name", "two"), ("/nothing", 1), ("/tags/7", "a"), ("/tags/-", "a"), ("", {})],
)
def test_a_test_that_fails_is_409(path: str, value: object) -> None:
    assert refusal({"op": "test", "path": path, "value": value}).status == 409


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/nothing"},
        {"op": "replace", "path": "/nothing", "value": 1},
        {"op": "replace", "path": "/config/nothing", "value": 1},
        {"op": "add", "path": "/nothing/x", "value": 1},
        {"op": "add", "path": "/name/x", "value": 1},
        {"op": "remove", "path": "/name/0"},
        {"op": "add", "path": "/on/x", "value": 1},
        {"op": "add", "path": "/tags/7", "value": "c"},
        {"op": "add", "path": "/tags/-1", "value": "c"},
        {"op": "add", "path": "/tags/01", "value": "c"},
        {"op": "add", "path": "/tags/x", "value": "c"},
        {"op": "remove", "path": "/tags/-"},
        {"op": "copy", "from": "/nothing", "path": "/name"},
        {"op": "move", "from": "/nothing", "path": "/name"},
        {"op": "move", "from": "/config", "path": "/config/x"},
    ],
)
def test_what_cannot_be_applied_is_422(operation: dict[str, Any]) -> None:
    assert refusal(operation).status == 422


def test_a_member_that_is_none_may_come_and_go_and_not_stay() -> None:
    add = {"op": "add", "path": "/colour", "value": "red"}
    assert refusal(add).status == 400
    assert patched(add, {"op": "move", "from": "/colour", "path": "/name"}) == DOCUMENT | {"name": "red"}


def test_no_message_repeats_a_value() -> None:
    for operation in (
        {"op": "test", "path": "/config/password", "value": "hunter2"},
        {"op": "replace", "path": "/config/x/y", "value": "hunter2"},
    ):
        found = refusal(operation)
        assert "hunter2" not in found.message
        assert "sup" not in found.message
        assert found.__cause__ is None


def test_a_long_path_is_shortened_and_a_strange_one_spelt_out() -> None:
    assert len(refusal({"op": "remove", "path": "/" + "x" * 5000}).message) < 300
    assert refusal({"op": "remove", "path": "/\x1b[2J\n"}).message.isprintable()


def test_a_patch_has_a_hundred_operations_at_the_most() -> None:
    operation = {"op": "test", "path": "/version", "value": 3}
    assert patched(*[operation] * MOST_OPERATIONS) == DOCUMENT
    assert refusal(*[operation] * (MOST_OPERATIONS + 1)).status == 400


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "copy", "from": "/config", "path": "/config/x"},
        {"op": "copy", "from": "", "path": "/config/x"},
        {"op": "copy", "from": "/tags", "path": "/tags/-"},
    ],
)
def test_copies_of_copies_do_not_grow_without_bound(operation: dict[str, Any]) -> None:
    found = refusal(*[operation] * MOST_OPERATIONS)
    assert found.status == 400
    assert "makes the document too" in found.message


def test_a_value_is_bounded() -> None:
    deep: Any = []
    for _ in range(20_000):
        deep = [deep]
    for value in ("x" * 70_000, ["x"] * 3_000, {str(n): 1 for n in range(3_000)}, deep):
        assert refusal({"op": "add", "path": "/name", "value": value}).status == 400
        assert refusal({"op": "test", "path": "/name", "value": value}).status == 400
