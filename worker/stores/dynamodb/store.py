"""The DynamoDB store: sets of segment refs, an item for each context. It owns these items of its table:

    namespace={prefix:}big_segments_user      key={context hash}                  included: SS of segment refs
                                                                                  excluded: SS of segment refs
    namespace={prefix:}big_segments_metadata  key={prefix:}big_segments_metadata  synchronizedOn: N, epoch ms
                                                                                  segsyncIncarnation: S, the sentinel's
                                                                                  segsyncBeat: N, epoch ms

``{prefix:}`` is empty, without a colon, when there is no prefix. A context's two sets are one item, and one write unit.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from worker.errors import Unavailable
from worker.model import DynamoDBStoreConfiguration, MemberList
from worker.stores.dynamodb import check, reads
from worker.stores.dynamodb.client import IN_FLIGHT, open_client
from worker.stores.dynamodb.faults import has_stale_credentials, unavailable
from worker.stores.dynamodb.metadata import DynamoDBMetadata
from worker.stores.dynamodb.pace import Pace
from worker.stores.dynamodb.plan import PartitionCost
from worker.stores.dynamodb.session import DynamoDBWriteSession
from worker.stores.dynamodb.units import ConsumedUnits, Units
from worker.stores.layout import context_hashes, proved_hashes
from worker.stores.segment_store import Scanned, Sentinel

if TYPE_CHECKING:
    from types_boto3_dynamodb.client import DynamoDBClient

# Members per window, which ends after a second in any case: the caller is asked before each whether to go on.
WINDOW: Final = 1_000
# A process that is told to stop waits for one connection and its answer, and has ten seconds for all.
ANSWER_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 3.0


class DynamoDBStore:
    """A ``SegmentStore`` on one DynamoDB table.

    It cannot fence: HTTP requests have no connection whose bytes one could keep from landing.
    """

    lists_members = True

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
        self._pace = Pace()
        self._partition = PartitionCost()
        self._consumed = ConsumedUnits()
        self._lock = threading.Lock()
        self._client: DynamoDBClient | None = None
        self._pid = 0

    def __repr__(self) -> str:
        return f"DynamoDBStore({self._where}, prefix={self._configuration.prefix!r})"

    @property
    def consumed(self) -> Units:
        """The units that writing members has consumed since this store was made, and reading them for that."""
        return self._consumed.total

    @contextmanager
    def session(self) -> Iterator[DynamoDBWriteSession]:
        """See ``SegmentStore``. Threads belong to the session, so that none is inherited over a fork."""
        with self._answered():
            client = self._open_client()
            sentinel = self._metadata(client).read_sentinel()
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="dynamodb-write") as executor:
            yield DynamoDBWriteSession(
                client,
                executor,
                self._configuration,
                sentinel,
                pace=self._pace,
                partition=self._partition,
                consumed=self._consumed,
                told=partial(self._told, client),
                window=self._window,
            )

    def fence(self, connection: str) -> bool:  # noqa: ARG002 - the seam names it
        """Never certain here: see the class."""
        return False

    def included(self, context_key: str) -> set[str]:
        """See ``SegmentStore``. A consistent read."""
        with self._answered():
            return reads.read_refs(self._open_client(), self._configuration, context_key, "included")

    def excluded(self, context_key: str) -> set[str]:
        """See ``SegmentStore``. A consistent read."""
        with self._answered():
            return reads.read_refs(self._open_client(), self._configuration, context_key, "excluded")

    def includes_keys(self, segment_ref: str, context_keys: Sequence[str], of: MemberList = "included") -> list[bool]:
        """See ``SegmentStore``."""
        return self.includes(segment_ref, context_hashes(context_keys), of)

    def includes(self, segment_ref: str, hashes: Sequence[bytes], of: MemberList = "included") -> list[bool]:
        """See ``SegmentStore``. Consistent reads, a hundred in each request."""
        proved_hashes(hashes)
        with self._answered():
            return reads.read_memberships(self._open_client(), self._configuration, segment_ref, hashes, of)

    def scan(self) -> Iterator[list[Scanned]]:
        """See ``SegmentStore``. Consistent reads, a megabyte in each page."""
        with self._answered():
            pages = reads.read_pages(self._open_client(), self._configuration)
        while True:
            with self._answered():
                page = next(pages, None)
            if page is None:
                return
            if page:
                yield page

    def holds_members(self) -> bool:
        """See ``SegmentStore``. A consistent read."""
        with self._answered():
            return reads.holds_members(self._open_client(), self._configuration)

    def drop_segment(self, segment_ref: str) -> None:
        """See ``SegmentStore``: there is nothing to take away."""

    def sentinel(self) -> Sentinel | None:
        """See ``SegmentStore``. A consistent read."""
        with self._answered():
            return self._metadata().read_sentinel()

    def claim(self, incarnation: str, beat_ms: int) -> Sentinel:
        """See ``SegmentStore``."""
        with self._answered(writes=True):
            held = self._metadata().claim(Sentinel(incarnation, beat_ms))
        if held is None:
            raise Unavailable(f"DynamoDB table {self._where}: it is being wiped; wait until it is", dependency="store")
        return held

    def replace_sentinel(self, incarnation: str, beat_ms: int) -> None:
        """See ``SegmentStore``."""
        with self._answered(writes=True):
            self._metadata().replace(Sentinel(incarnation, beat_ms))

    def synchronized_on(self) -> int | None:
        """See ``SegmentStore``. A consistent read."""
        with self._answered():
            return self._metadata().read_freshness()

    def set_synchronized_on(self, epoch_ms: int, sentinel: Sentinel) -> bool:
        """See ``SegmentStore``. Other attributes of the item stay: LaunchDarkly's relay keeps its cursor there."""
        with self._answered(writes=True):
            return self._metadata().write_freshness(epoch_ms, sentinel)

    def check(self) -> list[str]:
        """See ``SegmentStore``."""
        try:
            with self._answered():
                faults = check.find_faults(self._open_client(), self._configuration)
        except Unavailable as fault:
            return [str(fault)]
        return [f"DynamoDB table {self._where}: {fault}" for fault in faults]

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

    def _metadata(self, client: DynamoDBClient | None = None) -> DynamoDBMetadata:
        return DynamoDBMetadata(client or self._open_client(), self._configuration)

    @contextmanager
    def _answered(self, *, writes: bool = False) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as fault:
            raise self._told(self._client, fault, writes=writes) from fault

    def _told(self, client: DynamoDBClient | None, fault: BotoCoreError | ClientError, *, writes: bool) -> Unavailable:
        """What to raise. A client keeps the credentials that it was made with: for other ones it takes another."""
        if has_stale_credentials(fault):
            with self._lock:
                if self._client is client:
                    self._client = None  # not closed: other sessions may be at work with it
        return unavailable(fault, self._where, writes=writes)
