"""A request's header fields, read where the server put them."""

from __future__ import annotations

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> str:
    """The first field of that name, which is in lower case; "" when there is none.

    Starlette's ``Headers`` makes an object, decodes every field that it passes and raises inside for one that is not
    there: 2 µs a field, three times a payload.
    """
    for field, value in scope["headers"]:
        if field == name:
            found: str = value.decode("latin-1")
            return found
    return ""
