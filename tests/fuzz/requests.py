"""Mutated requests: what partners really send, bent in structure, bytes, encoding, headers and framing."""

from __future__ import annotations

import copy
import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import zstandard

from fuzz import bodies, heads
from fuzz.spelling import JUNK, JUNK_KEYS, Literal, spelled
from fuzz.wire import LIES, Mutated
from worker.manifest.catalog import load_catalog
from worker.manifest.examples import Change, example, example_keys
from worker.manifest.manifest import Manifest

Json = Any
GOLDEN = Path(__file__).parent.parent / "golden"
# The golden bodies' environment; who sends the requests sees to it that the receiver knows it.
ENVIRONMENT_ID = "6390b1c8e3f0a511e1c5a7d2"

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
VALUES: tuple[Json, ...] = (
    *(*bodies.BAD_VALUES, *bodies.GOOD_SCALARS, *JUNK, ENVIRONMENT_ID, "a" * 5000, "\x00", "{{x}}", "{{{x"),
    *(Literal(text) for text in ("9" * 5000, "-" + "9" * 400, "1e99999", "[" * 126 + "]" * 126)),
    *(
        Literal(opening * depth + closing * depth)
        for depth in (128, 1000, 20_000)
        for opening, closing in (("[", "]"), ('{"a":', "}"))
    ),
)


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
        heads.route(random, mutated)
        heads.authorize(random, mutated)
        heads.describe(random, mutated)
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
        return origin.integration, _misspelled(random, spelled(random, value))


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
            holder[random.choice(JUNK_KEYS)] = holder.pop(place)
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
