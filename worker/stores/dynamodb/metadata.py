"""The one item of a DynamoDB store that is not about a context: its freshness and its sentinel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from worker.model import DynamoDBStoreConfiguration
from worker.stores.layout import (
    DYNAMODB_BEAT,
    DYNAMODB_INCARNATION,
    DYNAMODB_PARTITION_KEY,
    DYNAMODB_SORT_KEY,
    DYNAMODB_SYNCHRONIZED_ON,
    dynamodb_metadata_key,
)
from worker.stores.segment_store import Sentinel

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

_SET_SENTINEL: Final = f"SET {DYNAMODB_INCARNATION} = :incarnation, {DYNAMODB_BEAT} = :beat"
_SET_FRESHNESS: Final = f"SET {DYNAMODB_SYNCHRONIZED_ON} = :now"
_IS_THE_SAME: Final = f"{DYNAMODB_INCARNATION} = :incarnation"
_IS_OLDER: Final = f"(attribute_not_exists({DYNAMODB_BEAT}) OR {DYNAMODB_BEAT} < :beat)"


class DynamoDBMetadata:
    """The item, read consistently and changed by UpdateItem alone: what others store beside it stays.

    Raises what boto3 raises.
    """

    def __init__(self, client: DynamoDBClient, configuration: DynamoDBStoreConfiguration) -> None:
        name = dynamodb_metadata_key(configuration.prefix)
        self._client = client
        self._table = configuration.tableName
        self._key: dict[str, Any] = {DYNAMODB_PARTITION_KEY: {"S": name}, DYNAMODB_SORT_KEY: {"S": name}}

    def read_sentinel(self) -> Sentinel | None:
        """The sentinel that is there."""
        item = self._read()
        incarnation = item.get(DYNAMODB_INCARNATION, {}).get("S")
        beat = item.get(DYNAMODB_BEAT, {}).get("N")
        return None if incarnation is None else Sentinel(incarnation, int(beat or 0))

    def read_freshness(self) -> int | None:
        """The freshness that SDKs read."""
        value = self._read().get(DYNAMODB_SYNCHRONIZED_ON, {}).get("N")
        return None if value is None else int(value)

    def claim(self, sentinel: Sentinel) -> Sentinel | None:
        """Leave a sentinel if there is none, and return the one that is there; None if it was taken away meanwhile."""
        condition = f"attribute_not_exists({DYNAMODB_INCARNATION})"
        return sentinel if self._update(_SET_SENTINEL, condition, **_of(sentinel)) else self.read_sentinel()

    def replace(self, sentinel: Sentinel) -> None:
        """Leave a sentinel in place of any other."""
        self._update(_SET_SENTINEL, None, **_of(sentinel))

    def write_freshness(self, epoch_ms: int, sentinel: Sentinel) -> bool:
        """Write it and the beat, in one step and only beside that sentinel; see ``SegmentStore``."""
        now, named = {"N": str(epoch_ms)}, _of(sentinel)
        if self._update(
            f"{_SET_FRESHNESS}, {DYNAMODB_BEAT} = :beat", f"{_IS_THE_SAME} AND {_IS_OLDER}", now=now, **named
        ):
            return True
        # Another's, or gone, or only told of a later beat by another scheduler, which then stays.
        return self._update(_SET_FRESHNESS, _IS_THE_SAME, now=now, incarnation=named["incarnation"])

    def try_to_write(self) -> None:
        """Ask for a write whose condition nothing can meet: whether it would be permitted."""
        self._update(
            _SET_FRESHNESS,
            f"{_IS_THE_SAME} AND attribute_not_exists({DYNAMODB_INCARNATION})",
            now={"N": "0"},
            incarnation={"S": "probe"},
        )

    def _read(self) -> dict[str, Any]:
        found = self._client.get_item(TableName=self._table, Key=self._key, ConsistentRead=True)
        return dict(found.get("Item", {}))

    def _update(self, expression: str, condition: str | None, **values: dict[str, str]) -> bool:
        """Change the item; False when the condition is not met."""
        conditional: Any = {} if condition is None else {"ConditionExpression": condition}
        try:
            self._client.update_item(
                TableName=self._table,
                Key=self._key,
                UpdateExpression=expression,
                ExpressionAttributeValues={f":{name}": value for name, value in values.items()},
                **conditional,
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True


def _of(sentinel: Sentinel) -> dict[str, dict[str, str]]:
    return {"incarnation": {"S": sentinel.incarnation}, "beat": {"N": str(sentinel.beat_ms)}}
