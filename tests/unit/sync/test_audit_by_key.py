"""Comparing the logs with a store that cannot list its members: it is asked about them by key, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import redis
from sync_builders import FaultyStore, Installation

from worker.log.segments import read_segments
from worker.model import MemberList
from worker.stores import Scanned
from worker.stores.layout import context_hash
from worker.sync import asking
from worker.sync.audit import Audit, Comparison
from worker.sync.drain import drain


class KeyStore(FaultyStore):
    """A store in memory that knows contexts by their keys alone, and counts what it is asked."""

    lists_members = False
    asked = 0

    def includes_keys(self, segment_ref: str, context_keys: Sequence[str], of: MemberList = "included") -> list[bool]:
        self.asked += len(context_keys)
        refs = self.included if of == "included" else self.excluded
        return [segment_ref in refs(key) for key in context_keys]

    def includes(self, segment_ref: str, hashes: Sequence[bytes], of: MemberList = "included") -> list[bool]:
        raise NotImplementedError

    def scan(self) -> Iterator[list[Scanned]]:
        raise NotImplementedError

    def holds_members(self) -> bool:
        raise NotImplementedError


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    """A store that has ann and bob in a segment, and had eve, whose leaving the log knows of."""
    installed = Installation(redis_client, store_type=KeyStore, retention_seconds=0)
    installed.accept(add=("ann", "bob", "eve"))
    installed.accept(remove=("eve",))
    apply(installed)
    return installed


def apply(installation: Installation) -> None:
    drain(installation.wiring, installation.segment(), installation.store_id)


def compare(installation: Installation, *, repair: bool = False) -> Comparison:
    record = installation.wiring.directory.fresh(0).store(installation.store_id)
    assert record is not None
    return Audit(installation.wiring, record, repair=repair).run()


def change(installation: Installation, *, add: str = "", remove: str = "") -> None:
    """Change the store behind our back."""
    hashes = [[context_hash(key).encode()] if key else [] for key in (add, remove)]
    installation.store.change(installation.segment().ref, hashes[0], hashes[1])


def test_a_store_that_holds_what_the_log_says_agrees_by_a_sample(installation: Installation) -> None:
    found = compare(installation)
    assert (found.agrees, found.sampled, found.segments, found.members) == (True, True, 1, 2)


def test_who_is_missing_is_found_and_written_again(installation: Installation) -> None:
    change(installation, remove="ann")
    assert compare(installation).wrong == {"rudderstack-beta": (1, 0)}

    compare(installation, repair=True)
    apply(installation)
    assert compare(installation).agrees
    assert installation.store.included("ann")


def test_who_left_and_is_in_it_again_is_found_and_taken_out_by_folding(installation: Installation) -> None:
    change(installation, add="eve")
    assert compare(installation).wrong == {"rudderstack-beta": (0, 1)}

    compare(installation, repair=True)
    apply(installation)
    assert compare(installation).agrees
    assert not installation.store.included("eve")


def test_of_many_members_only_some_are_asked_about(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    store = installation.store
    assert isinstance(store, KeyStore)
    monkeypatch.setattr(asking.ByKey, "most", 3)
    installation.accept(add=tuple(f"user-{number}" for number in range(20)))
    apply(installation)

    assert compare(installation).members == 22
    assert store.asked == 3 + 1  # of those who are in, and the one who left


def test_a_count_that_was_approximate_is_exact_again(installation: Installation) -> None:
    keys = ["rudderstack-beta"]
    [before] = read_segments(installation.client, installation.environment_id, keys)
    installation.client.hset(
        f"segsync:{{{installation.environment_id}/rudderstack-beta}}:segment", "members_exact", "0"
    )
    compare(installation)

    [after] = read_segments(installation.client, installation.environment_id, keys)
    assert (after.members, after.members_exact) == (before.members, True)
