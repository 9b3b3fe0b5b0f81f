"""Reading all records at one moment, and changing them on the strength of what was read: nobody's change is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import redis
import structlog
from pydantic import BaseModel, SecretStr, ValidationError

from worker.errors import Unavailable
from worker.model import StoreRecord
from worker.records.directory import Directory, Environment, Project, Token
from worker.records.secret_box import LOCKED, SEALED, CannotOpen, SecretBox, secrets_of
from worker.records.tables import (
    ALIASES,
    ENVIRONMENTS,
    POLICIES,
    PROJECTS,
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


def read_directory(client: redis.Redis, box: SecretBox | None = None) -> Directory:
    """All records, as one consistent snapshot; those that this version cannot read are logged and left out.

    A store whose secrets the box does not open is in it, but ``locked``, and is logged. Without a box, whoever asks has
    no use for secrets: those that are sealed stay so, and nothing is logged.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors(), client.pipeline(transaction=True) as pipe:
        pipe.get(VERSION)
        for key in (PROJECTS, ENVIRONMENTS, TOKENS, STORES):
            pipe.hvals(key)
        for key in (ALIASES, POLICIES):
            pipe.hgetall(key)
        version, projects, environments, tokens, stores, aliases, policies = pipe.execute()
    return Directory(
        version=(version or b"").decode(),
        environments={found.environment_id: found for found in _readable(Environment, environments)},
        tokens={found.token_hash: found for found in _readable(Token, tokens)},
        stores=sorted(
            (_opened(store, box) for store in _readable(StoreRecord, stores)), key=lambda store: store.store_id
        ),
        aliases={alias.decode(): environment_id.decode() for alias, environment_id in aliases.items()},
        # Of policies that this version does not know, the default is the safe reading.
        policies={field.decode(): "skip" for field, policy in policies.items() if policy == b"skip"},
        projects={found.key: found for found in _readable(Project, projects)},
    )


def change_records(client: redis.Redis, decide: Decision[Result], box: SecretBox | None = None) -> Result:
    """Read the records, decide, and write: decided anew when somebody else changed them in between.

    Args:
        client: of the state server.
        decide: may raise, and then nothing is written; is called again after every change of another's.
        box: see ``read_directory``.

    Raises:
        Unavailable: the state server is away: it was written or not; or others change the records all the time.
    """
    for _ in range(_MOST_TRIES):
        directory = read_directory(client, box)
        result, queue = decide(directory)
        if queue is None:
            return result
        try:
            write_records(client, queue, expected_version=directory.version)
        except Superseded:
            continue
        return result
    raise Unavailable("the records are being changed all the time; try again in a moment", dependency="state")


def _opened(store: StoreRecord, box: SecretBox | None) -> StoreRecord:
    configuration = store.configuration
    kept = secrets_of(configuration)
    if not any(text.startswith(SEALED) for text in kept.values()):
        return store
    if box is None:
        return store.model_copy(update={"locked": True})
    try:
        opened = {name: SecretStr(box.open(text)) for name, text in kept.items()}
    except CannotOpen:
        _log.error("record.locked", store_id=store.store_id, problem=LOCKED)
        return store.model_copy(update={"locked": True})
    return store.model_copy(update={"configuration": configuration.model_copy(update=opened)})


def _readable(kind: type[Record], texts: Iterable[bytes]) -> Iterator[Record]:
    for text in texts:
        try:
            yield kind.model_validate_json(text)
        except ValidationError as error:
            # Written by a newer segsync: what it is about works there, and everything else works here.
            _log.error("record.unreadable", kind=kind.__name__, faults=error.errors(include_input=False)[0]["type"])
