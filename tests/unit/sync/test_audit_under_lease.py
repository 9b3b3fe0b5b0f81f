"""What a comparison does with the lease of a segment, and what it takes for true: a suspicion is no proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from sync_builders import Installation

from worker.errors import Unavailable
from worker.log import keyspace
from worker.log.entry import compress, pack_fields, pack_slice
from worker.log.late import insert_entry
from worker.log.lease import Lease
from worker.log.position import ms_of
from worker.log.segments import read_segments
from worker.log.snapshots import Snapshots
from worker.log.upkeep import StoreStatus
from worker.stores import Scanned
from worker.stores.layout import context_hash
from worker.stores.memory import MemorySession
from worker.sync.audit import Audit, Comparison
from worker.sync.compact import compact
from worker.sync.drain import drain
from worker.sync.truth import included_members


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    """A store that has ann and bob in a segment."""
    installed = Installation(
        redis_client, retention_seconds=0, dead_retention_seconds=3600, rejected_retention_seconds=3600
    )
    installed.accept(add=("ann", "bob"))
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
    installation.store.change(
        installation.segment().ref,
        [context_hash(add).encode()] if add else [],
        [context_hash(remove).encode()] if remove else [],
    )


def key(installation: Installation, name: str) -> str:
    return f"{keyspace.prefix(installation.segment())}:{name}"


def status(installation: Installation) -> StoreStatus:
    [found] = installation.wiring.upkeep.statuses(
        installation.environment_id, ["rudderstack-beta"], [installation.store_id]
    )
    return found.stores[installation.store_id]


def members_exact(installation: Installation) -> bool:
    [segment] = read_segments(installation.client, installation.environment_id, ["rudderstack-beta"])
    return segment.members_exact


@pytest.fixture
def before_confirming(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Something happens between the scan and the look under the lease."""

    def arrange(do: Callable[[], None]) -> None:
        confirm = Audit._confirm

        def later(*arguments: Any) -> None:
            do()
            confirm(*arguments)

        monkeypatch.setattr(Audit, "_confirm", later)

    return arrange


BeforeConfirming = Callable[[Callable[[], None]], None]


def test_what_is_right_when_it_is_looked_at_again_is_not_wrong(
    installation: Installation, before_confirming: BeforeConfirming
) -> None:
    change(installation, add="eve", remove="ann")
    before_confirming(lambda: change(installation, add="ann", remove="eve"))
    assert compare(installation).agrees


@pytest.fixture
def lost(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever compares loses the lease when it has seen what is wrong."""
    monkeypatch.setattr("worker.log.lease.RENEWAL_SECONDS", -1.0)
    really_wrong = Audit._really_wrong

    def and_lose(*arguments: Any) -> object:
        found = really_wrong(*arguments)
        held = status(installation)
        installation.wiring.upkeep.expire(installation.segment(), installation.store_id, held.lease, held.beat)
        return found

    monkeypatch.setattr(Audit, "_really_wrong", and_lose)


@pytest.mark.usefixtures("lost")
def test_who_lost_the_lease_removes_nobody_and_has_everything_folded_again(installation: Installation) -> None:
    change(installation, add="eve")
    found = compare(installation, repair=True)
    assert (found.uncertain, found.strays) == (["rudderstack-beta"], 0)
    assert installation.members("eve") == {"eve"}
    left = status(installation)
    assert (left.position, left.lease, left.marks) == ("0-0", "", ())
    assert installation.segment() in installation.wiring.upkeep.ahead()


def test_a_removal_that_is_not_answered_may_still_land_and_keeps_its_mark(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: Any) -> int:
        raise Unavailable("no answer", dependency="store", fate_unknown=True)

    monkeypatch.setattr(MemorySession, "remove_hashes", hang)
    change(installation, add="eve")
    with pytest.raises(Unavailable):
        compare(installation, repair=True)
    left = status(installation)
    assert left.lease == ""
    assert [mark.began for mark in left.marks] == ["0-0"], "it could be anybody who is taken out"


def test_a_removal_that_is_refused_leaves_no_mark(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise Unavailable("full", dependency="store", fate_unknown=False)

    monkeypatch.setattr(MemorySession, "remove_hashes", refuse)
    change(installation, add="eve")
    with pytest.raises(Unavailable):
        compare(installation, repair=True)
    assert status(installation).marks == ()


@pytest.mark.parametrize("repair", [False, True])
def test_a_count_is_approximate_once_a_stray_was_seen(installation: Installation, repair: bool) -> None:
    assert members_exact(installation)
    change(installation, add="eve")
    compare(installation, repair=repair)
    assert not members_exact(installation)


def test_the_strays_of_a_dead_batch_are_strays(installation: Installation) -> None:
    before = status(installation).position
    installation.accept_body(installation.body(add=("eve",)))
    apply(installation)
    installation.client.hset(key(installation, "dead"), status(installation).position, '{"status":"dead"}')
    installation.client.hset(key(installation, f"cursor:{installation.store_id}"), "position", before)
    assert compare(installation, repair=True).strays == 1
    assert installation.members("ann", "bob", "eve") == {"ann", "bob"}


def test_what_no_store_has_applied_yet_may_be_what_nobody_can_read(installation: Installation) -> None:
    installation.accept_body(b"{not json")
    change(installation, add="eve")
    assert compare(installation, repair=True).strays == 1


def test_what_was_replayed_below_a_snapshot_is_right(installation: Installation) -> None:
    place = f"{ms_of(status(installation).position) - 1}-{10**12}"
    assert compact(installation.wiring, installation.segment(), force=True).outcome == "folded"
    told = insert_entry(
        installation.client,
        installation.segment(),
        place,
        batch_id="replayed",
        fields=pack_fields(
            integration_key="rudderstack",
            parser_digest="digest",
            policy="reject",
            kind="slice",
            content=compress(pack_slice({"bob": False, "cyd": True})),
        ),
        store_ids=[installation.store_id],
        of_dead=False,
    )
    assert isinstance(told, list)
    apply(installation)
    assert installation.members("ann", "bob", "cyd") == {"ann", "bob", "cyd"}, "of bob, a later entry has decided"
    found = compare(installation, repair=True)
    assert (found.agrees, found.members, found.uncertain) == (True, 3, [])
    change(installation, remove="cyd")
    assert compare(installation).wrong == {"rudderstack-beta": (1, 0)}


def test_a_log_that_is_compacted_while_it_is_read_is_read_anew(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold() -> None:
        assert compact(installation.wiring, installation.segment(), force=True).outcome == "folded"

    fold()
    installation.accept(add=("cyd",), remove=("ann",))
    apply(installation)
    chunk = Snapshots.chunk

    def fold_meanwhile(*arguments: Any) -> bytes:
        monkeypatch.undo()
        fold()
        return chunk(*arguments)

    monkeypatch.setattr(Snapshots, "chunk", fold_meanwhile)
    assert sorted(included_members(installation.wiring, installation.segment())) == ["bob", "cyd"]


def test_strays_are_removed_window_by_window_under_a_lease_that_is_renewed(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    remove_hashes = MemorySession.remove_hashes

    def remove(*arguments: Any) -> int:
        steps.append("remove")
        return remove_hashes(*arguments)

    monkeypatch.setattr(MemorySession, "remove_hashes", remove)
    monkeypatch.setattr(Lease, "renew", lambda _: steps.append("renewed"))
    change(installation, add="eve")
    compare(installation, repair=True)
    assert steps[steps.index("remove") :] == ["remove", "renewed"]


def test_a_context_that_a_scan_shows_twice_is_no_stray(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = type(installation.store).scan

    def twice(store: Any) -> Iterator[list[Scanned]]:
        for page in scan(store):
            yield page
            yield page

    monkeypatch.setattr(type(installation.store), "scan", twice)
    suspects: list[object] = []
    monkeypatch.setattr(Audit, "_confirm", lambda *told: suspects.append(told))
    assert compare(installation).agrees
    assert suspects == []
