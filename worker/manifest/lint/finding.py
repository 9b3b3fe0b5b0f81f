"""What a lint has to say of a manifest."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]


class Finding(NamedTuple):
    """One thing that is wrong with a manifest, or probably is.

    Attributes:
        severity: "error" when payloads are refused or taken for what they are not; "warning" when that may be.
        check: the slug of the check that found it.
        pointer: where in the manifest, a JSON pointer.
        message: what is wrong, and what comes of it.
        remedy: what to write instead.
    """

    severity: Severity
    check: str
    pointer: str
    message: str
    remedy: str
