"""The segment logs as they lie in the state server, read without any of the project's own code for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import msgspec
import redis
import reference_parser
import zstandard

Position = tuple[int, int]
# From this number on, within a millisecond, positions are of what was never appended to the stream.
_BESIDE = 10**12


@dataclass(frozen=True)
class LogEntry:
    """One entry of one segment's log.

    Attributes:
        position: milliseconds and number; the entries of a log take effect in this order.
        batch_id: of the accepted request.
        marker: of the attempt whose body it holds.
        members: what it says of its segment, read from the body by the requestParser that the entry names.
        state: "live", or why it is skipped: "dead", "discarded", "moved".
        late: it lies beside the stream, for it was put there by a replay, or outlived its place.
    """

    segment: str
    position: Position
    batch_id: str
    marker: str
    body: bytes
    members: Mapping[str, bool]
    state: str = "live"
    late: bool = False

    @property
    def payload(self) -> int:
        return int(self.marker.partition(".")[0])


@dataclass(frozen=True)
class KeptRefusal:
    """A body that was answered 400, as it is kept.

    Attributes:
        marker: of the attempt.
        integration: through which it came.
        refused_ms: its place.
        status: "rejected", "replayed", "discarded".
    """

    batch_id: str
    marker: str
    integration: str
    refused_ms: int
    status: str

    @property
    def payload(self) -> int:
        return int(self.marker.partition(".")[0])


@dataclass
class Logs:
    """All logs of an environment, and what could not be made sense of.

    Attributes:
        exact_counts: how many members a segment is said to have, of the segments of which that is said to be exact.
    """

    entries: dict[str, list[LogEntry]] = field(default_factory=dict)
    exact_counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Unreadable(Exception):
    """Raised when an entry is not what it should be."""


class LogReader:
    """Reads logs again and again, and remembers every entry: what is folded into a snapshot is not lost to it."""

    def __init__(self, environment_id: str) -> None:
        self._environment_id = environment_id
        self._entries: dict[str, dict[str, LogEntry]] = {}
        self._read_upto: dict[str, str] = {}
        self._problems: list[str] = []
        self._lock = threading.Lock()

    def read_news(self, client: redis.Redis) -> None:
        """Read what was appended or inserted since; ``client`` replies with bytes.

        Raises:
            redis.RedisError: the state server is away; what was read is kept.
        """
        with self._lock:
            self._read_news(_Reader(client))

    def _read_news(self, reader: _Reader) -> None:
        for key, segment, log in self._segments(reader):
            known, upto = self._entries.setdefault(log, {}), self._read_upto.get(log, "0-0")
            beside = {position for position, entry in known.items() if entry.late}
            for position, fields, late in reader.raw(log, upto, beside):
                if late or position not in known:  # what lies beside the stream stands for what lies in it
                    beside_it = {}
                    if late and fields.get("k", b"body") == b"slice" and not {"o", "r"} & fields.keys():
                        beside_it = reader.original(log, position, fields["b"].decode(), known.get(position))
                    cohort_id, whole = segment["cohort_id"].decode(), fields | beside_it
                    try:
                        known[position] = reader.entry(key, cohort_id, position, whole, late=late)
                    except Unreadable as fault:
                        self._problems.append(f"{key} {position}: {fault}")
                if not late:
                    self._read_upto[log] = position  # only now: the state server may go away while an entry is read

    def logs(self, client: redis.Redis) -> Logs:
        """Every entry of every log, in order of position, with what has become of each.

        Raises:
            redis.RedisError: the state server is away.
        """
        self.read_news(client)
        reader, found = _Reader(client), Logs(problems=list(dict.fromkeys(self._problems)))
        for key, segment, log in self._segments(reader):
            letters = {name: json.loads(text)["status"] for name, text in reader.hash(f"{log}:dead").items()}
            entries = self._entries.get(log, {})
            found.entries[key] = sorted(
                (replace(entry, state=letters.get(position, "live")) for position, entry in entries.items()),
                key=lambda entry: entry.position,
            )
            found.problems += [f"{key}: {position} is dead, and not there" for position in letters.keys() - entries]
            found.problems += _gaps(key, reader.hash(f"{log}:head"), entries)
            if segment["members_exact"] == b"1":
                found.exact_counts[key] = int(segment["members"])
        return found

    def _segments(self, reader: _Reader) -> Iterator[tuple[str, dict[str, bytes], str]]:
        """Segment key, its facts, and the beginning of its log's keys."""
        for key in sorted(reader.hash(f"segsync:{{{self._environment_id}}}:segments")):
            base = f"segsync:{{{self._environment_id}/{key}}}"
            segment = reader.hash(f"{base}:segment")
            if "generation" in segment:  # else registered by a request that was cut before its append
                yield key, segment, f"{base}:g{segment['generation'].decode()}"


def read_logs(client: redis.Redis, environment_id: str) -> Logs:
    """What the logs hold now; ``client`` replies with bytes."""
    return LogReader(environment_id).logs(client)


def _gaps(key: str, head: Mapping[str, bytes], entries: Mapping[str, LogEntry]) -> Iterator[str]:
    """What was not seen of what the head says that the stream ever took."""
    streamed = [name for name, entry in entries.items() if entry.position[1] < _BESIDE]
    if len(streamed) != int(head.get("batches", b"0")):
        yield f"{key}: the log took {int(head['batches'])} batches, and {len(streamed)} were seen"
    # What was inserted behind the last entry is the last from then on.
    last = {max(names, key=lambda name: entries[name].position) for names in (streamed, entries) if names}
    if last and head.get("last", b"").decode() not in last:
        yield f"{key}: the last entry is one of {last}, not {head.get('last', b'nothing').decode()}"


def read_refusals(client: redis.Redis) -> dict[str, KeptRefusal]:
    """Every body that was answered 400 and is kept, by marker; ``client`` replies with bytes."""
    reader, found = _Reader(client), {}
    for name in cast("list[bytes]", client.zrange("segsync:{rejected}:index", 0, -1)):
        fields = reader.hash(f"segsync:{{rejected}}:body:{name.decode()}")
        marker = json.loads(_plain(fields["codec"], fields["body"]))["marker"]
        refused_ms = int(fields["position"].partition(b"-")[0])
        integration, status = fields["integration"].decode(), fields["status"].decode()
        found[marker] = KeptRefusal(name.decode(), marker, integration, refused_ms, status)
    return found


class _Reader:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._parsers = self.hash("segsync:manifests")

    def hash(self, key: str) -> dict[str, bytes]:
        return {name.decode(): value for name, value in cast("dict[bytes, bytes]", self._client.hgetall(key)).items()}

    def entry(self, key: str, cohort_id: str, position: str, fields: Mapping[str, bytes], *, late: bool) -> LogEntry:
        """Make sense of an entry.

        Raises:
            Unreadable: it is not what it should be.
        """
        body = self._body(fields)
        marker, members = self._read(fields, body, cohort_id)
        milliseconds, number = map(int, position.split("-"))
        return LogEntry(key, (milliseconds, number), fields["b"].decode(), marker, body, members, late=late)

    def original(self, log: str, position: str, batch_id: str, known: LogEntry | None) -> dict[str, bytes]:
        """The body of what was replayed, as fields: of the entry in whose place it lies, or of the kept refusal."""
        if known is not None:
            return {"d": b"", "o": known.body}
        refusal = self.hash(f"segsync:{{rejected}}:body:{batch_id}")
        if refusal:
            return {"d": refusal["codec"], "o": refusal["body"]}
        found = cast("list[tuple[bytes, dict[bytes, bytes]]]", self._client.xrange(f"{log}:log", position, position))
        fields = {field.decode(): value for _, each in found for field, value in each.items()}
        return {"d": b"", "o": self._body(fields)} if fields else {}

    def raw(self, log: str, after: str, beside: Container[str]) -> Iterator[tuple[str, dict[str, bytes], bool]]:
        """Position, fields, and whether it lies beside the stream.

        Of the stream, only what comes after a position; of what lies beside it, only what is not known yet.
        """
        names = [name.decode() for name in cast("list[bytes]", self._client.zrange(f"{log}:late", 0, -1))]
        for name in names:
            if name not in beside and (fields := self.hash(f"{log}:late:{name}")):
                yield name, fields, True
        while batch := cast(
            "list[tuple[bytes, dict[bytes, bytes]]]", self._client.xrange(f"{log}:log", f"({after}", "+", 1000)
        ):
            for position, found in batch:
                yield position.decode(), {field.decode(): value for field, value in found.items()}, False
            after = batch[-1][0].decode()

    def _body(self, fields: Mapping[str, bytes]) -> bytes:
        """The request's bytes: in the entry, beside a slice in it, or with the payload that several segments share."""
        if fields.get("v") != b"1":
            raise Unreadable(f"format {fields.get('v')!r}")
        if fields.get("k", b"body") == b"body":
            return _plain(fields.get("c", b""), fields["p"])
        if "o" in fields:
            return _plain(fields["d"], fields["o"])
        payload_id = fields.get("r", b"").decode()
        payload = self.hash(f"segsync:payload:{{{payload_id}}}")
        if not payload:
            raise Unreadable(f"its body is neither in it nor in payload {payload_id!r}")
        return _plain(payload["codec"], payload["body"])

    def _read(self, fields: Mapping[str, bytes], body: bytes, cohort_id: str) -> tuple[str, dict[str, bool]]:
        """A body's marker, and what it says of one cohort."""
        parser = self._parsers.get(fields["m"].decode())
        if parser is None:  # it may have come since the last look
            self._parsers = self.hash("segsync:manifests")
            parser = self._parsers.get(fields["m"].decode())
        if parser is None:
            raise Unreadable(f"requestParser {fields['m'].decode()} is not kept")
        try:
            marker = json.loads(body)["marker"]
            members = read_members(body, parser.decode(), cohort_id)
        except (ValueError, KeyError, reference_parser.Refused) as fault:
            raise Unreadable(f"its body cannot be read: {fault!r}") from fault
        if fields.get("k", b"body") == b"slice":
            content = _plain(fields.get("c", b""), fields["p"])
            added, removed = msgspec.msgpack.decode(content, type=tuple[list[str], list[str]])
            if dict.fromkeys(added, True) | dict.fromkeys(removed, False) != members:
                raise Unreadable(f"the slice of {marker} is not what its body says")
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
