"""Bulk writes to a Redis store: pre-joined commands out, windows of replies back. Never reconnects."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Final, NamedTuple

import hiredis

from worker.errors import Unavailable
from worker.model import MemberList, RefusedMember, SegmentPatch, WriteCounts
from worker.stores.layout import MEMBER_LISTS, context_hashes, portions, proved_hashes
from worker.stores.redis.bulk import Replies, pack_commands, socket_of
from worker.stores.redis.faults import DRIVER_ERRORS, is_spoilt, reason_of, unavailable
from worker.stores.redis.lanes import MOST_REDIRECTIONS, Lane, Lanes
from worker.stores.segment_store import BeforeWindow, Describe, Sentinel, write_in_turn

# Some windows are hashed and packed, and batches decoded, while the servers work through others: 24,000 members, which
# is more than a fold passes on at once. With two in flight a server stood still a tenth of the time.
WINDOWS_IN_FLIGHT: Final = 12
# While the last answers are waited for, the caller is asked so often: a server, or a line to it, that takes two seconds
# for a window would else keep a drain waiting for longer than its lease lasts, each time anew.
ASK_AGAIN_SECONDS: Final = 1.0


class _Part(NamedTuple):
    """What goes down one lane at once, about one list: adds first, then removes."""

    lane: Lane
    of: MemberList
    adds: Sequence[bytes]
    removes: Sequence[bytes]
    asking: bool = False


_Window = list[_Part]


class RedisWriteSession:
    """A ``WriteSession`` over one lane to each node, from which nothing else may be read or written meanwhile.

    A member whom a node says that another has (MOVED, ASK) is sent to that one, after everything else: the node has
    certainly not done it.
    """

    def __init__(self, lanes: Lanes, sentinel: Sentinel | None, *, prefix: str, window: int) -> None:
        self.sentinel = sentinel
        self.connection = _connection_of(lanes)
        self.process = _process_of(lanes)
        self._lanes = lanes
        self._prefix = prefix
        self._window = window
        self._sockets = {lane: socket_of(lane.link) for lane in lanes.all()}
        self._replies = {lane: Replies(socket) for lane, socket in self._sockets.items()}
        self._sent: deque[_Window] = deque()
        self._added = dict.fromkeys(MEMBER_LISTS, 0)
        self._removed = dict.fromkeys(MEMBER_LISTS, 0)
        self._refused: dict[tuple[MemberList, bytes], RefusedMember] = {}
        self._moved: list[_Part] = []
        self._refusal: Unavailable | None = None
        self._broken: Unavailable | None = None

    def prepare(self, describe: Describe) -> None:
        """See ``WriteSession``: there is nothing to do."""

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``. After an error reply, nothing more is sent, and what was sent is read to its end."""
        return self._write(patch.segment_ref, self._windows_of(patch), before_window)

    def write_all(self, patches: Iterable[SegmentPatch], before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``. One server does what it is sent in the order sent, so nothing waits between patches.

        In a cluster each patch is answered before the next: what a node redirects is sent again, after everything else.
        """
        if self._lanes.spread:
            return write_in_turn(self, patches, before_window)
        patches = iter(patches)
        first = next(patches, None)
        if first is None:
            return WriteCounts(0, 0)
        windows = chain.from_iterable(map(self._windows_of, chain((first,), patches)))
        return self._write(first.segment_ref, windows, before_window)

    def remove_hashes(
        self, segment_ref: str, hashes: Sequence[bytes], before_window: BeforeWindow, of: MemberList = "included"
    ) -> int:
        """See ``WriteSession``."""
        proved_hashes(hashes)
        starts = range(0, len(hashes), self._window)
        windows = (self._parts(of, (), hashes[start : start + self._window]) for start in starts)
        self._write(segment_ref, windows, before_window)
        return self._removed[of]

    def _windows_of(self, patch: SegmentPatch) -> Iterator[_Window]:
        for portion in portions(patch, self._window):
            yield [
                *self._parts("included", context_hashes(portion.add), context_hashes(portion.remove)),
                *self._parts("excluded", context_hashes(portion.add_excluded), context_hashes(portion.remove_excluded)),
            ]

    def _parts(self, of: MemberList, add: Sequence[bytes], remove: Sequence[bytes]) -> _Window:
        adds, removes = dict(self._lanes.split(add, of)), dict(self._lanes.split(remove, of))
        return [_Part(lane, of, adds.get(lane, ()), removes.get(lane, ())) for lane in {**adds, **removes}]

    def _write(self, segment_ref: str, windows: Iterable[_Window], before_window: BeforeWindow) -> WriteCounts:
        if self._broken is not None:
            raise self._broken
        self._added = dict.fromkeys(MEMBER_LISTS, 0)
        self._removed = dict.fromkeys(MEMBER_LISTS, 0)
        self._refused = {}
        self._moved = []
        self._refusal = None
        for _ in range(MOST_REDIRECTIONS):
            self._exchange(segment_ref, windows, before_window)
            if not self._moved:
                return self._counts()
            windows, self._moved = _gathered(self._moved, self._window), []
        raise self._lanes.restless()

    def _counts(self) -> WriteCounts:
        return WriteCounts(
            added=self._added["included"],
            removed=self._removed["included"],
            refused=tuple(self._refused.values()),
            added_excluded=self._added["excluded"],
            removed_excluded=self._removed["excluded"],
        )

    def _exchange(self, segment_ref: str, windows: Iterable[_Window], before_window: BeforeWindow) -> None:
        try:
            self._send_all(segment_ref, windows, before_window)
            self._read_last(before_window)
        finally:
            # Also when before_window raised: its caller must know that whatever was sent has been answered.
            while self._sent and self._broken is None:
                self._read_window()
        if self._refusal is not None:
            raise self._refusal

    def _send_all(self, segment_ref: str, windows: Iterable[_Window], before_window: BeforeWindow) -> None:
        for window in windows:
            if len(self._sent) == WINDOWS_IN_FLIGHT:
                self._read_window()
            if self._refusal is not None:
                return
            before_window()
            self._sent.append([])
            for part in window:
                with self._breaking(part.lane):
                    self._sent[-1].append(part)
                    self._sockets[part.lane].sendall(self._pack(segment_ref, part))

    def _read_last(self, before_window: BeforeWindow) -> None:
        asked_at = time.monotonic()
        while self._sent:
            self._read_window()
            if self._sent and time.monotonic() - asked_at >= ASK_AGAIN_SECONDS:
                before_window()
                asked_at = time.monotonic()

    def _pack(self, segment_ref: str, part: _Part) -> bytes:
        adds = pack_commands(b"SADD", self._prefix, part.adds, segment_ref, part.of, asking=part.asking)
        return adds + pack_commands(b"SREM", self._prefix, part.removes, segment_ref, part.of, asking=part.asking)

    def _read_window(self) -> None:
        for part in self._sent[0]:
            with self._breaking(part.lane):
                self._added[part.of] += self._read_changes(part, part.adds, adding=True)
                self._removed[part.of] += self._read_changes(part, part.removes, adding=False)
        self._sent.popleft()

    def _read_changes(self, part: _Part, hashes: Sequence[bytes], *, adding: bool) -> int:
        """Read the replies about these members and return how many of them they say were changed."""
        of_lane, changed = self._replies[part.lane], 0
        if not part.asking and (ones := of_lane.count_ones(len(hashes))) is not None:
            return ones
        replies = of_lane.take((2 if part.asking else 1) * len(hashes))
        answers = islice(replies, 1, None, 2) if part.asking else replies
        for hashed, reply in zip(hashes, answers, strict=True):
            if reply.__class__ is int:
                changed += reply
            else:
                self._turned_away(part, hashed, reply, adding=adding)
        return changed

    def _turned_away(self, part: _Part, hashed: bytes, reply: hiredis.ReplyError, *, adding: bool) -> None:
        """A member whom a node did not take: spoilt, or another node's; or nobody is taken now."""
        if is_spoilt(reply):
            self._refused[part.of, hashed] = RefusedMember(hashed.decode(), reason_of(reply), part.of)
            return
        try:
            target = self._lanes.redirection(part.lane, reply)
        except Unavailable as unknown:  # the rest is read first
            self._refusal = self._refusal or unknown
            return
        if target is None:
            self._refusal = self._refusal or self._unavailable(reply, part.lane)
        else:
            adds, removes = ([hashed], []) if adding else ([], [hashed])
            self._moved.append(_Part(target[0], part.of, adds, removes, target[1]))

    @contextmanager
    def _breaking(self, lane: Lane) -> Iterator[None]:
        """Whatever interrupts a send or a read leaves replies outstanding: the connections are of no more use."""
        try:
            yield
        except BaseException as fault:
            if not isinstance(fault, DRIVER_ERRORS):
                self._broken = Unavailable(
                    f"Redis store {lane.address}: a write was interrupted", dependency="store", fate_unknown=True
                )
                self._lanes.disconnect()
                raise
            self._broken = self._unavailable(fault, lane, fate_unknown=True)
            self._lanes.disconnect()
            raise self._broken from fault

    def _unavailable(self, fault: BaseException, lane: Lane, *, fate_unknown: bool = False) -> Unavailable:
        among_others = self._lanes.among_others
        return unavailable(fault, str(lane.address), fate_unknown=fate_unknown, among_nodes=among_others)


def _connection_of(lanes: Lanes) -> str | None:
    """Ids and addresses as the servers see them; where there are several servers, each with its own address."""
    told = [(lane.greeting.connection, lane.address) for lane in lanes.all()]
    if any(connection is None for connection, _ in told):
        return None
    return ", ".join(f"{connection} {node}" if lanes.among_others else f"{connection}" for connection, node in told)


def _process_of(lanes: Lanes) -> str:
    """The process that answers; of a cluster a digest of all that have slots, so that any failover changes it."""
    told = [lane.greeting.process or (str(lane.address) if lanes.spread else "") for lane in lanes.serving()]
    if not lanes.spread:
        return told[0]
    return hashlib.sha256(" ".join(sorted(told)).encode()).hexdigest()[:32]


def _gathered(parts: Iterable[_Part], window: int) -> Iterator[_Window]:
    """Members that were sent elsewhere, one to a part, as windows."""
    by_lane: dict[tuple[Lane, MemberList, bool], tuple[list[bytes], list[bytes]]] = {}
    for part in parts:
        adds, removes = by_lane.setdefault((part.lane, part.of, part.asking), ([], []))
        adds += part.adds
        removes += part.removes
    for (lane, of, asking), (adds, removes) in by_lane.items():
        for start in range(0, max(len(adds), len(removes)), window):
            end = start + window
            yield [_Part(lane, of, adds[start:end], removes[start:end], asking)]
