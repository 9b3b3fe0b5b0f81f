from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from worker.stores.layout import context_hashes, redis_include_key, redis_synchronized_on_key
from worker.stores.redis.addresses import Address
from worker.stores.redis.cells import CELL_SLOTS, SentinelCells
from worker.stores.redis.slots import (
    NOBODY,
    SLOTS,
    Redirection,
    SlotMap,
    has_hash_tag,
    read_slot_map,
    redirection_of,
    slot_of,
    slots_under,
    tags_in,
)

ASKED = Address("10.0.0.1", 7000)


@given(st.text(alphabet="ab{}:é", max_size=12))
def test_a_keys_slot_is_the_one_that_redis_py_says(key: str) -> None:
    assert slot_of(key) == key_slot(key.encode())


@pytest.mark.parametrize("prefix", ["launchdarkly", "prä:fix", "{tagged}", "a{b}c", "a{b}{c}", "{}x{y}", "a}b{c}"])
def test_the_slots_of_members_are_those_of_their_keys(prefix: str) -> None:
    hashes = context_hashes([f"user-{number}" for number in range(200)])
    expected = [key_slot(redis_include_key(prefix, hashed.decode()).encode()) for hashed in hashes]
    assert slots_under(prefix)(hashes) == expected
    assert has_hash_tag(prefix) == (len(set(expected)) == 1)


def test_tags_are_the_same_for_ever() -> None:
    tags = tags_in(frozenset(CELL_SLOTS))
    assert {slot: slot_of(f"{{{tag}}}") for slot, tag in tags.items()} == {slot: slot for slot in CELL_SLOTS}
    # Another one would make every store that there is look wiped.
    assert [tags[slot] for slot in (0, 64, 8192, 16320)] == ["3560", "11423", "8209", "21503"]


def test_the_arbiter_lies_beside_the_freshness_and_the_cells_on_their_grid() -> None:
    for prefix in ("launchdarkly", "ours", "prä:fix"):
        cells = SentinelCells(prefix)
        assert key_slot(cells._arbiter.encode()) == key_slot(redis_synchronized_on_key(prefix).encode())
        assert {slot: key_slot(key.encode()) for slot, key in cells._cells.items()} == {s: s for s in CELL_SLOTS}
        assert cells._arbiter not in cells._cells.values()
        assert all(key.startswith(f"{prefix}:segsync_sentinel:") for key in (cells._arbiter, *cells._cells.values()))


def node(host: str | None, port: int) -> list[object]:
    return [None if host is None else host.encode(), port, b"id", []]


def test_a_map_is_read_from_what_a_node_tells() -> None:
    found = read_slot_map(
        [
            [0, 99, node("a", 1), node("b", 2)],
            [200, SLOTS - 1, node("", 3), node("?", 4)],
            [100, 199, node("a", 1), node("b", 2)],
        ],
        ASKED,
    )
    assert found.primaries == (Address("10.0.0.1", 3), Address("a", 1))
    assert found.replicas == (Address("10.0.0.1", 4), Address("b", 2))
    assert [found.primaries[found.owners[slot]].port for slot in (0, 199, 200, SLOTS - 1)] == [1, 1, 3, 3]
    assert found.first_owned((64, 128, 256)) == {Address("a", 1): 64, Address("10.0.0.1", 3): 256}


def test_slots_that_nobody_serves_are_told() -> None:
    found = read_slot_map([[5, 6, node("a", 1)]], ASKED)
    assert (found.owners[4], found.owners[5], found.owners[7]) == (NOBODY, 0, NOBODY)
    assert found.first_owned((4, 5)) == {Address("a", 1): 5}


def test_a_node_that_would_rather_tell_a_name_is_reached_by_its_address() -> None:
    unnamed = [b"?", 1, b"id", [b"ip", b"10.0.0.9"]]
    assert read_slot_map([[0, SLOTS - 1, unnamed]], ASKED).primaries == (Address("10.0.0.9", 1),)


def test_two_maps_are_the_same_when_the_same_nodes_serve_the_same_slots() -> None:
    told = [[0, 99, node("a", 1), node("b", 2)], [100, SLOTS - 1, node("c", 3)]]
    one = read_slot_map(told, ASKED)
    assert read_slot_map([told[1], [0, 99, node("a", 1)]], ASKED).serves_as(one)
    assert not read_slot_map([[0, 99, node("b", 2)], told[1]], ASKED).serves_as(one)
    assert not one.serves_as(None)
    assert not SlotMap((), (NOBODY,) * SLOTS, ()).serves_as(one)


@pytest.mark.parametrize(
    ("code", "text", "told"),
    [
        ("MOVED", "MOVED 3999 10.0.0.9:6381", Redirection(3999, Address("10.0.0.9", 6381), asking=False)),
        ("MOVED", "3999 10.0.0.9:6381", Redirection(3999, Address("10.0.0.9", 6381), asking=False)),
        ("ASK", "ASK 7 :6381", Redirection(7, Address("10.0.0.1", 6381), asking=True)),
        ("MOVED", "MOVED 7 ?:6381", Redirection(7, Address("10.0.0.1", 6381), asking=False)),
        ("MOVED", "MOVED 7 2001:db8::1:6381", Redirection(7, Address("2001:db8::1", 6381), asking=False)),
        ("CLUSTERDOWN", "CLUSTERDOWN The cluster is down", None),
        (None, "anything", None),
    ],
)
def test_a_redirection_says_who_is_to_be_asked_instead(code: str | None, text: str, told: Redirection | None) -> None:
    assert redirection_of(code, text, ASKED) == told


@pytest.mark.parametrize("address", [Address("h", 1), Address("::1", 7000), Address("/run/redis.sock", 0)])
def test_an_address_reads_as_it_is_written(address: Address) -> None:
    assert Address.read(str(address)) == address
