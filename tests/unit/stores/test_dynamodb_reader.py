"""How members are read from a table that is short of read capacity, and how the caller is kept posted."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from worker.model import DynamoDBStoreConfiguration, MemberList
from worker.stores.dynamodb import reader as dynamodb_reader
from worker.stores.dynamodb.plan import Found, ReadingGivenUp
from worker.stores.dynamodb.reader import DynamoDBItemReader
from worker.stores.dynamodb.units import ConsumedUnits, Units
from worker.stores.layout import context_hash, context_hashes

REF = "a.g1"
THROTTLED = ClientError({"Error": {"Code": "ProvisionedThroughputExceededException"}}, "BatchGetItem")
DENIED = ClientError({"Error": {"Code": "AccessDeniedException"}}, "BatchGetItem")
CONFIGURATION = DynamoDBStoreConfiguration(tableName="table", region="eu-west-1")


def item(member: str, **sets: list[str]) -> dict[str, Any]:
    return {"key": {"S": context_hash(member)}} | {name: {"SS": refs} for name, refs in sets.items()}


class Scripted:
    """A client that answers reads by a script, the last line of it for ever.

    A number is how many of the keys that were asked for are told of; the rest is unprocessed.
    """

    def __init__(self, *script: int | Exception | dict[str, Any], items: list[dict[str, Any]] | None = None) -> None:
        self._script = list(script)
        self._items = {item["key"]["S"]: item for item in items or []}
        self.asked: list[Any] = []

    def batch_get_item(self, RequestItems: Any, **more: Any) -> Any:  # noqa: N803 - boto3's word
        assert more == {"ReturnConsumedCapacity": "TOTAL"}
        keys = RequestItems["table"]["Keys"]
        assert RequestItems["table"]["ConsistentRead"]
        self.asked.append([key["key"]["S"] for key in keys])
        line = self._next()
        told, left = keys[:line], keys[line:]
        return {
            "Responses": {"table": [self._items[key["key"]["S"]] for key in told if key["key"]["S"] in self._items]},
            "UnprocessedKeys": {"table": RequestItems["table"] | {"Keys": left}} if left else {},
            "ConsumedCapacity": [{"TableName": "table", "CapacityUnits": float(len(told))}],
        }

    def query(self, **request: Any) -> Any:
        assert request["ConsistentRead"]
        self.asked.append(request)
        return self._next()

    def _next(self) -> Any:
        line = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(line, Exception):
            raise line
        return line


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(dynamodb_reader, "time", SimpleNamespace(sleep=slept.append))
    return slept


def reader_of(
    client: Any,
    consumed: ConsumedUnits | None = None,
    renew: Callable[[], None] = lambda: None,
    of: MemberList = "included",
) -> DynamoDBItemReader:
    return DynamoDBItemReader(client, CONFIGURATION, (REF, of), consumed or ConsumedUnits(), renew)


def test_an_item_is_judged_by_the_two_sets_that_sdks_read() -> None:
    items = [
        item("alone", included=[REF]),
        item("among others", included=[REF, "b.g1"]),
        item("excluded elsewhere", included=[REF], excluded=["b.g1"]),
        item("others'", included=["b.g1"]),
        item("excluded", excluded=[REF]),
        item("blank"),
        {"key": {"S": context_hash("spoilt")}, "included": {"S": REF}},
    ]
    members = [*("alone", "among others", "excluded elsewhere", "others'", "excluded", "blank", "spoilt"), "nobody"]
    found = reader_of(Scripted(100, items=items)).get(context_hashes(members))
    assert list(found.values()) == [
        *(Found.ALONE, Found.IN, Found.IN, Found.OUT, Found.OUT, Found.BLANK, Found.OUT),
        Found.OUT,
    ]


def test_an_item_is_judged_by_the_list_that_is_asked_about() -> None:
    items = [
        item("alone", excluded=[REF]),
        item("among others", excluded=[REF, "b.g1"]),
        item("included, too", included=[REF], excluded=[REF]),
        item("included", included=[REF]),
        item("blank"),
    ]
    members = ["alone", "among others", "included, too", "included", "blank", "nobody"]
    found = reader_of(Scripted(100, items=items), of="excluded").get(context_hashes(members))
    assert list(found.values()) == [Found.ALONE, Found.IN, Found.IN, Found.OUT, Found.BLANK, Found.OUT]


def test_what_a_table_left_out_is_not_taken_for_absent(slept: list[float]) -> None:
    consumed = ConsumedUnits()
    client = Scripted(3, 100, items=[item(f"user-{number}", included=[REF]) for number in range(5)])
    reader = reader_of(client, consumed)
    hashes = context_hashes(f"user-{number}" for number in range(5))
    assert reader.get(hashes) == dict.fromkeys(hashes[:3], Found.ALONE)
    assert reader.get(hashes[3:]) == dict.fromkeys(hashes[3:], Found.ALONE)
    assert consumed.total == Units(5, 0)
    assert len(slept) == 1  # before the second request


@pytest.mark.parametrize("short", [THROTTLED, 0], ids=["refused", "nobody told of"])
def test_a_table_that_tells_of_nobody_is_asked_again_for_a_while(short: Any, slept: list[float]) -> None:
    hashes = context_hashes(["ann"])
    assert reader_of(Scripted(short, short, 100)).get(hashes) == {hashes[0]: Found.OUT}
    assert len(slept) == 2
    client = Scripted(short)
    with pytest.raises(ReadingGivenUp):
        reader_of(client).get(hashes)
    assert 4 < sum(slept) <= 6


def test_a_query_is_asked_again_for_a_while(slept: list[float]) -> None:
    page = {"Items": [item("ann", included=[REF])], "ConsumedCapacity": {"CapacityUnits": 1.0}}
    client = Scripted(THROTTLED, page)
    found = reader_of(client).query(b"", 64)
    assert (found.found, found.last, found.units) == ({context_hash("ann").encode(): Found.ALONE}, None, 1.0)
    assert client.asked[0] == client.asked[1]
    with pytest.raises(ReadingGivenUp):
        reader_of(Scripted(THROTTLED)).query(b"", 64)


def test_reading_that_gets_on_is_not_given_up_however_long_it_takes() -> None:
    reader = reader_of(Scripted(40))
    hashes = context_hashes(f"user-{number}" for number in range(100))
    for _ in range(200):  # each of which leaves sixty out
        assert len(reader.get(hashes)) == 40


def test_reading_that_hardly_gets_on_is_given_up() -> None:
    reader = reader_of(Scripted(1))
    hashes = context_hashes(f"user-{number}" for number in range(100))
    with pytest.raises(ReadingGivenUp):
        _ = [reader.get(hashes) for _ in range(200)]


def test_what_is_not_for_lack_of_capacity_is_raised() -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        reader_of(Scripted(DENIED)).get(context_hashes(["ann"]))


def test_the_caller_is_asked_before_each_request_and_can_end_it() -> None:
    permitted = iter(range(2))

    def renew() -> None:
        if next(permitted, None) is None:
            raise InterruptedError

    client = Scripted(THROTTLED)
    with pytest.raises(InterruptedError):
        reader_of(client, renew=renew).get(context_hashes(["ann"]))
    assert len(client.asked) == 2
