"""How batches and replays look in JSON: the same in the API's answers and in what commands print. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from worker.model import SegmentId
from worker.sync.batches import KeptBatch
from worker.sync.examine import Examined
from worker.sync.planned import Replay, Target
from worker.sync.preview import Change, Obstacle, Preview
from worker.sync.replaying import Outcome

Form = dict[str, Any]


def batch_form(batch: KeptBatch) -> Form:
    """One batch as it is listed; times are epoch milliseconds."""
    decided = batch.decided_ms is not None
    return {
        "id": batch.batch_id,
        "status": batch.status,
        "acceptedAt": batch.accepted_ms,
        "position": batch.position,
        "integrationKey": batch.integration_key,
        "environmentId": batch.environment_id or None,
        "segmentKey": batch.segment.segment_key if batch.segment else None,
        "generation": batch.segment.generation if batch.segment else None,
        "reason": batch.reason,
        "message": batch.message,
        "pointer": batch.pointer,
        "attempts": batch.attempts,
        "bytes": batch.size_bytes,
        "decision": {"at": batch.decided_ms, "by": batch.decided_by, "why": batch.decided_why} if decided else None,
    }


def examined_form(examined: Examined) -> Form:
    """One batch with everything that is known of it."""
    return {
        "id": examined.entries[0].batch_id,
        "entries": [batch_form(batch) for batch in examined.entries],
        "outline": examined.outline.described() if examined.outline else None,
        "replay": replay_form(examined.planned) if examined.planned else None,
    }


def replay_form(planned: Replay) -> Form:
    """What replaying one batch would do."""
    return {
        "possible": planned.does_something,
        "problem": planned.problem,
        "reason": planned.reason,
        "pointer": planned.pointer,
        "segments": [_target_form(target) for target in planned.targets],
        "alreadyIn": [segment.segment_key for segment in planned.already_live],
        "movesFrom": [entry.segment.segment_key for entry in planned.leaves],
        "leftOut": planned.rejected.count,
    }


def preview_form(preview: Preview) -> Form:
    """What replaying some batches would do."""
    return {
        "batches": preview.batches,
        "replayable": preview.replayable,
        "approximate": preview.approximate,
        "total": _change_form(preview.total),
        "segments": [
            {**_segment_form(segment), **_change_form(change)} for segment, change in sorted(preview.segments.items())
        ],
        "leaving": [{**_segment_form(segment), "batches": count} for segment, count in sorted(preview.leaving.items())],
        "leftOut": preview.left_out,
        "obstacles": _obstacle_forms(preview.obstacles),
        "skipped": _obstacle_forms(preview.skipped),
    }


def outcome_form(outcome: Outcome) -> Form:
    """What replaying some batches did."""
    return {
        "batches": outcome.done,
        "replayed": outcome.replayed,
        "problems": [{"id": batch_id, "message": problem} for batch_id, problem in outcome.problems.items()],
        "skipped": list(_skipped_forms(outcome.skipped)),
        "segments": [_segment_form(segment) for segment in sorted(outcome.upto)],
    }


def _segment_form(segment: SegmentId) -> Form:
    return {
        "environmentId": segment.environment_id,
        "segmentKey": segment.segment_key,
        "generation": segment.generation,
    }


def _target_form(target: Target) -> Form:
    return {
        **_segment_form(target.segment),
        "position": target.position,
        "moved": target.moved,
        "skipped": target.skipped,
        "added": target.added,
        "removed": target.removed,
        "unchanged": target.unchanged,
        "decidedLater": target.decided_later,
        "waits": target.waits,
    }


def _change_form(change: Change) -> Form:
    return {
        "batches": change.batches,
        "moved": change.moved,
        "added": change.added,
        "removed": change.removed,
        "unchanged": change.unchanged,
        "decidedLater": change.decided_later,
        "waits": change.waits,
    }


def _obstacle_forms(obstacles: Mapping[str, Obstacle]) -> list[Form]:
    return [
        {"reason": reason, "count": each.count, "id": each.batch_id, "message": each.problem}
        for reason, each in obstacles.items()
    ]


def _skipped_forms(skipped: Mapping[str, Mapping[str, str]]) -> Iterable[Form]:
    for batch_id, problems in skipped.items():
        for segment_key, problem in problems.items():
            yield {"id": batch_id, "segmentKey": segment_key, "message": problem}
