"""The only reader of the environment: every SEGSYNC_* variable, its default and its bounds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import Misconfigured
from worker.model import RedisStoreConfiguration

_ONE_SERVER_FORM = (
    "must read redis://[user:password@]host[:port][/database], or rediss://; "
    "special characters of the password percent-encoded"
)
# Celery's transports that keep messages outside of this process.
BROKERS = ("redis", "rediss", "sentinel", "amqp", "amqps", "pyamqp", "sqs")

Durability = Literal["fsync", "everysec", "replica", "memory"]


class Settings(BaseSettings):
    """What a deployment decides. Everything else is a constant with its reason, or a record in the state server."""

    model_config = SettingsConfigDict(env_prefix="SEGSYNC_", env_ignore_empty=True, frozen=True, extra="ignore")

    state_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis or Valkey server that holds the segment logs: redis:// or rediss://",
    )
    broker_url: SecretStr | None = Field(
        None, description="Celery's broker; the state server when unset. RabbitMQ and SQS URLs work too"
    )
    durability: Durability = Field("fsync", description="what a 2xx promises: fsync, everysec, replica or memory")
    replicas: int = Field(1, ge=1, le=16, description="replicas that must have a payload, where durability is replica")
    strict: bool = Field(
        default=False,
        description="start, and accept, only where the state server verifiably keeps what durability promises",
    )
    host: str = Field("127.0.0.1", description="address the receiver listens on")
    port: int = Field(8080, ge=0, le=65535, description="port the receiver listens on")
    max_body_bytes: int = Field(
        # The upper bound keeps the parse of one body well under a drain's lease.
        10 * 1024 * 1024,
        ge=1024,
        le=64 * 1024 * 1024,
        description="largest body, after decoding; 64 MiB at the most",
    )
    manifests: Path | None = Field(
        None, description="directory of manifests laid over the bundled ones, by integration key"
    )
    concurrency: int = Field(0, ge=0, le=256, description="worker processes of one `segsync worker`; 0 is one per core")
    retention_seconds: int = Field(
        86_400,
        ge=0,
        le=10 * 365 * 86_400,
        description="how long applied batches stay in the log, for replay and rebuild",
    )
    rejected_bytes: int = Field(
        256 * 1024 * 1024, ge=0, description="room for the bodies that were answered 400; 0 keeps none"
    )
    rejected_retention_seconds: int = Field(
        7 * 86_400, ge=0, le=10 * 365 * 86_400, description="how long bodies that were answered 400 are kept"
    )
    dead_retention_seconds: int = Field(
        7 * 86_400, ge=0, le=10 * 365 * 86_400, description="how long dead letters are kept for replay"
    )
    lag_limit_seconds: int = Field(
        3 * 86_400,
        ge=0,
        le=10 * 365 * 86_400,
        description="how far a store may lag before its log is compacted all the same, and it reads the snapshot",
    )
    # What is in the log and not in the stores yet, of one environment and in all: beyond it, payloads are answered 429.
    most_pending_bytes: int = Field(1024**3, ge=0, description="most bytes waiting in one environment; 0: no bound")
    most_pending_bytes_in_all: int = Field(4 * 1024**3, ge=0, description="most bytes waiting in all; 0: no bound")
    most_pending_seconds: int = Field(0, ge=0, description="longest wait in one environment; 0: no bound")
    most_pending_seconds_in_all: int = Field(0, ge=0, description="longest wait anywhere; 0: no bound")
    secret_keys: SecretStr = Field(
        SecretStr(""),
        description="keys of the secrets in the records, separated by commas: the first encrypts, all decrypt; "
        "`segsync keys new` prints one",
    )
    # Requests over HTTP, in windows of 10 s. The ingest limit is off: LaunchDarkly has none, and 429 delays a cohort.
    api_rate_limit: int = Field(1000, ge=0, description="requests of one token to the API in 10 s; 0: no limit")
    api_route_rate_limit: int = Field(
        250, ge=0, description="requests of one token to one route of the API in 10 s; 0: no limit"
    )
    ingest_rate_limit: int = Field(
        0, ge=0, description="payloads of one token in 10 s, counted by each receiver for itself; 0: no limit"
    )
    beta_gate: bool = Field(
        default=True,
        description="whether LaunchDarkly's beta routes want the header LD-API-Version: beta, as its own do",
    )
    import_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, le=4 * 1024**3, description="largest file of members that is imported"
    )
    export_retention_seconds: int = Field(
        86_400, ge=60, le=365 * 86_400, description="how long the file of an export is kept"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")

    @field_validator("state_url")
    @classmethod
    def _state_url_can_be_read(cls, url: SecretStr) -> SecretStr:
        _read_one_server(url)
        return url

    @field_validator("broker_url")
    @classmethod
    def _broker_url_can_be_read(cls, url: SecretStr | None) -> SecretStr | None:
        scheme, separator, _ = url.get_secret_value().partition("://") if url else ("", "", "")
        if url and (not separator or scheme not in BROKERS):
            raise ValueError(f"must begin with one of {', '.join(f'{broker}://' for broker in BROKERS)}")
        if url and scheme in {"redis", "rediss"}:
            _read_one_server(url)
        return url

    @field_validator("secret_keys")
    @classmethod
    def _secret_keys_are_keys(cls, keys: SecretStr) -> SecretStr:
        for key in _listed(keys):
            if not is_secret_key(key):
                raise ValueError("must be Fernet keys, separated by commas; `segsync keys new` prints one")
        return keys

    def secrets(self) -> list[str]:
        """The keys of the secrets in the records, the one that encrypts first; hand them to the secret box alone."""
        return _listed(self.secret_keys)

    def broker(self) -> str:
        """The broker URL, with its secrets; hand it to Celery and to nobody else."""
        return (self.broker_url or self.state_url).get_secret_value()


def is_secret_key(text: str) -> bool:
    """Whether a text is a Fernet key: 32 bytes in base64. Fernet is not imported for it: every command is here."""
    return re.fullmatch(r"[A-Za-z0-9_-]{43}=", text) is not None


def _listed(keys: SecretStr) -> list[str]:
    return [key for part in keys.get_secret_value().split(",") if (key := part.strip())]


def _read_one_server(url: SecretStr) -> None:
    """Raise ``ValueError`` for what leads to several servers, or to none: a store may be that, the state server not."""
    try:
        found = RedisStoreConfiguration.from_url(url.get_secret_value())
    except ValueError:
        raise ValueError(_ONE_SERVER_FORM) from None
    if found.mode != "standalone" or found.unixSocket:
        raise ValueError(_ONE_SERVER_FORM)


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        Misconfigured: one line per variable that is out of bounds; values are not repeated, they may be secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise Misconfigured(
            f"settings: {'; '.join(_fault(fault['loc'], fault['msg']) for fault in error.errors())}"
        ) from None


def _fault(where: tuple[int | str, ...], message: str) -> str:
    name = "_".join(str(part) for part in where).upper()
    return f"SEGSYNC_{name}: {message.removeprefix('Value error, ')}"
