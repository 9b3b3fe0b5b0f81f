"""Replay (rule 17): what was planned is put into the logs, each batch at its own place; the drains do the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from worker.log.batch import WakeUp
from worker.log.claim import claim_segment
from worker.log.dead_letters import DeadEntry
from worker.log.entry import compress, pack_fields, pack_slice
from worker.log.late import insert_entry
from worker.log.position import order
from worker.model import SegmentId
from worker.sync.planned import Replay, Target
from worker.wiring import Wiring

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Replayed:
    """What replaying one batch did.

    Attributes:
        inserted: the segments in whose logs it lies now, alive.
        upto: the position up to which each of them must be applied for the batch to be in the stores.
        skipped: segment key -> why nothing was done there.
        problem: why nothing was done at all; None when something was, or had been.
        wake_ups: the caller's to send.
    """

    batch_id: str
    inserted: list[SegmentId] = field(default_factory=list)
    upto: dict[SegmentId, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    problem: str | None = None
    wake_ups: list[WakeUp] = field(default_factory=list)


class Replayer:
    """Carries plans out. It writes no store: it flips entries and rewinds cursors, and drains fold anew."""

    def __init__(self, wiring: Wiring, by: str) -> None:
        self._wiring = wiring
        self._by = by

    def replay(self, planned: Replay) -> Replayed:
        """Replay one batch; cut short at any point, it can be begun again, with the same result.

        Raises:
            Unavailable: the state server is away; in some of its segments the batch may be alive.
        """
        done = Replayed(planned.batch_id, problem=planned.problem)
        if planned.problem is not None:
            return done
        # What is dead comes last: it is by its dead entries that a batch is found again when this is cut short.
        for target in sorted(planned.targets, key=lambda target: target.of_dead):
            if target.skipped is not None:
                done.skipped[target.segment.segment_key] = target.skipped
                continue
            self._insert(planned, target, done)
        if done.inserted:
            self._wiring.upkeep.index(done.inserted, ticket=planned.batch_id)
        if done.inserted or planned.already_live or not done.skipped:
            self._note(planned, done)
        if done.inserted and planned.rejected.count:
            _log.warning(
                "batch.members_rejected",
                batch_id=planned.batch_id,
                environment_id=done.inserted[0].environment_id,
                integration=planned.integration_key,
                members=planned.rejected.count,
                first=planned.rejected.listed[0]._asdict(),
            )
        _log.info(
            "batch.replayed",
            batch_id=planned.batch_id,
            by=self._by,
            segments=[segment.ref for segment in done.inserted],
            skipped=done.skipped,
        )
        return done

    def _insert(self, planned: Replay, target: Target, done: Replayed) -> None:
        wiring = self._wiring
        segment = target.segment
        stores = [store.store_id for store in wiring.directory.fresh().stores_of(segment.environment_id)]
        if not target.of_dead:
            cohort_id = target.cohort.cohort_id
            [key] = wiring.segment_keys.allot(segment.environment_id, planned.integration_key, [cohort_id])
            generation = claim_segment(
                wiring.client,
                segment.environment_id,
                key,
                context_kind=planned.context_kind,
                integration_key=planned.integration_key,
                cohort_id=cohort_id,
                name=target.cohort.name,
                url=target.cohort.url,
            )
            if isinstance(generation, str):
                done.skipped[key] = generation
                return
            segment = SegmentId(segment.environment_id, key, generation)
        fields = pack_fields(
            integration_key=planned.integration_key,
            parser_digest=planned.parser_digest,
            policy=planned.policy,
            kind="slice",
            content=compress(pack_slice(target.cohort.members)),
            rejected=planned.rejected,
        )
        position = target.position
        dead = _dead_entry(planned, target)
        if dead is not None:  # first: cut short after it, nothing else would say that it ever died
            note = f"replayed into {segment.segment_key}"
            wiring.dead_letters.note_replayed(dead, by=self._by, why=note, now_ms=wiring.upkeep.server_ms())
        while True:
            inserted = insert_entry(
                wiring.client,
                segment,
                position,
                batch_id=planned.batch_id,
                fields=fields,
                store_ids=stores,
                of_dead=target.of_dead,
            )
            if inserted != "taken":
                break
            ms, number = order(position)
            position = f"{ms}-{number + 1}"
        if inserted == "not dead":
            return
        if isinstance(inserted, str):
            if dead is not None:
                wiring.dead_letters.unnote_replayed(dead)
            done.skipped[segment.segment_key] = {
                "gone": f"generation {segment.generation} of the segment is deleted",
                "below": "it is older than anything that is remembered of who was decided since",
            }[inserted]
            return
        done.inserted.append(segment)
        done.upto[segment] = position
        done.wake_ups += inserted

    def _note(self, planned: Replay, done: Replayed) -> None:
        """Write down that it is done, and who did it."""
        now_ms = self._wiring.upkeep.server_ms()
        there = {target.segment.segment_key for target in planned.targets} - done.skipped.keys()
        there |= {segment.segment_key for segment in planned.already_live}
        why = f"replayed into {', '.join(sorted(there))}"
        if done.skipped:
            why += "; not " + ", nor ".join(f"into {key}: {problem}" for key, problem in sorted(done.skipped.items()))
        for entry in planned.leaves:
            self._wiring.dead_letters.decide(entry, "moved", by=self._by, why=why, now_ms=now_ms)
        for batch in planned.entries:
            if not isinstance(batch.source, DeadEntry):
                self._wiring.rejected.mark(batch.batch_id, "replayed", self._by, why)


def _dead_entry(planned: Replay, target: Target) -> DeadEntry | None:
    """The dead entry that comes to life in that segment; None when the batch comes to it newly."""
    found = [batch.source for batch in planned.entries if batch.segment == target.segment]
    return next((source for source in found if target.of_dead and isinstance(source, DeadEntry)), None)
