"""The taxonomy: a batch that can never succeed, a dependency that is away, a wrong setting; the rest is a bug."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "malformed",  # not JSON, not UTF-8, not an object, too deep, a number nobody can hold
    "environment",  # the environment id is missing or no scalar
    "context_kind",  # a context kind that LaunchDarkly would not take, or another than the segment's
    "cohort",  # cohort id, name or url is missing or no scalar
    "members",  # a member array is missing or no array
    "action",  # the arrayInclusion value is missing or no scalar
    "member",  # one member is no object
    "member_id",  # one member's id is missing or no scalar
    "membership",  # one member's boolean is missing or no boolean
    "member_cohort",  # one member's own cohort id or name is no scalar
    "too_many_cohorts",  # one payload names more cohorts than a request may touch
    "manifest",  # the integration has no usable manifest
    "crashed",  # parsing it alone brought down the process that did, three times
]

Fault = Literal[
    "transient",  # passes by itself within seconds: away, loading, throttled, full
    "configuration",  # lasts until a person puts it right: credentials, permissions, a missing table, a replica
    "item",  # one key's, item's or segment's own trouble: it says nothing about the rest of the store
]


class SegsyncError(Exception):
    """The root of every error that segsync raises on purpose."""


class InvalidBatch(SegsyncError):
    """Raised when a batch can never succeed, however often it is tried.

    Attributes:
        reason: slug; the metric label and the dead letter's reason.
        message: one sentence for a person, without member keys.
        pointer: JSON pointer (RFC 6901) of the fault in the body, when there is one place to point at.
        environment_id: the payload's environment id when it could be read before the fault was met, so that
            the receiver can answer 403 before it answers 400.
    """

    def __init__(
        self, reason: Reason, message: str, *, pointer: str | None = None, environment_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message
        self.pointer = pointer
        self.environment_id = environment_id


class Unavailable(SegsyncError):
    """Raised when a dependency (state server, store, broker) is away or refuses; trying again later is right.

    Attributes:
        dependency: which one: "state", "broker" or "store".
        fate_unknown: True when a request was sent whose outcome nobody knows: its bytes may still land.
        fault: how soon to try again, and what to leave alone meanwhile; see ``Fault``.
        answered: the code of what it answered, such as WRONGPASS; "" where it gave none, or did not answer.
    """

    def __init__(
        self,
        message: str,
        *,
        dependency: Literal["state", "broker", "store"],
        fate_unknown: bool = False,
        fault: Fault = "transient",
        answered: str = "",
    ) -> None:
        super().__init__(message)
        self.dependency = dependency
        self.fate_unknown = fate_unknown
        self.fault: Fault = fault
        self.answered = answered


class LeaseLost(SegsyncError):
    """Raised when a drain finds that its lease, or the epoch it was taken in, is gone."""


class Misconfigured(SegsyncError):
    """Raised when a setting, a file or a port makes it impossible to start; the message is one line for a person."""


class Conflict(Misconfigured):
    """Raised when what is asked for does not go with the records as they are: a key, an id or a place that is taken,
    or a version that is not the one expected. Nothing was changed.
    """


class NotFound(Misconfigured):
    """Raised when there is no such project, environment, store or token. Nothing was changed."""
