"""CSV files of many people, a segment to import them into, and what a worker takes meanwhile."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, cast
from uuid import UUID

import psutil
import redis
from deployment import Deployment
from servers import ValkeyServer, wait_until

from worker.log.append import Appends
from worker.log.batch import Batch, Target
from worker.log.import_records import ImportRecord
from worker.log.imports import ImportMode
from worker.model import Cohort, SegmentId
from worker.stores.layout import context_hash
from worker.sync.imports import read_import, start_import
from worker.wiring import Wiring

_INCLUDED = "launchdarkly:big_segment_include:"
_numbers = itertools.count(1)


def identities(count: int, seed: int = 4) -> list[str]:
    """UUIDs of version 4, the same in every run."""
    chance = random.Random(seed)
    return [str(UUID(int=chance.getrandbits(128), version=4)) for _ in range(count)]


def as_csv(people: Sequence[str]) -> Iterator[bytes]:
    """A file with a second column; every thousandth is in it twice."""
    for start in range(0, len(people), 1_000):
        rows = [f"{person},somebody\r\n" for person in people[start : start + 1_000]]
        yield "".join([*rows, rows[0]]).encode()


def hashes(people: Iterable[str]) -> set[str]:
    return {context_hash(person) for person in people}


def included(client: redis.Redis, ref: str) -> set[str]:
    """The hashes of all contexts that the store includes in the segment, which is its only one."""
    keys = [key.decode() for key in cast("Any", client.scan_iter(f"{_INCLUDED}*", count=10_000))]
    if keys:
        assert client.smembers(keys[0]) == {ref.encode()}
    return {key.removeprefix(_INCLUDED) for key in keys}


class Importing:
    """One segment of a deployment whose store is the state server itself."""

    def __init__(self, deployment: Deployment, state: ValkeyServer) -> None:
        self.deployment = deployment
        self.client = state.client(decode_responses=False, socket_timeout=30)
        self.wiring = Wiring(deployment.wiring().settings, client=self.client)
        [key] = self.wiring.segment_keys.allot(deployment.environment_id, "rudderstack", ["csv"])
        self.segment = SegmentId(deployment.environment_id, key, 1)

    def accept(self, add: Sequence[str]) -> None:
        """Append a slice, as of a payload for two segments: no requestParser is needed to read it."""
        number = next(_numbers)
        said = Cohort("csv", members=dict.fromkeys(add, True))
        [other] = self.wiring.segment_keys.allot(self.segment.environment_id, "rudderstack", ["other"])
        batch = Batch(
            batch_id=f"batch-{number}",
            environment_id=self.segment.environment_id,
            context_kind="user",
            integration_key="rudderstack",
            parser_digest="d1",
            body=b"{}",
            targets=[Target(self.segment.segment_key, said), Target(other, Cohort("other"))],
            store_ids=[store.store_id for store in self.wiring.stores_of(self.segment.environment_id)],
            not_after_ms=10**15,
        )
        [outcome] = Appends(self.client).append([batch])
        assert not isinstance(outcome, Exception), outcome

    def start(self, people: Sequence[str], mode: ImportMode) -> str:
        found = start_import(self.wiring, self.segment, as_csv(people), mode=mode, file_name="people.csv", by="a test")
        # Nobody hints at it: the sweeper finds it, here without waiting until a hint would count as lost.
        self.client.hset(f"segsync:{{imports}}:job:{found.import_id}", "hinted_ms", "0")
        return found.import_id

    def record(self, import_id: str) -> ImportRecord:
        found = read_import(self.wiring, import_id)
        assert found is not None
        return found

    def share(self, import_id: str) -> float:
        """How far the store is that is furthest behind."""
        return min(self.record(import_id).stores.values(), default=0.0)

    def finish(self, import_id: str, timeout_s: float = 300.0) -> list[ImportRecord]:
        """Wait until it is over; returns what could be seen of it meanwhile."""
        seen: list[ImportRecord] = []

        def over() -> bool:
            seen.append(self.record(import_id))
            return seen[-1].status in {"complete", "stopped"}

        wait_until(over, timeout_s, "an import to end")
        assert seen[-1].status == "complete", seen[-1]
        return seen


class WorkerMemory:
    """What the processes of a worker hold at the most, each for itself, beyond what they held before."""

    def __init__(self, pid: int) -> None:
        self._processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._before = {process.pid: self._held(process) for process in self._processes}
        self.processes = len(self._processes)
        self.most_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            for process in self._processes:
                self.most_bytes = max(self.most_bytes, self._held(process) - self._before[process.pid])

    @staticmethod
    def _held(process: psutil.Process) -> int:
        return int(process.memory_info().rss)
