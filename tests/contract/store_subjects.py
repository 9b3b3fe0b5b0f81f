"""The stores that the contract suite is run on, each with LaunchDarkly's Python SDK beside it as the judge.

Where things lie is written out here again, by the SDK's words: the layout under test is no witness of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from cluster_proxy import ClusterProxy
from ldclient.impl.big_segments import _hash_for_user_key as hash_of_sdk  # type: ignore[attr-defined]
from ldclient.integrations import DynamoDB, Redis
from ldclient.interfaces import BigSegmentStore
from redis_cluster import RedisCluster
from servers import DynamoDBServer, FakeRedisServer, ValkeyServer

from worker.model import DynamoDBStoreConfiguration, MemberList, RedisStoreConfiguration, SegmentPatch, WriteCounts
from worker.stores import SegmentStore
from worker.stores.dynamodb import DynamoDBStore
from worker.stores.memory import MemoryStore
from worker.stores.redis import RedisStore

REF: Final = "beta-users.g1"

# An SDK takes an empty Redis prefix for "launchdarkly". In a cluster a prefix may hold a hash tag: all of the store is
# then on one primary. Either is tried on one kind of server.
_BOTH: Final = {"": "launchdarkly", "prefix": "ours"}
PREFIXES: Final[Mapping[str, Mapping[str, str]]] = {
    "fakeredis": _BOTH,
    "redis": _BOTH,
    "valkey": _BOTH | {"empty-prefix": ""},
    "cluster": _BOTH | {"tag": "{ours}"},
    "moto": {"": "", "prefix": "ours"},
    "strict": {"": "", "prefix": "ours"},
    "transact": {"prefix": "ours"},
}
# Members in a window: fakeredis answers slowly, emulators of DynamoDB some hundred requests a second.
_WINDOWS: Final = {"fakeredis": 50, "redis": 500, "valkey": 500, "cluster": 300, "moto": 5, "strict": 5, "transact": 5}


def _on(*kinds: str) -> list[str]:
    return [f"{kind}-{prefix}".rstrip("-") for kind in kinds for prefix in PREFIXES[kind]]


ON_REDIS: Final = _on("fakeredis", "redis", "valkey", "cluster")
ON_DYNAMODB: Final = _on("moto", "strict", "transact")
READ_BY_SDKS: Final = [*ON_REDIS, *ON_DYNAMODB]
ALL: Final = ["memory", *READ_BY_SDKS]


class Behind(Protocol):
    """The same place without the store under test: what it holds, and what somebody else might do to it."""

    def names(self, context_hash: str) -> list[str]:
        """Every key or item in whose name the hash stands."""

    def exclude(self, context_hash: str, segment_ref: str) -> None:
        """Exclude a context, as LaunchDarkly's relay would."""

    def spoil(self, context_hash: str, of: MemberList = "included") -> None:
        """Leave something at a context's place in a list that a store can add nothing to."""

    def clear(self, context_hash: str) -> None:
        """Take away whatever is at a context's place."""


@dataclass
class Subject:
    """A store under test, its judge, and what is needed to look at it from outside.

    Attributes:
        window: how many members it writes before it asks again whether to go on.
        behind: the place itself; None for memory.
        neighbour: the same place under another prefix; None for memory.
        sdk: LaunchDarkly's own reader of that place; None for memory.
    """

    store: SegmentStore
    window: int
    behind: Behind | None = None
    neighbour: Subject | None = field(default=None, repr=False)
    sdk: BigSegmentStore | None = None

    def write(
        self,
        add: Sequence[str],
        remove: Sequence[str] = (),
        ref: str = REF,
        *,
        exclude: Sequence[str] = (),
        unexclude: Sequence[str] = (),
    ) -> WriteCounts:
        with self.store.session() as session:
            patch = SegmentPatch(ref, list(add), list(remove), list(exclude), list(unexclude))
            return session.write(patch, lambda: None)

    def membership(self, key: str) -> dict[str, bool]:
        """What the SDK reads of a context: segment ref -> included or excluded. Our own reader says the same."""
        read = both_lists(self.store.included(key), self.store.excluded(key))
        if self.sdk is None:
            return read
        found = self.sdk.get_membership(hash_of_sdk(key)) or {}
        assert read == found, "we read what no SDK reads"
        return found

    def included(self, key: str) -> set[str]:
        """The segment refs that include a context, for the SDK and for us; nothing excludes it."""
        found = self.membership(key)
        assert all(found.values()), "somebody is excluded"
        return set(found)

    def excludes(self, keys: Sequence[str], ref: str = REF) -> list[bool]:
        """Whether the segment excludes each of them, asked by key and by hash; an SDK says so of who is in one list."""
        found = self.store.includes_keys(ref, keys, "excluded")
        assert found == self.store.includes(ref, [hash_of_sdk(key).encode() for key in keys], "excluded")
        for key, is_excluded in list(zip(keys, found, strict=True))[:: max(1, len(keys) // 50)]:
            assert is_excluded == (ref in self.store.excluded(key))
            assert is_excluded == (self.membership(key).get(ref) is False) or ref in self.store.included(key)
        return found

    def includes(self, keys: Sequence[str], ref: str = REF) -> list[bool]:
        """Whether the segment includes each of them, for the SDK and for us, asked by key and by hash."""
        found = self.store.includes_keys(ref, keys)
        assert found == self.store.includes(ref, [hash_of_sdk(key).encode() for key in keys])
        for key, is_included in list(zip(keys, found, strict=True))[:: max(1, len(keys) // 50)]:
            assert is_included == self.membership(key).get(ref, False)
        return found

    def everything(self) -> dict[bytes, set[str]]:
        """What a scan tells of the included; nobody is excluded."""
        found = self.both_lists()
        assert not any(excluded for _, excluded in found.values()), "somebody is excluded"
        return {hashed: included for hashed, (included, _) in found.items()}

    def both_lists(self) -> dict[bytes, tuple[set[str], set[str]]]:
        """What a scan tells; the SDK reads the same of each of them (of many: of some)."""
        pages = list(self.store.scan())
        assert all(pages), "a page is empty"
        found: dict[bytes, tuple[set[str], set[str]]] = {}
        for hashed, *lists in (entry for page in pages for entry in page):
            assert any(lists), "somebody is told of who is in nothing"
            for known, told in zip(found.setdefault(hashed, (set(), set())), lists, strict=True):
                known.update(told)
        if self.sdk is not None:
            for hashed, both in list(found.items())[:: max(1, len(found) // 50)]:
                assert self.sdk.get_membership(hashed.decode()) == both_lists(*both)
        return found

    def synchronized_on(self) -> int | None:
        """The freshness that the SDK reads; our own reader says the same."""
        freshness = self.store.synchronized_on()
        if self.sdk is not None:
            assert self.sdk.get_metadata().last_up_to_date == freshness
        return freshness

    def leaves_anything(self, key: str) -> bool:
        """Whether anything at all is there by the context's name."""
        if self.behind is None:
            assert isinstance(self.store, MemoryStore)
            return any(hash_of_sdk(key).encode() in members for members in self.store._lists.values())
        return bool(self.behind.names(hash_of_sdk(key)))


def both_lists(included: set[str], excluded: set[str]) -> dict[str, bool]:
    """What an SDK makes of two lists: who is in both is included."""
    return dict.fromkeys(excluded, False) | dict.fromkeys(included, True)


@dataclass
class _RedisKeys:
    """A prefix of a Redis."""

    client: Any
    prefix: str

    def names(self, context_hash: str) -> list[str]:
        return [name.decode() for name in self.client.scan_iter() if context_hash.encode() in name]

    def exclude(self, context_hash: str, segment_ref: str) -> None:
        self.client.sadd(f"{self.prefix or 'launchdarkly'}:big_segment_exclude:{context_hash}", segment_ref)

    def spoil(self, context_hash: str, of: MemberList = "included") -> None:
        verb = "include" if of == "included" else "exclude"
        self.client.set(f"{self.prefix or 'launchdarkly'}:big_segment_{verb}:{context_hash}", "no set")

    def clear(self, context_hash: str) -> None:
        for verb in ("include", "exclude"):
            self.client.delete(f"{self.prefix or 'launchdarkly'}:big_segment_{verb}:{context_hash}")


@dataclass
class _DynamoDBItems:
    """A prefix of a DynamoDB table."""

    client: Any
    table: str
    prefix: str

    def names(self, context_hash: str) -> list[str]:
        items = self.client.scan(TableName=self.table, ConsistentRead=True)["Items"]
        return [item["key"]["S"] for item in items if item["key"]["S"] == context_hash]

    def exclude(self, context_hash: str, segment_ref: str) -> None:
        self._put(context_hash, {"excluded": {"SS": [segment_ref]}})

    def spoil(self, context_hash: str, of: MemberList = "included") -> None:
        self._put(context_hash, {of: {"N": "7"}})

    def clear(self, context_hash: str) -> None:
        self.client.delete_item(TableName=self.table, Key=self._key(context_hash))

    def _put(self, context_hash: str, attributes: dict[str, Any]) -> None:
        self.client.put_item(TableName=self.table, Item=self._key(context_hash) | attributes)

    def _key(self, context_hash: str) -> dict[str, Any]:
        namespace = f"{self.prefix}:big_segments_user" if self.prefix else "big_segments_user"
        return {"namespace": {"S": namespace}, "key": {"S": context_hash}}


Subjects = Callable[[str], Subject]


def on_redis(kind: str, server: FakeRedisServer | ValkeyServer) -> Iterator[Subjects]:
    def configure(prefix: str) -> RedisStoreConfiguration:
        return RedisStoreConfiguration.from_url(server.url, prefix)

    with closing(server.client()) as client:
        yield from _redis_subjects(kind, configure, client, client.flushall, server.url)


def on_cluster(cluster: RedisCluster, proxy: ClusterProxy) -> Iterator[Subjects]:
    """Subjects in a cluster; the SDK, which speaks to one server, reads it through the proxy."""

    def configure(prefix: str) -> RedisStoreConfiguration:
        return RedisStoreConfiguration.from_url(cluster.url, prefix)

    with closing(cluster.client()) as client:
        yield from _redis_subjects("cluster", configure, client, cluster.flush, proxy.url)


def _redis_subjects(
    kind: str,
    configure: Callable[[str], RedisStoreConfiguration],
    client: Any,
    empty: Callable[[], object],
    sdk_url: str,
) -> Iterator[Subjects]:
    with ExitStack() as stack:

        def open_subject(prefix: str) -> Subject:
            store = RedisStore(configure(prefix), window=_WINDOWS[kind])
            stack.callback(store.close)
            sdk = Redis.new_big_segment_store(url=sdk_url, prefix=prefix)
            stack.callback(sdk.stop)
            return Subject(store, _WINDOWS[kind], _RedisKeys(client, prefix), None, sdk)

        subjects = {prefix: open_subject(prefix) for prefix in PREFIXES[kind].values()}
        # A prefix is no pattern: this one would match all others.
        neighbour = open_subject("*")

        def in_an_empty_place(prefix: str) -> Subject:
            empty()
            subjects[prefix].neighbour = neighbour
            return subjects[prefix]

        yield in_an_empty_place


def on_dynamodb(kind: str, server: DynamoDBServer, table: str = "") -> Iterator[Subjects]:
    """Subjects on one table. Their clients last: they take longer to make than a test."""
    table = table or f"contract-{kind}"
    where = {"region_name": server.region, "endpoint_url": server.url}
    with ExitStack() as stack:
        client = stack.enter_context(closing(server.client()))

        def open_subject(prefix: str) -> Subject:
            configuration = DynamoDBStoreConfiguration(
                tableName=table,
                region=server.region,
                endpoint=server.url,
                prefix=prefix,
                writeMode="transact" if kind == "transact" else "update",
            )
            store = DynamoDBStore(configuration, window=_WINDOWS[kind])
            stack.callback(store.close)
            sdk = DynamoDB.new_big_segment_store(table, prefix=prefix, dynamodb_opts=where)
            stack.callback(sdk.stop)
            return Subject(store, _WINDOWS[kind], _DynamoDBItems(client, table, prefix), None, sdk)

        plain, prefixed = open_subject(""), open_subject("ours")
        plain.neighbour, prefixed.neighbour = prefixed, plain
        server.create_table(table)
        stack.callback(client.delete_table, TableName=table)

        def in_an_empty_place(prefix: str) -> Subject:
            _empty(client, table)
            return prefixed if prefix else plain

        yield in_an_empty_place


def _empty(client: Any, table: str) -> None:
    """Delete every item. Not the table: DynamoDB Local takes a moment until all its threads know a new one."""
    for page in client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        keys = [{"namespace": item["namespace"], "key": item["key"]} for item in page["Items"]]
        for start in range(0, len(keys), 25):
            requests = [{"DeleteRequest": {"Key": key}} for key in keys[start : start + 25]]
            client.batch_write_item(RequestItems={table: requests})
