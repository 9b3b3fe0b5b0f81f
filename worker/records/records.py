"""The records: projects, environments, tokens, stores; and what a fresh installation starts with."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import redis

from worker.errors import Misconfigured
from worker.model import StoreConfiguration, StoreRecord
from worker.records.change import change_records, read_directory
from worker.records.directory import Directory, Environment, Role, Token, token_hash
from worker.records.stores import ExistingStore, StoreRecords, first_store
from worker.records.tables import ENVIRONMENTS, PROJECTS, TOKENS, VERSION, Writes
from worker.state import state_errors

# Tokens are kept as plain hashes, which only keeps long ones secret; and they must pass through a header as they are.
_SHORTEST_TOKEN = 16
_TOKEN = re.compile(rf"[\x21-\x7e]{{{_SHORTEST_TOKEN},}}")

DEFAULT_PROJECT = "default"
DEFAULT_ENVIRONMENT = "production"
_ENVIRONMENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # it is part of keys: no slash, no brace


@dataclass(slots=True, frozen=True)
class Bootstrap:
    """What ``Records.bootstrap`` found or made.

    Attributes:
        writer_token: None when there is one already and none was given; as is ``admin_token``.
        settled: the store; None when there is none any more, and none was made.
    """

    project_key: str
    environment_key: str
    environment_id: str
    writer_token: str | None
    admin_token: str | None
    settled: StoreRecord | None

    @property
    def store(self) -> StoreRecord:
        """The store, where there must be one.

        Raises:
            Misconfigured: it was removed.
        """
        if self.settled is None:
            raise Misconfigured("the environment has no store; `segsync store add` gives it one")
        return self.settled


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
        return read_directory(self._client)

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

        Idempotent. A given environment id or token is taken over. The environment is made together with its store. In
        one that is there already, a store at the same place is brought up to date; ``StoreRecords.settle`` says what
        becomes of one that is elsewhere, and whether one that was removed is made again.

        Raises:
            Misconfigured: the environment exists under another id, the id or a token given cannot be one, or there is
                a store elsewhere and it is not to be touched.
            Unavailable: the state server is away; what is missing then is made by the next call.
        """
        if writer_token is not None and writer_token == admin_token:
            raise Misconfigured("writer and admin tokens must differ: each token has one role")
        environment, store = self._bootstrap_environment(environment_id, store_configuration)
        if store is None:
            stores = StoreRecords(self._client)
            store = stores.settle(environment.environment_id, store_configuration, existing_store)
        return Bootstrap(
            project_key=environment.project_key,
            environment_key=environment.environment_key,
            environment_id=environment.environment_id,
            writer_token=self._bootstrap_token("writer", writer_token),
            admin_token=self._bootstrap_token("admin", admin_token),
            settled=store,
        )

    def _bootstrap_environment(
        self, environment_id: str | None, configuration: StoreConfiguration
    ) -> tuple[Environment, StoreRecord | None]:
        """The environment, and the store that was made with it; None when it was there before.

        In one step: an environment without a store is one whose stores were removed, not one that was half made.
        """
        made = Environment(
            environment_id=environment_id or secrets.token_hex(12),
            environment_key=DEFAULT_ENVIRONMENT,
            project_key=DEFAULT_PROJECT,
            name="Production",
        )

        def decide(directory: Directory) -> tuple[tuple[Environment, StoreRecord | None], Writes | None]:
            for found in directory.environments.values():
                if (found.project_key, found.environment_key) != (DEFAULT_PROJECT, DEFAULT_ENVIRONMENT):
                    continue
                if environment_id not in {None, found.environment_id}:
                    raise Misconfigured(
                        f"environment {DEFAULT_PROJECT}/{DEFAULT_ENVIRONMENT} exists with id {found.environment_id}; "
                        "leave the id out, or use another state server"
                    )
                return (found, None), None
            if not _ENVIRONMENT_ID.fullmatch(made.environment_id):
                raise Misconfigured(
                    f"an environment id is 1 to 64 letters, digits, dots, dashes: not {environment_id!r}"
                )
            store, queue_store = first_store(directory, made.environment_id, configuration)

            def queue(pipe: Any) -> None:
                _queue_environment(made, pipe)
                queue_store(pipe)

            return (made, store), queue

        return change_records(self._client, decide)

    def _bootstrap_token(self, role: Role, plain: str | None) -> str | None:
        if plain is not None and not _TOKEN.fullmatch(plain):
            raise Misconfigured(f"a {role} token is {_SHORTEST_TOKEN} visible ASCII characters or more, without spaces")
        wanted = plain or f"segsync-{role}-{secrets.token_hex(16)}"
        made = Token(token_hash=token_hash(wanted), name=role, role=role, created_ms=int(time.time() * 1000))

        def decide(directory: Directory) -> tuple[str | None, Writes | None]:
            if plain is None and any(token.role == role for token in directory.tokens.values()):
                return None, None
            if made.token_hash in directory.tokens:
                return plain, None
            return wanted, lambda pipe: pipe.hset(TOKENS, made.token_hash, made.model_dump_json())

        return change_records(self._client, decide)


def _queue_environment(made: Environment, pipe: Any) -> None:
    pipe.hset(PROJECTS, DEFAULT_PROJECT, json.dumps({"key": DEFAULT_PROJECT, "name": "Default"}))
    pipe.hset(ENVIRONMENTS, made.environment_id, made.model_dump_json())


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
