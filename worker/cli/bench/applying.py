"""The same members brought into one store by whoever is measured: segsync's worker, or what it is measured against."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import TypeVar

import redis

from worker.cli.bench.installation import PREFIX, Installation, StoreKeeps, installed
from worker.cli.bench.payloads import SEGMENT, append, segment_body
from worker.cli.bench.references import send_encoded, write_plainly
from worker.errors import Misconfigured
from worker.model import SegmentId
from worker.stores.layout import context_hashes, redis_include_key
from worker.stores.redis.bulk import pack_commands
from worker.sync.tasks import create_celery
from worker.sync.wake_ups import send

BATCH_MEMBERS = 1000
_SAMPLE = 1000
_KEYS_AT_ONCE = 5000
# Each look takes some of the two cores on which everything runs: where a second passes, few are exact enough.
_OFTEN_SECONDS, _SELDOM_SECONDS = 0.002, 0.006

T = TypeVar("T")


class Applying:
    """An installation whose store has nobody, before and after each side's turn. A side returns members a second."""

    def __init__(self, installation: Installation, members: Sequence[str]) -> None:
        self.installation = installation
        self.members = members
        self._keys = [redis_include_key(PREFIX, hashed.decode()) for hashed in context_hashes(members)]
        self._cohort_ids = map(str, count())
        self._app = create_celery(installation.wiring.settings)

    def by_segsync(self, *, segments: int = 1) -> float:
        """From batches of a thousand that wait in the log; the fill is not measured, the wake-up is."""
        batches = portions(self.members, BATCH_MEMBERS)
        logs = [self.fill(batches[place::segments]) for place in range(segments)]
        return self._rate(lambda: self.drain(logs, _SELDOM_SECONDS), [log.ref for log in logs])

    def by_encoded_commands(self) -> float:
        """The very commands that segsync sends, encoded before, sent by what Redis ships for that."""
        ref, server = "limit.g1", self.installation.store_server
        commands = self.installation.directory / "commands"
        commands.write_bytes(pack_commands(b"SADD", PREFIX, context_hashes(self.members), ref))

        def write() -> float:
            return send_encoded(commands, len(self.members), port=server.port, password=server.password)

        return self._rate(write, [ref])

    def by_plain_python(self) -> float:
        """As one would write it first: json, jsonpointer, and a pipeline of redis-py for each batch of a thousand."""
        ref = "plain.g1"
        bodies = [segment_body("environment", "cohort", members) for members in portions(self.members, BATCH_MEMBERS)]
        with self.installation.store_client() as client:
            return self._rate(lambda: write_plainly(client, PREFIX, ref, bodies), [ref])

    def fill(self, batches: Sequence[Sequence[str]]) -> SegmentId:
        """A new log, in which a batch waits for each of these lists of members to add."""
        cohort_id = next(self._cohort_ids)
        bodies = [segment_body(self.installation.environment_id, cohort_id, members) for members in batches]
        return append(self.installation, cohort_id, bodies, SEGMENT)

    def drain(self, logs: Sequence[SegmentId], look_seconds: float = _OFTEN_SECONDS) -> float:
        """Seconds from waking the worker up until it has applied these logs; how often it looks is for how exact."""
        began = time.perf_counter()
        send(self._app, [self.installation.drain_of(log) for log in logs])
        self.installation.wait_until_applied(logs, look_seconds)
        return time.perf_counter() - began

    def bytes_in_log_and_store(self) -> tuple[float, float]:
        """Bytes a member in the server's memory: what the log holds of it, and then what the store does."""
        empty = self._used_bytes()
        log = self.fill(portions(self.members, BATCH_MEMBERS))
        filled = self._used_bytes()
        self.drain([log])
        applied = self._used_bytes()
        self.check({log.ref.encode()})
        self.empty()
        return (filled - empty) / len(self.members), (applied - filled) / len(self.members)

    def empty(self) -> None:
        """Take everybody out of the store, and out of its file: it must not come to rewrite that in one side's turn."""
        with self.installation.store_client() as client:
            for keys in portions(self._keys, _KEYS_AT_ONCE):
                client.delete(*keys)
            if client.info("persistence")["aof_enabled"]:
                self._wait_for_rewriting(client)
                with suppress(redis.ResponseError):  # it has begun one of itself this very moment
                    client.bgrewriteaof()
                self._wait_for_rewriting(client)

    def _wait_for_rewriting(self, client: redis.Redis) -> None:
        self.installation.wait_until(lambda: not _rewrites(client), "the store to rewrite its file")

    def _used_bytes(self) -> int:
        with self.installation.store_client() as client:
            return int(client.info("memory")["used_memory"])

    def _rate(self, write: Callable[[], float], refs: Sequence[str]) -> float:
        seconds = write()
        self.check({ref.encode() for ref in refs})
        self.empty()
        return len(self.members) / seconds

    def check(self, refs: set[bytes]) -> None:
        """Everybody is in one of these segments, by a sample in no other."""
        step = max(1, len(self._keys) // _SAMPLE)
        with self.installation.store_client() as client:
            there = sum(client.exists(*keys) for keys in portions(self._keys, _KEYS_AT_ONCE))
            sampled = [client.smembers(key) for key in self._keys[::step]]
        if there != len(self._keys) or any(len(found) != 1 or not found <= refs for found in sampled):
            raise Misconfigured(f"{there} of {len(self._keys)} members are in the store, or some in another segment")


@contextmanager
def applying(members: Sequence[str], processes: int = 1, store: StoreKeeps = "as state") -> Iterator[Applying]:
    """An installation with a worker that has drained something already."""
    with installed(store) as installation, installation.worker(processes=processes):
        found = Applying(installation, members)
        found.drain([found.fill(portions(members, BATCH_MEMBERS)[:20])])
        found.empty()
        yield found


def _rewrites(client: redis.Redis) -> bool:
    told = client.info("persistence")
    return bool(told["aof_rewrite_in_progress"] or told["aof_rewrite_scheduled"])


def portions(members: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut into lists of so many."""
    return [members[start : start + size] for start in range(0, len(members), size)]
