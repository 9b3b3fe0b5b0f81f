"""What one entry of a log says of its segment, by the requestParser that it was accepted under (rule 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from worker.log.entry import Entry, unpack_change, unpack_slice
from worker.log.names import included_names, may_be_marked
from worker.wiring import Wiring


def read_members(wiring: Wiring, entry: Entry) -> Mapping[str, bool]:
    """What one entry says of its segment: name (of a context in one of its lists) -> True (add) or False (remove).

    Not for imports: what they say may be more than fits into memory, and no part of it is ever parsed.

    Raises:
        InvalidBatch: it cannot be parsed under the requestParser that it was accepted with.
        Unavailable: the state server is away, or its parser cannot be had or read.
    """
    assert entry.kind != "import"
    content = entry.content()
    if entry.kind == "change":
        return unpack_change(content)
    if entry.kind == "slice":
        members = unpack_slice(content)
    else:
        # A body in the log names one cohort, and all its members could be read: others are stored as slices.
        members = wiring.parsers.get(entry.parser_digest).decode(content, entry.policy).cohorts[0].members
    return included_names(members) if may_be_marked(content) else members


def read_in_pieces(wiring: Wiring, entry: Entry) -> Iterable[Mapping[str, bool]]:
    """As ``read_members``; what a large body says comes in pieces, of which the last that names a member decides.

    All of it was judged when this returns.

    Raises:
        InvalidBatch, Unavailable: as ``read_members``.
    """
    if entry.kind != "body":
        return [read_members(wiring, entry)]
    content = entry.content()
    pieces = wiring.parsers.get(entry.parser_digest).decode_members(content, entry.policy)
    return map(included_names, pieces) if may_be_marked(content) else pieces
