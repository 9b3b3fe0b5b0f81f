"""Reading a large body piece by piece. That it never disagrees with the whole is for `make fuzz` and tests/property."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from worker.manifest import decoder as decoder_module
from worker.manifest.decoder import compile_parser
from worker.manifest.fast import FastReader
from worker.manifest.request_parser import RequestParser

SPLIT = {
    "environmentIdPath": "/env",
    "cohortIdPath": "/cid",
    "cohortNamePath": "/cname",
    "addMemberArrayPath": "/data/add",
    "removeMemberArrayPath": "/data/remove",
    "memberArrayParser": {"memberIdPath": "/id"},
}
BOOLEAN = {
    "environmentIdPath": "/env",
    "cohortIdPath": "/m/0/cid",
    "cohortNamePath": "/m/0/cname",
    "memberArrayPath": "/m",
    "memberArrayParser": {"memberIdPath": "/id", "booleanMembershipPath": "/v", "cohortIdPath": "/cid"},
}
MANY = [f"person-{number}" for number in range(40)]


def reader(parser: dict[str, Any] = SPLIT) -> FastReader:
    return FastReader(RequestParser.model_validate(parser), piece_bytes=64)


def split(add: Sequence[str] = (), remove: Sequence[str] = (), **fields: Any) -> bytes:
    data = {"add": [{"id": each} for each in add], "remove": [{"id": each} for each in remove]}
    return json.dumps({"env": "e", "cid": "c", "cname": "C", "data": data} | fields).encode()


def boolean(members: Sequence[dict[str, Any]]) -> bytes:
    return json.dumps({"env": "e", "m": [{"cid": "c", "cname": "C"} | each for each in members]}).encode()


def merged(body: bytes, parser: dict[str, Any] = SPLIT) -> dict[str, bool] | None:
    pieces = reader(parser).read_in_pieces(body)
    if pieces is None:
        return None
    found: dict[str, bool] = {}
    for piece in pieces:
        found.update(piece)
    return found


def test_a_long_array_comes_in_pieces_of_some_members_each() -> None:
    pieces = reader().read_in_pieces(split(add=MANY))
    assert pieces is not None
    sizes = [len(piece) for piece in pieces]
    assert sum(sizes) == len(MANY)
    assert max(sizes) <= 10


def test_adds_come_first_and_removes_last_whichever_stands_first_in_the_body() -> None:
    data = {"remove": [{"id": "person-3"}], "add": [{"id": each} for each in MANY]}
    found = merged(split(data=data))
    assert found == {each: each != "person-3" for each in MANY}


@pytest.mark.parametrize(("add", "remove"), [(MANY, ["person-3", "other"]), (["other", "person-3"], MANY)])
def test_what_is_removed_in_the_same_body_is_out(add: list[str], remove: list[str]) -> None:
    assert merged(split(add=add, remove=remove)) == dict.fromkeys(add, True) | dict.fromkeys(remove, False)


def test_the_last_mention_of_a_member_holds_over_all_pieces() -> None:
    members = [{"id": each, "v": True} for each in MANY]
    body = boolean([{"id": "ann", "v": True}, *members, {"id": "ann", "v": False}, {"id": "person-0", "v": False}])
    found = merged(body, BOOLEAN)
    assert found == dict.fromkeys(MANY, True) | {"ann": False, "person-0": False}


@pytest.mark.parametrize(
    "hostile",
    ['"},{"', '\\"},{\\"', "},{", '{"id":"x"},{"id":"y"}', '[{"id":"x"},{"id":"y"}]', "\\\\"],
)
def test_cuts_within_a_text_are_seen(hostile: str) -> None:
    members = [f"{hostile}{each}" for each in MANY]
    found = merged(split(add=members))
    assert found is None or found == dict.fromkeys(members, True)


def test_cuts_within_a_member_are_seen() -> None:
    data = {"add": [{"id": each, "more": [{"id": "x"}, {"id": "y"}]} for each in MANY], "remove": []}
    assert merged(split(data=data)) in (None, dict.fromkeys(MANY, True))


@pytest.mark.parametrize("more", [{"aside": [{"id": each} for each in MANY]}, {"env": "e"}])
def test_an_array_that_is_no_member_array_is_not_taken_for_one(more: dict[str, Any]) -> None:
    body = json.dumps(more | {"cid": "c", "cname": "C", "env": "e", "data": {"add": [{"id": "ann"}]}}).encode()
    assert merged(body) in (None, {"ann": True})


def test_of_two_arrays_of_one_name_the_last_counts() -> None:
    first, second = json.dumps([{"id": each} for each in MANY]), json.dumps([{"id": f"{each}-2"} for each in MANY])
    body = f'{{"env":"e","cid":"c","cname":"C","data":{{"add":{first},"add":{second}}}}}'.encode()
    assert merged(body) in (None, {f"{each}-2": True for each in MANY})


@pytest.mark.parametrize("place", [0, 20, -1])
@pytest.mark.parametrize(
    "fault", [{"id": "x"}, {"v": True}, {"id": "", "v": True}, {"id": "x", "v": 1}, {"id": [], "v": True}]
)
def test_a_bad_member_anywhere_leaves_the_whole_body_to_the_exact_reader(place: int, fault: dict[str, Any]) -> None:
    members: list[dict[str, Any]] = [{"id": each, "v": True} for each in MANY]
    members[place] = fault
    assert reader(BOOLEAN).read_in_pieces(boolean(members)) is None


def by_action_of_a_member(index: int) -> dict[str, Any]:
    value = {"path": f"/m/{index}/action", "matcher": "^add$"}
    rest = {key: path for key, path in BOOLEAN.items() if key != "memberArrayParser"}
    return rest | {"arrayInclusion": value, "memberArrayParser": {"memberIdPath": "/id"}}


@pytest.mark.parametrize("index", range(len(MANY)))
def test_an_action_that_lies_in_a_member_is_never_another_members(index: int) -> None:
    body = boolean([{"id": each, "action": "add" if at == index else "remove"} for at, each in enumerate(MANY)])
    found = merged(body, by_action_of_a_member(index))
    assert found in (None, dict.fromkeys(MANY, True))
    assert index or found


def test_a_member_of_another_cohort_anywhere_leaves_it_too() -> None:
    members: list[dict[str, Any]] = [{"id": each, "v": True} for each in MANY]
    members[20]["cid"] = "another"
    assert reader(BOOLEAN).read_in_pieces(boolean(members)) is None


@pytest.mark.parametrize("tail", [b"", b"}", b"\xff", b" x"])
def test_a_body_that_is_no_json_is_left_to_the_exact_reader(tail: bytes) -> None:
    assert reader().read_in_pieces(split(add=MANY)[:-1] + tail) is None or tail == b"}"


def test_a_body_that_is_small_is_read_whole() -> None:
    assert reader().read_in_pieces(split(add=MANY[:3])) is None


def test_a_decoder_reads_large_bodies_in_pieces_and_all_others_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = compile_parser(RequestParser.model_validate(SPLIT))
    body = split(add=[f"person-{number}" for number in range(120_000)])
    assert len(list(decoder.decode_members(body))) == 1
    monkeypatch.setattr(decoder_module, "LARGE_BODY_BYTES", len(body))
    pieces = list(decoder.decode_members(body))
    assert len(pieces) > 1
    assert sum(map(len, pieces)) == 120_000
