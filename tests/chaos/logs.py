"""The segment logs as they lie in the state server, read without any of the project's own code for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import redis
import reference_parser
import zstandard

Position = tuple[int, int]


@dataclass(frozen=True)
class LogEntry:
    """One entry of one segment's log.

    Attributes:
        position: milliseconds and number; the entries of a log take effect in this order.
        marker: of the attempt whose body it holds.
        members: what it says of its segment, read from the body by the requestParser that the entry names.
        state: "live", or why it is skipped: "dead", "discarded", "moved".
        late: it lies beside the stream, for it was put there by a replay, or outlived its place.
    """

    segment: str
    position: Position
    marker: str
    body: bytes
    members: Mapping[str, bool]
    state: str = "live"
    late: bool = False


@dataclass
class Logs:
    """All logs of an environment, and what could not be made sense of.

    Attributes:
        exact_counts: how many members a segment is said to have, of the segments of which that is said to be exact.
    """

    entries: dict[str, list[LogEntry]] = field(default_factory=dict)
    exact_counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _Unreadable(Exception):
    """Raised when an entry is not what it should be."""


def read_logs(client: redis.Redis, environment_id: str) -> Logs:
    """Every entry of every log, in order of position; ``client`` replies with bytes."""
    reader, found = _Reader(client), Logs()
    for key in sorted(reader.hash(f"segsync:{{{environment_id}}}:segments")):
        base = f"segsync:{{{environment_id}/{key}}}"
        segment = reader.hash(f"{base}:segment")
        if "generation" not in segment:
            continue  # registered by a request that was cut before its append
        if segment["members_exact"] == b"1":
            found.exact_counts[key] = int(segment["members"])
        log = f"{base}:g{segment['generation'].decode()}"
        found.entries[key] = sorted(
            reader.entries(log, key, segment["cohort_id"].decode(), found.problems), key=lambda entry: entry.position
        )
        found.problems += reader.gaps(log, key)
    return found


class _Reader:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._parsers = self.hash("segsync:manifests")

    def hash(self, key: str) -> dict[str, bytes]:
        return {name.decode(): value for name, value in cast("dict[bytes, bytes]", self._client.hgetall(key)).items()}

    def entries(self, log: str, key: str, cohort_id: str, problems: list[str]) -> Iterator[LogEntry]:
        """Every entry of a log, in no order."""
        letters = self.hash(f"{log}:dead")
        for position, fields, late in self._raw(log):
            letter = letters.get(position)
            try:
                body = self._body(fields)
                marker, members = self._read(fields, body, cohort_id)
            except _Unreadable as fault:
                problems.append(f"{key} {position}: {fault}")
            else:
                state = "live" if letter is None else str(json.loads(letter)["status"])
                milliseconds, number = map(int, position.split("-"))
                yield LogEntry(key, (milliseconds, number), marker, body, members, state, late)

    def gaps(self, log: str, key: str) -> Iterator[str]:
        """What the stream lacks of what its head says that it took; nothing if some of it was trimmed."""
        head = self.hash(f"{log}:head")
        if head.get("trimmed", b"0-0") != b"0-0":
            return
        held = int(cast("Any", self._client.xlen(f"{log}:log")))
        last = [name for name, _ in cast("list[tuple[bytes, Any]]", self._client.xrevrange(f"{log}:log", "+", "-", 1))]
        if held != int(head.get("batches", b"0")):
            yield f"{key}: the log took {int(head['batches'])} batches and holds {held}"
        if last and last != [head.get("last")]:
            yield f"{key}: the last entry is {last[0].decode()}, not {head.get('last', b'nothing').decode()}"

    def _raw(self, log: str) -> Iterator[tuple[str, dict[str, bytes], bool]]:
        """Position, fields, and whether it lies beside the stream. What lies beside it stands for what lies in it."""
        late = [name.decode() for name in cast("list[bytes]", self._client.zrange(f"{log}:late", 0, -1))]
        for position in late:
            yield position, self.hash(f"{log}:late:{position}"), True
        hidden, start = set(late), "-"
        while batch := cast(
            "list[tuple[bytes, dict[bytes, bytes]]]", self._client.xrange(f"{log}:log", start, "+", 1000)
        ):
            for name, fields in batch:
                if name.decode() not in hidden:
                    yield name.decode(), {field.decode(): value for field, value in fields.items()}, False
            start = f"({batch[-1][0].decode()}"

    def _body(self, fields: Mapping[str, bytes]) -> bytes:
        """The request's bytes: in the entry, beside a slice in it, or with the payload that several segments share."""
        if fields.get("v") != b"1":
            raise _Unreadable(f"format {fields.get('v')!r}")
        if fields["k"] == b"body":
            return _plain(fields["c"], fields["p"])
        if "o" in fields:
            return _plain(fields["d"], fields["o"])
        payload = self.hash(f"segsync:payload:{{{fields['r'].decode()}}}")
        if not payload:
            raise _Unreadable(f"the payload {fields['r'].decode()} that it shares is gone")
        return _plain(payload["codec"], payload["body"])

    def _read(self, fields: Mapping[str, bytes], body: bytes, cohort_id: str) -> tuple[str, dict[str, bool]]:
        """A body's marker, and what it says of one cohort."""
        parser = self._parsers.get(fields["m"].decode())
        if parser is None:
            raise _Unreadable(f"requestParser {fields['m'].decode()} is not kept")
        try:
            marker = json.loads(body)["marker"]
            members = read_members(body, parser.decode(), cohort_id)
        except (ValueError, KeyError, reference_parser.Refused) as fault:
            raise _Unreadable(f"its body cannot be read: {fault!r}") from fault
        if fields["k"] == b"slice":
            content = _plain(fields["c"], fields["p"])
            added, removed = msgspec.msgpack.decode(content, type=tuple[list[str], list[str]])
            if dict.fromkeys(added, True) | dict.fromkeys(removed, False) != members:
                raise _Unreadable(f"the slice of {marker} is not what its body says")
        return marker, members


def read_members(body: bytes, parser: str, cohort_id: str) -> dict[str, bool]:
    """What a body says of one cohort, by the reference parser.

    Raises:
        reference_parser.Refused: it cannot be read.
    """
    reading = reference_parser.read(json.loads(parser), body)
    return next((dict(cohort.members) for cohort in reading.cohorts if cohort.cohort_id == cohort_id), {})


def _plain(codec: bytes, data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data) if codec == b"z" else data
