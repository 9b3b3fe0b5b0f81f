"""What becomes of requests that fail, one or several in flight."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from worker.errors import Fault, Unavailable
from worker.model import DynamoDBStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.dynamodb import sender as dynamodb_sender
from worker.stores.dynamodb import session as dynamodb_session
from worker.stores.dynamodb.faults import unavailable
from worker.stores.dynamodb.pace import Pace
from worker.stores.dynamodb.plan import PartitionCost
from worker.stores.dynamodb.session import DynamoDBWriteSession
from worker.stores.dynamodb.units import ConsumedUnits
from worker.stores.layout import context_hash

SPOILT = ClientError({"Error": {"Code": "ValidationException", "Message": "Item size to update has exceeded"}}, "U")
DENIED = ClientError({"Error": {"Code": "AccessDeniedException"}}, "U")
BROKEN = ClientError({"Error": {"Code": "InternalServerError"}, "ResponseMetadata": {"HTTPStatusCode": 500}}, "U")  # type: ignore[typeddict-item]
SILENT = ReadTimeoutError(endpoint_url="https://dynamodb.example")


class Failing:
    """A client whose requests are all in flight before the first of them fails, each in its own way."""

    def __init__(self, *faults: Exception) -> None:
        self._faults = iter(faults)
        self._in_flight = threading.Barrier(len(faults), timeout=30)

    def update_item(self, **_: Any) -> None:
        fault = next(self._faults)
        self._in_flight.wait()
        raise fault


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def session_of(client: Any, executor: ThreadPoolExecutor) -> DynamoDBWriteSession:
    def told(fault: BotoCoreError | ClientError, *, writes: bool) -> Unavailable:
        return unavailable(fault, "t", writes=writes)

    configuration = DynamoDBStoreConfiguration(tableName="t", region="eu-west-1")
    return DynamoDBWriteSession(
        client,
        executor,
        configuration,
        None,
        pace=Pace(),
        partition=PartitionCost(),
        consumed=ConsumedUnits(),
        told=told,
        window=100,
    )


@pytest.mark.parametrize(
    ("faults", "fate_unknown", "fault"),
    [
        ((SPOILT, DENIED), False, "configuration"),
        ((DENIED, SPOILT), False, "configuration"),
        ((SPOILT, SILENT), True, "transient"),
        ((DENIED, SILENT, SPOILT), True, "transient"),
        ((DENIED, BROKEN), True, "transient"),
    ],
)
def test_what_leaves_most_open_is_told_and_then_what_concerns_most(
    executor: ThreadPoolExecutor, faults: tuple[Exception, ...], fate_unknown: bool, fault: Fault
) -> None:
    session = session_of(Failing(*faults), executor)
    with pytest.raises(Unavailable) as raised:
        session.write(SegmentPatch("a.g1", [f"user-{number}" for number in range(len(faults))], []), lambda: None)
    assert (raised.value.fate_unknown, raised.value.fault) == (fate_unknown, fault)


def test_items_that_are_refused_are_told_and_hold_nobody_up(executor: ThreadPoolExecutor) -> None:
    counts = session_of(Failing(SPOILT, SPOILT), executor).write(SegmentPatch("a.g1", ["ann", "bob"], []), lambda: None)
    assert (counts.added, counts.removed) == (0, 0)
    assert {member.context_hash for member in counts.refused} == {context_hash("ann"), context_hash("bob")}
    assert all("400 KB" in member.reason for member in counts.refused)


class Scripted:
    """A client that answers updates by a script, the last line of it for ever."""

    def __init__(self, *script: Exception | None) -> None:
        self._script = list(script)
        self.requests = 0

    def update_item(self, **_: Any) -> dict[str, Any]:
        self.requests += 1
        answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if answer is not None:
            raise answer
        return {}

    def batch_get_item(self, **_: Any) -> dict[str, Any]:
        return {"Responses": {}}


@pytest.mark.parametrize(
    "code",
    [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TransactionConflictException",
    ],
)
def test_what_was_certainly_not_done_is_sent_again(executor: ThreadPoolExecutor, code: str) -> None:
    client = Scripted(ClientError({"Error": {"Code": code}}, "U"), None)
    assert session_of(client, executor).write(SegmentPatch("a.g1", ["ann"], []), lambda: None) == WriteCounts(1, 0)
    assert client.requests == 2


@pytest.mark.parametrize("fault", [BROKEN, SILENT])
def test_what_may_have_been_done_is_not(executor: ThreadPoolExecutor, fault: Exception) -> None:
    client = Scripted(fault, None)
    with pytest.raises(Unavailable) as raised:
        session_of(client, executor).write(SegmentPatch("a.g1", ["ann"], []), lambda: None)
    assert raised.value.fate_unknown
    assert client.requests == 1


def test_a_member_who_is_always_in_anothers_transaction_is_given_up_for_now(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamodb_sender, "_PAUSE_S", 0.0)
    client = Scripted(ClientError({"Error": {"Code": "TransactionConflictException"}}, "U"))
    with pytest.raises(Unavailable, match="transactions") as raised:
        session_of(client, executor).write(SegmentPatch("a.g1", ["ann"], []), lambda: None)
    assert (raised.value.fault, raised.value.fate_unknown) == ("transient", False)
    assert client.requests == 11


def test_when_everybody_is_refused_for_an_unknown_reason_it_is_not_for_what_they_are(
    executor: ThreadPoolExecutor,
) -> None:
    client = Scripted(ClientError({"Error": {"Code": "ValidationException", "Message": "news to us"}}, "U"))
    members = [f"user-{number}" for number in range(100)]
    with pytest.raises(Unavailable, match="takes none of our requests") as raised:
        session_of(client, executor).write(SegmentPatch("a.g1", members, []), lambda: None)
    assert (raised.value.fault, raised.value.fate_unknown) == ("configuration", False)


def test_when_others_are_taken_it_is(executor: ThreadPoolExecutor) -> None:
    refusals = [ClientError({"Error": {"Code": "ValidationException", "Message": "news to us"}}, "U")] * 30
    members = [f"user-{number}" for number in range(100)]
    counts = session_of(Scripted(*refusals, None), executor).write(SegmentPatch("a.g1", members, []), lambda: None)
    assert (counts.added, len(counts.refused)) == (70, 30)


def test_while_members_are_read_the_caller_is_asked_about_once_a_second(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(dynamodb_session, "time", SimpleNamespace(monotonic=lambda: now[0]))
    refs = {"included": {"SS": ["a.g1"]}}

    class Slow:
        """A client that takes half a second for each hundred members, all of whom are in."""

        def batch_get_item(self, RequestItems: Any, **_: Any) -> Any:  # noqa: N803 - boto3's word
            now[0] += 0.5
            return {"Responses": {"t": [{"key": key["key"]} | refs for key in RequestItems["t"]["Keys"]]}}

    asked: list[float] = []
    members = [f"user-{number}" for number in range(900)]
    counts = session_of(Slow(), executor).write(SegmentPatch("a.g1", members, []), lambda: asked.append(now[0]))
    assert counts == WriteCounts(0, 0)
    assert asked == [1.0, 2.0, 3.0, 4.0]
