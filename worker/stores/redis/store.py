"""The Redis store: on one server, on the primary that Redis Sentinels name, or spread over a Redis Cluster.

It owns these keys of its prefix, and never sets a time to live:

    {prefix}:big_segment_include:{context hash}   SET      segment refs that include the context
    {prefix}:big_segment_exclude:{context hash}   SET      segment refs that exclude it
    {prefix}:big_segments_synchronized_on         STRING   freshness, epoch milliseconds
    {prefix}:segsync_sentinel                     STRING   incarnation, a space, beat in epoch milliseconds
    {prefix}:segsync_sentinel:...                 STRING   the same, spread over a cluster: see ``cells``

Partners exclude nobody; people do. ``check`` writes ``{prefix}:big_segment_include:segsync_probe``, the same of
``exclude``, and ``{prefix}:segsync_probe``, perhaps with a hash tag behind them, and takes them away again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from redis.exceptions import ResponseError

from worker.errors import Unavailable
from worker.model import MemberList, RedisStoreConfiguration
from worker.stores.layout import context_hashes, proved_hashes
from worker.stores.redis import metadata, reads
from worker.stores.redis.addresses import Address, Pools, addresses_of
from worker.stores.redis.bulk import WINDOW, socket_of
from worker.stores.redis.cells import SentinelCells
from worker.stores.redis.check import find_faults, keys_of_node, keys_of_server
from worker.stores.redis.cluster import Cluster
from worker.stores.redis.discovery import Discovery
from worker.stores.redis.faults import DRIVER_ERRORS, is_refusal, unavailable
from worker.stores.redis.lanes import Lanes
from worker.stores.redis.link import ask
from worker.stores.redis.metadata import OneSentinel, StoreSentinel, proved_values
from worker.stores.redis.nodes import DiscoveredServer, Nodes, OneServer
from worker.stores.redis.session import RedisWriteSession
from worker.stores.redis.slots import has_hash_tag
from worker.stores.segment_store import Scanned, Sentinel

# A write that is not answered for this long has an unknown fate; a pause for an fsync or a fork is shorter. A process
# that is told to stop waits for one, and has ten seconds for all.
ANSWER_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 3.0


class RedisStore:
    """A ``SegmentStore`` on Redis or Valkey.

    Its connections come from redis-py pools, which open their own after a fork; nothing in here reconnects or
    retries, except that a connection found dead at checkout, before anything was written, is replaced then, and that
    what a node of a cluster has certainly not done is sent to the node that it names.
    """

    lists_members = True

    def __init__(
        self,
        configuration: RedisStoreConfiguration,
        *,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        window: int = WINDOW,
    ) -> None:
        self._window = window
        self._prefix = configuration.prefix
        self._answer_timeout_s = answer_timeout_s
        self._pools = Pools(configuration, answer_timeout_s=answer_timeout_s, connect_timeout_s=connect_timeout_s)
        self._nodes = _nodes_of(configuration, self._pools, connect_timeout_s)
        spread = configuration.mode == "cluster" and not has_hash_tag(self._prefix)
        self._sentinel: StoreSentinel = SentinelCells(self._prefix) if spread else OneSentinel(self._prefix)

    def __repr__(self) -> str:
        return f"RedisStore({self._nodes.where()}, prefix={self._prefix!r})"

    @contextmanager
    def session(self) -> Iterator[RedisWriteSession]:
        """See ``SegmentStore``.

        An exception that leaves the ``with`` block closes the connections instead of keeping them for the next
        session: a drain that failed may leave its open mark behind, and fencing by that mark must not hit
        another drain that was handed the same connections.
        """
        with self._greeted() as (lanes, sentinel):
            sockets = [(lane.link, socket_of(lane.link)) for lane in lanes.all()]
            for _, socket in sockets:
                socket.settimeout(self._answer_timeout_s)
            try:
                yield RedisWriteSession(lanes, sentinel, prefix=self._prefix, window=self._window)
            except BaseException:
                lanes.disconnect()
                raise
            for link, socket in sockets:
                if link._get_socket() is socket:  # noqa: SLF001 - a session that broke has closed it
                    socket.settimeout(link.socket_timeout)

    def fence(self, connection: str) -> bool:
        """See ``SegmentStore``. False where a server does not allow CLIENT KILL, or is one of several and is away."""
        killed = [self._kill(*each.split(" ")) for each in connection.split(", ")]  # each, whatever came of the others
        return all(killed)

    def included(self, context_key: str) -> set[str]:
        """See ``SegmentStore``."""
        with self._lanes(of_a_member=True) as lanes:
            return reads.read_refs(lanes, self._prefix, context_key, "included")

    def excluded(self, context_key: str) -> set[str]:
        """See ``SegmentStore``."""
        with self._lanes(of_a_member=True) as lanes:
            return reads.read_refs(lanes, self._prefix, context_key, "excluded")

    def includes_keys(self, segment_ref: str, context_keys: Sequence[str], of: MemberList = "included") -> list[bool]:
        """See ``SegmentStore``."""
        return self.includes(segment_ref, context_hashes(context_keys), of)

    def includes(self, segment_ref: str, hashes: Sequence[bytes], of: MemberList = "included") -> list[bool]:
        """See ``SegmentStore``."""
        proved_hashes(hashes)
        with self._lanes(of_a_member=True) as lanes:
            return reads.read_memberships(lanes, self._prefix, segment_ref, hashes, of)

    def scan(self) -> Iterator[list[Scanned]]:
        """See ``SegmentStore``. Not while slots of a cluster move."""
        with self._lanes(of_a_member=True) as lanes:
            for page in reads.read_pages(lanes, self._prefix):
                if page:
                    yield page

    def holds_members(self) -> bool:
        """See ``SegmentStore``. Looks through the whole database when there is nobody."""
        with self._lanes(of_a_member=True) as lanes:
            return reads.holds_members(lanes, self._prefix)

    def drop_segment(self, segment_ref: str) -> None:
        """See ``SegmentStore``: there is nothing to take away."""

    def sentinel(self) -> Sentinel | None:
        """See ``SegmentStore``."""
        with self._lanes() as lanes:
            return self._sentinel.read(lanes)

    def claim(self, incarnation: str, beat_ms: int) -> Sentinel:
        """See ``SegmentStore``."""
        with self._lanes(writes=True) as lanes:
            return self._sentinel.claim(lanes, Sentinel(incarnation, beat_ms))

    def replace_sentinel(self, incarnation: str, beat_ms: int) -> None:
        """See ``SegmentStore``."""
        with self._lanes(writes=True) as lanes:
            self._sentinel.replace(lanes, Sentinel(incarnation, beat_ms))

    def synchronized_on(self) -> int | None:
        """See ``SegmentStore``."""
        with self._lanes() as lanes:
            return metadata.read_freshness(lanes, self._prefix)

    def set_synchronized_on(self, epoch_ms: int, sentinel: Sentinel) -> bool:
        """See ``SegmentStore``. Spread over a cluster, it is one step on the node that has the freshness."""
        with self._lanes(writes=True) as lanes:
            return self._sentinel.write_freshness(lanes, epoch_ms, sentinel)

    def check(self) -> list[str]:
        """See ``SegmentStore``."""
        try:
            with self._lanes() as lanes:
                return [
                    f"Redis store {address}: {fault}"
                    for address in lanes.addresses
                    for fault in self._check(lanes, address)
                ]
        except Unavailable as fault:
            return [str(fault)]

    def close(self) -> None:
        """See ``SegmentStore``. Sessions that are open keep their connections until they end."""
        self._nodes.close()

    @contextmanager
    def _lanes(self, *, writes: bool = False, of_a_member: bool = False) -> Iterator[Lanes]:
        """Connections for a few commands, and the driver's errors in our words."""
        used: Lanes | None = None
        try:
            with self._nodes.lanes() as lanes:
                used = lanes
                yield lanes
        except DRIVER_ERRORS as fault:
            lost = writes and used is not None and used.has_asked and not is_refusal(fault)
            where = self._nodes.where() if used is None else used.where
            raise self._unavailable(fault, where, fate_unknown=lost, of_a_member=of_a_member) from fault

    @contextmanager
    def _greeted(self) -> Iterator[tuple[Lanes, Sentinel | None]]:
        """Connections for a session, and what is there; what happens within is the session's to put into words."""
        with ExitStack() as stack:
            try:
                lanes, values = stack.enter_context(self._nodes.greeted(self._sentinel))
                sentinel = self._sentinel.told_at_checkout(proved_values(values))
            except DRIVER_ERRORS as fault:
                raise self._unavailable(fault, self._nodes.where()) from fault
            yield lanes, sentinel

    def _unavailable(
        self, fault: BaseException, where: Address, *, fate_unknown: bool = False, of_a_member: bool = False
    ) -> Unavailable:
        return unavailable(
            fault,
            str(where),
            fate_unknown=fate_unknown,
            of_a_member=of_a_member,
            among_nodes=self._nodes.among_others,
        )

    def _check(self, lanes: Lanes, address: Address) -> list[str]:
        if lanes.slots is None:
            keys = keys_of_server(self._prefix)
        else:
            found = keys_of_node(self._prefix, lanes.slots, address)
            if found is None:
                return []
            keys = found
        return find_faults(lanes.at(address).link, keys)

    def _kill(self, client_id: str, client_address: str, node: str = "") -> bool:
        address = Address.read(node) if node else self._nodes.where()
        try:
            with self._pools.connection(address) as link:
                # Both filters: after a restart of the server, the id alone may be somebody else's. How many it
                # killed, one or none, does not matter: no such client, no bytes to come.
                ask(link, "CLIENT", "KILL", "ID", client_id, "ADDR", client_address)
        except ResponseError:
            return False
        except DRIVER_ERRORS as fault:
            if node:
                return False  # whatever became of it, its connections may outlive it, and what they bring
            raise unavailable(fault, str(address)) from fault
        return True


def _nodes_of(configuration: RedisStoreConfiguration, pools: Pools, connect_timeout_s: float) -> Nodes:
    if configuration.mode == "cluster":
        return Cluster(configuration, pools)
    first = addresses_of(configuration)[0]
    if configuration.mode == "sentinel":
        return DiscoveredServer(pools, Discovery(configuration, connect_timeout_s=connect_timeout_s), first)
    return OneServer(pools, first)
