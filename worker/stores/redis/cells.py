"""The sentinel of a store that is spread over a Redis Cluster: some of it on every primary (rule 12).

A primary can lose its data while the others keep theirs, and slots move between primaries with the keys in them. So the
sentinel lies in **cells**, ``{prefix}:segsync_sentinel:{tag}``, in every sixty-fourth slot, which move along with their
slots; and once more in the **arbiter**, ``{prefix}:segsync_sentinel:arbiter:{tag}``, in the slot of
``{prefix}:big_segments_synchronized_on``. (Braces around a tag are in these names; Redis hashes what is in them alone.)
All of them say the same in a store that is well. A cell that is gone, or another's, shows that its primary lost what it
had, or has more than it should: then there is no sentinel, and another life of the store begins. (A primary with fewer
than 64 slots may have no cell. One that has is looked at by each checkout; every cell is by each heartbeat.)

No step is atomic over several nodes. What is decided is decided in the arbiter alone, by comparing what was read there
with what is there. A decision that has not reached every cell is marked ``?``, and for everybody else there is no
sentinel until it has; it is carried to the cells by whoever made it, and by nobody else. (``tests/protocol/cells.py``
is the model.) The races, and what becomes of them:

- Two claim at the same time: the arbiter lets one through, and the other waits for it, and is told the same.
- Who claims dies between arbiter and cells: the mark stays; the next who claims waits a moment, and decides anew.
- Somebody who claimed is held up on the way to the cells, is overtaken, and writes its decision into them later,
  perhaps into cells that are missing because their primary has lost its data: they differ from the arbiter, and one
  more life begins. (So nobody may carry another's decision: such a cell would then say that nothing was lost.)
- A primary loses its data while a decision is carried to the cells: its own is missing, and one more life begins.
- A cell is found gone by a heartbeat, on a node of which a checkout looks at another: the heartbeat takes the arbiter
  away, if it still says the same, so that every checkout sees it.
- A primary loses its data between the look at its cells and the writing of the freshness behind it: the next heartbeat
  finds out. On one server there is no such gap, in which SDKs are told of a freshness that one shard does not have.
- Beats go into the cells before they go into the arbiter: the oldest is the store's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

from worker.stores.layout import redis_arbiter_key, redis_cell_key, redis_synchronized_on_key
from worker.stores.redis.lanes import Lanes
from worker.stores.redis.link import Command, read_sentinel, write_sentinel
from worker.stores.redis.metadata import BEAT_SCRIPT, FRESHNESS_SCRIPT, proved_values
from worker.stores.redis.slots import SLOTS, SlotMap, slot_of, tags_in
from worker.stores.segment_store import Sentinel

CELL_SLOTS: Final = tuple(range(0, SLOTS, 64))
# Behind the value of an arbiter whose decision has not reached every cell. No beat reads so.
_UNDER_WAY: Final = b"?"
# An arbiter that is decided anew each time it is looked at.
_MOST_DECISIONS: Final = 5
# Whoever decided writes 256 cells in some milliseconds; one who has not done so by then is dead, or held up.
_PATIENCE_S: Final = 1.0
_AGAIN_S: Final = 0.02

# Sets KEYS[1] to ARGV[2], or takes it away if that is empty, if it is still ARGV[1] (empty: not there).
_DECIDE_SCRIPT: Final = """
local held = redis.call('GET', KEYS[1]) or ''
if held ~= ARGV[1] then return held end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return ARGV[2]
"""


class SentinelCells:
    """See ``StoreSentinel``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._freshness_key = redis_synchronized_on_key(prefix)

    @cached_property
    def _cells(self) -> dict[int, str]:
        """The keys of the cells by their slots."""
        tags = tags_in(frozenset(CELL_SLOTS))
        return {slot: redis_cell_key(self._prefix, tags[slot]) for slot in CELL_SLOTS}

    @cached_property
    def _arbiter(self) -> str:
        slot = slot_of(self._freshness_key)
        return redis_arbiter_key(self._prefix, tags_in(frozenset([slot]))[slot])

    def read_at_checkout(self, slots: SlotMap | None) -> Sequence[str]:
        """See ``StoreSentinel``: the arbiter, and a cell of each primary that has one."""
        assert slots is not None, "only a cluster has cells"
        return [self._arbiter, *(self._cells[slot] for slot in slots.first_owned(CELL_SLOTS).values())]

    def told_at_checkout(self, values: Sequence[bytes | None]) -> Sentinel | None:
        """See ``StoreSentinel``."""
        arbiter, *cells = values
        if arbiter is None or arbiter.endswith(_UNDER_WAY):
            return None
        told = [read_sentinel(value) for value in (arbiter, *cells)]
        held = [sentinel for sentinel in told if sentinel is not None]
        if len(held) < len(told) or len({sentinel.incarnation for sentinel in held}) > 1:
            return None
        return min(held, key=lambda sentinel: sentinel.beat_ms)

    def read(self, lanes: Lanes) -> Sentinel | None:
        """See ``StoreSentinel``: every cell is read."""
        return self.told_at_checkout(self._values(lanes))

    def claim(self, lanes: Lanes, sentinel: Sentinel) -> Sentinel:
        """See ``StoreSentinel``. Who finds a decision under way waits for it, for a moment, and then decides anew."""
        pending = _pending(sentinel)
        for _ in range(_MOST_DECISIONS):
            arbiter, *cells = self._values_at_rest(lanes)
            held = self.told_at_checkout([arbiter, *cells])
            if held is not None:
                return held
            if self._decide(lanes, arbiter or b"", pending) == pending:
                self._carry_out(lanes, pending)
        raise lanes.restless()

    def replace(self, lanes: Lanes, sentinel: Sentinel) -> None:
        """See ``StoreSentinel``. Cut short, there is no sentinel."""
        pending = _pending(sentinel)
        lanes.ask(self._arbiter, "SET", self._arbiter, pending)
        self._carry_out(lanes, pending)

    def write_freshness(self, lanes: Lanes, epoch_ms: int, sentinel: Sentinel) -> bool:
        """See ``StoreSentinel``. Cells may have the beat while the freshness is not written; that does no harm."""
        arbiter = lanes.ask(self._arbiter, "GET", self._arbiter)
        held = read_sentinel(arbiter)
        if held is None or arbiter.endswith(_UNDER_WAY) or held.incarnation != sentinel.incarnation:
            return False
        beats = [(key, ("EVAL", BEAT_SCRIPT, 1, key, *sentinel)) for key in self._cells.values()]
        if not all(proved_values(lanes.ask_each(beats))):
            self._decide(lanes, arbiter, b"")
            return False
        keys = self._arbiter, self._freshness_key
        return bool(lanes.ask(self._arbiter, "EVAL", FRESHNESS_SCRIPT, 2, *keys, *sentinel, epoch_ms))

    def _values(self, lanes: Lanes) -> list[Any]:
        keys = [self._arbiter, *self._cells.values()]
        return proved_values(lanes.ask_each([(key, ("GET", key)) for key in keys]))

    def _decide(self, lanes: Lanes, seen: bytes, following: bytes) -> bytes:
        """Compare and set the arbiter; what is there then."""
        told: bytes = lanes.ask(self._arbiter, "EVAL", _DECIDE_SCRIPT, 1, self._arbiter, seen, following)
        return told

    def _values_at_rest(self, lanes: Lanes) -> list[Any]:
        """The arbiter and the cells, when nobody carries a decision to them, or has done so for too long."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            values = self._values(lanes)
            if not (values[0] or b"").endswith(_UNDER_WAY) or time.monotonic() >= until:
                return values
            time.sleep(_AGAIN_S)

    def _carry_out(self, lanes: Lanes, pending: bytes) -> None:
        """Write one's own decision into every cell, and take its mark away, if it still stands."""
        decided = pending.removesuffix(_UNDER_WAY)
        writes: list[tuple[str, Command]] = [(key, ("SET", key, decided)) for key in self._cells.values()]
        proved_values(lanes.ask_each(writes))
        self._decide(lanes, pending, decided)


def _pending(sentinel: Sentinel) -> bytes:
    return write_sentinel(sentinel).encode() + _UNDER_WAY
