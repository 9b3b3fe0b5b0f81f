"""A snapshot of the records: who may do what, where, and which stores an environment has. Pure values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from worker.model import DEFAULT_MEMBER_POLICY, MemberPolicy, StoreRecord

Role = Literal["reader", "writer", "admin"]


class Environment(BaseModel):
    """An environment of a project; its id is the client-side id, which payloads carry."""

    model_config = ConfigDict(frozen=True)

    environment_id: str
    environment_key: str
    project_key: str
    name: str


class Token(BaseModel):
    """An access token, known by its hash alone."""

    model_config = ConfigDict(frozen=True)

    token_hash: str
    name: str
    role: Role
    created_ms: int

    @property
    def may_write(self) -> bool:
        """Whether payloads may be sent with it."""
        return self.role in {"writer", "admin"}


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
    """

    version: str = ""
    environments: Mapping[str, Environment] = field(default_factory=dict)
    tokens: Mapping[str, Token] = field(default_factory=dict)
    stores: Sequence[StoreRecord] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, MemberPolicy] = field(default_factory=dict)

    def environment(self, environment_id: str) -> Environment | None:
        """The environment that a payload means: by its own id, or by an alias."""
        return self.environments.get(environment_id) or self.environments.get(self.aliases.get(environment_id, ""))

    def policy(self, environment_id: str, integration_key: str) -> MemberPolicy:
        """What becomes of an integration's payloads in which single members cannot be read."""
        return self.policies.get(policy_field(environment_id, integration_key), DEFAULT_MEMBER_POLICY)

    def token(self, plain: str) -> Token | None:
        """The token with this plain text; looked up by its hash, so timing tells nothing about the text."""
        return self.tokens.get(token_hash(plain))

    def stores_of(self, environment_id: str) -> list[StoreRecord]:
        """The environment's stores, on or off, oldest first: the first one's replies count members."""
        return [store for store in self.stores if store.environment_id == environment_id]

    def store(self, store_id: str) -> StoreRecord | None:
        """The store with that id."""
        return next((store for store in self.stores if store.store_id == store_id), None)
