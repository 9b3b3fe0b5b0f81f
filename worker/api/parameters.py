"""What clients of the API ask for: query parameters and JSON bodies, and what is wrong with them in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

import msgspec

from worker.receiver.refusals import Refused
from worker.records.directory import Directory, Environment
from worker.sync.batches import STATUSES, WAITING, BatchFilter, parse_page_key

DEFAULT_LIMIT = 20
MOST_LISTED = 200

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_Time = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Filter(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Which batches are meant; times are epoch milliseconds, from ``since``, before ``until``."""

    status: _Text | None = None
    reason: _Text | None = None
    integration_key: _Text | None = None
    environment: _Text | None = None
    segment_key: _Text | None = None
    since: _Time | None = None
    until: _Time | None = None


class Listing(Filter, forbid_unknown_fields=True, rename="camel"):
    """The query of ``GET /api/v2/batches``."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_LISTED)] = DEFAULT_LIMIT
    before: _Text | None = None


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A query or a body that asks for nothing."""


class OneReplay(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /api/v2/batches/{id}/replay``."""

    preview: bool = True


class ManyReplays(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /api/v2/batches/replay``."""

    filter: Filter = msgspec.field(default_factory=Filter)
    all: bool = False
    preview: bool = True
    before: _Text | None = None


class Discarding(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /api/v2/batches/{id}/discard``."""

    why: _Text


T = TypeVar("T", bound=msgspec.Struct)


def read_query(parameters: Iterable[tuple[str, str]], wanted: type[T]) -> T:
    """The query parameters as that type; numbers are read from text.

    Several of ``status`` mean any of them, as with commas. Of others, one would be dropped, so two are too many.

    Raises:
        Refused: 400, with the parameter's name, or those that there are.
    """
    said: dict[str, str] = {}
    for name, value in parameters:
        if name in said and name != "status":
            raise refuse("Query parameters", f"{name!r} is there more than once")
        said[name] = f"{said[name]},{value}" if name in said else value
    try:
        found = msgspec.convert(said, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise refuse("Query parameters", _told(error, wanted)) from None
    for field, name in zip(wanted.__struct_fields__, wanted.__struct_encode_fields__, strict=True):
        if name in said and getattr(found, field) is None:  # msgspec reads the text "null" as nothing
            raise refuse("Query parameters", f"{name!r} is no number")
    return found


def read_json(body: bytes, wanted: type[T]) -> T:
    """A body as that type; an empty one is an empty object.

    Raises:
        Refused: 400, with the place of what is wrong, or the fields that there are.
    """
    try:
        return msgspec.json.decode(body.strip() or b"{}", type=wanted)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise refuse("The body", _told(error, wanted)) from None


def read_filter(directory: Directory, wanted: Filter, *, waiting: bool = False) -> BatchFilter:
    """The filter that is meant.

    Args:
        directory: the records.
        wanted: as the client says it.
        waiting: only batches that wait are meant.

    Raises:
        Refused: 400; a status that there is not, or that does not wait, or an unknown environment.
    """
    environment = None if wanted.environment is None else _environment(directory, wanted.environment)
    return BatchFilter(
        statuses=_statuses(wanted.status, WAITING if waiting else frozenset(STATUSES)),
        reason=wanted.reason,
        integration_key=wanted.integration_key,
        environment_id=environment.environment_id if environment else None,
        segment_key=wanted.segment_key,
        since_ms=wanted.since,
        until_ms=wanted.until,
    )


def read_page_key(before: str | None) -> str | None:
    """The key of a page.

    Raises:
        Refused: 400; it is none.
    """
    try:
        if before is not None:
            parse_page_key(before)
    except ValueError:
        raise refuse("before", "it is the key that an earlier answer gave") from None
    return before


def refuse(what: str, problem: object) -> Refused:
    """400, in a sentence."""
    return Refused(400, f"{what}: {problem}", reason="parameters")


def _told(error: Exception, wanted: type[msgspec.Struct]) -> str:
    """What is wrong; of a field that there is not, with those that there are."""
    text = str(error)
    if "unknown field" not in text:
        return text
    within = Filter if text.endswith("`$.filter`") else wanted
    return f"{text}; known: {', '.join(within.__struct_encode_fields__) or 'none'}"


def _statuses(text: str | None, allowed: frozenset[str]) -> frozenset[str]:
    named = frozenset(text.split(",")) if text is not None else WAITING
    if unknown := named - allowed:
        known = ", ".join(status for status in STATUSES if status in allowed)
        raise refuse("status", f"{min(unknown)!r} is none of {known}")
    return named


def _environment(directory: Directory, wanted: str) -> Environment:
    found = [
        environment
        for environment in directory.environments.values()
        if wanted
        in {
            environment.environment_id,
            environment.environment_key,
            f"{environment.project_key}/{environment.environment_key}",
        }
    ]
    if len(found) != 1:
        raise refuse("environment", f"{len(found)} environments are called {wanted!r}")
    return found[0]
