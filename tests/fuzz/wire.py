"""A request on the wire: its head, and the framing by which its body's end is told, rightly or not."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

# Stands for the writer token, which is another one every time.
TOKEN = "{token}"
# Ways to tell a body's length that a client can take and should not.
LIES = (
    "too long",
    "too short",
    "both",
    "two lengths",
    "no length",
    "length of words",
    "bad chunk",
    "cut chunks",
    "identity",
)


@dataclass
class Mutated:
    """One request, and the framing in which it goes out."""

    integration: str
    target: str
    method: str = "POST"
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    framing: str = "length"

    @property
    def sound_http(self) -> bool:
        """Whether it is HTTP at all; what is not may be answered by the server below, or by nobody."""
        return self.framing in {"length", "chunked"} and self.method != "post"


def framed(mutated: Mutated, random: Random, token: str) -> bytes:
    """The bytes that go over the wire."""
    body = mutated.body
    names = {name.lower() for name, _ in mutated.headers}
    headers = [] if "host" in names else [("Host", "segsync")]
    headers += [(name, _with_token(value, token)) for name, value in mutated.headers]
    headers += _lengths(mutated.framing, len(body))
    head = f"{mutated.method} {mutated.target} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in headers
    )
    if mutated.framing in {"chunked", "both", "bad chunk", "cut chunks"}:
        body = _chunked(random, body, whole=mutated.framing != "cut chunks")
    if mutated.framing == "bad chunk":
        body = b"zz\r\n" + body
    return head.encode("latin-1") + b"\r\n" + body


def _lengths(framing: str, length: int) -> Sequence[tuple[str, str]]:
    match framing:
        case "length":
            return [("Content-Length", str(length))]
        case "too long":
            return [("Content-Length", str(length + 10))]
        case "too short":
            return [("Content-Length", str(max(0, length - 10)))]
        case "two lengths":
            return [("Content-Length", str(length)), ("Content-Length", str(length + 1))]
        case "length of words":
            return [("Content-Length", "ten")]
        case "no length":
            return []
        case "identity":
            return [("Content-Length", str(length)), ("Transfer-Encoding", "identity")]
        case "both":
            return [("Content-Length", str(length)), ("Transfer-Encoding", "chunked")]
    return [("Transfer-Encoding", "chunked")]


def _chunked(random: Random, body: bytes, *, whole: bool) -> bytes:
    parts = []
    while body:
        size = random.choice((1, 7, 100, 65_536, len(body))) if len(body) < 5000 else len(body)
        extension = ";x=y" if random.random() < 0.05 else ""
        parts.append(f"{len(body[:size]):x}{extension}\r\n".encode() + body[:size] + b"\r\n")
        body = body[size:]
    return b"".join(parts) + (b"0\r\n\r\n" if whole else b"")


def _with_token(value: str, token: str) -> str:
    if value.lower() == f"basic {TOKEN}":
        return f"Basic {base64.b64encode(f'partner:{token}'.encode()).decode()}"
    return value.replace(TOKEN, token)
