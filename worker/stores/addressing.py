"""Whether a connection failed for how it is addressed, so that a person must act before trying again is of use."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

# A name that a resolver does not know is not among them: where services are names, one that restarts has none.
# A peer that hangs up in the middle of a handshake is away or restarting, whatever it would have said.
_CUT_SHORT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


def is_misaddressed(fault: BaseException) -> bool:
    """Whether a refused TLS handshake or certificate is behind a driver's error."""
    return any(isinstance(cause, ssl.SSLError) and not isinstance(cause, _CUT_SHORT) for cause in causes_of(fault))


def causes_of(fault: BaseException) -> Iterator[BaseException]:
    """The error, and what was being handled when it was raised: drivers wrap, mostly without ``from``."""
    seen: set[int] = set()
    cause: BaseException | None = fault
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
