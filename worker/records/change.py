"""Reading all records at one moment, and changing them on the strength of what was read: nobody's change is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import redis
import structlog
from pydantic import BaseModel, ValidationError

from worker.errors import Unavailable
from worker.model import StoreRecord
from worker.records.directory import Directory, Environment, Token
from worker.records.tables import (
    ALIASES,
    ENVIRONMENTS,
    POLICIES,
    STORES,
    TOKENS,
    VERSION,
    Superseded,
    Writes,
    write_records,
)
from worker.state import state_errors

# Whoever is refused sees another's change done, so as many tries do as there may be changes at once.
_MOST_TRIES: Final = 100

Record = TypeVar("Record", bound=BaseModel)
Result = TypeVar("Result")
# What is to become of the records as they are, and the writes by which it does; None when it is so already.
Decision = Callable[[Directory], tuple[Result, Writes | None]]

_log = structlog.get_logger(__name__)


def read_directory(client: redis.Redis) -> Directory:
    """All records, as one consistent snapshot; those that this version cannot read are logged and left out.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors(), client.pipeline(transaction=True) as pipe:
        pipe.get(VERSION)
        for key in (ENVIRONMENTS, TOKENS, STORES):
            pipe.hvals(key)
        for key in (ALIASES, POLICIES):
            pipe.hgetall(key)
        version, environments, tokens, stores, aliases, policies = pipe.execute()
    return Directory(
        version=(version or b"").decode(),
        environments={found.environment_id: found for found in _readable(Environment, environments)},
        tokens={found.token_hash: found for found in _readable(Token, tokens)},
        stores=sorted(_readable(StoreRecord, stores), key=lambda store: store.store_id),
        aliases={alias.decode(): environment_id.decode() for alias, environment_id in aliases.items()},
        # Of policies that this version does not know, the default is the safe reading.
        policies={field.decode(): "skip" for field, policy in policies.items() if policy == b"skip"},
    )


def change_records(client: redis.Redis, decide: Decision[Result]) -> Result:
    """Read the records, decide, and write: decided anew when somebody else changed them in between.

    Args:
        client: of the state server.
        decide: may raise, and then nothing is written; is called again after every change of another's.

    Raises:
        Unavailable: the state server is away: it was written or not; or others change the records all the time.
    """
    for _ in range(_MOST_TRIES):
        directory = read_directory(client)
        result, queue = decide(directory)
        if queue is None:
            return result
        try:
            write_records(client, queue, expected_version=directory.version)
        except Superseded:
            continue
        return result
    raise Unavailable("the records are being changed all the time; try again in a moment", dependency="state")


def _readable(kind: type[Record], texts: Iterable[bytes]) -> Iterator[Record]:
    for text in texts:
        try:
            yield kind.model_validate_json(text)
        except ValidationError as error:
            # Written by a newer segsync: what it is about works there, and everything else works here.
            _log.error("record.unreadable", kind=kind.__name__, faults=error.errors(include_input=False)[0]["type"])
