"""A wiring on any Redis client, with stores in memory, and ways to fill its logs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import redis

from worker.errors import InvalidBatch
from worker.log.append import Appends
from worker.log.batch import Batch, Target, WakeUp
from worker.log.parsers import parser_entry
from worker.manifest.catalog import load_catalog
from worker.manifest.manifest import Manifest
from worker.manifest.request_parser import RequestParser
from worker.model import RedisStoreConfiguration, SegmentId, SegmentPatch, StoreConfiguration, StoreRecord, WriteCounts
from worker.records.records import Bootstrap
from worker.settings import Settings
from worker.stores import open_store
from worker.stores.memory import MemorySession, MemoryStore
from worker.stores.segment_store import BeforeWindow
from worker.wiring import Wiring

_numbers = itertools.count(1)


class FaultyStore(MemoryStore):
    """A store in memory whose writes can be made to fail, after they have been applied, and whose fences are noted."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.fenced: list[str] = []
        self.can_fence = True

    @contextmanager
    def session(self) -> Iterator[MemorySession]:
        with super().session():
            yield FaultySession(self)

    def fence(self, connection: str) -> bool:
        self.fenced.append(connection)
        return self.can_fence


class FaultySession(MemorySession):
    def __init__(self, store: FaultyStore) -> None:
        super().__init__(store)
        self._faulty = store
        self.connection = f"connection-{next(_numbers)}"

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        counts = super().write(patch, before_window)
        if self._faulty.failure is not None:
            failure, self._faulty.failure = self._faulty.failure, None
            raise failure
        return counts


class Installation:
    """Everything in one process: ``accept`` puts payloads into the log, ``store`` is what SDKs would read."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        store_type: type[FaultyStore] = FaultyStore,
        real_store: StoreConfiguration | None = None,
        **settings: Any,
    ) -> None:
        """Make an environment with one store: in memory, of a type of your own, or a real one."""
        self.client = client
        self._store_type = store_type
        self.opened: dict[str, FaultyStore] = {}
        opener = self._open if real_store is None else open_store
        self.wiring = Wiring(Settings(**settings), client=client, opener=opener)
        self.made: Bootstrap = self.wiring.records.bootstrap(
            environment_id=None, store_configuration=real_store or RedisStoreConfiguration(host="in-memory")
        )
        manifest = load_catalog()["rudderstack"]
        assert isinstance(manifest, Manifest)
        self.manifest = manifest
        self.keep(manifest.parser)

    def keep(self, parser: RequestParser) -> None:
        """Keep a parser in the state server, as an append under it does."""
        key, field, value = parser_entry(parser.digest, parser.text)
        self.client.hset(key, field, value)

    def _open(self, record: StoreRecord) -> FaultyStore:
        return self.opened.setdefault(record.store_id, self._store_type())

    @property
    def environment_id(self) -> str:
        return self.made.environment_id

    @property
    def store_id(self) -> str:
        return self.made.store.store_id

    @property
    def store(self) -> FaultyStore:
        found = self.wiring.stores.get(self.store_id)
        assert isinstance(found, FaultyStore)
        return found

    def segment(self, cohort_id: str = "beta") -> SegmentId:
        return SegmentId(self.environment_id, f"rudderstack-{cohort_id}", 1)

    def body(self, cohort_id: str = "beta", *, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> bytes:
        people = {"add": [{"id": key} for key in add], "remove": [{"id": key} for key in remove]}
        return msgspec.json.encode(
            {
                "environmentId": self.environment_id,
                "cohortId": cohort_id,
                "cohortName": cohort_id.title(),
                "contextKind": "user",
                "listData": people,
            }
        )

    def accept(
        self, cohort_id: str = "beta", *, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()
    ) -> list[WakeUp]:
        return self.accept_body(self.body(cohort_id, add=add, remove=remove), cohort_id)

    def accept_body(self, body: bytes, cohort_id: str = "beta", *, digest: str | None = None) -> list[WakeUp]:
        """Append any bytes, as if the receiver had found them good."""
        try:
            cohort = self.manifest.decoder.decode(body).cohorts[0]
        except InvalidBatch:
            cohort = self.manifest.decoder.decode(self.body(cohort_id)).cohorts[0]
        [key] = self.wiring.segment_keys.allot(self.environment_id, "rudderstack", [cohort_id])
        batch = Batch(
            batch_id=f"batch-{next(_numbers)}",
            environment_id=self.environment_id,
            context_kind="user",
            integration_key="rudderstack",
            parser_digest=digest or self.manifest.parser.digest,
            body=body,
            targets=[Target(key, cohort)],
            store_ids=[store.store_id for store in self.wiring.stores_of(self.environment_id)],
            not_after_ms=10**15,
        )
        [due] = Appends(self.client).append([batch])
        assert not isinstance(due, Exception)
        return due

    def members(self, *people: str, cohort_id: str = "beta") -> set[str]:
        """Which of these people the store has in the segment."""
        ref = self.segment(cohort_id).ref
        return {person for person in people if ref in self.store.included(person)}
