"""The management API for tests: a receiver as a process of its own, its admin token, and LaunchDarkly's own client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import launchdarkly_api
from deployment import Deployment
from servers import ValkeyServer

# One that `segsync keys new` could have printed.
SECRET_KEY = "c2Vnc3luYy10ZXN0cy1zZWdzeW5jLXRlc3RzLXNlZ3M="
# So many requests are made in a test that the limits would be what is tested.
SETTINGS = {
    "SEGSYNC_DURABILITY": "memory",
    "SEGSYNC_SECRET_KEYS": SECRET_KEY,
    "SEGSYNC_API_RATE_LIMIT": "0",
    "SEGSYNC_API_ROUTE_RATE_LIMIT": "0",
}


@dataclass(slots=True, frozen=True)
class ManagementApi:
    """A receiver that runs, with project ``default``, its environment ``production`` and an admin's token."""

    url: str
    deployment: Deployment
    http: httpx2.Client

    @property
    def admin_token(self) -> str:
        return str(self.deployment.facts["admin_token"])

    @property
    def writer_token(self) -> str:
        return str(self.deployment.facts["writer_token"])

    @property
    def environment_id(self) -> str:
        """Of ``default/production``."""
        return self.deployment.environment_id

    def request(self, method: str, path: str, expected: int, *, token: str | None = None, **options: Any) -> Any:
        """One request as an admin, or with that token; returns what the JSON says, None without a body."""
        headers = {"Authorization": token or self.admin_token, **options.pop("headers", {})}
        answer = self.http.request(method, f"/api/v2{path}", headers=headers, **options)
        assert answer.status_code == expected, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def client(self, token: str | None = None, *, beta: bool = False) -> launchdarkly_api.ApiClient:
        """LaunchDarkly's client, unmodified; with the header that beta resources want, if they are meant."""
        configuration = launchdarkly_api.Configuration(host=self.url, retries=False)
        configuration.api_key["ApiKey"] = token or self.admin_token
        client = launchdarkly_api.ApiClient(configuration)
        if beta:
            client.set_default_header("LD-API-Version", "beta")  # type: ignore[no-untyped-call]
        return client


@contextmanager
def managed(state: ValkeyServer, directory: Path, settings: Mapping[str, str] | None = None) -> Iterator[ManagementApi]:
    """A receiver on an emptied state server; no worker runs."""
    with state.client() as client:
        client.flushall()
    deployment = Deployment(state, directory, {**SETTINGS, **(settings or {})})
    try:
        url = deployment.start_receiver()
        with httpx2.Client(base_url=url, timeout=30) as http:
            yield ManagementApi(url, deployment, http)
    finally:
        deployment.stop()
