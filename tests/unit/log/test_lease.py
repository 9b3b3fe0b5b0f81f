"""Taking, renewing, advancing, releasing and rewinding a cursor, on fakeredis and on the real server."""

from __future__ import annotations

from typing import cast

import pytest
import redis
from log_builders import SEGMENT, STORE, append, batch, bodies, drain_all, take

from worker.errors import LeaseLost, Unavailable
from worker.log.dead import DeadLetter, decode_letter
from worker.log.entry import Entry
from worker.log.lease import RENEWAL_SECONDS, Busy, DrainLog, Idle, Lease, Orphans
from worker.log.upkeep import StoreStatus, Upkeep


def status(client: redis.Redis, store: str = STORE) -> StoreStatus:
    [found] = Upkeep(client).statuses(SEGMENT.environment_id, [SEGMENT.segment_key], [store])
    return found.stores[store]


def read(lease: Lease) -> list[Entry]:
    return lease.read(most_bytes=1 << 20, most_entries=100)


def test_a_second_taker_finds_the_lease_busy(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    take(redis_client)
    assert DrainLog(redis_client).take(SEGMENT, STORE, connection="c2") == Busy()


def test_two_stores_drain_the_same_log_side_by_side(redis_client: redis.Redis) -> None:
    append(redis_client, batch(stores=("a", "b")))
    first, second = take(redis_client, store="a"), take(redis_client, store="b")
    assert [len(read(lease)) for lease in (first, second)] == [1, 1]


def test_a_log_that_is_fully_applied_is_idle(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    drain_all(redis_client)
    assert DrainLog(redis_client).take(SEGMENT, STORE, connection="c2") == Idle()


def test_take_consumes_the_wake_up_even_when_the_lease_is_busy(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    lease = take(redis_client)
    append(redis_client, batch())
    DrainLog(redis_client).take(SEGMENT, STORE, connection="c2")
    assert lease.release(clean=True) is True


def test_a_read_stops_at_its_bytes_but_returns_one_entry_at_least(redis_client: redis.Redis) -> None:
    append(redis_client, *(batch(bytes([n]) * 500) for n in range(4)))
    lease = take(redis_client)
    assert len(lease.read(most_bytes=1, most_entries=100)) == 1
    assert len(lease.read(most_bytes=1000, most_entries=100)) == 2
    assert len(lease.read(most_bytes=1 << 20, most_entries=3)) == 3


def test_advance_moves_the_cursor_and_release_finds_the_log_ahead(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1"), batch(b"2"))
    lease = take(redis_client)
    lease.advance(read(lease)[0], 1)
    assert bodies(lease) == [b"2"]
    assert lease.release(clean=True) is True
    assert bodies(take(redis_client)) == [b"2"]


def test_advance_says_whether_the_log_goes_on(redis_client: redis.Redis) -> None:
    append(redis_client, batch(), batch())
    lease = take(redis_client)
    first, second = read(lease)
    assert lease.advance(first, 1) is True
    assert lease.advance(second, 1) is False


def test_release_of_a_drained_log_makes_no_wake_up_due(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    lease = take(redis_client)
    lease.advance(read(lease)[-1], 1)
    assert lease.release(clean=True) is False
    assert status(redis_client).settled


def test_advance_counts_members_of_the_segment(redis_client: redis.Redis) -> None:
    append(redis_client, batch(), batch())
    lease = take(redis_client)
    first, second = read(lease)
    lease.advance(first, 7)
    lease.advance(second, None)
    assert redis_client.hget("segsync:{%s/%s}:segment" % SEGMENT[:2], "members") == b"7"  # noqa: UP031


def test_advance_refuses_to_go_beyond_the_last_entry(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    lease = take(redis_client)
    [entry] = read(lease)
    beyond = Entry("9999999999999-0", "x", 9, 9, "acme", "d", "reject", "body", b"", b"")
    with pytest.raises(Unavailable, match="BEYOND"):
        lease.advance(beyond, 0)
    lease.advance(entry, 0)


def test_an_expired_lease_can_neither_renew_nor_advance_nor_release(redis_client: redis.Redis) -> None:
    now = [100.0]
    append(redis_client, batch())
    lease = DrainLog(redis_client, clock=lambda: now[0]).take(SEGMENT, STORE, connection="c1")
    assert isinstance(lease, Lease)
    [entry] = read(lease)
    Upkeep(redis_client).expire(SEGMENT, STORE, lease.token, "1")
    now[0] += RENEWAL_SECONDS
    with pytest.raises(LeaseLost):
        lease.renew()
    with pytest.raises(LeaseLost):
        lease.advance(entry, 0)
    with pytest.raises(LeaseLost):
        lease.release(clean=True)


def test_a_lease_that_was_renewed_meanwhile_does_not_expire(redis_client: redis.Redis) -> None:
    now = [100.0]
    append(redis_client, batch())
    lease = DrainLog(redis_client, clock=lambda: now[0]).take(SEGMENT, STORE, connection="c1")
    assert isinstance(lease, Lease)
    now[0] += RENEWAL_SECONDS
    lease.renew()
    assert Upkeep(redis_client).expire(SEGMENT, STORE, lease.token, "1") is False
    lease.advance(read(lease)[-1], 0)


def test_renewals_closer_than_the_interval_ask_nothing_of_the_server(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    lease = take(redis_client)
    for _ in range(5):
        lease.renew()
    assert status(redis_client).beat == "1"


def test_a_rewind_during_a_drain_makes_its_advance_fail_though_it_holds_the_lease(redis_client: redis.Redis) -> None:
    append(redis_client, batch(), batch())
    log, upkeep = DrainLog(redis_client), Upkeep(redis_client)
    orphan = take(redis_client)
    upkeep.expire(SEGMENT, STORE, orphan.token, "1")
    lease = log.take(SEGMENT, STORE, connection="c2", waived=[orphan.token])
    assert isinstance(lease, Lease)
    upkeep.settle(SEGMENT, STORE, orphan.token)
    with pytest.raises(LeaseLost):
        lease.advance(read(lease)[-1], 0)


def test_the_orphans_of_a_dead_drain_are_shown_before_the_lease_is_given(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    dead = take(redis_client, connection="the dead one's connection")
    Upkeep(redis_client).expire(SEGMENT, STORE, dead.token, "1")
    found = DrainLog(redis_client).take(SEGMENT, STORE, connection="c2")
    assert found == Orphans({dead.token: "the dead one's connection"})


def test_taking_with_an_orphan_fenced_starts_where_the_orphan_began(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1"), batch(b"2"))
    dead = take(redis_client)
    Upkeep(redis_client).expire(SEGMENT, STORE, dead.token, "1")
    lease = DrainLog(redis_client).take(SEGMENT, STORE, connection="c2", fenced=[dead.token])
    assert isinstance(lease, Lease)
    assert bodies(lease) == [b"1", b"2"]
    assert [mark.token for mark in status(redis_client).marks] == [lease.token]


def test_an_unclean_release_leaves_the_mark_and_settling_goes_back_to_where_it_began(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1"), batch(b"2"))
    lease = take(redis_client)
    lease.advance(read(lease)[0], 1)
    lease.release(clean=False)
    log = DrainLog(redis_client)
    successor = log.take(SEGMENT, STORE, connection="c2", waived=[lease.token])
    assert isinstance(successor, Lease)
    successor.advance(read(successor)[-1], 1)
    successor.release(clean=True)
    assert Upkeep(redis_client).settle(SEGMENT, STORE, lease.token) is True
    assert bodies(take(redis_client)) == [b"2"]


def test_settling_never_touches_the_drain_that_holds_the_lease(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    lease = take(redis_client)
    assert Upkeep(redis_client).settle(SEGMENT, STORE, lease.token) is False
    lease.advance(read(lease)[-1], 0)


def test_a_drain_that_lost_its_lease_rewinds_what_its_successor_advanced(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1"))
    zombie = take(redis_client)
    Upkeep(redis_client).expire(SEGMENT, STORE, zombie.token, "1")
    log = DrainLog(redis_client)
    successor = log.take(SEGMENT, STORE, connection="c2", waived=[zombie.token])
    assert isinstance(successor, Lease)
    successor.advance(read(successor)[-1], 1)
    successor.release(clean=True)
    assert zombie.rewind() is True
    assert bodies(take(redis_client)) == [b"1"]


def test_a_drain_that_lost_only_its_epoch_gives_its_lease_back_when_it_rewinds(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    orphan = take(redis_client)
    Upkeep(redis_client).expire(SEGMENT, STORE, orphan.token, "1")
    lease = DrainLog(redis_client).take(SEGMENT, STORE, connection="c2", waived=[orphan.token])
    assert isinstance(lease, Lease)
    Upkeep(redis_client).settle(SEGMENT, STORE, orphan.token)
    assert lease.rewind() is True
    assert status(redis_client).lease == ""


def test_rewinding_twice_is_harmless(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    lease = take(redis_client)
    Upkeep(redis_client).expire(SEGMENT, STORE, lease.token, "1")
    lease.rewind()
    before = status(redis_client)
    lease.rewind()
    assert status(redis_client) == before


def test_a_buried_entry_is_marked_dead_for_every_store_and_the_first_reason_stands(redis_client: redis.Redis) -> None:
    append(redis_client, batch(b"1", stores=("a", "b")), batch(b"2", stores=("a", "b")))
    first, second = take(redis_client, store="a"), take(redis_client, store="b")
    first.bury(read(first)[0], DeadLetter("dead", "malformed", "it is no JSON"))
    second.bury(read(second)[0], DeadLetter("dead", "bug", "another"))
    assert [entry.dead for entry in read(second)] == [True, False]
    [kept] = cast("list[bytes]", redis_client.hvals("segsync:{%s/%s}:g1:dead" % SEGMENT[:2]))  # noqa: UP031
    assert decode_letter(kept).reason == "malformed"


def test_members_are_exact_until_a_drain_ends_uncleanly(redis_client: redis.Redis) -> None:
    append(redis_client, batch())
    key = "segsync:{%s/%s}:segment" % SEGMENT[:2]  # noqa: UP031
    drain_all(redis_client)
    assert redis_client.hget(key, "members_exact") == b"1"
    append(redis_client, batch())
    take(redis_client).release(clean=False, exact=False)
    assert redis_client.hget(key, "members_exact") == b"0"
