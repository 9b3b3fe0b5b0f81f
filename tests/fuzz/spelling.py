"""The many ways to write one JSON value: blanks, escapes, keys that nobody asked for, keys that come twice."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from fuzz.chance import happens

Json = Any


class Literal(str):
    """JSON text that is written as it is."""

    __slots__ = ()


JUNK: tuple[Json, ...] = (
    *(None, 0, "x", [], {}, [[]], [{}], {"env": "x"}, "[[{{", '"]', "\\", "\\\\", '\\"', [1, [2, {"a": []}]], True),
    *(Literal(text) for text in ("9" * 400, "1e999", "-0", "1.25", "[[[[]]],[]]", '{"":{"":{}}}', '"\\ud83d\\ude00"')),
)
JUNK_KEYS = ("zz", "env", "id", "v", "cid", "kind", "", "é", "\U0001f600", 'q"', "\\", "0", "[", "m")
_BLANKS = (" ", "\n", "\t", "\r\n", "   ")


def spelled(random: Random, value: Json) -> bytes:
    """A JSON value, written in one of the many ways to write it."""
    return _Spelling(random).text(value).encode()


class _Spelling:
    """One of them."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._escapes = random.choice((0.0, 0.0, 0.1, 1.0))
        self._ascii = happens(random, 0.5)
        self._blanks = random.choice((0.0, 0.0, 0.3))
        self._extra = random.choice((0.0, 0.0, 0.15))
        self._twice = random.choice((0.0, 0.0, 0.1))

    def text(self, value: Json) -> str:
        if isinstance(value, Literal):
            return str(value)
        if isinstance(value, str):
            return self._string(value)
        if isinstance(value, list):
            return f"[{self._blank()}{','.join(self._spaced(self.text(each)) for each in value)}]"
        if isinstance(value, dict):
            return f"{{{self._blank()}{','.join(self._fields(value))}}}"
        return json.dumps(value)

    def _fields(self, value: dict[str, Json]) -> list[str]:
        random = self._random
        fields = []
        items = list(value.items())
        if happens(random, 0.3):
            random.shuffle(items)
        for key, held in items:
            if self._extra and happens(random, self._extra) and (junk := random.choice(JUNK_KEYS)) not in value:
                fields.append(self._field(junk, random.choice(JUNK)))
            if self._twice and happens(random, self._twice):
                fields.append(self._field(key, random.choice((*JUNK, "x", "user", "1", 1, False))))
            fields.append(self._field(key, held))
        return fields

    def _field(self, key: str, value: Json) -> str:
        return f"{self._spaced(self._string(key))}:{self._spaced(self.text(value))}"

    def _string(self, value: str) -> str:
        if self._escapes and happens(self._random, self._escapes):
            units = value.encode("utf-16-be", "surrogatepass").hex()
            escaped = "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
            return f'"{escaped}"'
        return json.dumps(value, ensure_ascii=self._ascii)

    def _spaced(self, text: str) -> str:
        return f"{self._blank()}{text}{self._blank()}" if self._blanks else text

    def _blank(self) -> str:
        return self._random.choice(_BLANKS) if self._blanks and happens(self._random, self._blanks) else ""
