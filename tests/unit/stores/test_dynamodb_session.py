"""Of several requests in flight, which fault is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from worker.errors import Fault, Unavailable
from worker.model import DynamoDBStoreConfiguration, SegmentPatch
from worker.stores.dynamodb_session import DynamoDBWriteSession

SPOILT = ClientError({"Error": {"Code": "ValidationException", "Message": "Item size to update has exceeded"}}, "U")
THROTTLED = ClientError({"Error": {"Code": "ThrottlingException"}}, "U")
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


@pytest.mark.parametrize(
    ("faults", "fate_unknown", "fault"),
    [
        ((SPOILT, THROTTLED), False, "transient"),
        ((THROTTLED, SPOILT), False, "transient"),
        ((SPOILT, SILENT), True, "transient"),
        ((THROTTLED, SILENT, SPOILT), True, "transient"),
        ((SPOILT, SPOILT), False, "item"),
    ],
)
def test_what_leaves_most_open_is_told_and_then_what_concerns_most(
    executor: ThreadPoolExecutor, faults: tuple[Exception, ...], fate_unknown: bool, fault: Fault
) -> None:
    client: Any = Failing(*faults)
    configuration = DynamoDBStoreConfiguration(tableName="t", region="eu-west-1")
    session = DynamoDBWriteSession(client, executor, configuration, None, where="t", window=100)
    with pytest.raises(Unavailable) as raised:
        session.write(SegmentPatch("a.g1", [f"user-{number}" for number in range(len(faults))], []), lambda: None)
    assert (raised.value.fate_unknown, raised.value.fault) == (fate_unknown, fault)
