"""What a person is told of the reasons for which members cannot be read."""

from __future__ import annotations


def sentence(pointer: str, reason: str) -> str:
    """Where a member's fault lies, and what it is."""
    from worker.model import MEMBER_REASONS

    return f"{pointer} {MEMBER_REASONS.get(reason, f'cannot be read ({reason})')}"
