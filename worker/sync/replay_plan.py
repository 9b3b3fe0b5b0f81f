"""What a replay would do, batch by batch: nothing is changed by planning it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from worker.errors import InvalidBatch, Unavailable
from worker.log.closing import deleted_ms
from worker.log.dead_letters import DeadEntry
from worker.log.entry import unpack_slice
from worker.log.late import is_inserted
from worker.log.parsers import read_current_parser
from worker.log.payloads import logs_of_payload
from worker.log.position import ms_of, order
from worker.log.segments import Segment, read_segments
from worker.model import Cohort, MemberPolicy, Payload, SegmentId
from worker.records.segment_keys import wished_keys
from worker.sync.batches import KeptBatch
from worker.sync.effects import Effects
from worker.sync.isolation import IsolatedParser, ParserCrashed
from worker.sync.planned import Replay, Target
from worker.wiring import Wiring

# Positions of batches that come to a log later than they were accepted sort after all of their millisecond.
AFTER_A_MS = 10**12


def group_batches(batches: Iterable[KeptBatch]) -> list[list[KeptBatch]]:
    """Those that wait, by batch id, in the order in which they were accepted: the order to replay them in."""
    groups: dict[str, list[KeptBatch]] = {}
    for batch in batches:
        if batch.waits:
            groups.setdefault(batch.batch_id, []).append(batch)
    return sorted(groups.values(), key=lambda group: min(order(batch.position) for batch in group))


class Planner:
    """Plans replays. Bodies are parsed by today's requestParsers, in a process of their own."""

    def __init__(self, wiring: Wiring, isolated: IsolatedParser) -> None:
        self._wiring = wiring
        self._isolated = isolated
        self._effects = Effects(wiring)

    @property
    def approximate(self) -> bool:
        """Whether the effects counted so far leave out what batches of one member do to each other; see ``Effects``."""
        return self._effects.approximate

    def plan(self, groups: Sequence[Sequence[KeptBatch]], *, with_effects: bool = True) -> list[Replay]:
        """What replaying these batches, in this order, would do.

        Args:
            groups: as ``group_batches`` gives them; all of them are held in memory at once.
            with_effects: also count whom it would add and remove, each batch as if those before it were replayed,
                those of earlier calls, too.

        Raises:
            ParserInterrupted: bodies cannot be parsed now, for reasons that are not their own.
            Unavailable: the state server is away, or lacks what it takes to read a log.
        """
        replays = [self._plan_one(group) for group in groups]
        if with_effects:
            self._effects.count(replays)
        return replays

    def _plan_one(self, group: Sequence[KeptBatch]) -> Replay:
        first = min(group, key=lambda batch: order(batch.position))
        replay = Replay(first.batch_id, first.integration_key, first.position, group)
        try:
            self._read(replay)
        except _Hopeless as error:
            replay.problem, replay.reason, replay.pointer = error.problem, error.reason, error.pointer
        return replay

    def _read(self, replay: Replay) -> None:
        """Find out what the batch is today, and where it goes."""
        wiring = self._wiring
        body, slices = stored_body(wiring, replay.entries)
        if body is None and not slices:
            raise _Hopeless("nothing is left of its body")
        current = read_current_parser(wiring.client, replay.integration_key)
        if current is None:
            raise _Hopeless(
                f"integration {replay.integration_key!r} has no usable manifest, or no receiver has told of it yet",
                "manifest",
            )
        replay.parser_digest, replay.parser_text = current
        if body is None:
            self._plan_slices(replay, slices)
            return
        replay.body = body
        payload = self._parse(replay)
        directory = wiring.directory.fresh()
        environment = directory.environment(payload.environment_id)
        if environment is None:
            raise _Hopeless("its environment is unknown; add it as an alias, or mend the manifest", "environment")
        # Under "skip" it says the same: every member could be read.
        replay.policy = directory.policy(environment.environment_id, replay.integration_key)
        replay.context_kind, replay.rejected = payload.context_kind, payload.rejected
        self._place(replay, environment.environment_id, payload)

    def _parse(self, replay: Replay) -> Payload:
        try:
            return self._isolated.parse(replay.parser_text, replay.body, replay.policy)
        except InvalidBatch as error:
            if replay.policy == "reject" and error.environment_id is not None:
                environment = self._wiring.directory.fresh().environment(error.environment_id)
                if environment is not None and self._policy(environment.environment_id, replay) == "skip":
                    replay.policy = "skip"
                    return self._parse(replay)
            raise _Hopeless(error.message, error.reason, error.pointer) from error
        except ParserCrashed as error:
            raise _Hopeless(f"parsing it brings down the process that does: it {error.how}", "crashed") from error
        except Unavailable as error:  # nothing is asked of the state server there
            raise _Hopeless("this version of segsync cannot read the integration's manifest", "manifest") from error

    def _policy(self, environment_id: str, replay: Replay) -> MemberPolicy:
        return self._wiring.directory.fresh().policy(environment_id, replay.integration_key)

    def _plan_slices(self, replay: Replay, slices: dict[DeadEntry, bytes]) -> None:
        """The body is gone, with the log entries that shared it; what was parsed of it when it was accepted is not."""
        for entry, packed in slices.items():
            cohort = Cohort("", members=unpack_slice(packed))
            [found] = self._segments(entry.segment.environment_id, [entry.segment.segment_key])
            replay.targets.append(self._of_dead(entry, cohort, found, None))

    def _place(self, replay: Replay, environment_id: str, payload: Payload) -> None:
        """Find each cohort's segment, and what the batch is there: dead, alive, or nothing yet."""
        wiring = self._wiring
        cohort_ids = [cohort.cohort_id for cohort in payload.cohorts]
        found_keys = wiring.segment_keys.find(environment_id, replay.integration_key, cohort_ids)
        keys = [
            key or wished_keys(replay.integration_key, cohort_id)[0]
            for key, cohort_id in zip(found_keys, cohort_ids, strict=True)
        ]
        segments = self._segments(environment_id, keys)
        dead = {
            (batch.source.segment.environment_id, batch.source.segment.segment_key): batch.source
            for batch in replay.entries
            if isinstance(batch.source, DeadEntry)
        }
        alive = logs_of_payload(wiring.client, replay.batch_id) if dead else set()
        for key, cohort, segment in zip(keys, payload.cohorts, segments, strict=True):
            entry = dead.pop((environment_id, key), None)
            if entry is not None:
                replay.targets.append(self._of_dead(entry, cohort, segment, payload.context_kind))
                continue
            where = SegmentId(environment_id, key, segment.generation if segment else 0)
            if where in alive:
                replay.already_live.append(where)
                continue
            target = self._inserted(replay, where, cohort, segment, payload.context_kind)
            if segment is not None and is_inserted(wiring.client, where, target.position, replay.batch_id):
                replay.already_live.append(where)
            else:
                replay.targets.append(target)
        replay.leaves = list(dead.values())

    def _of_dead(self, entry: DeadEntry, cohort: Cohort, segment: Segment | None, kind: str | None) -> Target:
        target = Target(entry.segment, entry.entry_id, cohort, of_dead=True, moved=False)
        if segment is None or segment.generation != entry.segment.generation:
            target.skipped = f"generation {entry.segment.generation} of the segment is deleted"
        else:
            target.skipped = self._unfit(target, segment, kind)
        return target

    def _inserted(self, replay: Replay, where: SegmentId, cohort: Cohort, segment: Segment | None, kind: str) -> Target:
        dead = [batch for batch in replay.entries if isinstance(batch.source, DeadEntry)]
        position = foreign_position(replay.batch_id, replay.position) if dead else replay.position
        target = Target(where, position, cohort, of_dead=False, moved=bool(dead))
        deleted = deleted_ms(self._wiring.client, where.environment_id, [where.segment_key])
        if ms_of(position) <= deleted.get(where.segment_key, -1):
            target.skipped = "the segment was deleted after it was accepted"
        elif segment is not None:
            if segment.generation > 1 and segment.created_ms > ms_of(position):
                target.skipped = f"it was accepted before generation {segment.generation} of the segment was created"
            else:
                target.skipped = self._unfit(target, segment, kind)
        return target

    def _unfit(self, target: Target, segment: Segment, kind: str | None) -> str | None:
        if kind is not None and segment.context_kind != kind:
            return f"the segment holds contexts of kind {segment.context_kind!r}, and the batch is of kind {kind!r}"
        if order(target.position) < order(self._wiring.snapshots.bounds(target.segment)[0]):
            return "it is older than anything that is remembered of who was decided since"
        return None

    def _segments(self, environment_id: str, keys: Sequence[str]) -> list[Segment | None]:
        found = {each.segment_key: each for each in read_segments(self._wiring.client, environment_id, keys)}
        return [found.get(key) for key in keys]


def stored_body(wiring: Wiring, entries: Sequence[KeptBatch]) -> tuple[bytes | None, dict[DeadEntry, bytes]]:
    """A batch's bytes, as the partner sent them; where they are gone, the slices that dead entries hold.

    Raises:
        Unavailable: the state server is away.
    """
    slices: dict[DeadEntry, bytes] = {}
    for batch in entries:
        if not isinstance(batch.source, DeadEntry):
            kept = wiring.rejected.read(batch.batch_id)
            if kept is not None:
                return kept.body(), {}
            continue
        stored = wiring.dead_letters.read_batch(batch.source)
        if stored is not None and stored.body is not None:
            return stored.body, {}
        if stored is not None and stored.slice is not None:
            slices[batch.source] = stored.slice
    return None, slices


class _Hopeless(Exception):
    """Raised when a batch cannot be replayed as things are."""

    def __init__(self, problem: str, reason: str | None = None, pointer: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.reason = reason
        self.pointer = pointer


def foreign_position(batch_id: str, position: str) -> str:
    """Where a batch of one log lies in another's: at its accept time, after all others of that millisecond.

    The same every time, so that a replay that was cut can be begun again.
    """
    number = int.from_bytes(hashlib.sha256(batch_id.encode()).digest()[:4])
    return f"{ms_of(position)}-{AFTER_A_MS + number}"
