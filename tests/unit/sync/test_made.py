"""What people do to segments goes through the log: changes of both lists by hand, and imports that merge or replace."""

from __future__ import annotations

import pytest
import redis
from made_builders import append_laid_down, change_by_hand, close_log, import_keys, known, lay_down
from sync_builders import Installation

from worker.errors import Conflict, NotFound
from worker.log import keyspace
from worker.log.creation import create_segment
from worker.log.entry import Entry
from worker.log.imports import ImportChunks, import_of
from worker.log.position import START, ms_of
from worker.log.segments import read_segments
from worker.model import RedisStoreConfiguration, SegmentId
from worker.records.stores import StoreRecords
from worker.stores.layout import context_hashes
from worker.sync.accounts import count_over
from worker.sync.audit import Audit
from worker.sync.compact import fold_import
from worker.sync.drain import Drained, drain

PEOPLE = ("ann", "bob", "cyd", "dan", "eve", "\ufdd0xann", "\ufdd0")


@pytest.fixture
def installation(redis_client: redis.Redis) -> Installation:
    return Installation(redis_client)


def run(installation: Installation, store_id: str = "", segment: SegmentId | None = None) -> Drained:
    store_id = store_id or installation.store_id
    done = drain(installation.wiring, segment or installation.segment(), store_id, budget_seconds=60)
    assert done.outcome in {"applied", "idle"}, done
    return done


def there(installation: Installation, store_id: str = "") -> set[str]:
    store, ref = installation.opened[store_id or installation.store_id], installation.segment().ref
    return {key for key in PEOPLE if ref in store.included(key)}


def excluded(installation: Installation, store_id: str = "") -> set[str]:
    store, ref = installation.opened[store_id or installation.store_id], installation.segment().ref
    return {key for key in PEOPLE if ref in store.excluded(key)}


def counts(installation: Installation) -> tuple[int, int, bool]:
    found = known(installation)
    return found.members, found.excluded, found.members_exact


def agrees(installation: Installation) -> bool:
    [record] = [
        store
        for store in installation.wiring.directory.fresh().stores_of(installation.environment_id)
        if store.store_id == installation.store_id
    ]
    found = Audit(installation.wiring, record).run()
    assert not found.uncertain
    return found.agrees


def test_a_change_by_hand_takes_effect_at_its_place_in_the_order(installation: Installation) -> None:
    installation.accept(add=("ann", "bob"))
    change_by_hand(installation, add=("cyd",), remove=("ann",))
    installation.accept(add=("ann",), remove=("cyd",))
    change_by_hand(installation, remove=("bob",))
    run(installation)
    assert there(installation) == {"ann"}


def test_the_two_lists_know_nothing_of_each_other(installation: Installation) -> None:
    installation.accept(add=("ann", "bob"))
    change_by_hand(installation, add_excluded=("ann", "eve"), add=("dan",))
    change_by_hand(installation, remove_excluded=("eve",), remove=("dan", "eve"))
    installation.accept(remove=("ann",))
    run(installation)
    assert (there(installation), excluded(installation)) == ({"bob"}, {"ann"})
    assert counts(installation) == (1, 1, True)
    assert agrees(installation)


def test_who_is_called_as_a_name_is_marked_is_told_from_who_is_excluded(installation: Installation) -> None:
    installation.accept(add=("\ufdd0xann", "\ufdd0"))
    change_by_hand(installation, add_excluded=("ann",), add=("cyd",))
    import_keys(installation, "\ufdd0", "bob", mode="merge")
    run(installation)
    assert (there(installation), excluded(installation)) == ({"\ufdd0xann", "\ufdd0", "bob", "cyd"}, {"ann"})
    assert agrees(installation)


def test_a_change_that_is_sent_again_changes_nothing(installation: Installation) -> None:
    installation.accept(add=("ann",))
    change_by_hand(installation, remove=("ann",), batch_id="once")
    change_by_hand(installation, add=("ann",))
    change_by_hand(installation, remove=("ann",), batch_id="once")
    run(installation)
    assert there(installation) == {"ann"}


def test_a_change_of_a_segment_that_is_gone_is_refused_and_creates_nothing(installation: Installation) -> None:
    installation.accept(add=("ann",))
    seen = known(installation)
    base = keyspace.base(*installation.segment()[:2])
    installation.client.hdel(f"{base}:segment", "context_kind")
    with pytest.raises(NotFound):
        change_by_hand(installation, add=("bob",), segment=seen)
    with pytest.raises(NotFound):
        append_laid_down(installation, import_of("nobody", "replace", chunks=0, members=0), seen)
    assert installation.client.xlen(f"{base}:g1:log") == 1
    assert installation.client.hget(f"{base}:segment", "generation") == b"1"


def test_a_replace_removes_exactly_those_who_are_not_in_it(installation: Installation) -> None:
    installation.accept(add=("ann", "bob", "cyd"))
    change_by_hand(installation, add_excluded=("ann", "eve"))
    import_keys(installation, "bob", "dan", "\ufdd0")
    installation.accept(add=("eve",), remove=("dan",))
    run(installation)
    assert (there(installation), excluded(installation)) == ({"bob", "\ufdd0", "eve"}, {"ann", "eve"})
    assert counts(installation) == (3, 2, True)
    assert agrees(installation)


def test_a_merge_adds_those_who_are_in_it_and_removes_nobody(installation: Installation) -> None:
    installation.accept(add=("ann", "bob"))
    import_keys(installation, "bob", "cyd", mode="merge")
    run(installation)
    assert there(installation) == {"ann", "bob", "cyd"}
    assert counts(installation) == (3, 0, True)


def test_a_replace_with_nobody_empties_the_segment_and_leaves_the_excluded_alone(installation: Installation) -> None:
    installation.accept(add=("ann", "bob"))
    change_by_hand(installation, add_excluded=("ann",))
    import_keys(installation)
    run(installation)
    assert (there(installation), excluded(installation)) == (set(), {"ann"})


def test_the_last_entry_of_a_log_empties_both_lists(installation: Installation) -> None:
    installation.accept(add=("ann", "bob"))
    change_by_hand(installation, add_excluded=("ann",))
    close_log(installation)
    run(installation)
    assert (there(installation), excluded(installation)) == (set(), set())


def test_imports_in_a_row_and_as_the_first_entry_ever_are_applied_in_their_order(installation: Installation) -> None:
    installation.accept()
    import_keys(installation, "ann", "bob", "cyd", "dan")
    import_keys(installation, "bob", mode="replace")
    import_keys(installation, "eve", mode="merge")
    run(installation)
    assert there(installation) == {"bob", "eve"}
    assert counts(installation) == (2, 0, True)


def test_a_second_store_that_is_behind_reads_the_replace_from_the_snapshot(redis_client: redis.Redis) -> None:
    installation = Installation(redis_client)
    other = StoreRecords(redis_client).add(installation.environment_id, "two", RedisStoreConfiguration(host="host-2"))
    installation.accept(add=("ann", "bob"))
    run(installation)
    run(installation, other.store_id)
    installation.accept(add=("cyd",))
    import_keys(installation, "bob", "dan")
    installation.accept(add=("eve",))
    run(installation)
    assert there(installation, other.store_id) == {"ann", "bob"}
    run(installation, other.store_id)
    assert there(installation) == there(installation, other.store_id) == {"bob", "dan", "eve"}


def test_a_store_that_is_added_later_gets_what_the_import_left(redis_client: redis.Redis) -> None:
    installation = Installation(redis_client)
    installation.accept(add=("ann", "bob"))
    import_keys(installation, "bob", "dan")
    run(installation)
    other = StoreRecords(redis_client).add(installation.environment_id, "two", RedisStoreConfiguration(host="host-2"))
    installation.wiring.directory.fresh(0)
    run(installation, other.store_id)
    assert there(installation, other.store_id) == {"bob", "dan"}


def test_the_books_balance_while_an_import_waits_and_when_it_is_applied(installation: Installation) -> None:
    installation.accept(add=("ann", "bob"))
    run(installation)
    import_keys(installation, "bob")
    account = count_over(installation.wiring, [installation.segment()], [installation.store_id])
    assert (account.balanced, account.accepted, account.stores[installation.store_id].pending) == (True, 2, 1)
    run(installation)
    account = count_over(installation.wiring, [installation.segment()], [installation.store_id])
    assert (account.balanced, account.stores[installation.store_id].applied) == (True, 2)


def test_an_import_whose_chunks_have_outlived_their_hour_is_refused(installation: Installation) -> None:
    installation.accept()
    said = lay_down(installation, ("ann", "bob", "cyd", "dan"))
    installation.client.hdel(f"{keyspace.prefix(installation.segment())}:import:{said.import_id}", "0")
    with pytest.raises(Conflict):
        append_laid_down(installation, said)


def test_chunks_have_an_hour_to_live_until_they_are_appended_and_go_when_they_are_folded(
    installation: Installation,
) -> None:
    installation.accept()
    said = lay_down(installation, ("ann", "bob", "cyd", "dan"))
    key = f"{keyspace.prefix(installation.segment())}:import:{said.import_id}"
    assert 3500 < installation.client.ttl(key) <= 3600
    append_laid_down(installation, said)
    assert installation.client.ttl(key) == -1
    run(installation)
    assert not installation.client.exists(key)


def test_an_import_is_appended_once_for_good_and_takes_no_chunks_any_more(installation: Installation) -> None:
    installation.accept()
    said = lay_down(installation, ("ann", "bob"))
    chunks, segment = ImportChunks(installation.client), installation.segment()
    append_laid_down(installation, said)
    run(installation)
    installation.accept(remove=("ann",))
    installation.client.delete(f"{keyspace.prefix(segment)}:recent")  # as if a minute had gone by
    append_laid_down(installation, said)
    assert not chunks.add(segment, said.import_id, 0, ["ann"])
    run(installation)
    assert there(installation) == {"bob"}
    assert chunks.position(segment, said.import_id) is not None


@pytest.mark.parametrize("key", ["", "\ud800"])
def test_a_key_that_nobody_can_have_is_refused(installation: Installation, key: str) -> None:
    installation.accept(add=("ann",))
    with pytest.raises(ValueError, match=r"empty|surrogate"):
        change_by_hand(installation, add_excluded=(key,))
    with pytest.raises(ValueError, match=r"empty|surrogate"):
        ImportChunks(installation.client).add(installation.segment(), "one", 0, [key])


@pytest.mark.parametrize("keys", [[], ["b", "a"], ["a", "a"], [str(n) for n in range(20_001)]])
def test_a_chunk_is_sorted_and_of_a_bounded_size(installation: Installation, keys: list[str]) -> None:
    with pytest.raises(ValueError, match="chunk"):
        ImportChunks(installation.client).add(installation.segment(), "one", 0, keys)


def test_a_store_that_has_yet_to_read_a_replace_is_as_old_as_that_and_no_older(installation: Installation) -> None:
    installation.accept(add=("ann", "bob"))
    run(installation)
    wait_for_the_next_millisecond(installation)
    import_keys(installation, "bob")
    entry = entries_of(installation)[-1]
    assert fold_import(installation.wiring, installation.segment(), entry, lambda: None) == "folded"
    assert oldest_ms(installation) == ms_of(entry.entry_id)
    run(installation)
    assert oldest_ms(installation) is None


def test_a_store_that_lagged_before_a_replace_is_as_old_as_it_was(redis_client: redis.Redis) -> None:
    installation = Installation(redis_client)
    other = StoreRecords(redis_client).add(installation.environment_id, "two", RedisStoreConfiguration(host="host-2"))
    installation.wiring.directory.fresh(0)
    installation.accept(add=("ann",))
    run(installation)
    run(installation, other.store_id)
    first = ms_of(entries_of(installation)[-1].entry_id)
    wait_for_the_next_millisecond(installation)
    installation.accept(add=("bob",))
    import_keys(installation, "bob")
    run(installation)
    assert oldest_ms(installation, other.store_id) == first


def test_a_segment_that_is_made_by_hand_is_changed_like_any_other(installation: Installation) -> None:
    made = make(installation, "vips")
    with pytest.raises(Conflict):
        make(installation, "vips")
    [found] = read_segments(installation.client, installation.environment_id, ["vips"])
    assert (found.name, found.context_kind, found.integration_key, found.members) == ("Important", "user", "-", 0)
    change_by_hand(installation, add=("ann",), segment=found)
    run(installation, segment=made)
    assert installation.store.included("ann") == {"vips.g1"}
    assert "vips" in installation.wiring.segment_keys.registered(installation.environment_id)


def test_the_key_of_a_cohort_is_not_given_to_a_segment_made_by_hand_nor_the_other_way_round(
    installation: Installation,
) -> None:
    installation.accept("beta")
    with pytest.raises(Conflict):
        make(installation, "rudderstack-beta")
    make(installation, "rudderstack-gamma")
    [key] = installation.wiring.segment_keys.allot(installation.environment_id, "rudderstack", ["gamma"])
    assert key != "rudderstack-gamma"


def test_an_audit_finds_and_repairs_who_is_missing_from_the_excluded_list_and_who_is_a_stray_in_it(
    installation: Installation,
) -> None:
    installation.accept(add=("ann", "bob"))
    change_by_hand(installation, add_excluded=("ann", "eve"))
    run(installation)
    ref, store = installation.segment().ref, installation.store
    store.change(ref, context_hashes(["dan"]), context_hashes(["eve"]), "excluded")
    assert (there(installation), excluded(installation)) == ({"ann", "bob"}, {"ann", "dan"})
    [record] = installation.wiring.directory.fresh().stores_of(installation.environment_id)
    found = Audit(installation.wiring, record, repair=True).run()
    assert (found.missing, found.strays, found.members, found.excluded) == (1, 1, 2, 2)
    run(installation)
    assert (there(installation), excluded(installation)) == ({"ann", "bob"}, {"ann", "eve"})
    found = Audit(installation.wiring, record).run()
    assert found.agrees
    assert counts(installation) == (2, 2, True)


def test_an_engaged_brake_does_not_count_what_people_made(installation: Installation) -> None:
    installation.accept(add=("ann",))
    run(installation)
    for _ in range(3):
        change_by_hand(installation, add=("bob",))
    lived: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(installation.wiring.brakes), "lived", lambda *_, count: lived.append(count))
        run(installation)
    assert (lived, there(installation)) == ([], {"ann", "bob"})


def make(installation: Installation, key: str) -> SegmentId:
    return create_segment(
        installation.client,
        installation.environment_id,
        key,
        context_kind="user",
        name="Important",
    )


def entries_of(installation: Installation) -> list[Entry]:
    return installation.wiring.drain_log.read(installation.segment(), START, most_bytes=1 << 20, most_entries=100)


def oldest_ms(installation: Installation, store_id: str = "") -> int | None:
    store_id = store_id or installation.store_id
    segment = installation.segment()
    [status] = installation.wiring.upkeep.statuses(segment.environment_id, [segment.segment_key], [store_id])
    return status.stores[store_id].oldest_ms


def wait_for_the_next_millisecond(installation: Installation) -> None:
    last = ms_of(entries_of(installation)[-1].entry_id)
    while installation.wiring.upkeep.server_ms() == last:
        pass
