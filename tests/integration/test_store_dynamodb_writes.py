"""What the DynamoDB store leaves in a table, and what it leaves alone, in both of its modes."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dynamodb_local import Dynalite
from servers import DynamoDBServer, MotoServer

from worker.model import DynamoDBStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores.dynamodb import DynamoDBStore
from worker.stores.dynamodb import sender as dynamodb_sender
from worker.stores.dynamodb import session as dynamodb_session
from worker.stores.dynamodb.plan import find_members
from worker.stores.layout import context_hash, context_hashes

REF, OTHER_REF = "beta-users.g1", "vip.g3"
# Fewer are written straight; so many are read first, and go into one transaction where that is the mode.
FEW = ["ann", "bob"]
MANY = [f"user-{number}" for number in range(12)]


class Table:
    """The table, seen from outside."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def put(self, member: str, **sets: Any) -> None:
        key = {"namespace": {"S": "big_segments_user"}, "key": {"S": context_hash(member)}}
        attributes = {name: {"SS": refs} if isinstance(refs, list) else {"S": refs} for name, refs in sets.items()}
        self._client.put_item(TableName=self.name, Item=key | attributes)

    def fill(self, member: str) -> None:
        """Put an item that is as large as one can be."""
        fits, too_long = 300_000, 450_000
        while too_long - fits > 1:
            length = (fits + too_long) // 2
            try:
                self.put(member, included=[OTHER_REF], more="x" * length)
                fits = length
            except self._client.exceptions.ClientError:
                too_long = length

    def items(self) -> dict[str, dict[str, Any]]:
        """Every item's attributes but its keys, by context hash."""
        return {
            item.pop("key")["S"]: {
                name: set(value.get("SS", ())) for name, value in item.items() if name != "namespace"
            }
            for item in self._client.scan(TableName=self.name)["Items"]
        }

    def item(self, member: str) -> dict[str, Any] | None:
        return self.items().get(context_hash(member))


@pytest.fixture(params=["moto", "strict"])
def server(request: pytest.FixtureRequest) -> DynamoDBServer:
    name = "moto_server" if request.param == "moto" else "strict_dynamodb"
    server: DynamoDBServer = request.getfixturevalue(name)
    return server


@pytest.fixture
def table(server: DynamoDBServer) -> Iterator[Table]:
    name = f"segsync-{uuid.uuid4().hex[:12]}"
    server.create_table(name)
    client = server.client()
    yield Table(client, name)
    client.close()


@pytest.fixture(params=["update", "transact"])
def store(
    request: pytest.FixtureRequest, server: DynamoDBServer, table: Table, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DynamoDBStore]:
    if request.param == "transact" and isinstance(server, Dynalite):
        pytest.skip("dynalite has no transactions")
    if request.param == "transact" and isinstance(server, MotoServer):
        monkeypatch.setattr(dynamodb_sender, "IN_FLIGHT", 1)  # moto's transactions get in each other's way
    store = DynamoDBStore(
        DynamoDBStoreConfiguration(
            tableName=table.name, region=server.region, endpoint=server.url, writeMode=request.param
        )
    )
    yield store
    store.close()


def write(store: DynamoDBStore, add: list[str], remove: list[str] | None = None, ref: str = REF) -> WriteCounts:
    with store.session() as session:
        return session.write(SegmentPatch(ref, add, remove or []), lambda: None)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Have something happen between the reading of the next patch and its writing."""

    def happen(event: Callable[[], None]) -> None:
        read = find_members

        def read_then_happen(*arguments: Any, **named: Any) -> Any:
            monkeypatch.setattr(dynamodb_session, "find_members", read)
            found = read(*arguments, **named)
            assert found
            event()
            return found

        monkeypatch.setattr(dynamodb_session, "find_members", read_then_happen)

    return happen


@pytest.mark.parametrize("members", [FEW, MANY], ids=["few", "many"])
def test_who_is_removed_from_everything_leaves_no_item(store: DynamoDBStore, table: Table, members: list[str]) -> None:
    assert write(store, members) == WriteCounts(len(members), 0)
    assert write(store, [], members) == WriteCounts(0, len(members))
    assert table.items() == {}


@pytest.mark.parametrize("members", [FEW, MANY], ids=["few", "many"])
def test_who_is_in_others_or_excluded_from_some_keeps_the_item(
    store: DynamoDBStore, table: Table, members: list[str]
) -> None:
    table.put(members[0], included=[REF, OTHER_REF])
    table.put(members[1], included=[REF], excluded=[OTHER_REF])
    write(store, members[2:])
    assert write(store, [], members) == WriteCounts(0, len(members))
    assert table.items() == {
        context_hash(members[0]): {"included": {OTHER_REF}},
        context_hash(members[1]): {"excluded": {OTHER_REF}},
    }


@pytest.mark.parametrize("members", [FEW, MANY], ids=["few", "many"])
def test_removing_those_who_have_no_item_makes_none(store: DynamoDBStore, table: Table, members: list[str]) -> None:
    assert write(store, [], members) == WriteCounts(0, 0)
    assert table.items() == {}


@pytest.mark.parametrize("members", [FEW, MANY], ids=["few", "many"])
def test_items_that_older_versions_left_empty_are_taken_away_when_they_are_met(
    store: DynamoDBStore, table: Table, members: list[str]
) -> None:
    for member in members:
        table.put(member)
    assert write(store, [], members) == WriteCounts(0, 0)
    assert table.items() == {}


def test_strays_leave_no_item_either(store: DynamoDBStore, table: Table) -> None:
    write(store, MANY)
    table.put(MANY[0], included=[REF, OTHER_REF])
    with store.session() as session:
        assert session.remove_hashes(REF, context_hashes([*MANY, MANY[0], "never-was"]), lambda: None) == len(MANY)
    assert table.items() == {context_hash(MANY[0]): {"included": {OTHER_REF}}}


def test_who_was_put_into_another_segment_meanwhile_or_excluded_from_one_stays_so(
    store: DynamoDBStore, table: Table, meanwhile: Callable[[Callable[[], None]], None]
) -> None:
    def change() -> None:
        table.put(MANY[3], included=[REF, OTHER_REF])
        table.put(MANY[5], included=[REF], excluded=[OTHER_REF])

    write(store, MANY)
    meanwhile(change)
    assert write(store, [], MANY) == WriteCounts(0, len(MANY))
    assert table.items() == {
        context_hash(MANY[3]): {"included": {OTHER_REF}},
        context_hash(MANY[5]): {"excluded": {OTHER_REF}},
    }


def test_who_was_taken_out_of_all_others_meanwhile_leaves_no_item(
    store: DynamoDBStore, table: Table, meanwhile: Callable[[Callable[[], None]], None]
) -> None:
    write(store, MANY)
    table.put(MANY[3], included=[REF, OTHER_REF])
    meanwhile(lambda: table.put(MANY[3], included=[REF]))
    assert write(store, [], MANY) == WriteCounts(0, len(MANY))
    assert table.items() == {}


def test_counts_are_exact_even_when_somebody_else_wrote_meanwhile(
    store: DynamoDBStore, table: Table, meanwhile: Callable[[Callable[[], None]], None]
) -> None:
    write(store, MANY[:6])

    def change() -> None:
        table.put(MANY[0], included=[OTHER_REF])  # who was to be removed
        table.put(MANY[9], included=[REF])  # who was to be added

    meanwhile(change)
    counts = write(store, MANY[6:], MANY[:6])
    assert counts == WriteCounts(5, 5)
    assert counts.exact
    assert table.items() == {context_hash(member): {"included": {REF}} for member in MANY[6:]} | {
        context_hash(MANY[0]): {"included": {OTHER_REF}}
    }


def test_of_members_who_cannot_be_written_each_is_told_and_all_others_are_written(
    store: DynamoDBStore, table: Table
) -> None:
    table.put(MANY[2], included="no set")
    table.put(MANY[5], included="no set either")
    counts = write(store, MANY)
    assert counts.added == len(MANY) - 2
    reasons = {member.context_hash: member.reason for member in counts.refused}
    assert reasons.keys() == {context_hash(MANY[2]), context_hash(MANY[5])}
    assert all("no string set" in reason for reason in reasons.values())
    assert {hashed for page in store.scan() for hashed, refs, _ in page if REF in refs} == {
        context_hash(member).encode() for number, member in enumerate(MANY) if number not in (2, 5)
    }
    # And they do not get in the way of the next patch either.
    assert write(store, [], MANY).removed == len(MANY) - 2


@pytest.mark.parametrize("server", ["strict"], indirect=True)  # moto lets items grow
@pytest.mark.parametrize("members", [FEW, MANY], ids=["few", "many"])
def test_a_member_whose_item_is_full_is_told(store: DynamoDBStore, table: Table, members: list[str]) -> None:
    table.fill(members[1])
    counts = write(store, members)
    assert counts.added == len(members) - 1
    [refused] = counts.refused
    assert refused.context_hash == context_hash(members[1])
    assert "400 KB" in refused.reason


def test_a_patch_larger_than_a_transaction_is_written_in_full(store: DynamoDBStore, table: Table) -> None:
    members = [f"user-{number}" for number in range(230)]
    write(store, members[::7], ref=OTHER_REF)
    before = store.consumed
    assert write(store, members) == WriteCounts(230, 0)
    consumed = store.consumed - before
    assert consumed.write > 0  # how much, moto does not tell rightly
    assert write(store, members) == WriteCounts(0, 0)
    assert (store.consumed - before).write == consumed.write
    items = table.items()
    assert [items[context_hash(member)]["included"] for member in members] == [
        {REF, OTHER_REF} if number % 7 == 0 else {REF} for number in range(230)
    ]


@pytest.mark.parametrize("server", ["strict"], indirect=True)  # moto's requests are not isolated from each other
def test_drains_of_several_segments_at_the_same_members_lose_nobody_and_leave_nothing(
    store: DynamoDBStore, table: Table
) -> None:
    refs = [f"segment-{number}.g1" for number in range(4)]
    ready = threading.Barrier(len(refs), timeout=30)

    def come_and_go(ref: str) -> list[WriteCounts]:
        ready.wait()
        counts = [write(store, MANY, ref=ref), write(store, [], MANY, ref=ref), write(store, MANY, ref=ref)]
        ready.wait()  # everybody is in everything
        assert all(refs_in == set(refs) for page in store.scan() for _, refs_in, _ in page)
        ready.wait()
        return [*counts, write(store, [], MANY, ref=ref)]

    with ThreadPoolExecutor(len(refs)) as threads:
        counts = list(threads.map(come_and_go, refs))
    came, went = WriteCounts(len(MANY), 0), WriteCounts(0, len(MANY))
    assert counts == [[came, went, came, went]] * len(refs)
    assert table.items() == {}


# --- both lists of one item


def write_lists(store: DynamoDBStore, *lists: list[str]) -> WriteCounts:
    """Write a patch of these: added, removed, and the same of the excluded list."""
    with store.session() as session:
        return session.write(SegmentPatch(REF, *lists), lambda: None)


def both(added: int = 0, removed: int = 0, added_excluded: int = 0, removed_excluded: int = 0) -> WriteCounts:
    return WriteCounts(added, removed, added_excluded=added_excluded, removed_excluded=removed_excluded)


def test_a_member_of_both_lists_is_one_request(store: DynamoDBStore, table: Table) -> None:
    """And so one write unit: emulators charge for it in their own ways."""
    sent: list[str] = []
    store._open_client().meta.events.register("before-call.dynamodb", lambda model, **_: sent.append(model.name))
    steps: list[tuple[list[list[str]], WriteCounts, dict[str, set[str]]]] = [
        ([MANY, [], MANY, []], both(len(MANY), added_excluded=len(MANY)), {"included": {REF}, "excluded": {REF}}),
        ([[], MANY, MANY, []], both(removed=len(MANY)), {"excluded": {REF}}),
        ([MANY, [], [], MANY], both(len(MANY), removed_excluded=len(MANY)), {"included": {REF}}),
    ]
    for lists, counts, item in steps:
        sent.clear()
        assert write_lists(store, *lists) == counts
        assert [name for name in sent if name != "GetItem"] == ["UpdateItem"] * len(MANY)
        assert table.items() == {context_hash(member): item for member in MANY}


@pytest.mark.parametrize("members", [FEW, MANY], ids=["few", "many"])
def test_an_item_is_deleted_only_when_both_sets_are_gone(
    store: DynamoDBStore, table: Table, members: list[str]
) -> None:
    write_lists(store, members, [], members, [])
    assert write_lists(store, [], [], [], members) == both(removed_excluded=len(members))
    assert table.items() == {context_hash(member): {"included": {REF}} for member in members}
    write_lists(store, [], [], members, [])
    assert write_lists(store, [], members, [], []) == both(removed=len(members))
    assert table.items() == {context_hash(member): {"excluded": {REF}} for member in members}
    assert write_lists(store, [], members, [], members) == both(removed_excluded=len(members))
    assert table.items() == {}
    assert write_lists(store, [], members, [], members) == both()
    assert table.items() == {}


def test_removal_from_both_lists_leaves_what_others_have_put_into_either(store: DynamoDBStore, table: Table) -> None:
    table.put("ann", included=[REF, OTHER_REF], excluded=[REF])
    table.put("bob", included=[REF], excluded=[REF, OTHER_REF])
    table.put("cyd", included=[OTHER_REF])
    table.put("dan", excluded=[REF])
    table.put("eve")
    people = ["ann", "bob", "cyd", "dan", "eve", "never-was"]
    assert write_lists(store, [], people, [], people) == both(removed=2, removed_excluded=3)
    assert table.items() == {
        context_hash("ann"): {"included": {OTHER_REF}},
        context_hash("bob"): {"excluded": {OTHER_REF}},
        context_hash("cyd"): {"included": {OTHER_REF}},
    }


def test_one_patch_may_name_some_in_one_list_and_some_in_both(store: DynamoDBStore, table: Table) -> None:
    others = [f"no-{number}" for number in range(12)]
    write_lists(store, MANY[:6], [], others[:6], [])
    counts = write_lists(store, MANY[6:], MANY[:3], [*others[6:], *MANY[:6]], others[:3])
    assert counts == both(6, 3, added_excluded=12, removed_excluded=3)
    assert table.items() == {
        **{context_hash(member): {"excluded": {REF}} for member in [*MANY[:3], *others[3:]]},
        **{context_hash(member): {"included": {REF}, "excluded": {REF}} for member in MANY[3:6]},
        **{context_hash(member): {"included": {REF}} for member in MANY[6:]},
    }


def test_who_is_excluded_already_is_found_by_reading_and_not_written(store: DynamoDBStore, table: Table) -> None:
    members = [f"user-{number}" for number in range(60)]
    assert write_lists(store, [], [], members, []) == both(added_excluded=60)
    before = store.consumed
    assert write_lists(store, [], [], members, []) == both()
    assert (store.consumed - before).write == 0
