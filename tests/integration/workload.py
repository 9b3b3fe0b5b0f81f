"""Batches for several cohorts in a random order, and the plain model of what they amount to."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import redis

from worker.stores.layout import context_hashes

COHORTS = 20
MEMBERS = 1000
PEOPLE = 5000  # of each cohort: every one of them is added and removed many times over
PATH = "/api/v2/segment-targets/segment-audiences"


@dataclass
class Workload:
    """Batches for several cohorts in a fixed random order, and the plain model of what they amount to.

    Attributes:
        batch_members: how many members one batch has.
        people: how many there are in each cohort.
    """

    environment_id: str
    seed: int
    batch_members: int = MEMBERS
    people: int = PEOPLE
    members: list[set[str]] = field(default_factory=lambda: [set() for _ in range(COHORTS)])

    def bodies(self, batches: int) -> Iterator[bytes]:
        """Each body once; the model has it applied when it is yielded."""
        dice = random.Random(self.seed)
        for _ in range(batches):
            cohort = dice.randrange(COHORTS)
            batch = []
            for person in dice.sample(range(self.people), self.batch_members):
                key, value = f"person-{person:05}-of-{cohort}", dice.random() < 0.5
                (self.members[cohort].add if value else self.members[cohort].discard)(key)
                batch.append(
                    {"userId": key, "cohortId": f"cohort-{cohort}", "cohortName": f"Cohort {cohort}", "value": value}
                )
            yield msgspec.json.encode({"environmentId": self.environment_id, "contextKind": "user", "batch": batch})


def refs_by_hash(client: redis.Redis) -> dict[bytes, set[bytes]]:
    """Everything in the store: context hash -> segment refs."""
    keys = list(client.scan_iter("launchdarkly:big_segment_include:*", count=10_000))
    found: dict[bytes, set[bytes]] = {}
    for start in range(0, len(keys), 5000):
        with client.pipeline(transaction=False) as pipe:
            for key in keys[start : start + 5000]:
                pipe.smembers(key)
            found.update(
                (key.rpartition(b":")[2], refs)
                for key, refs in zip(keys[start : start + 5000], pipe.execute(), strict=True)
            )
    return found


def assert_store_holds(url: str, workload: Workload) -> None:
    """The store's membership is the model's: nobody missing, nobody too many."""
    expected: dict[bytes, set[bytes]] = {}
    for cohort, people in enumerate(workload.members):
        for context_hash in context_hashes(sorted(people)):
            expected.setdefault(context_hash, set()).add(f"segment-audiences-cohort-{cohort}.g1".encode())
    with redis.Redis.from_url(url, socket_timeout=30) as client:
        found = refs_by_hash(client)
    wrong = [
        context_hash
        for context_hash in expected.keys() | found.keys()
        if expected.get(context_hash) != found.get(context_hash)
    ]
    assert not wrong, f"{len(wrong)} of {len(expected)} contexts are wrong"
