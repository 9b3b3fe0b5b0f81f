"""Before moto's DynamoDB and in place of STS: sessions of an assumed role, which end when a test says so."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

from servers import MotoServer

_ASSUMED: Final = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>
<Expiration>{expiration}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""
_DENIED: Final = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
_EXPIRED: Final = '{"__type": "com.amazon.coral.service#ExpiredTokenException", "message": "expired"}'


class Gate:
    """Stands in for STS, and before moto for DynamoDB, which it lets in whose session has not expired.

    Attributes:
        lifetime: of the next sessions.
        external_id: what a role is lent for.
        keys: the access keys that DynamoDB was asked with, in order.
        expired: those that it refuses.
        refuses_all: it refuses every one.
    """

    def __init__(self, moto: MotoServer) -> None:
        self.lifetime = timedelta(hours=1)
        self.external_id = "agreed"
        self.keys: list[str] = []
        self.expired: set[str] = set()
        self.refuses_all = False
        self._assumed = 0
        target = urlsplit(moto.url)
        self._target = (target.hostname or "", target.port or 80)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
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

    def expire(self) -> None:
        """End every session that was used so far."""
        self.expired.update(self.keys)

    def _assume(self, body: bytes) -> tuple[int, bytes]:
        if parse_qs(body.decode()).get("ExternalId") != [self.external_id]:
            return 403, _DENIED.encode()
        self._assumed += 1
        expiration = (datetime.now(UTC) + self.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        return 200, _ASSUMED.format(key=f"ASIA{self._assumed:016}", expiration=expiration).encode()

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if b"Action=AssumeRole" in body:
            return self._assume(body)
        found = re.search(r"Credential=(\w+)/", headers["Authorization"])
        assert found is not None
        self.keys.append(found[1])
        if self.refuses_all or found[1] in self.expired:
            return 400, _EXPIRED.encode()
        connection = HTTPConnection(*self._target, timeout=30)
        try:
            # One account for all: whose key it is does not matter to moto's tables then.
            connection.request(
                "POST",
                path,
                body,
                headers
                | {"Authorization": re.sub(r"Credential=\w+/", "Credential=testing/", headers["Authorization"])},
            )
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = gate._answer(self.path, dict(self.headers), body)
                self.send_response(status)
                self.send_header(
                    "Content-Type", "text/xml" if answer.startswith(b"<") else "application/x-amz-json-1.0"
                )
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
                pass

        return Handler
