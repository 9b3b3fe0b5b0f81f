"""A snapshot of the records: who may do what, where, and which stores an environment has. Pure values."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from worker.model import DEFAULT_MEMBER_POLICY, MemberPolicy, StoreRecord
from worker.records.rights import Part, Resource, Role, Statement

__all__ = ["Directory", "Environment", "Project", "Role", "Statement", "Token", "policy_field", "token_hash"]

DEFAULT_COLOR = "417505"
_ID_DIGITS = 24


class Project(BaseModel):
    """What environments belong to.

    Attributes:
        key: its own among all projects.
        created_ms: 0 where an older version made it.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    name: str
    tags: tuple[str, ...] = ()
    created_ms: int = 0

    @property
    def project_id(self) -> str:
        """What LaunchDarkly's API calls ``_id``: 24 hexadecimal digits."""
        return hashlib.sha256(f"project {self.key}".encode()).hexdigest()[:_ID_DIGITS]


class Environment(BaseModel):
    """An environment of a project; its id is the client-side ID, which payloads carry, and LaunchDarkly's ``_id``.

    Attributes:
        color: six hexadecimal digits, for whoever shows it; nothing here looks at it.
        created_ms: 0 where an older version made it.
    """

    model_config = ConfigDict(frozen=True)

    environment_id: str
    environment_key: str
    project_key: str
    name: str
    color: str = DEFAULT_COLOR
    tags: tuple[str, ...] = ()
    created_ms: int = 0


class Token(BaseModel):
    """An access token, known by its hash alone.

    Attributes:
        name: what people call it; "" when nobody has said.
        role: None where ``inline_role`` says what it may do.
        token_id: 24 hexadecimal digits; "" where an older version made it: see ``id``.
        hint: the last four characters of the token; "" where an older version made it.
        service: whether it is a program's; nothing here looks at it.
        api_version: the version of the API that its user asked for; nothing here looks at it.
    """

    model_config = ConfigDict(frozen=True)

    token_hash: str
    name: str
    role: Role | None = None
    created_ms: int
    token_id: str = ""
    description: str = ""
    inline_role: tuple[Statement, ...] = ()
    hint: str = ""
    service: bool = False
    api_version: int | None = None

    @property
    def id(self) -> str:
        """What it is called in the API; of older tokens, half of a hash's half: it tells nothing of the token."""
        return self.token_id or hashlib.sha256(self.token_hash.encode()).hexdigest()[:_ID_DIGITS]

    @property
    def may_write(self) -> bool:
        """Whether payloads may be sent with it, to some environment at least; ``rights.may`` says to which."""
        if self.role is not None:
            return self.role != "reader"
        return any(statement.effect == "allow" for statement in self.inline_role)


def token_hash(token: str) -> str:
    """How a token is kept and looked up: tokens are long and random, so a plain SHA-256 keeps them secret."""
    return hashlib.sha256(token.encode()).hexdigest()


def policy_field(environment_id: str, integration_key: str) -> str:
    """Under which name the policy of an environment and an integration is kept; environment ids have no slash."""
    return f"{environment_id}/{integration_key}"


@dataclass(slots=True, frozen=True)
class Directory:
    """All records at one moment.

    Attributes:
        version: another text after every change, and empty before the first.
        environments: by id.
        tokens: by hash.
        stores: oldest first.
        aliases: other ids that payloads may carry -> environment id.
        policies: by ``policy_field``; those that are the default are left out.
        projects: by key.
    """

    version: str = ""
    environments: Mapping[str, Environment] = field(default_factory=dict)
    tokens: Mapping[str, Token] = field(default_factory=dict)
    stores: Sequence[StoreRecord] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, MemberPolicy] = field(default_factory=dict)
    projects: Mapping[str, Project] = field(default_factory=dict)
    _store_ids_on: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def environment(self, environment_id: str) -> Environment | None:
        """The environment that a payload means: by its own id, or by an alias."""
        return self.environments.get(environment_id) or self.environments.get(self.aliases.get(environment_id, ""))

    def project(self, key: str) -> Project | None:
        """The project with that key."""
        return self.projects.get(key)

    def environment_by_key(self, project_key: str, environment_key: str) -> Environment | None:
        """The environment that people and the API name by two keys."""
        keys = (project_key, environment_key)
        found = self.environments.values()
        return next((each for each in found if (each.project_key, each.environment_key) == keys), None)

    def environments_of(self, project_key: str) -> list[Environment]:
        """The project's environments, oldest first."""
        found = [each for each in self.environments.values() if each.project_key == project_key]
        return sorted(found, key=lambda each: (each.created_ms, each.environment_key))

    def resource(
        self, project_key: str, environment_key: str | None = None, segment_key: str | None = None
    ) -> Resource:
        """What ``rights.may`` is asked about, with the tags of the records that there are. The keys may be any text."""
        project = self.projects.get(project_key)
        parts = [Part("proj", project_key, frozenset(project.tags if project else ()))]
        if environment_key is not None:
            environment = self.environment_by_key(project_key, environment_key)
            parts.append(Part("env", environment_key, frozenset(environment.tags if environment else ())))
            if segment_key is not None:
                parts.append(Part("segment", segment_key))
        return tuple(parts)

    def policy(self, environment_id: str, integration_key: str) -> MemberPolicy:
        """What becomes of an integration's payloads in which single members cannot be read."""
        if not self.policies:  # as it is nearly everywhere; every payload asks
            return DEFAULT_MEMBER_POLICY
        return self.policies.get(policy_field(environment_id, integration_key), DEFAULT_MEMBER_POLICY)

    def token(self, plain: str) -> Token | None:
        """The token with this plain text; looked up by its hash, so timing tells nothing about the text."""
        wanted = token_hash(plain)
        found = self.tokens.get(wanted)
        return found if found and hmac.compare_digest(found.token_hash, wanted) else None

    def token_by_id(self, token_id: str) -> Token | None:
        """The token with that id."""
        return next((each for each in self.tokens.values() if each.id == token_id), None)

    def stores_of(self, environment_id: str) -> list[StoreRecord]:
        """The environment's stores, on or off, oldest first: the first one's replies count members."""
        return [store for store in self.stores if store.environment_id == environment_id]

    def store_ids_on(self, environment_id: str) -> tuple[str, ...]:
        """The ids of the environment's stores that are on, oldest first; looked for once, for every payload asks."""
        found = self._store_ids_on.get(environment_id)
        if found is None:
            found = tuple(store.store_id for store in self.stores_of(environment_id) if store.on)
            self._store_ids_on[environment_id] = found
        return found

    def store(self, store_id: str) -> StoreRecord | None:
        """The store with that id."""
        return next((store for store in self.stores if store.store_id == store_id), None)
