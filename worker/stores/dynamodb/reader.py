"""How a segment's members are read before they are written: consistently, counted, and with patience that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.exceptions import ClientError

from worker.model import DynamoDBStoreConfiguration, MemberList
from worker.stores.dynamodb.faults import is_throttled
from worker.stores.dynamodb.plan import Found, Page, ReadingGivenUp
from worker.stores.dynamodb.units import ConsumedUnits, units_of
from worker.stores.layout import (
    DYNAMODB_EXCLUDED,
    DYNAMODB_INCLUDED,
    DYNAMODB_PARTITION_KEY,
    DYNAMODB_SORT_KEY,
    dynamodb_user_namespace,
)

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

T = TypeVar("T")

# ``key`` is a word of DynamoDB's own.
_NAMES: Final = {"#key": DYNAMODB_SORT_KEY, "#included": DYNAMODB_INCLUDED, "#excluded": DYNAMODB_EXCLUDED}
_PROJECTION: Final = "#key, #included, #excluded"
# How long to pause, in all, for a table that is short of read capacity. Every item that it does tell of earns some of
# that back, so that reading goes on for as long as it is not far slower than writing would be.
_PATIENCE_S: Final = 5.0
_EARNED_S: Final = 0.01
_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.4)


class DynamoDBItemReader:
    """An ``ItemReader`` of one list. Raises what boto3 raises, but for throttled reads, and what ``renew`` raises."""

    def __init__(
        self,
        client: DynamoDBClient,
        configuration: DynamoDBStoreConfiguration,
        segment: tuple[str, MemberList],
        consumed: ConsumedUnits,
        renew: Callable[[], None],
    ) -> None:
        self._client = client
        self._table = configuration.tableName
        self._namespace = {"S": dynamodb_user_namespace(configuration.prefix)}
        self._ref, self._of = segment
        self._other = DYNAMODB_EXCLUDED if self._of == DYNAMODB_INCLUDED else DYNAMODB_INCLUDED
        self._consumed = consumed
        self._renew = renew
        self._patience_s = _PATIENCE_S
        self._pause_due = False
        self._throttled_in_a_row = 0

    def query(self, after: bytes, items: int) -> Page:
        """See ``ItemReader``."""
        while True:
            answer = self._ask(
                lambda: self._client.query(
                    TableName=self._table,
                    KeyConditionExpression="#namespace = :namespace",
                    ProjectionExpression=_PROJECTION,
                    ExpressionAttributeNames=_NAMES | {"#namespace": DYNAMODB_PARTITION_KEY},
                    ExpressionAttributeValues={":namespace": self._namespace},
                    ExclusiveStartKey={
                        DYNAMODB_PARTITION_KEY: self._namespace,
                        DYNAMODB_SORT_KEY: {"S": after.decode()},
                    },
                    ConsistentRead=True,
                    Limit=items,
                    ReturnConsumedCapacity="TOTAL",
                )
            )
            if answer is None:
                continue
            found = dict(map(self._judge, answer["Items"]))
            self._earn(len(found))
            more = answer.get("LastEvaluatedKey")
            last = None if more is None else more[DYNAMODB_SORT_KEY]["S"].encode()
            return Page(found, last, self._count(answer))

    def get(self, hashes: Sequence[bytes]) -> dict[bytes, Found]:
        """See ``ItemReader``."""
        keys: Any = [
            {DYNAMODB_PARTITION_KEY: self._namespace, DYNAMODB_SORT_KEY: {"S": hashed.decode()}} for hashed in hashes
        ]
        asked: Any = {
            self._table: {
                "Keys": keys,
                "ConsistentRead": True,
                "ProjectionExpression": _PROJECTION,
                "ExpressionAttributeNames": _NAMES,
            }
        }
        while True:
            answer = self._ask(lambda: self._client.batch_get_item(RequestItems=asked, ReturnConsumedCapacity="TOTAL"))
            if answer is None:
                continue
            self._count(answer)
            unprocessed: dict[str, Any] = dict(answer.get("UnprocessedKeys", {}))
            left = unprocessed.get(self._table, {}).get("Keys", ())
            unread = {_sort_key(key) for key in left}
            told = dict(map(self._judge, answer["Responses"].get(self._table, ())))
            found = {hashed: told.get(hashed, Found.OUT) for hashed in hashes if hashed not in unread}
            self._earn(len(found))
            self._pause_due = bool(left)
            if found:
                return found

    def _ask(self, request: Callable[[], T]) -> T | None:
        """The answer, or None when it was throttled, and it is time for another try."""
        if self._pause_due:
            self._pause()
        self._renew()
        try:
            return request()
        except ClientError as fault:
            if not is_throttled(fault):
                raise
            self._pause_due = True
            return None

    def _pause(self) -> None:
        pause_s = _PAUSES_S[min(self._throttled_in_a_row, len(_PAUSES_S) - 1)]
        self._throttled_in_a_row += 1
        self._patience_s -= pause_s
        if self._patience_s < 0:
            raise ReadingGivenUp
        time.sleep(pause_s)
        self._pause_due = False

    def _earn(self, items: int) -> None:
        self._throttled_in_a_row = 0 if items else self._throttled_in_a_row
        self._patience_s = min(_PATIENCE_S, self._patience_s + items * _EARNED_S)

    def _count(self, answer: Mapping[str, Any]) -> float:
        units = units_of(answer)
        self._consumed.count(read=units)
        return units

    def _judge(self, item: dict[str, Any]) -> tuple[bytes, Found]:
        members = item.get(self._of)
        refs = () if members is None else members.get("SS", ())
        hashed = _sort_key(item)
        if self._ref in refs:
            alone = len(refs) == 1 and self._other not in item
            return hashed, Found.ALONE if alone else Found.IN
        blank = members is None and self._other not in item
        return hashed, Found.BLANK if blank else Found.OUT


def _sort_key(item: Mapping[str, Any]) -> bytes:
    name: str = item[DYNAMODB_SORT_KEY]["S"]
    return name.encode()
