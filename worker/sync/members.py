"""What one entry of a log says of its segment, by the requestParser that it was accepted under (rule 3)."""

from __future__ import annotations

from worker.log.entry import Entry, unpack_slice
from worker.wiring import Wiring


def read_members(wiring: Wiring, entry: Entry) -> dict[str, bool]:
    """What one entry says of its segment: context key -> True (add) or False (remove).

    Raises:
        InvalidBatch: it cannot be parsed under the requestParser that it was accepted with.
        Unavailable: the state server is away, or its parser cannot be had or read.
    """
    if entry.kind == "slice":
        return unpack_slice(entry.content())
    # A body in the log names one cohort, and all its members could be read: others are stored as slices.
    return wiring.parsers.get(entry.parser_digest).decode(entry.content(), entry.policy).cohorts[0].members
