"""The records: projects, environments, tokens, stores; and what a fresh installation starts with."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import redis
import structlog
from pydantic import BaseModel, SecretStr, ValidationError

from worker.errors import Misconfigured
from worker.model import StoreConfiguration, StoreRecord
from worker.records.directory import Directory, Environment, Role, Token, token_hash
from worker.records.tables import (
    ALIASES,
    ENVIRONMENTS,
    POLICIES,
    PROJECTS,
    STORES,
    TOKENS,
    VERSION,
    write_record,
)
from worker.state import state_errors

# Tokens are kept as plain hashes, which only keeps long ones secret; and they must pass through a header as they are.
_SHORTEST_TOKEN = 16
_TOKEN = re.compile(rf"[\x21-\x7e]{{{_SHORTEST_TOKEN},}}")

ExistingStore = Literal["keep", "refuse", "replace", "moved"]

_log = structlog.get_logger(__name__)
Record = TypeVar("Record", bound=BaseModel)

DEFAULT_PROJECT = "default"
DEFAULT_ENVIRONMENT = "production"
_ENVIRONMENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # it is part of keys: no slash, no brace


@dataclass(slots=True, frozen=True)
class Bootstrap:
    """What ``Records.bootstrap`` found or made. Tokens are None when they exist already and were not given."""

    project_key: str
    environment_key: str
    environment_id: str
    writer_token: str | None
    admin_token: str | None
    store: StoreRecord


class Records:
    """Reads and writes the records. Safe between threads, as far as the client is."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def version(self) -> str:
        """Another text after every change of a record; empty before the first.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            return (cast("bytes | None", self._client.get(VERSION)) or b"").decode()

    def directory(self) -> Directory:
        """All records, as one consistent snapshot; those that this version cannot read are logged and left out.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors(), self._client.pipeline(transaction=True) as pipe:
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

    def bootstrap(
        self,
        *,
        environment_id: str | None,
        store_configuration: StoreConfiguration,
        writer_token: str | None = None,
        admin_token: str | None = None,
        existing_store: ExistingStore = "refuse",
    ) -> Bootstrap:
        """Make project ``default``, environment ``production``, a store and two tokens, as far as they are missing.

        Idempotent. A given environment id or token is taken over. A store of the same kind at the same place is
        brought up to date; ``existing_store`` says what to do when there is one elsewhere: "keep" it (or any other
        there is), "refuse", "replace" it by another store, which is filled anew from what the log still holds, or take
        it for the same store whose content has "moved" to the place given.

        Raises:
            Misconfigured: the environment exists under another id, the id or a token given cannot be one, or there is
                a store elsewhere and it is not to be touched.
            Unavailable: the state server is away; what is missing then is made by the next call.
        """
        if writer_token is not None and writer_token == admin_token:
            raise Misconfigured("writer and admin tokens must differ: each token has one role")
        environment = self._bootstrap_environment(environment_id)
        return Bootstrap(
            project_key=environment.project_key,
            environment_key=environment.environment_key,
            environment_id=environment.environment_id,
            writer_token=self._bootstrap_token("writer", writer_token),
            admin_token=self._bootstrap_token("admin", admin_token),
            store=self._bootstrap_store(environment.environment_id, store_configuration, existing_store),
        )

    def _bootstrap_environment(self, environment_id: str | None) -> Environment:
        existing = next(
            (
                found
                for found in self.directory().environments.values()
                if (found.project_key, found.environment_key) == (DEFAULT_PROJECT, DEFAULT_ENVIRONMENT)
            ),
            None,
        )
        if existing:
            if environment_id not in {None, existing.environment_id}:
                raise Misconfigured(
                    f"environment {DEFAULT_PROJECT}/{DEFAULT_ENVIRONMENT} exists with id {existing.environment_id}; "
                    "leave the id out, or use another state server"
                )
            return existing
        made = Environment(
            environment_id=environment_id or secrets.token_hex(12),
            environment_key=DEFAULT_ENVIRONMENT,
            project_key=DEFAULT_PROJECT,
            name="Production",
        )
        if not _ENVIRONMENT_ID.fullmatch(made.environment_id):
            raise Misconfigured(f"an environment id is 1 to 64 letters, digits, dots, dashes: not {environment_id!r}")
        write_record(self._client, PROJECTS, DEFAULT_PROJECT, json.dumps({"key": DEFAULT_PROJECT, "name": "Default"}))
        write_record(self._client, ENVIRONMENTS, made.environment_id, made.model_dump_json())
        return made

    def _bootstrap_token(self, role: Role, plain: str | None) -> str | None:
        tokens = self.directory().tokens
        if plain is not None and not _TOKEN.fullmatch(plain):
            raise Misconfigured(f"a {role} token is {_SHORTEST_TOKEN} visible ASCII characters or more, without spaces")
        if plain is None:
            if any(token.role == role for token in tokens.values()):
                return None
            plain = f"segsync-{role}-{secrets.token_hex(16)}"
        if token_hash(plain) not in tokens:
            made = Token(token_hash=token_hash(plain), name=role, role=role, created_ms=int(time.time() * 1000))
            write_record(self._client, TOKENS, made.token_hash, made.model_dump_json())
        return plain

    def _bootstrap_store(
        self, environment_id: str, configuration: StoreConfiguration, existing_store: ExistingStore
    ) -> StoreRecord:
        gone: str | None = None
        stores = self.directory().stores_of(environment_id)
        if stores and existing_store == "keep":
            return stores[0]
        existing = next((store for store in stores if store.configuration.kind == configuration.kind), None)
        if existing and existing.configuration == configuration:
            return existing
        if existing and existing.configuration.place != configuration.place and existing_store != "moved":
            if existing_store != "replace":
                raise Misconfigured(
                    f"the environment has a store already ({existing.configuration}); --replace-store leaves it "
                    f"for the one given ({configuration})"
                )
            # Its cursors tell what is in the old place; they must not be taken for the new one.
            gone, existing = existing.store_id, None
        made = StoreRecord(
            # Ordered by age, as the first one's replies count members.
            store_id=existing.store_id if existing else f"{int(time.time() * 1000):012x}{secrets.token_hex(6)}",
            environment_id=environment_id,
            name=configuration.kind,
            version=existing.version + 1 if existing else 1,
            configuration=configuration,
        )
        write_record(self._client, STORES, made.store_id, _store_json(made), gone=gone)
        return made


def _readable(kind: type[Record], texts: Iterable[bytes]) -> Iterator[Record]:
    for text in texts:
        try:
            yield kind.model_validate_json(text)
        except ValidationError as error:
            # Written by a newer segsync: what it is about works there, and everything else works here.
            _log.error("record.unreadable", kind=kind.__name__, faults=error.errors(include_input=False)[0]["type"])


def _store_json(store: StoreRecord) -> str:
    """A store as it is kept: with its secrets, which every other rendering masks."""

    def reveal(value: Any) -> Any:
        return value.get_secret_value() if isinstance(value, SecretStr) else str(value)

    return json.dumps(store.model_dump(), default=reveal)


class DirectoryCache:
    """The directory, at most some seconds old; keeps the last one while the state server is away."""

    def __init__(self, records: Records, clock: Callable[[], float] = time.monotonic) -> None:
        self._records = records
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self.current = Directory()

    def fresh(self, max_age_seconds: float = 2.0) -> Directory:
        """The directory as it was at most that long ago.

        Raises:
            Unavailable: the state server is away.
        """
        with self._lock:
            if self._read_at is None or self._clock() - self._read_at >= max_age_seconds:
                if self._read_at is None or self._records.version() != self.current.version:
                    self.current = self._records.directory()
                self._read_at = self._clock()
            return self.current
