"""Mutated requests: what partners really send, bent in structure, bytes, encoding, headers and framing."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import zstandard

from fuzz import bodies
from worker.manifest.catalog import load_catalog
from worker.manifest.examples import Change, example, example_keys
from worker.manifest.manifest import Manifest

Json = Any
GOLDEN = Path(__file__).parent.parent / "golden"
# The golden bodies' environment; who sends the requests sees to it that the receiver knows it.
ENVIRONMENT_ID = "6390b1c8e3f0a511e1c5a7d2"
# Stands for the writer token.
TOKEN = "{token}"

CONTENT_TYPES = (
    *("application/json", "application/json; charset=utf-8", "application/json;charset=UTF-16", "text/plain", "", "x"),
    *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=nobody", ";;"),
    *("application/vnd.api+json", "text/html; charset=\xff", "application/cbor", "*/*", "a" * 5000),
)
ENCODINGS = (
    *(
        "gzip",
        "deflate",
        "zstd",
        "br",
        "identity",
        "GZIP",
        " gzip ",
        "x-gzip",
        "gzip, gzip",
        "gzip,deflate",
        "compress",
    ),
    *("", ",", "gzip;q=1", "utf-8", "aws-chunked", "\xe9", "zlib", "gzip\t"),
)
HEADERS = (
    *(("Expect", "100-continue"), ("Accept", "text/xml"), ("Accept-Encoding", "br;q=0"), ("Connection", "close")),
    *(("X-Forwarded-For", "\xff, ,"), ("X-Forwarded-Proto", "gopher"), ("Forwarded", "for=;"), ("Host", "a b")),
    *(("Host", ""), ("Cookie", "a" * 20_000), ("Content-MD5", "?"), ("If-Match", "*"), ("Range", "bytes=5-1")),
    *(("X-HTTP-Method-Override", "DELETE"), ("TE", "trailers"), ("Upgrade", "h2c"), ("Content-Language", "\x80")),
    *(("Prefer", "respond-async"), ("Date", "never"), ("X-Empty", "")),
)
METHODS = ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "post", "PROPFIND")
VALUES: tuple[Json, ...] = (
    *(*bodies.BAD_VALUES, *bodies.GOOD_SCALARS, *bodies.JUNK, ENVIRONMENT_ID, "a" * 5000, "\x00", "{{x}}", "{{{x"),
    *(bodies.Literal(text) for text in ("9" * 5000, "-" + "9" * 400, "1e99999", "[" * 126 + "]" * 126)),
    *(
        bodies.Literal(opening * depth + closing * depth)
        for depth in (128, 1000, 20_000)
        for opening, closing in (("[", "]"), ('{"a":', "}"))
    ),
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


class Origin(NamedTuple):
    """A good body, and where it goes."""

    integration: str
    body: Json


def origins() -> list[Origin]:
    """Golden bodies and what the bundled partners' examples build."""
    found = [Origin(file.parent.name, json.loads(file.read_text())["body"]) for file in sorted(GOLDEN.glob("*/*.json"))]
    for key in example_keys():
        for add, remove in ((["ann", "bob"], ["eve"]), ([], ["ann"]), ([], [])):
            found += [Origin(key, body) for body in example(key, Change(ENVIRONMENT_ID, "4711", "C", add, remove))]
    return found


def manifests() -> Mapping[str, Manifest]:
    """The bundled ones."""
    return {key: found for key, found in sorted(load_catalog().items()) if isinstance(found, Manifest)}


class Mutations:
    """Requests by number; the same seed and number give the same one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._origins = origins()
        self._parsers = {
            key: found.parser.model_dump(by_alias=True, exclude_none=True) for key, found in manifests().items()
        }

    def request(self, number: int) -> Mutated:
        """The request of this number."""
        random = Random(f"{self._seed}:request:{number}")
        integration, body = self._body(random)
        mutated = Mutated(integration, f"/api/v2/segment-targets/{integration}", body=body)
        _route(random, mutated)
        _authorize(random, mutated)
        _describe(random, mutated)
        _encode(random, mutated)
        _frame(random, mutated)
        return mutated

    def _body(self, random: Random) -> tuple[str, bytes]:
        if random.random() < 0.2:
            key = random.choice(list(self._parsers))
            ids = (ENVIRONMENT_ID, ENVIRONMENT_ID, ENVIRONMENT_ID, "elsewhere")
            return key, bodies.body(random, self._parsers[key], environment_ids=ids)
        origin = random.choice(self._origins)
        value = copy.deepcopy(origin.body)
        for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
            value = _bent(random, value)
        return origin.integration, _misspelled(random, bodies.spelled(random, value))


def _bent(random: Random, value: Json) -> Json:
    """A JSON value with one of its parts changed."""
    if random.random() < 0.03:
        return random.choice(VALUES)
    holder = random.choice([each for each in _containers(value) if each] or [value])
    if not isinstance(holder, dict | list) or not holder:
        return value
    place: Any = random.choice(list(holder)) if isinstance(holder, dict) else random.randrange(len(holder))
    match random.randint(0, 7):
        case 0:
            del holder[place]
        case 1:
            holder[place] = [holder[place]]
        case 2:
            holder[place] = {"a": holder[place]}
        case 3 if isinstance(holder, list):
            holder *= random.choice((2, 10, 300))
        case 4 if isinstance(holder, dict):
            holder[random.choice(bodies.JUNK_KEYS)] = holder.pop(place)
        case 5 if isinstance(holder[place], str):
            holder[place] = random.choice((holder[place] + "\u0000", holder[place].upper(), holder[place] * 200, ""))
        case _:
            holder[place] = copy.deepcopy(random.choice(VALUES))
    return value


def _containers(value: Json) -> list[Json]:
    found = [value]
    for each in found:
        if isinstance(each, dict | list):
            inner = each.values() if isinstance(each, dict) else each
            found += [part for part in inner if isinstance(part, dict | list)]
    return found


def _misspelled(random: Random, text: bytes) -> bytes:
    chance = random.random()
    if chance < 0.1:
        return bodies.splintered(random, text)
    if chance < 0.15:
        return bodies.with_a_field(random, text, random.choice(bodies.FIELDS))
    if chance < 0.25:
        others = (b"", b" ", b"\x00" * 50, b"null", b"[]", b"{}", b"\xef\xbb\xbf" + text, text * 2, text + b"\n" + text)
        return random.choice(others)
    if chance < 0.3:
        encodings = ("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "cp037")
        return text.decode(errors="replace").encode(random.choice(encodings), "replace")
    if chance < 0.33:
        return random.choice((b"[", b'{"a":', b'"', b"-", b"\\", b"{{", b"\xff")) * random.choice((1, 200, 100_000))
    if chance < 0.35:
        return random.randbytes(random.choice((1, 50, 5000)))
    if chance < 0.36:
        return b"payload=" + text + b"&x=%00"
    return text


def _route(random: Random, mutated: Mutated) -> None:
    chance = random.random()
    if chance < 0.02:
        mutated.method = random.choice(METHODS)
    elif chance < 0.04:
        key, target = mutated.integration, mutated.target
        others = (
            "nobody",
            "..",
            "%00",
            "%ff",
            "a%2Fb",
            "",
            f"{key}%20",
            key.upper(),
            "a" * 3000,
            "%F0%9F%98%80",
            "{x}",
        )
        whole = (
            f"/api/v2/segment-target/{key}",
            f"{target}/",
            f"{target}?a=%ff&a",
            "/",
            f"/{target}",
            "//",
            "*",
            "/readyz",
        )
        mutated.target = random.choice((*whole, *(f"/api/v2/segment-targets/{other}" for other in others)))


def _authorize(random: Random, mutated: Mutated) -> None:
    value = TOKEN
    chance = random.random()
    if chance < 0.05:
        value = random.choice((f"Bearer {TOKEN}", f"bearer  {TOKEN}", f"BASIC {TOKEN}", f"Basic {TOKEN}", f" {TOKEN}"))
    elif chance < 0.08:
        secrets = (b":", b"", b"a:b", b"\xff:\xff", b"a" * 9000)
        wrong = ("", "x", "Bearer", "Basic", "Basic !", "Bearer a b", "\xe9\xff", "x" * 9000, "Digest username=x")
        value = random.choice((*wrong, *(f"Basic {base64.b64encode(secret).decode()}" for secret in secrets)))
    if chance < 0.99:
        mutated.headers.append(("Authorization", value))
    if chance > 0.985:
        mutated.headers.append(("authorization", random.choice((TOKEN, "x"))))


def _describe(random: Random, mutated: Mutated) -> None:
    if random.random() < 0.9:
        usual = random.random() < 0.7
        mutated.headers.append(("Content-Type", CONTENT_TYPES[0] if usual else random.choice(CONTENT_TYPES)))
    if random.random() < 0.1:
        mutated.headers += random.sample(HEADERS, random.randint(1, 4))
    if random.random() < 0.005:
        mutated.headers += [(f"X-{number}", "x" * 50) for number in range(500)]


def _encode(random: Random, mutated: Mutated) -> None:
    """Encode the body as some header says, or not as it says, or not wholly."""
    if random.random() < 0.65:
        return
    text = mutated.body
    if random.random() < 0.01:
        text += b" " * 15_000_000
    encodings = {"gzip": _gzipped(text), "deflate": zlib.compress(text), "zstd": zstandard.compress(text)}
    name = random.choice(list(encodings))
    encoded = encodings[name]
    chance = random.random()
    if chance < 0.1:
        encoded = encoded[: random.randint(0, len(encoded))]
    elif chance < 0.2:
        encoded = bodies.splintered(random, encoded)
    elif chance < 0.25:
        encoded += random.choice((b"\x00", b"x" * 100, encoded, _gzipped(b""), b"\x1f\x8b"))
    elif chance < 0.3 and name == "gzip":
        half = len(text) // 2
        encoded = _gzipped(text[:half]) + _gzipped(text[half:])
    elif chance < 0.35 and name == "deflate":
        stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        encoded = stream.compress(text) + stream.flush()
    elif chance < 0.38:
        encoded = zstandard.ZstdCompressor(write_content_size=False).compressobj().compress(text)
    if random.random() < 0.15:
        name = random.choice(ENCODINGS)
    mutated.body = encoded
    mutated.headers.append((random.choice(("Content-Encoding", "content-encoding")), name))
    if random.random() < 0.02:
        mutated.headers.append(("Content-Encoding", random.choice(ENCODINGS)))


def _gzipped(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1, mtime=0)


def _frame(random: Random, mutated: Mutated) -> None:
    """How the body's end is told: rightly, or by one of the lies that a client can tell."""
    chance = random.random()
    if chance < 0.1:
        mutated.framing = "chunked"
    elif chance < 0.13:
        mutated.framing = random.choice(LIES)


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
