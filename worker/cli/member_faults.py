"""What a person is told of the reasons for which members cannot be read."""

from __future__ import annotations

_SENTENCES = {
    "member": "is no object",
    "member_id": "is no id: it is missing, or neither a non-empty string nor an integer",
    "membership": "is neither true nor false, or missing",
    "member_cohort": "says of the member's own cohort what is neither a string nor an integer, or far too long",
}


def sentence(pointer: str, reason: str) -> str:
    """Where a member's fault lies, and what it is."""
    return f"{pointer} {_SENTENCES.get(reason, f'cannot be read ({reason})')}"
