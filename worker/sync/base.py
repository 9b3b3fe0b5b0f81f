"""Reading what a log no longer has: its snapshot, a chunk at a time, and what was replayed below it (rule 19)."""

from __future__ import annotations

import structlog

from worker.log.lease import Lease
from worker.log.names import split_sorted
from worker.log.position import START, order
from worker.log.snapshot import Changes, decisions_after
from worker.log.snapshots import Base
from worker.model import SegmentPatch
from worker.sync.members import read_members
from worker.wiring import Wiring

_log = structlog.get_logger(__name__)


class BaseReading:
    """What one cursor still needs of a snapshot, in order of the chunks; goes on where an earlier drain stopped.

    Only members who were decided after the cursor are written: the others are in the store as they should be. An entry
    that was replayed at a place below the snapshot decides about a member unless the snapshot knows of a later
    decision.
    """

    def __init__(self, wiring: Wiring, lease: Lease, base: Base) -> None:
        self._wiring = wiring
        self._lease = lease
        self.base = base
        self._from = lease.position
        self._beside = Changes()
        for entry in base.late:
            self._beside.add(entry.entry_id, read_members(wiring, entry))
        # A replay would have made the cursor forget how many, as every rewind does.
        snapshot, chunks = lease.base
        self._next = chunks if snapshot == base.token else 0
        if not self._next:
            lease.advance_base(base.token, 0, None, from_nothing=lease.fresh)

    def next_patch(self) -> SegmentPatch | None:
        """The next change to write, or None when the store has everything up to the snapshot's position.

        Raises:
            SnapshotReplaced: a compaction has put another snapshot in its place: begin again with that.
            Unavailable: the state server is away.
        """
        if self._next == self.base.chunks:
            return None
        final = self._next == self.base.chunks - 1
        add, remove = decisions_after(self.base.chunk(self._next), self._from, self._beside, final=final)
        (included, excluded), (left, excluded_no_more) = split_sorted(add), split_sorted(remove)
        return SegmentPatch(self._lease.segment.ref, included, left, excluded, excluded_no_more)

    def written(self, members_change: int | None, excluded_change: int = 0) -> None:
        """The patch is in the store, every request answered.

        Raises:
            LeaseLost: the lease, or its epoch, is gone.
            Unavailable: the state server is away.
        """
        self._next += 1
        self._lease.advance_base(self.base.token, self._next, members_change, excluded_change)

    def finish(self, members_change: int | None) -> None:
        """Move the cursor to the snapshot's position.

        A store that had last been here before the floor, or was half filled with an older snapshot, may hold members
        of whom this one says nothing any more: it is to be compared with the logs, and claims no freshness until then.

        Raises:
            LeaseLost: the lease, or its epoch, is gone.
            Unavailable: the state server is away.
        """
        lease, base = self._lease, self.base
        whole = self._from == START and lease.filling == base.token
        if order(self._from) < order(base.floor) and not whole:
            self._note_strays()
        lease.advance_to(base.position, base.batches_total, base.bytes_total, members_change)

    def _note_strays(self) -> None:
        store = self._wiring.stores.get(self._lease.store_id)
        if store is None or store.lists_members:
            self._wiring.incarnations.note_strays(self._lease.store_id)
        else:
            # It cannot be compared with the logs: who left it before the log's memory begins, nobody can find out.
            _log.warning("store.strays_unknown", store_id=self._lease.store_id, segment=self._lease.segment.ref)
