"""Bulk writes to DynamoDB: one UpdateItem per member, a few in flight, window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from worker.model import DynamoDBStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.dynamodb_faults import unavailable
from worker.stores.layout import (
    DYNAMODB_INCLUDED,
    DYNAMODB_PARTITION_KEY,
    DYNAMODB_SORT_KEY,
    context_hashes,
    dynamodb_user_namespace,
    portions,
    proved_hashes,
)
from worker.stores.segment_store import BeforeWindow, Describe, Sentinel

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient


class DynamoDBWriteSession:
    """A ``WriteSession``: every window is answered in full before the next one starts."""

    connection: str | None = None
    process = ""

    def __init__(
        self,
        client: DynamoDBClient,
        executor: ThreadPoolExecutor,
        configuration: DynamoDBStoreConfiguration,
        sentinel: Sentinel | None,
        *,
        where: str,
        window: int,
    ) -> None:
        self.sentinel = sentinel
        self._client = client
        self._executor = executor
        self._table = configuration.tableName
        self._namespace = dynamodb_user_namespace(configuration.prefix)
        self._where = where
        self._window = window

    def prepare(self, describe: Describe) -> None:
        """See ``WriteSession``: there is nothing to do."""

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``."""
        added = removed = 0
        for portion in portions(patch, self._window):
            before_window()
            added += self._each(context_hashes(portion.add), lambda hashed: self._add(hashed, patch.segment_ref))
            removed += self._each(
                context_hashes(portion.remove), lambda hashed: self._remove(hashed, patch.segment_ref)
            )
        return WriteCounts(added, removed)

    def remove_hashes(self, segment_ref: str, hashes: Sequence[bytes], before_window: BeforeWindow) -> int:
        """See ``WriteSession``."""
        removed = 0
        for start in range(0, len(proved_hashes(hashes)), self._window):
            before_window()
            portion = hashes[start : start + self._window]
            removed += self._each(portion, lambda hashed: self._remove(hashed, segment_ref))
        return removed

    def _each(self, hashes: Sequence[bytes], change: Callable[[str], bool]) -> int:
        """Run one change per context and count those that changed something.

        Returns only when everything sent was answered or given up. After the first fault nothing more is sent.
        """
        faults: list[BotoCoreError | ClientError] = []

        def run(hashed: bytes) -> bool:
            if faults:
                return False
            try:
                return change(hashed.decode())
            except (BotoCoreError, ClientError) as fault:
                faults.append(fault)
                return False

        changed = sum(self._executor.map(run, hashes))
        if faults:
            # Of several faults in flight, tell the one that leaves most open, and then what is wrong with more items.
            told = [unavailable(fault, self._where, writes=True) for fault in faults]
            raise max(told, key=lambda error: (error.fate_unknown, error.fault != "item")) from faults[0]
        return changed

    def _add(self, hashed: str, segment_ref: str) -> bool:
        answer = self._client.update_item(
            TableName=self._table,
            Key={DYNAMODB_PARTITION_KEY: {"S": self._namespace}, DYNAMODB_SORT_KEY: {"S": hashed}},
            UpdateExpression=f"ADD {DYNAMODB_INCLUDED} :refs",
            ExpressionAttributeValues={":refs": {"SS": [segment_ref]}},
            # Not UPDATED_OLD: whether it tells of a set that ADD left as it was is not documented.
            ReturnValues="ALL_OLD",
        )
        before = answer.get("Attributes", {}).get(DYNAMODB_INCLUDED, {}).get("SS", ())
        return segment_ref not in before

    def _remove(self, hashed: str, segment_ref: str) -> bool:
        try:
            self._client.update_item(
                TableName=self._table,
                Key={DYNAMODB_PARTITION_KEY: {"S": self._namespace}, DYNAMODB_SORT_KEY: {"S": hashed}},
                UpdateExpression=f"DELETE {DYNAMODB_INCLUDED} :refs",
                # Without a condition, DELETE creates an empty item for a context that has none.
                ConditionExpression=f"contains({DYNAMODB_INCLUDED}, :ref)",
                ExpressionAttributeValues={":refs": {"SS": [segment_ref]}, ":ref": {"S": segment_ref}},
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True
