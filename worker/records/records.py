"""The records: projects, environments, tokens, stores; and what a fresh installation starts with."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import redis
import structlog

from worker.errors import Misconfigured
from worker.model import StoreConfiguration, StoreRecord
from worker.records.change import change_records, read_directory
from worker.records.directory import Directory, Environment, Project, Role
from worker.records.projects import check_environment, new_environment, queue_environment, queue_project
from worker.records.secret_box import SecretBox
from worker.records.stores import ExistingStore, StoreRecords, first_store
from worker.records.tables import VERSION, Writes
from worker.records.tokens import check_token, is_revoked, new_token, queue_token
from worker.state import state_errors

DEFAULT_PROJECT = "default"
DEFAULT_ENVIRONMENT = "production"

_log = structlog.get_logger(__name__)


@dataclass(slots=True, frozen=True)
class Bootstrap:
    """What ``Records.bootstrap`` found or made.

    Attributes:
        writer_token: None when there is one already and none was given, or the one given was removed; as is
            ``admin_token``.
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
    """Reads and writes the records. Safe between threads, as far as the client is.

    ``box`` opens and seals what is secret of stores.
    """

    def __init__(self, client: redis.Redis, box: SecretBox | None = None) -> None:
        self._client = client
        self._box = box or SecretBox()

    def version(self) -> str:
        """Another text after every change of a record; empty before the first.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            return (cast("bytes | None", self._client.get(VERSION)) or b"").decode()

    def directory(self) -> Directory:
        """All records, as one consistent snapshot; those that this version cannot read are logged and left out.

        A store whose secrets none of the keys opens is in it, but ``locked``, and is logged.

        Raises:
            Unavailable: the state server is away.
        """
        return read_directory(self._client, self._box)

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
            Misconfigured: the environment exists under another id, the id or a token given cannot be one, there is a
                store elsewhere and it is not to be touched, or the store has a secret and there is no key.
            Unavailable: the state server is away; what is missing then is made by the next call.
        """
        if writer_token is not None and writer_token == admin_token:
            raise Misconfigured("writer and admin tokens must differ: each token has one role")
        environment, store = self._bootstrap_environment(environment_id, store_configuration)
        if store is None:
            stores = StoreRecords(self._client, self._box)
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
        made = new_environment(DEFAULT_PROJECT, DEFAULT_ENVIRONMENT, "Production", environment_id=environment_id)

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
            check_environment(directory, made)
            store, queue_store = first_store(directory, made.environment_id, configuration, self._box)

            def queue(pipe: Any) -> None:
                if directory.project(DEFAULT_PROJECT) is None:
                    queue_project(pipe, Project(key=DEFAULT_PROJECT, name="Default", created_ms=made.created_ms))
                queue_environment(pipe, made)
                queue_store(pipe)

            return (made, store), queue

        return change_records(self._client, decide, self._box)

    def _bootstrap_token(self, role: Role, plain: str | None) -> str | None:
        wanted = f"segsync-{role}-{secrets.token_hex(16)}" if plain is None else plain
        check_token(f"a {role}", wanted)
        made = new_token(wanted, name=role, role=role)

        def decide(directory: Directory) -> tuple[str | None, Writes | None]:
            if plain is None and any(token.role == role for token in directory.tokens.values()):
                return None, None
            if made.token_hash in directory.tokens:
                return plain, None
            if is_revoked(self._client, made.token_hash):
                _log.warning("token.revoked", role=role, problem="the token given was removed, and is not made again")
                return None, None
            return wanted, lambda pipe: queue_token(pipe, made)

        return change_records(self._client, decide)


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
