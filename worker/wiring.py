"""The composition root: settings in; state client, log, records, parsers and stores out, one of each per process."""

from __future__ import annotations

import threading
from collections.abc import Callable

import redis

from worker.errors import Unavailable
from worker.incarnation import Incarnations
from worker.log.closing import Closings
from worker.log.compaction import Compaction
from worker.log.dead_letters import DeadLetters
from worker.log.jobs import Jobs
from worker.log.lease import DrainLog
from worker.log.parsers import read_parser
from worker.log.refused_members import RefusedMembers
from worker.log.rejected_bodies import RejectedBodies
from worker.log.snapshots import Snapshots
from worker.log.upkeep import Upkeep
from worker.manifest.decoder import Decoder, decoder_from_text
from worker.model import StoreRecord
from worker.records.brake import Brakes
from worker.records.circuit import Circuits
from worker.records.directory import Directory
from worker.records.projects import ProjectRecords
from worker.records.records import DirectoryCache, Records
from worker.records.secret_box import LOCKED, SecretBox
from worker.records.segment_keys import SegmentKeys
from worker.records.stores import StoreRecords
from worker.records.tokens import TokenRecords
from worker.settings import Settings
from worker.state import open_state
from worker.stores import SegmentStore, open_store

Opener = Callable[[StoreRecord], SegmentStore]


class Stores:
    """Open stores by id; a store whose record changed is closed and opened anew. Safe between threads."""

    def __init__(
        self,
        directory: Callable[[], Directory],
        opener: Opener = open_store,
    ) -> None:
        self._directory = directory
        self._opener = opener
        self._lock = threading.Lock()
        self._open: dict[str, tuple[int, SegmentStore]] = {}

    def get(self, store_id: str) -> SegmentStore | None:
        """The store, or None when it is gone or switched off.

        Raises:
            Unavailable: the state server is away; or the store, for nobody here can open its secrets.
        """
        record = self._directory().store(store_id)
        with self._lock:
            opened = self._open.get(store_id)
            if opened and (record is None or not record.on or opened[0] != record.version):
                del self._open[store_id]
                opened[1].close()
                opened = None
            if record is None or not record.on:
                return None
            if record.locked:
                raise Unavailable(LOCKED, dependency="store", fault="configuration")
            if opened is None:
                opened = self._open[store_id] = (record.version, self._opener(record))
            return opened[1]

    def close(self) -> None:
        """Close all; idempotent."""
        with self._lock:
            for _, store in self._open.values():
                store.close()
            self._open.clear()


class Parsers:
    """Compiled requestParsers by digest, from the state server: entries are parsed as they were accepted (rule 3)."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._compiled: dict[str, Decoder] = {}

    def get(self, digest: str) -> Decoder:
        """The decoder.

        Raises:
            Unavailable: the state server is away, or does not have the parser, or has one that this version cannot
                read. None of these is the batch's fault: it waits until they are put right.
        """
        if decoder := self._compiled.get(digest):
            return decoder
        text = read_parser(self._client, digest)
        if text is None:
            raise Unavailable(f"the state server does not have requestParser {digest}", dependency="state")
        try:
            decoder = self._compiled[digest] = decoder_from_text(text)
        except ValueError as error:
            raise Unavailable(f"this version cannot read requestParser {digest}", dependency="state") from error
        return decoder


class Wiring:
    """Everything a process works with. Made after forks: connections are not shared between processes.

    ``client`` and ``opener`` stand in for the state server and the stores of the settings, in tests.
    """

    def __init__(self, settings: Settings, *, client: redis.Redis | None = None, opener: Opener = open_store) -> None:
        self.settings = settings
        self.client = client or open_state(settings)
        self.box = SecretBox(settings.secrets())
        self.records = Records(self.client, self.box)
        self.store_records = StoreRecords(self.client, self.box)
        self.project_records = ProjectRecords(self.client)
        self.token_records = TokenRecords(self.client)
        self.directory = DirectoryCache(self.records)
        self.segment_keys = SegmentKeys(self.client)
        self.drain_log = DrainLog(self.client)
        self.snapshots = Snapshots(self.client)
        self.compaction = Compaction(self.client)
        self.upkeep = Upkeep(self.client)
        self.closings = Closings(self.client)
        self.imports = Jobs(self.client, "imports")
        self.exports = Jobs(self.client, "exports")
        self.dead_letters = DeadLetters(self.client)
        self.rejected = RejectedBodies(self.client)
        self.incarnations = Incarnations(self.client)
        self.parsers = Parsers(self.client)
        self.stores = Stores(self.directory.fresh, opener)
        self.circuits = Circuits(self.client)
        self.brakes = Brakes(self.client)
        self.refused_members = RefusedMembers(self.client)

    def stores_of(self, environment_id: str) -> list[StoreRecord]:
        """The environment's stores that are on, oldest first.

        Raises:
            Unavailable: the state server is away.
        """
        return [store for store in self.directory.fresh().stores_of(environment_id) if store.on]

    def close(self) -> None:
        """Give every connection back; idempotent."""
        self.stores.close()
        self.client.close()


def open_records(settings: Settings) -> Records:
    """The records of a state server, for the commands that set an installation up."""
    return Records(open_state(settings), SecretBox(settings.secrets()))
