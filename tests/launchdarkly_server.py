"""A stand-in for LaunchDarkly's segments API, on a socket: one project, one environment, written to the reference.

    with LaunchDarklyServer() as server:
        store = LaunchDarklyStore(server.configuration())      # server.url, server.token, server.project, …
        server.members("beta")                                 # context keys that are included
        server.segments                                        # what it holds, by key: see launchdarkly_environment
        server.requests                                        # what was asked, in order: method, path, status, body
        server.limit(route=5, window_s=0.5)                    # and overall=…, token=…; LaunchDarkly's headers tell
        server.answer_next(503, applied=True, matching="/contexts")   # also None: it takes the request and hangs up
        server.hang("/contexts"); server.release()             # requests wait, and are then answered
        server.forbid("updateIncluded")                        # 403 from then on; ``allow`` ends it
        server.refuses = lambda key: key.startswith("bad")     # members for whom it answers 400

Also: ``put`` and ``delete`` change segments as people do; ``throttled`` counts what the limits refused, ``most_over``
tells by how many requests a window was overrun at most; ``skew_s`` puts its clock wrong; ``tells_date`` and
``failed_test_status`` are what the reference leaves open.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

from launchdarkly_environment import LaunchDarklyEnvironment, Refused
from pydantic import SecretStr

from worker.model import LaunchDarklyStoreConfiguration

_MESSAGES: Final = {
    400: ("invalid_request", "Invalid request body"),
    401: ("unauthorized", "Invalid access token"),
    403: ("forbidden", "Forbidden. Access to the requested resource was denied."),
    404: ("not_found", "Invalid resource identifier"),
    405: ("method_not_allowed", "Method not allowed"),
    409: ("optimistic_locking_error", "Conflict. Optimistic lock error. Try again later."),
    422: ("patch_failed", "Unprocessable entity. Could not apply patch."),
    429: ("rate_limited", "You've exceeded the API rate limit. Try again later."),
}


class SeenRequest(NamedTuple):
    """One request; ``status`` is 0 while it is not answered, and when it never was. ``body`` is decoded JSON."""

    method: str
    path: str
    status: int
    body: Any


@dataclass
class _Order:
    """A fault that somebody ordered; ``status`` None hangs up without an answer."""

    status: int | None
    applied: bool
    method: str
    matching: str
    headers: dict[str, str]
    times: int


class LaunchDarklyServer(LaunchDarklyEnvironment):
    """See the module."""

    token = "api-00000000-stand-in-token"

    def __init__(self) -> None:
        super().__init__()
        self.skew_s = 0.0
        self.tells_date = True
        self.throttled = self.most_over = 0
        self._requests: list[SeenRequest] = []
        self._orders: list[_Order] = []
        self._limits: dict[str, int] = {}
        self._window_s = 10.0
        self._windows: dict[str, tuple[int, int]] = {}
        self._hanging: str | None = None
        self._released = threading.Event()
        handler = type("Handler", (_Handler,), {"stand_in": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def requests(self) -> list[SeenRequest]:
        """All that were asked, in the order of their arrival."""
        with self._lock:
            return list(self._requests)

    def configuration(self, **changes: Any) -> LaunchDarklyStoreConfiguration:
        """What leads here."""
        fields = {
            "baseUri": self.url,
            "projectKey": self.project,
            "environmentKey": self.environment,
            "accessToken": SecretStr(self.token),
        }
        return LaunchDarklyStoreConfiguration.model_validate(fields | changes)

    def count(self, method: str, ending: str = "") -> int:
        """How many requests of that method were made, to paths that end so."""
        return sum(seen.method == method and seen.path.endswith(ending) for seen in self.requests)

    def limit(
        self,
        *,
        overall: int | None = None,
        route: int | None = None,
        token: int | None = None,
        window_s: float | None = None,
    ) -> None:
        """Take at most so many requests in each window; what is None has no limit, and no header."""
        limits = {"global": overall, "route": route, "token": token}
        with self._lock:
            self._limits = {name: most for name, most in limits.items() if most is not None}
            self._window_s = window_s or self._window_s
            self._windows.clear()

    def answer_next(
        self,
        status: int | None,
        *,
        applied: bool = False,
        method: str = "",
        matching: str = "",
        headers: dict[str, str] | None = None,
        times: int = 1,
    ) -> None:
        """Answer the next requests of that method, whose paths hold that text, so; after they were applied, or not."""
        with self._lock:
            self._orders.append(_Order(status, applied, method, matching, headers or {}, times))

    def hang(self, matching: str = "") -> None:
        """Do not answer requests whose paths hold that text; they are applied when they are released."""
        self._released.clear()
        self._hanging = matching

    def release(self) -> None:
        """End ``hang``."""
        self._hanging = None
        self._released.set()

    # What the handler calls, in this order.

    def _note(self, method: str, path: str, body: Any) -> int:
        with self._lock:
            self._requests.append(SeenRequest(method, path, 0, body))
            return len(self._requests) - 1

    def _answered(self, number: int, status: int) -> None:
        with self._lock:
            self._requests[number] = self._requests[number]._replace(status=status)

    def _count(self, route: str) -> tuple[bool, dict[str, str]]:
        """Whether the limits let one more request of a route through, and what the answer says of them."""
        now_s = time.time()
        with self._lock:
            headers: dict[str, str] = {}
            through = True
            for name, most in self._limits.items():
                window = int(now_s / self._window_s)
                counter = f"{name} {route}" if name == "route" else name
                begun, used = self._windows.get(counter, (window, 0))
                used = used if begun == window else 0
                through = through and used < most
                self._windows[counter] = window, used + 1
                self.most_over = max(self.most_over, used + 1 - most)
                reset_ms = int(((window + 1) * self._window_s + self.skew_s) * 1000) + 1
                kind = {"global": "Global", "route": "Route", "token": "Auth-Token"}[name]
                headers[f"X-Ratelimit-{kind}-Limit"] = str(most)
                headers[f"X-Ratelimit-{kind}-Remaining"] = str(max(0, most - used - 1))
                headers["X-Ratelimit-Auth-Token-Reset" if name == "token" else "X-Ratelimit-Reset"] = str(reset_ms)
            self.throttled += not through
            return through, headers

    def _order(self, method: str, path: str) -> _Order | None:
        with self._lock:
            for order in self._orders:
                if order.method in {"", method} and order.matching in path:
                    order.times -= 1
                    if not order.times:
                        self._orders.remove(order)
                    return order
        return None

    def _wait(self, path: str) -> None:
        if self._hanging is not None and self._hanging in path:
            self._released.wait()

    def _let_in(self, through: bool, token: str | None) -> None:
        if not through:
            raise Refused(429)
        if token != self.token:
            raise Refused(401)

    def _obey(self, order: _Order | None, apply: Callable[[], tuple[int, Any]]) -> tuple[int, Any]:
        if order is None:
            return apply()
        if order.applied:
            apply()
        raise Refused(order.status or 0)


class _Handler(BaseHTTPRequestHandler):
    stand_in: LaunchDarklyServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PATCH(self) -> None:
        self._handle("PATCH")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def log_message(self, *_: Any) -> None:
        """Requests are kept, not printed."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(timestamp or time.time() + self.stand_in.skew_s)

    def _handle(self, method: str) -> None:
        server, address = self.stand_in, urlsplit(self.path)
        # Split first, decode then: a context key may hold slashes.
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        number = server._note(method, address.path, body)
        route = f"{method} {len(parts)}"
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        through, headers = server._count(route)
        order = server._order(method, address.path) if through else None
        server._wait(address.path)
        try:
            server._let_in(through, self.headers.get("Authorization"))
            status, answer = server._obey(order, lambda: server.apply(method, parts, query, body))
        except Refused as refused:
            status = refused.status
            code, message = _MESSAGES.get(status, ("internal_service_error", "Internal service error"))
            answer = {"code": code, "message": refused.message or message, "id": str(uuid.uuid4())}
        server._answered(number, status)
        if not status:
            self.close_connection = True
            return
        self._answer(status, answer, headers | (order.headers if order else {}))

    def _answer(self, status: int, answer: Any, headers: dict[str, str]) -> None:
        content = b"" if answer is None else json.dumps(answer).encode()
        self.send_response_only(status)
        if self.stand_in.tells_date:
            self.send_header("Date", self.date_time_string())
        for name, value in headers.items():
            self.send_header(name, value)
        if content:
            self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
