"""Plain values handed between the stages of a payload's way, and the configuration of stores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

DEFAULT_CONTEXT_KIND = "user"

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

REDIS_URL_FORM = (
    "must read redis://[user:password@]host[:port][/database], or rediss://; "
    "special characters of the password percent-encoded"
)


class SegmentId(NamedTuple):
    """One generation of a segment in one environment: the unit that has a log."""

    environment_id: str
    segment_key: str
    generation: int

    @property
    def ref(self) -> str:
        """The segment ref that SDKs look up, ``{key}.g{generation}``."""
        return f"{self.segment_key}.g{self.generation}"


@dataclass(slots=True)
class Cohort:
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
    members: dict[str, bool] = field(default_factory=dict)


class RejectedMember(NamedTuple):
    """A member that could not be read: the JSON pointer of its fault in the body, and the reason's slug."""

    pointer: str
    reason: str


@dataclass(slots=True)
class Rejections:
    """The members that the policy ``skip`` left out of a payload: how many, and the first hundred of them."""

    count: int = 0
    listed: list[RejectedMember] = field(default_factory=list)


@dataclass(slots=True)
class Payload:
    """A decoded body.

    Attributes:
        cohorts: the first one is the payload's own; others come from per-member overrides.
        rejected: members that were left out; none unless the policy was ``skip``.
    """

    environment_id: str
    context_kind: str
    cohorts: list[Cohort]
    rejected: Rejections = field(default_factory=Rejections)


@dataclass(slots=True)
class SegmentPatch:
    """One net change of one segment's membership; a context key stands in at most one of the two lists."""

    segment_ref: str
    add: list[str]
    remove: list[str]


class WriteCounts(NamedTuple):
    """How many members a write really changed, from the store's own replies."""

    added: int
    removed: int


class RedisStoreConfiguration(BaseModel):
    """Where a Redis store is. Field names are LaunchDarkly's, plus ``database`` and ``prefix``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["redis"] = "redis"
    host: str = Field(min_length=1)
    port: int = Field(default=6379, ge=1, le=65535)
    username: str = ""
    password: SecretStr = SecretStr("")
    tlsEnabled: bool = False  # noqa: N815 - LaunchDarkly's field name
    database: int = Field(default=0, ge=0)
    prefix: str = "launchdarkly"

    @classmethod
    def from_url(cls, url: str, prefix: str = "") -> Self:
        """Read ``redis://[user:password@]host[:port][/database]``, or ``rediss://`` for TLS.

        Raises:
            ValueError: it is no such URL; the message never repeats it, it may hold a password.
        """
        try:
            parts = urlsplit(url)
            tls = {"redis": False, "rediss": True}[parts.scheme]
            return cls(
                host=parts.hostname or "",
                port=parts.port or 6379,
                username=unquote(parts.username or ""),
                password=SecretStr(unquote(parts.password or "")),
                tlsEnabled=tls,
                database=int(parts.path.strip("/") or 0),
                prefix=prefix,
            )
        except (ValueError, KeyError):  # pydantic's and urlsplit's too, and their messages quote the URL
            raise ValueError(REDIS_URL_FORM) from None

    @property
    def url(self) -> SecretStr:
        """The URL that ``from_url`` reads."""
        login = f"{quote(self.username, safe='')}:{quote(self.password.get_secret_value(), safe='')}@"
        scheme = "rediss" if self.tlsEnabled else "redis"
        return SecretStr(f"{scheme}://{'' if login == ':@' else login}{self.host}:{self.port}/{self.database}")

    def __str__(self) -> str:
        """Where it is, without secrets."""
        return f"redis {self.host}:{self.port}/{self.database}, prefix {self.prefix}"

    @field_validator("prefix")
    @classmethod
    def _default_prefix(cls, prefix: str) -> str:
        # LaunchDarkly's SDKs take an empty Redis prefix for "launchdarkly"; what they read is what we write.
        return prefix or "launchdarkly"


class DynamoDBStoreConfiguration(BaseModel):
    """Where a DynamoDB store is. Field names are LaunchDarkly's, plus ``endpoint`` and ``prefix``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["dynamodb"] = "dynamodb"
    tableName: str = Field(min_length=1)  # noqa: N815 - LaunchDarkly's field name
    region: str = Field(min_length=1)
    roleArn: str = ""  # noqa: N815
    externalId: str = ""  # noqa: N815
    endpoint: str | None = None
    prefix: str = ""

    def __str__(self) -> str:
        """Where it is."""
        return f"dynamodb table {self.tableName} in {self.region}, prefix {self.prefix or '(none)'}"


StoreConfiguration = Annotated[RedisStoreConfiguration | DynamoDBStoreConfiguration, Field(discriminator="kind")]


class StoreRecord(BaseModel):
    """A persistent-store integration of one environment."""

    model_config = ConfigDict(frozen=True)

    store_id: str
    environment_id: str
    name: str
    on: bool = True
    version: int = 1
    # A store that turns out to have lost its content is filled anew by itself, or waits for `segsync rebuild`.
    rebuild_when_wiped: bool = True
    configuration: StoreConfiguration
