"""Heads of requests: methods, targets, credentials and headers, of which most are right."""

from __future__ import annotations

import base64
from random import Random

from fuzz.wire import TOKEN, Mutated

CONTENT_TYPES = (
    *("application/json", "application/json; charset=utf-8", "application/json;charset=UTF-16", "text/plain", "", "x"),
    *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=nobody", ";;"),
    *("application/vnd.api+json", "text/html; charset=\xff", "application/cbor", "*/*", "a" * 5000),
)
HEADERS = (
    *(("Expect", "100-continue"), ("Accept", "text/xml"), ("Accept-Encoding", "br;q=0"), ("Connection", "close")),
    *(("X-Forwarded-For", "\xff, ,"), ("X-Forwarded-Proto", "gopher"), ("Forwarded", "for=;"), ("Host", "a b")),
    *(("Host", ""), ("Cookie", "a" * 20_000), ("Content-MD5", "?"), ("If-Match", "*"), ("Range", "bytes=5-1")),
    *(("X-HTTP-Method-Override", "DELETE"), ("TE", "trailers"), ("Upgrade", "h2c"), ("Content-Language", "\x80")),
    *(("Prefer", "respond-async"), ("Date", "never"), ("X-Empty", "")),
)
METHODS = ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "post", "PROPFIND")


def route(random: Random, mutated: Mutated) -> None:
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


def authorize(random: Random, mutated: Mutated) -> None:
    value = TOKEN
    chance = random.random()
    if chance < 0.05:
        value = random.choice((f"Bearer {TOKEN}", f"bearer  {TOKEN}", f"BASIC {TOKEN}", f"Basic {TOKEN}", f" {TOKEN}"))
    elif chance < 0.08:
        secrets = (b":", b"", b"a:b", b"\xff:\xff", b"a" * 9000)
        wrong = (
            "",
            "x",
            "Bearer",
            "Basic",
            "Basic !",
            "Bearer a b",
            "\xe9\xff",
            "Basic \xe9",
            "x" * 9000,
            "Digest username=x",
        )
        value = random.choice((*wrong, *(f"Basic {base64.b64encode(secret).decode()}" for secret in secrets)))
    if chance < 0.99:
        mutated.headers.append(("Authorization", value))
    if chance > 0.985:
        mutated.headers.append(("authorization", random.choice((TOKEN, "x"))))


def describe(random: Random, mutated: Mutated) -> None:
    if random.random() < 0.9:
        usual = random.random() < 0.7
        mutated.headers.append(("Content-Type", CONTENT_TYPES[0] if usual else random.choice(CONTENT_TYPES)))
    if random.random() < 0.1:
        mutated.headers += random.sample(HEADERS, random.randint(1, 4))
    if random.random() < 0.005:
        mutated.headers += [(f"X-{number}", "x" * 50) for number in range(500)]
