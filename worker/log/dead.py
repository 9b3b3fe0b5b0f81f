"""What is known of an entry that no fold reads any more: why it died, and what a person decided about it."""

from __future__ import annotations

from typing import Literal

import msgspec

# dead: may be replayed or discarded. discarded: never again. moved: replayed into other segments; see those. replayed:
# alive again; then its log knows nothing of it any more, and the record is kept for people alone.
DeadStatus = Literal["dead", "discarded", "moved", "replayed"]


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=False):
    """One record of the hash ``S:gN:dead``; scripts know by how it begins whether the entry is still dead.

    Once that is replayed, the record lies in ``segsync:replayed``.

    Attributes:
        reason: slug, also the metric's label.
        message: one sentence for a person, without member keys.
        pointer: JSON pointer of the fault in the body, when there is one place to point at.
        batch_id, integration_key, size_bytes: of the batch; what the log keeps of it, in bytes.
        attempts: how often it was tried.
        died_ms: when, by the state server's clock or the worker's.
        by, why, decided_ms: who decided otherwise since, for what reason, and when.
    """

    status: DeadStatus
    reason: str
    message: str
    pointer: str | None = None
    batch_id: str = ""
    integration_key: str = ""
    size_bytes: int = 0
    attempts: int = 1
    died_ms: int = 0
    by: str = ""
    why: str = ""
    decided_ms: int = 0

    def encode(self) -> bytes:
        """As it is kept; the status comes first."""
        return msgspec.json.encode(self)


def decode_letter(kept: bytes) -> DeadLetter:
    """The inverse of ``DeadLetter.encode``; a record that another version wrote is one of somebody dead."""
    try:
        return msgspec.json.decode(kept, type=DeadLetter)
    except msgspec.MsgspecError:
        return DeadLetter("dead", "unreadable", "another version of segsync wrote the record of this batch")
