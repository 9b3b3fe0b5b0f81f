"""Requests to LaunchDarkly's REST API: within its limits, with bounded waiting, and never twice unless refused."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from worker.model import LaunchDarklyStoreConfiguration
from worker.stores.launchdarkly.faults import DRIVER_ERRORS, Faults
from worker.stores.launchdarkly.rate import TOO_MANY, RateLimit, Throttled
from worker.stores.segment_store import BeforeWindow

API_VERSION: Final = "20240415"
# Requests of one store in flight, over all sessions of a process.
MOST_CONNECTIONS: Final = 16
# A limit begins anew after ten seconds. A write has a lease that it renews while it waits; who only asks has a thread
# that others may need, and less than the fifteen seconds after which somebody else is sent to try.
WRITE_PATIENCE_S: Final = 20.0
ASK_PATIENCE_S: Final = 12.0

# It logs the address of every request, and in ours stand context keys.
logging.getLogger("httpx2").setLevel(logging.WARNING)

Read = TypeVar("Read")
Method = Literal["GET", "POST", "PATCH", "DELETE"]


class LaunchDarklyLink:
    """The way to one environment of LaunchDarkly. Safe between threads; each process has its own connections."""

    def __init__(
        self,
        configuration: LaunchDarklyStoreConfiguration,
        *,
        answer_timeout_s: float,
        connect_timeout_s: float,
        rate: RateLimit,
    ) -> None:
        self.faults = Faults(configuration)
        self._configuration = configuration
        self._base = configuration.baseUri.rstrip("/")
        self._timeout = httpx2.Timeout(answer_timeout_s, connect=connect_timeout_s)
        self._rate = rate
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None
        self._pid = 0

    def ask(
        self,
        method: Method,
        path: str,
        *,
        route: str,
        permission: str,
        hoped: tuple[int, ...],
        body: Any = None,
        query: Mapping[str, str | int] | None = None,
        before_window: BeforeWindow | None = None,
    ) -> httpx2.Response:
        """Send one request and return its answer.

        Args:
            method: all but GET change something.
            path: percent-encoded, from the root.
            route: a name for method and form of the path, which have a limit of their own.
            permission: what the access token must be allowed to do; for the person who reads what went wrong.
            hoped: statuses that are an answer to the caller; any other raises.
            body: what is sent as JSON.
            query: of the address.
            before_window: called at least each second while a limit is waited for.

        Raises:
            Unavailable: LaunchDarkly is away or refuses, or its limit is used up for longer than is waited for.
        """
        writes = method != "GET"
        deadline = self._rate.deadline(ASK_PATIENCE_S if before_window is None else WRITE_PATIENCE_S)
        content = None if body is None else msgspec.json.encode(body)
        client = self._open_client()
        while True:
            try:
                with self._rate.turn(route, deadline, before_window) as turn:
                    answer = client.request(method, self._base + path, content=content, params=query)
                    turn.answered(answer.status_code, answer.headers)
            except Throttled:
                raise self.faults.unavailable(
                    "its rate limit is used up, for longer than is waited for here; it goes on by itself"
                ) from None
            except DRIVER_ERRORS as error:
                raise self.faults.of_driver(error, writes=writes) from error
            if answer.status_code in hoped:
                return answer
            if answer.status_code != TOO_MANY:
                raise self.faults.of_answer(answer, permission, writes=writes)

    def read(self, answer: httpx2.Response, kind: type[Read]) -> Read:
        """What an answer holds.

        Raises:
            Unavailable: it is no such thing: something else than LaunchDarkly answers there.
        """
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self.faults.no_api() from error

    def close(self) -> None:
        """Give connections back; idempotent."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            client.close()

    def _open_client(self) -> httpx2.Client:
        """This process's client: the sockets of one made before a fork belong to the parent."""
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._client = httpx2.Client(
                    headers={
                        "Authorization": self._token(),
                        "LD-API-Version": API_VERSION,
                        "Content-Type": "application/json",
                        "Accept": "application/json",
                        "User-Agent": "segsync",
                    },
                    timeout=self._timeout,
                    limits=httpx2.Limits(max_connections=MOST_CONNECTIONS, keepalive_expiry=30.0),
                )
                self._pid = os.getpid()
            return self._client

    def _token(self) -> str:
        token = self._configuration.accessToken.get_secret_value()
        if not (token.isascii() and token.isprintable()) or " " in token:
            # The client would refuse it as well, in words that quote it.
            raise self.faults.unavailable(
                "the access token holds characters that no token has; copy it once more", fault="configuration"
            )
        return token


def path_part(text: str) -> str:
    """Text as one part of a path, percent-encoded; a part of dots alone would be taken for the way up."""
    return text.replace(".", "%2E") if text in {".", ".."} else quote(text, safe="")
