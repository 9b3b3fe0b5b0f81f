"""The DynamoDB store on a table that takes only so much."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
from servers import DynamoDBServer
from throttling_proxy import ThrottlingProxy

from worker.errors import Unavailable
from worker.model import DynamoDBStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.dynamodb import DynamoDBStore
from worker.stores.dynamodb import sender as dynamodb_sender
from worker.stores.layout import context_hashes

REF = "beta-users.g1"
# Low enough that neither this machine nor the emulator is ever the limit.
UNITS_PER_S = 60.0
# A machine that stands still for a second or two spoils what was measured meanwhile: then the next portion is measured.
# That it settles at once, and stays there, is shown with a clock of its own: tests/unit/stores/test_dynamodb_pace.py.
PORTIONS = 6
PORTION_UNITS = 720


@pytest.fixture
def proxy(transactional_dynamodb: DynamoDBServer) -> Iterator[ThrottlingProxy]:
    with ThrottlingProxy(transactional_dynamodb.url, UNITS_PER_S) as proxy:
        yield proxy


@pytest.fixture
def table(transactional_dynamodb: DynamoDBServer) -> str:
    name = f"pace-{uuid.uuid4().hex[:12]}"
    transactional_dynamodb.create_table(name)
    return name


@pytest.fixture(params=["update", "transact"])
def store(
    request: pytest.FixtureRequest, transactional_dynamodb: DynamoDBServer, proxy: ThrottlingProxy, table: str
) -> Iterator[DynamoDBStore]:
    store = DynamoDBStore(
        DynamoDBStoreConfiguration(
            tableName=table, region=transactional_dynamodb.region, endpoint=proxy.url, writeMode=request.param
        )
    )
    yield store
    store.close()


def write(store: DynamoDBStore, add: list[str], remove: list[str], asked: list[float] | None = None) -> WriteCounts:
    with store.session() as session:
        return session.write(
            SegmentPatch(REF, add, remove), lambda: asked.append(time.monotonic()) if asked is not None else None
        )


def hashes_in(store: DynamoDBStore) -> set[bytes]:
    return {hashed for page in store.scan() for hashed, _, _ in page}


def throughput(store: DynamoDBStore, proxy: ThrottlingProxy, members: list[str]) -> float:
    """Write new members. Returns the units a second that the table took in the latter half."""
    asked: list[float] = []
    started = time.monotonic()
    assert write(store, members, [], asked) == WriteCounts(len(members), 0)
    ended = time.monotonic()
    # The drain renews its lease all the while.
    assert len(asked) >= (ended - started) / 4
    half = (started + ended) / 2
    return proxy.units_passed(half, ended) / (ended - half)


def test_throughput_settles_near_what_the_table_takes_and_nobody_is_lost_or_out_of_order(
    store: DynamoDBStore, proxy: ThrottlingProxy
) -> None:
    units_of_one = 2 if store._configuration.writeMode == "transact" else 1
    written: list[str] = []
    settled: list[float] = []
    while len(settled) < PORTIONS and not (settled and 0.8 * UNITS_PER_S <= settled[-1] <= 1.2 * UNITS_PER_S):
        members = [f"user-{len(settled)}-{number}" for number in range(PORTION_UNITS // units_of_one)]
        settled.append(throughput(store, proxy, members))
        written += members
    print(f"settled at {settled} of {UNITS_PER_S} units/s, {proxy.refused} requests refused")
    assert 0.8 * UNITS_PER_S <= settled[-1] <= 1.2 * UNITS_PER_S
    assert proxy.refused  # it was found out, not guessed
    assert hashes_in(store) == set(context_hashes(written))

    left, stays = written[::4], [member for number, member in enumerate(written) if number % 4]
    assert write(store, [], left) == WriteCounts(0, len(left))
    assert hashes_in(store) == set(context_hashes(stays))


def test_a_table_that_takes_nothing_is_away_and_nothing_can_land(
    store: DynamoDBStore, proxy: ThrottlingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamodb_sender, "_PATIENCE_S", 0.5)
    proxy.units_per_s = 0
    members = [f"user-{number}" for number in range(40)]
    with pytest.raises(Unavailable) as raised:
        write(store, members, [])
    assert (raised.value.fault, raised.value.fate_unknown) == ("transient", False)
    assert "raise its capacity" in str(raised.value)
    assert not store.holds_members()

    proxy.units_per_s = 1_000
    assert write(store, members, []) == WriteCounts(len(members), 0)


def test_a_drain_that_is_told_to_stop_leaves_the_rest_to_the_next_one(
    store: DynamoDBStore, proxy: ThrottlingProxy
) -> None:
    permitted = iter(range(2))

    def before_window() -> None:
        if next(permitted, None) is None:
            raise InterruptedError

    members = [f"user-{number}" for number in range(200)]
    with store.session() as session, pytest.raises(InterruptedError):
        session.write(SegmentPatch(REF, members, []), before_window)
    written = sum(len(page) for page in store.scan())
    assert 0 < written < len(members)
    proxy.units_per_s = 10_000
    assert write(store, members, []) == WriteCounts(len(members) - written, 0)
