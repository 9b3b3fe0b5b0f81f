"""Why a payload is refused by its own fault or its manifest's: status, message, slug and place, for whoever says so."""

from __future__ import annotations

from worker.errors import InvalidBatch


class Refused(Exception):
    """Raised when a request is answered with an error of its sender's making.

    ``environment_id``: the environment that the payload is for, where that is known, and the sender may write to it.
    """

    def __init__(
        self, status: int, message: str, *, reason: str, pointer: str | None = None, environment_id: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason
        self.pointer = pointer
        self.environment_id = environment_id


def bad_request(error: InvalidBatch, environment_id: str = "") -> Refused:
    """400: the body breaks the requestParser's contract."""
    return Refused(400, error.message, reason=error.reason, pointer=error.pointer, environment_id=environment_id)


def too_large(largest: int) -> Refused:
    """413: the body, as sent or decoded, has more than ``largest`` bytes."""
    return Refused(413, f"The body is larger than {largest} bytes, decoded", reason="too_large")


def unusable_manifest() -> Refused:
    """503: the integration is known, its manifest is broken."""
    return Refused(503, "The manifest of this integration cannot be used; /readyz says why", reason="manifest")
