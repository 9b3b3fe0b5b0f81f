"""One body that was answered 400: what is kept of it, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from worker.log.entry import decompress
from worker.log.position import ms_of
from worker.model import DEFAULT_MEMBER_POLICY, MemberPolicy

Decision = Literal["replayed", "discarded"]
Status = Literal["rejected", "replayed", "discarded"]

# In this order they are asked for, and read.
HEAD = (
    "position",
    "integration",
    "environment",
    "reason",
    "message",
    "pointer",
    "parser",
    "policy",
    "token",
    "length",
    "status",
    "by",
    "why",
    "decided_ms",
)


@dataclass(slots=True, frozen=True)
class Refusal:
    """A body that is about to be answered 400.

    Attributes:
        batch_id: unique; to keep it twice changes nothing.
        environment_id: empty when the body does not say it.
        reason, message, pointer: what the sender is told, and the slug for it.
        parser_digest: the requestParser that refused it.
        policy: what was to become of members that cannot be read.
        token_name: who sent it.
        length: of the body, decompressed.
        codec, data: the body as ``entry.compress`` returns it.
    """

    batch_id: str
    integration_key: str
    environment_id: str
    reason: str
    message: str
    pointer: str | None
    parser_digest: str
    policy: MemberPolicy
    token_name: str
    length: int
    codec: bytes = field(repr=False)
    data: bytes = field(repr=False)


@dataclass(slots=True, frozen=True)
class RejectedBatch:
    """What is known of a kept body; see ``Refusal``.

    Attributes:
        position: its place in the order of everything accepted: no entry of any log has the same.
        decided_by, decided_why, decided_ms: who replayed or discarded it, for what reason, and when.
    """

    batch_id: str
    position: str
    integration_key: str
    environment_id: str
    reason: str
    message: str
    pointer: str | None
    parser_digest: str
    policy: MemberPolicy
    token_name: str
    length: int
    status: Status
    decided_by: str
    decided_why: str
    decided_ms: int | None

    @property
    def refused_ms(self) -> int:
        """When it was refused, by the state server's clock."""
        return ms_of(self.position)


@dataclass(slots=True, frozen=True)
class RejectedBody(RejectedBatch):
    """The same with the body."""

    codec: bytes = field(repr=False)
    data: bytes = field(repr=False)

    def body(self) -> bytes:
        """The request's bytes, decoded from any content encoding, otherwise unchanged."""
        return decompress(self.codec, self.data)


def pack_refusal(refusal: Refusal) -> list[str | bytes]:
    """What of ``HEAD`` is known from the beginning, and the body."""
    values: dict[str, str | bytes] = {
        "integration": refusal.integration_key,
        "environment": refusal.environment_id,
        "reason": refusal.reason,
        "message": refusal.message,
        "parser": refusal.parser_digest,
        "policy": refusal.policy,
        "token": refusal.token_name,
        "length": str(refusal.length),
        "codec": refusal.codec,
        "body": refusal.data,
    }
    if refusal.pointer is not None:
        values["pointer"] = refusal.pointer
    return [part for pair in values.items() for part in pair]


def unpack_head(batch_id: str, values: Sequence[bytes | None]) -> dict[str, Any]:
    """The attributes of a ``RejectedBatch``."""
    known = {name: value.decode() for name, value in zip(HEAD, values, strict=True) if value is not None}
    return {
        "batch_id": batch_id,
        "position": known["position"],
        "integration_key": known["integration"],
        "environment_id": known["environment"],
        "reason": known["reason"],
        "message": known["message"],
        "pointer": known.get("pointer"),
        "parser_digest": known["parser"],
        "policy": "skip" if known["policy"] == "skip" else DEFAULT_MEMBER_POLICY,
        "token_name": known["token"],
        "length": int(known["length"]),
        "status": known["status"],
        "decided_by": known.get("by", ""),
        "decided_why": known.get("why", ""),
        "decided_ms": int(known["decided_ms"]) if "decided_ms" in known else None,
    }
