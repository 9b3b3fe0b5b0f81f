"""The DynamoDB store, plain: one UpdateItem per member, a few in flight. It owns these items of its table:

    namespace={prefix:}big_segments_user      key={context hash}                included: SS of segment refs
    namespace={prefix:}big_segments_metadata  key={prefix:}big_segments_metadata  synchronizedOn: N, epoch ms

``{prefix:}`` is empty, without a colon, when there is no prefix. SDKs also read ``excluded``; nobody writes it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from worker.model import DynamoDBStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.dynamodb_client import IN_FLIGHT, open_client
from worker.stores.dynamodb_faults import unavailable
from worker.stores.layout import (
    DYNAMODB_INCLUDED,
    DYNAMODB_PARTITION_KEY,
    DYNAMODB_SORT_KEY,
    DYNAMODB_SYNCHRONIZED_ON,
    context_hash,
    context_hashes,
    dynamodb_metadata_key,
    dynamodb_user_namespace,
    portions,
)
from worker.stores.segment_store import BeforeWindow

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

# Members per window. At about 1 ms each, the caller is asked whether to go on a few times a second.
WINDOW: Final = 200
ANSWER_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 5.0


class DynamoDBStore:
    """A ``SegmentStore`` on one DynamoDB table.

    It cannot fence: HTTP requests have no connection whose bytes one could keep from landing.
    """

    def __init__(
        self,
        configuration: DynamoDBStoreConfiguration,
        *,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        window: int = WINDOW,
    ) -> None:
        self._window = window
        self._configuration = configuration
        self._timeouts = (connect_timeout_s, answer_timeout_s)
        self._where = f"{configuration.tableName} in {configuration.region}"
        self._lock = threading.Lock()
        self._client: DynamoDBClient | None = None
        self._pid = 0

    def __repr__(self) -> str:
        return f"DynamoDBStore({self._where}, prefix={self._configuration.prefix!r})"

    @contextmanager
    def session(self) -> Iterator[DynamoDBWriteSession]:
        """See ``SegmentStore``. Threads belong to the session, so that none is inherited over a fork."""
        with self._answered():
            client = self._open_client()
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="dynamodb-write") as executor:
            yield DynamoDBWriteSession(client, executor, self._configuration, where=self._where, window=self._window)

    def fence(self, connection: str) -> bool:  # noqa: ARG002 - the seam names it
        """Never certain here: see the class."""
        return False

    def included(self, context_key: str) -> set[str]:
        """See ``SegmentStore``. A consistent read."""
        namespace = dynamodb_user_namespace(self._configuration.prefix)
        with self._answered():
            found = self._open_client().get_item(
                TableName=self._configuration.tableName,
                Key={DYNAMODB_PARTITION_KEY: {"S": namespace}, DYNAMODB_SORT_KEY: {"S": context_hash(context_key)}},
                ConsistentRead=True,
            )
        return set(found.get("Item", {}).get(DYNAMODB_INCLUDED, {}).get("SS", ()))

    def synchronized_on(self) -> int | None:
        """See ``SegmentStore``. A consistent read."""
        key = dynamodb_metadata_key(self._configuration.prefix)
        with self._answered():
            found = self._open_client().get_item(
                TableName=self._configuration.tableName,
                Key={DYNAMODB_PARTITION_KEY: {"S": key}, DYNAMODB_SORT_KEY: {"S": key}},
                ConsistentRead=True,
            )
        value = found.get("Item", {}).get(DYNAMODB_SYNCHRONIZED_ON, {}).get("N")
        return None if value is None else int(value)

    def set_synchronized_on(self, epoch_ms: int) -> None:
        """See ``SegmentStore``. Other attributes of the item stay: LaunchDarkly's relay keeps its cursor there."""
        key = dynamodb_metadata_key(self._configuration.prefix)
        with self._answered(writes=True):
            self._open_client().update_item(
                TableName=self._configuration.tableName,
                Key={DYNAMODB_PARTITION_KEY: {"S": key}, DYNAMODB_SORT_KEY: {"S": key}},
                UpdateExpression=f"SET {DYNAMODB_SYNCHRONIZED_ON} = :now",
                ExpressionAttributeValues={":now": {"N": str(epoch_ms)}},
            )

    def close(self) -> None:
        """See ``SegmentStore``."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _open_client(self) -> DynamoDBClient:
        """This process's client: the sockets of one made before a fork belong to the parent."""
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._client = open_client(self._configuration, *self._timeouts)
                self._pid = os.getpid()
            return self._client

    @contextmanager
    def _answered(self, *, writes: bool = False) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as fault:
            raise unavailable(fault, self._where, writes=writes) from fault


class DynamoDBWriteSession:
    """A ``WriteSession``: every window is answered in full before the next one starts."""

    connection: str | None = None

    def __init__(
        self,
        client: DynamoDBClient,
        executor: ThreadPoolExecutor,
        configuration: DynamoDBStoreConfiguration,
        *,
        where: str,
        window: int,
    ) -> None:
        self._client = client
        self._executor = executor
        self._table = configuration.tableName
        self._namespace = dynamodb_user_namespace(configuration.prefix)
        self._where = where
        self._window = window

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``."""
        added = removed = 0
        for portion in portions(patch, self._window):
            before_window()
            added += self._each(portion.add, lambda hashed: self._add(hashed, patch.segment_ref))
            removed += self._each(portion.remove, lambda hashed: self._remove(hashed, patch.segment_ref))
        return WriteCounts(added, removed)

    def _each(self, context_keys: list[str], change: Callable[[str], bool]) -> int:
        """Run one change per member and count those that changed something.

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

        changed = sum(self._executor.map(run, context_hashes(context_keys)))
        if faults:
            # Of several faults in flight, tell the one that leaves most open.
            told = [unavailable(fault, self._where, writes=True) for fault in faults]
            raise max(told, key=lambda error: error.fate_unknown) from faults[0]
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
