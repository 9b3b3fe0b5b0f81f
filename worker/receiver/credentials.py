"""Reading a token from an Authorization header: bare as partners send it, Bearer, or Basic's password."""

from __future__ import annotations

import base64
import binascii


def read_token(authorization: str | None) -> str | None:
    """The token, or None when there is none to read.

    LaunchDarkly's partners send the bare token; Mixpanel-like senders can do Basic only, with the token as password.
    """
    if not authorization:
        return None
    scheme, _, rest = authorization.strip().partition(" ")
    if not rest:
        return scheme
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None
