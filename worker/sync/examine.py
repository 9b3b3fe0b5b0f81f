"""Everything that can be told of one batch that waits, or waited, for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.sync.batches import Batches, KeptBatch
from worker.sync.isolation import IsolatedParser
from worker.sync.outline import MOST_BYTES, Outline, outline
from worker.sync.planned import Replay
from worker.sync.replay_plan import Planner, group_batches, stored_body
from worker.wiring import Wiring


@dataclass(slots=True, frozen=True)
class Examined:
    """One batch.

    Attributes:
        entries: as which it is kept; one at least.
        outline: of its body; None when that is gone.
        planned: what a replay would do now; None when nothing of it waits.
    """

    entries: Sequence[KeptBatch]
    outline: Outline | None
    planned: Replay | None


def examine(wiring: Wiring, isolated: IsolatedParser, batch_id: str, most_bytes: int = MOST_BYTES) -> Examined | None:
    """Look at a batch; None when nobody knows of it. ``most_bytes`` is how much of its body is looked at.

    Raises:
        ParserInterrupted: its body cannot be parsed now.
        Unavailable: the state server is away, or lacks what it takes to read a log.
    """
    entries = Batches(wiring).find(batch_id)
    if not entries:
        return None
    planned = next(iter(Planner(wiring, isolated).plan(group_batches(entries))), None)
    body, _ = stored_body(wiring, entries)
    pointers = [planned.pointer if planned else None, *(batch.pointer for batch in entries)]
    pointer = next((pointer for pointer in pointers if pointer), None)
    return Examined(entries, None if body is None else outline(body, pointer, most_bytes), planned)
