"""Plain values handed between the stages of a payload's way, and the configuration of stores."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, Self

import msgspec
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from worker.redis_url import read_redis_url, split_address, write_redis_url

DEFAULT_CONTEXT_KIND = "user"
# What a cluster takes for a key's hash tag: the first pair of braces that holds something.
_HASH_TAG = re.compile(r"^[^{]*\{[^}]+\}")

# What becomes of a payload one of whose members cannot be read: refused whole, or accepted without that member.
MemberPolicy = Literal["reject", "skip"]
DEFAULT_MEMBER_POLICY: MemberPolicy = "reject"
# The reasons that are one member's alone, and what they say of the place that is named with them.
MEMBER_REASONS = {
    "member": "is no object",
    "member_id": "is no id: it is missing, or neither a non-empty string nor an integer",
    "membership": "is neither true nor false, or missing",
    "member_cohort": "says of the member's own cohort what is neither a string nor an integer, or far too long",
}
# Of so many members that were left out, a batch tells which; of the others only how many.
MOST_REJECTED_LISTED = 100


class SegmentId(NamedTuple):
    """One generation of a segment in one environment: the unit that has a log."""

    environment_id: str
    segment_key: str
    generation: int

    @property
    def ref(self) -> str:
        """The segment ref that SDKs look up, ``{key}.g{generation}``."""
        return f"{self.segment_key}.g{self.generation}"


# Structs, where others are dataclasses, are made for every payload: it takes a fifth of the time.
class Cohort(Struct):
    """What one payload says of one cohort.

    Attributes:
        cohort_id: the partner's id, as text.
        name: the cohort's name, when the payload has one.
        url: the cohort's page at the partner, when the payload has one.
        members: context key -> True (add) or False (remove); one entry per member, the last statement wins.
    """

    cohort_id: str
    name: str | None = None
    url: str | None = None
    members: dict[str, bool] = msgspec.field(default_factory=dict)


class RejectedMember(NamedTuple):
    """A member that could not be read: the JSON pointer of its fault in the body, and the reason's slug."""

    pointer: str
    reason: str


class Rejections(Struct):
    """The members that the policy ``skip`` left out of a payload: how many, and the first hundred of them."""

    count: int = 0
    listed: list[RejectedMember] = msgspec.field(default_factory=list)


class Payload(Struct):
    """A decoded body.

    Attributes:
        cohorts: the first one is the payload's own; others come from per-member overrides.
        rejected: members that were left out; none unless the policy was ``skip``.
    """

    environment_id: str
    context_kind: str
    cohorts: list[Cohort]
    rejected: Rejections = msgspec.field(default_factory=Rejections)


# The two lists of a segment; who stands in both is in the segment, for SDKs look at the included ones first.
MemberList = Literal["included", "excluded"]


@dataclass(slots=True)
class SegmentPatch:
    """One net change of one segment's membership.

    A context key stands in at most one of ``add`` and ``remove``, which are about the included list, and in at most one
    of the two that are about the excluded list. The lists know nothing of each other.
    """

    segment_ref: str
    add: list[str]
    remove: list[str]
    add_excluded: list[str] = field(default_factory=list)
    remove_excluded: list[str] = field(default_factory=list)


class RefusedMember(NamedTuple):
    """A member whom a store does not take, while it takes others.

    Attributes:
        context_hash: as in the store's layout, 44 ASCII characters; never the context key.
        reason: one sentence for a person: what the store said, and what to do.
        of: the list that was to be written; the other may be as it shall be.
    """

    context_hash: str
    reason: str
    of: MemberList = "included"


class WriteCounts(NamedTuple):
    """What became of a write.

    Attributes:
        added: how many members were really added to the included list, from the store's own replies.
        removed: how many were really removed from it.
        refused: members whom the store does not take; all others are written.
        exact: False where the store does not tell what it really changed: the counts are then what was asked for.
        added_excluded, removed_excluded: the same for the excluded list.
    """

    added: int
    removed: int
    refused: tuple[RefusedMember, ...] = ()
    exact: bool = True
    added_excluded: int = 0
    removed_excluded: int = 0

    def plus(self, later: WriteCounts) -> WriteCounts:
        """The counts of two writes, one after the other."""
        return WriteCounts(
            added=self.added + later.added,
            removed=self.removed + later.removed,
            refused=tuple(dict.fromkeys(self.refused + later.refused)) if later.refused else self.refused,
            exact=self.exact and later.exact,
            added_excluded=self.added_excluded + later.added_excluded,
            removed_excluded=self.removed_excluded + later.removed_excluded,
        )


class SegmentProfile(NamedTuple):
    """What a store may need to know of a segment before its members are written.

    Attributes:
        segment: which one.
        context_kind: of all its members.
        name: what the partner calls it; "" when it has not said.
        fresh: nothing of it was ever written to the store, in the store's present life.
    """

    segment: SegmentId
    context_kind: str
    name: str
    fresh: bool


class RedisStoreConfiguration(BaseModel):
    """Where a Redis store is. Field names are LaunchDarkly's, where it has them.

    Attributes:
        mode: one server, a cluster of which ``host`` and ``nodes`` are any nodes, or the primary of ``service``, which
            is known to the Redis Sentinels at ``host`` and ``nodes``.
        nodes: further addresses, ``host:port``.
        unixSocket: path of a socket, in place of host and port.
        tlsCaFile: PEM file of the certificate authorities to trust, on every machine that writes; "" for the system's.
        tlsCertFile: PEM file of the client certificate, where the server wants one; ``tlsKeyFile`` its key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["redis"] = "redis"
    mode: Literal["standalone", "cluster", "sentinel"] = "standalone"
    host: str = Field(default="localhost", min_length=1)
    port: int = Field(default=6379, ge=1, le=65535)
    nodes: tuple[str, ...] = ()
    service: str = ""
    unixSocket: str = ""  # noqa: N815
    username: str = ""
    password: SecretStr = SecretStr("")
    sentinelUsername: str = ""  # noqa: N815
    sentinelPassword: SecretStr = SecretStr("")  # noqa: N815
    tlsEnabled: bool = False  # noqa: N815 - LaunchDarkly's field name
    tlsCaFile: str = ""  # noqa: N815
    tlsCertFile: str = ""  # noqa: N815
    tlsKeyFile: str = ""  # noqa: N815
    tlsCheckHostname: bool = True  # noqa: N815
    database: int = Field(default=0, ge=0)
    prefix: str = "launchdarkly"

    @classmethod
    def from_url(cls, url: str, prefix: str = "") -> Self:
        """Read any URL that ``worker.redis_url`` describes.

        Raises:
            ValueError: it is no such URL, or what it says does not go together; the message never repeats it.
        """
        fields = read_redis_url(url)
        try:
            return cls(**fields, prefix=prefix)
        except ValidationError as error:  # whose own text quotes what it was given
            told = "; ".join(str(each["msg"]).removeprefix("Value error, ") for each in error.errors())
            raise ValueError(f"does not go together: {told}") from None

    @property
    def url(self) -> SecretStr:
        """The URL that ``from_url`` reads."""
        fields = self.model_dump()
        secrets = {name: value.get_secret_value() for name, value in fields.items() if isinstance(value, SecretStr)}
        return SecretStr(write_redis_url(fields | secrets))

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every node that is named."""
        return [(self.host, self.port), *(split_address(node, self.port) for node in self.nodes)]

    def __str__(self) -> str:
        """Where it is, without secrets."""
        if self.unixSocket:
            return f"redis {self.unixSocket}, database {self.database}, prefix {self.prefix}"
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        kind = {"standalone": "redis", "cluster": "redis cluster", "sentinel": f"redis {self.service} of sentinels"}
        database = "" if self.mode == "cluster" else f"/{self.database}"
        return f"{kind[self.mode]} {hosts}{database}, prefix {self.prefix}"

    @field_validator("prefix")
    @classmethod
    def _default_prefix(cls, prefix: str) -> str:
        # LaunchDarkly's SDKs take an empty Redis prefix for "launchdarkly"; what they read is what we write.
        return prefix or "launchdarkly"

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.mode == "cluster" and self.database:
            raise ValueError("a Redis Cluster has one database only, 0")
        if self.mode == "cluster" and ("{" in self.prefix or "}" in self.prefix) and not _HASH_TAG.search(self.prefix):
            raise ValueError("the prefix of a store in a Redis Cluster has no braces, but as a hash tag")
        if (self.mode == "sentinel") != bool(self.service):
            raise ValueError("a primary is named by its service where Redis Sentinels are asked for it, and only there")
        if self.nodes and self.mode == "standalone":
            raise ValueError("one server has one address")
        if self.unixSocket and (self.mode != "standalone" or self.tlsEnabled):
            raise ValueError("a socket leads to one server, without TLS")
        if not self.tlsEnabled and (self.tlsCaFile or self.tlsCertFile or self.tlsKeyFile):
            raise ValueError("certificates are for TLS; the URL's scheme is rediss")
        if bool(self.tlsCertFile) != bool(self.tlsKeyFile):
            raise ValueError("a client certificate needs its key, and a key its certificate")
        for node in self.nodes:
            split_address(node, self.port)
        return self


class DynamoDBStoreConfiguration(BaseModel):
    """Where a DynamoDB store is. Field names are LaunchDarkly's, plus ``endpoint``, ``prefix`` and ``writeMode``.

    Attributes:
        writeMode: "update", one write unit for each member; or "transact", a hundred members in each request at two
            units each, for a fraction of the client's work.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["dynamodb"] = "dynamodb"
    tableName: str = Field(min_length=1)  # noqa: N815 - LaunchDarkly's field name
    region: str = Field(min_length=1)
    roleArn: str = ""  # noqa: N815
    externalId: str = ""  # noqa: N815
    endpoint: str | None = None
    prefix: str = ""
    writeMode: Literal["update", "transact"] = "update"  # noqa: N815

    def __str__(self) -> str:
        """Where it is."""
        return f"dynamodb table {self.tableName} in {self.region}, prefix {self.prefix or '(none)'}"


class LaunchDarklyStoreConfiguration(BaseModel):
    """An environment of LaunchDarkly itself, whose segments' members are written over its API.

    Attributes:
        baseUri: of the instance: https://app.launchdarkly.com, https://app.eu.launchdarkly.com (the EU's) or
            https://app.launchdarkly.us (the federal one).
        accessToken: may read and write segments of that environment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["launchdarkly"] = "launchdarkly"
    baseUri: str = Field(default="https://app.launchdarkly.com", min_length=1)  # noqa: N815
    projectKey: str = Field(min_length=1)  # noqa: N815 - LaunchDarkly's word
    environmentKey: str = Field(min_length=1)  # noqa: N815 - LaunchDarkly's word
    accessToken: SecretStr = Field(min_length=1)  # noqa: N815

    def __str__(self) -> str:
        """Where it is, without secrets."""
        return f"launchdarkly {self.projectKey}/{self.environmentKey} at {self.baseUri}"


StoreConfiguration = Annotated[
    RedisStoreConfiguration | DynamoDBStoreConfiguration | LaunchDarklyStoreConfiguration, Field(discriminator="kind")
]


class StoreRecord(BaseModel):
    """A persistent-store integration of one environment.

    Attributes:
        name: of its own in the environment, or "" for a store that has none.
        locked: none of the keys that this process has opens its secrets: they stand in ``configuration`` as they are
            kept. Nobody can reach the store with them; everything else of the record is true. Never kept.
    """

    model_config = ConfigDict(frozen=True)

    store_id: str
    environment_id: str
    name: str
    on: bool = True
    version: int = 1
    tags: tuple[str, ...] = ()
    locked: bool = Field(default=False, exclude=True)
    # A store that turns out to have lost its content is filled anew by itself, or waits for `segsync rebuild`.
    rebuild_when_wiped: bool = True
    configuration: StoreConfiguration

    @property
    def label(self) -> str:
        """What people call it: its name, or its id where it has none."""
        return self.name or self.store_id
