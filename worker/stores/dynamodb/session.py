"""A patch into a DynamoDB table: what it need not write is found out by reading, the rest is sent."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from worker.model import DynamoDBStoreConfiguration, MemberList, SegmentPatch, WriteCounts
from worker.stores.dynamodb.changes import Change, Changes, change_of, change_of_both, likely_removal
from worker.stores.dynamodb.faults import Told
from worker.stores.dynamodb.pace import Pace
from worker.stores.dynamodb.plan import Found, PartitionCost, find_members
from worker.stores.dynamodb.reader import DynamoDBItemReader
from worker.stores.dynamodb.sender import Sender, Sent
from worker.stores.dynamodb.units import ConsumedUnits
from worker.stores.layout import context_hashes, proved_hashes
from worker.stores.segment_store import BeforeWindow, Describe, Sentinel, write_in_turn

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

# While members are read, the caller is asked so often.
_RENEW_S = 1.0


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
        pace: Pace,
        partition: PartitionCost,
        consumed: ConsumedUnits,
        told: Told,
        window: int,
    ) -> None:
        self.sentinel = sentinel
        self._client = client
        self._executor = executor
        self._configuration = configuration
        self._together = configuration.writeMode == "transact"
        self._pace = pace
        self._partition = partition
        self._consumed = consumed
        self._told = told
        self._window = window

    def prepare(self, describe: Describe) -> None:
        """See ``WriteSession``: there is nothing to do."""

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``. Counts are exact in both modes: every reply or condition tells what it changed.

        A context's lists are one item. Who stands in both is written by one request, for one unit, and a transaction,
        which may name an item once, never has both.
        """
        included = dict.fromkeys(context_hashes(patch.add), True) | dict.fromkeys(context_hashes(patch.remove), False)
        excluded = dict.fromkeys(context_hashes(patch.add_excluded), True)
        excluded |= dict.fromkeys(context_hashes(patch.remove_excluded), False)
        of_both = [
            change_of_both(hashed, included=included.pop(hashed), excluded=excluded.pop(hashed))
            for hashed in included.keys() & excluded.keys()
        ]
        changes = chain(
            self._plan(patch.segment_ref, "included", included, before_window),
            self._plan(patch.segment_ref, "excluded", excluded, before_window),
            of_both,
        )
        sent = self._send(patch.segment_ref, changes, before_window)
        return WriteCounts(
            added=sent.added["included"],
            removed=sent.removed["included"],
            refused=tuple(sent.refused),
            added_excluded=sent.added["excluded"],
            removed_excluded=sent.removed["excluded"],
        )

    def write_all(self, patches: Iterable[SegmentPatch], before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``."""
        return write_in_turn(self, patches, before_window)

    def remove_hashes(
        self, segment_ref: str, hashes: Sequence[bytes], before_window: BeforeWindow, of: MemberList = "included"
    ) -> int:
        """See ``WriteSession``. Strays were just read by a scan, so nothing is read first."""
        changes = (change_of(hashed, of, wanted=False, found=None) for hashed in dict.fromkeys(proved_hashes(hashes)))
        sent = self._send(segment_ref, (change for change in changes if change is not None), before_window)
        return sent.removed[of]

    def _plan(
        self, segment_ref: str, of: MemberList, wanted: dict[bytes, bool], before_window: BeforeWindow
    ) -> Iterator[Change]:
        """What is to be done in one list, after reading what it pays to read."""
        found = self._find((segment_ref, of), wanted, before_window) if wanted else {}
        removal = likely_removal(each for hashed, each in found.items() if not wanted[hashed])
        changes = (
            change_of(hashed, of, wanted=each, found=found.get(hashed), removal=removal, together=self._together)
            for hashed, each in wanted.items()
        )
        return (change for change in changes if change is not None)

    def _find(
        self, segment: tuple[str, MemberList], wanted: dict[bytes, bool], before_window: BeforeWindow
    ) -> dict[bytes, Found]:
        # Transactions are planned in full: their conditions then seldom fail, which would undo a hundred members each.
        renew = _Renewal(before_window)
        reader = DynamoDBItemReader(self._client, self._configuration, segment, self._consumed, renew)
        with self._answered():
            return find_members(
                reader,
                wanted,
                everybody=self._together,
                chance=random.Random(),  # noqa: S311 - a sample
                partition=self._partition,
            )

    def _send(self, segment_ref: str, changes: Iterator[Change], before_window: BeforeWindow) -> Sent:
        sender = Sender(
            Changes(self._client, self._configuration, segment_ref, self._consumed),
            self._executor,
            self._pace,
            window=self._window,
            told=self._told,
        )
        return sender.send(changes, before_window)

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Nothing that was read can land."""
        try:
            yield
        except (BotoCoreError, ClientError) as fault:
            raise self._told(fault, writes=False) from fault


class _Renewal:
    """Asks the caller whether to go on, when it was not asked for a while; the first window asks in any case."""

    def __init__(self, before_window: BeforeWindow) -> None:
        self._before_window = before_window
        self._asked = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._asked >= _RENEW_S:
            self._before_window()
            self._asked = time.monotonic()
