"""The only reader of the environment: every SEGSYNC_* variable, its default and its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import Misconfigured

Durability = Literal["fsync", "everysec", "memory"]


class Settings(BaseSettings):
    """What a deployment decides. Everything else is a constant with its reason, or a record in the state server."""

    model_config = SettingsConfigDict(env_prefix="SEGSYNC_", frozen=True, extra="ignore")

    state_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis or Valkey server that holds the segment logs: redis:// or rediss://",
    )
    broker_url: SecretStr | None = Field(
        None, description="Celery's broker; the state server when unset. RabbitMQ and SQS URLs work too"
    )
    durability: Durability = Field("fsync", description="what a 2xx promises: fsync, everysec or memory")
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
        86_400, ge=0, description="how long applied batches stay in the log, for replay and rebuild"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")

    def broker(self) -> str:
        """The broker URL, with its secrets; hand it to Celery and to nobody else."""
        return (self.broker_url or self.state_url).get_secret_value()


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        Misconfigured: one line per variable that is out of bounds; values are not repeated, they may be secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(
            f"SEGSYNC_{'_'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise Misconfigured(f"settings: {faults}") from None
