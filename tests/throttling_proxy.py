"""A proxy in front of a DynamoDB emulator, for what emulators do not do: refuse writes above a rate."""

from __future__ import annotations

import json
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

_THROTTLED = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
_CANCELLED = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
_SINGLE_WRITES = {"UpdateItem", "DeleteItem", "PutItem"}


class ThrottlingProxy:
    """Forwards requests to an emulator; of writes, so many units a second, as a table of that capacity would.

    A write is one unit, and two for each item of a transaction, which is refused as DynamoDB does it: with a reason for
    each item. Everything else passes.

    Attributes:
        units_per_s: the rate; may be changed at any time. 0 refuses every write.
        passed: when writes were forwarded, by the monotonic clock, and how many units each was.
        refused: how many writes were not.
    """

    def __init__(self, target_url: str, units_per_s: float, *, burst_s: float = 1.0) -> None:
        self.units_per_s = units_per_s
        self.passed: list[tuple[float, float]] = []
        self.refused = 0
        self._burst_s = burst_s
        self._tokens = units_per_s * burst_s
        self._filled_at = time.monotonic()
        self._lock = threading.Lock()
        # One request at a time: moto's transactions get in each other's way.
        self._forwarding = threading.Lock()
        target = urlsplit(target_url)
        self._target = (target.hostname or "", target.port or 80)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def units_passed(self, since: float, until: float) -> float:
        """How many units were forwarded between two times of the monotonic clock."""
        return sum(units for at, units in list(self.passed) if since <= at < until)

    def _takes(self, units: float) -> bool:
        with self._lock:
            now = time.monotonic()
            most = self.units_per_s * self._burst_s
            self._tokens = min(most, self._tokens + (now - self._filled_at) * self.units_per_s)
            self._filled_at = now
            # As DynamoDB: what is more than all there can be is taken by a full bucket, and paid for afterwards.
            if self.units_per_s <= 0 or self._tokens < min(units, most):
                self.refused += 1
                return False
            self._tokens -= units
            self.passed.append((now, units))
            return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            _target: HTTPConnection | None = None

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
                items = 0
                if operation == "TransactWriteItems":
                    items = len(json.loads(body)["TransactItems"])
                units = 2.0 * items or float(operation in _SINGLE_WRITES)
                if units and not proxy._takes(units):
                    self._refuse(items)
                else:
                    self._forward(body)

            def _refuse(self, items: int) -> None:
                answer: dict[str, Any] = {"__type": _THROTTLED, "message": "above the rate"}
                if items:
                    reasons = [{"Code": "ThrottlingError", "Message": "above the rate"}] + [{"Code": "None"}] * items
                    answer = {"__type": _CANCELLED, "message": "cancelled", "CancellationReasons": reasons[:items]}
                self._answer(400, "application/x-amz-json-1.0", json.dumps(answer).encode())

            def _forward(self, body: bytes) -> None:
                if self._target is None:
                    self._target = HTTPConnection(*proxy._target, timeout=30)
                with proxy._forwarding:
                    self._target.request("POST", self.path, body, dict(self.headers))
                    answer = self._target.getresponse()
                    told = answer.read()
                if answer.will_close:
                    self._target.close()
                self._answer(answer.status, answer.headers.get("Content-Type", ""), told)

            def finish(self) -> None:
                if self._target is not None:
                    self._target.close()
                super().finish()

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
                pass

        return Handler
