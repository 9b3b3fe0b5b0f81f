"""Dead entries of every log: found by time or by batch, read whole, and decided about; and those that were replayed.

``segsync:dead`` is a zset, ``{batch id}/{environment}/{segment key}/{generation}/{entry id}`` -> accept time in ms. It
lies in another slot than the logs: it is written after an entry died, and made whole again by ``reindex``; what it
lists that is no longer there is taken out when it is met. ``segsync:replayed`` is a hash, the same names -> what was
known of an entry when it died, and who replayed it: a note for people, which no fold reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

import msgspec
import redis

from worker.log import keyspace
from worker.log.dead import DeadLetter, DeadStatus, decode_letter
from worker.log.entry import DEFAULT_KIND, decompress
from worker.log.position import ms_of
from worker.log.scripts import script
from worker.model import DEFAULT_MEMBER_POLICY, SegmentId
from worker.state import state_errors

INDEX = "segsync:dead"
REPLAYED = "segsync:replayed"
_PAGE = 200


@dataclass(slots=True, frozen=True)
class DeadEntry:
    """An entry that died, where it lies, and what is known of it."""

    segment: SegmentId
    entry_id: str
    letter: DeadLetter

    @property
    def accepted_ms(self) -> int:
        return ms_of(self.entry_id)


@dataclass(slots=True, frozen=True)
class StoredBatch:
    """What the log keeps of a batch.

    Attributes:
        body: the request's bytes; None when nothing but this segment's slice is left of it.
        slice: this segment's part, packed, where the entry holds one.
        parser_digest: the requestParser that it was accepted under.
        policy: what was to become of members that cannot be read.
    """

    batch_id: str
    integration_key: str
    parser_digest: str
    policy: str
    body: bytes | None
    slice: bytes | None


class DeadLetters:
    """Reads dead entries, and notes what a person decides about them."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def index(self, segment: SegmentId, entry_id: str, batch_id: str) -> None:
        """Make a dead entry findable.

        Raises:
            Unavailable: the state server is away; ``reindex`` makes up for it.
        """
        with state_errors():
            self._client.zadd(INDEX, {_name(segment, entry_id, batch_id): ms_of(entry_id)})

    def unindex(self, segment: SegmentId, entry_id: str, batch_id: str) -> None:
        """It is not dead any more, or gone.

        Raises:
            Unavailable: the state server is away; listings take it out.
        """
        with state_errors():
            self._client.zrem(INDEX, _name(segment, entry_id, batch_id))

    def reindex(self, found: Iterable[tuple[SegmentId, str, bytes, DeadLetter]]) -> None:
        """Enter every one of these records that the index lacks.

        Raises:
            Unavailable: the state server is away.
        """
        records = iter(found)
        while names := {
            _name(segment, entry_id, letter.batch_id): ms_of(entry_id)
            for segment, entry_id, _, letter in islice(records, _PAGE)
        }:
            with state_errors():
                self._client.zadd(INDEX, names, nx=True)

    def newest_first(self, since_ms: int | None = None, until_ms: int | None = None) -> Iterator[DeadEntry]:
        """Every dead entry accepted within that time, both ends included, the latest first; read page by page.

        Raises:
            Unavailable: the state server is away.
        """
        least = "-inf" if since_ms is None else str(since_ms)
        most, count = "+inf" if until_ms is None else str(until_ms), _PAGE
        while True:
            # By time, not by offset: what is decided, or dies, while pages are read must not shift the next one. A
            # millisecond is read whole.
            with state_errors():
                page = cast(
                    "list[tuple[bytes, float]]",
                    self._client.zrevrangebyscore(
                        INDEX, most, least, start=0, num=count, withscores=True, score_cast_func=float
                    ),
                )
            whole = page if len(page) < count else [item for item in page if item[1] != page[-1][1]]
            if page and not whole:
                count *= 2
                continue
            yield from self._read([name.decode() for name, _ in whole])
            if len(page) < count:
                return
            most, count = f"({whole[-1][1]:.0f}", _PAGE

    def read(self, places: Sequence[tuple[SegmentId, str, str]]) -> list[DeadEntry]:
        """The entries of these segments, entry ids and batch ids of which a record is kept.

        Raises:
            Unavailable: the state server is away.
        """
        return self._read([_name(*place) for place in places])

    def of_batch(self, batch_id: str) -> list[DeadEntry]:
        """The dead entries of one batch: one for each of its segments in which it died.

        Raises:
            Unavailable: the state server is away.
        """
        pattern = "".join(f"\\{character}" if character in "*?[]\\" else character for character in batch_id)
        with state_errors():
            names = [name.decode() for name, _ in self._client.zscan_iter(INDEX, match=f"{pattern}/*", count=1000)]
        return self._read(sorted(set(names)))

    def read_batch(self, entry: DeadEntry) -> StoredBatch | None:
        """What the log still has of a dead entry's batch; None when nothing.

        Raises:
            Unavailable: the state server is away.
        """
        fields = self._fields(entry.segment, entry.entry_id)
        if not fields:
            return None
        content = decompress(fields.get(b"c", b""), fields[b"p"])
        kind = fields.get(b"k", DEFAULT_KIND.encode())
        body: bytes | None = None
        if kind == b"body":
            body = content
        elif b"o" in fields:
            body = decompress(fields[b"d"], fields[b"o"])
        elif b"r" in fields:
            with state_errors():
                kept = cast(
                    "list[bytes | None]", self._client.hmget(keyspace.payload(fields[b"r"].decode()), "codec", "body")
                )
            if kept[1] is not None:
                body = decompress(kept[0] or b"", kept[1])
        return StoredBatch(
            batch_id=fields[b"b"].decode(),
            integration_key=fields[b"i"].decode(),
            parser_digest=fields[b"m"].decode(),
            policy=fields.get(b"e", DEFAULT_MEMBER_POLICY.encode()).decode(),
            body=body,
            slice=content if kind == b"slice" else None,
        )

    def decide(self, entry: DeadEntry, status: DeadStatus, *, by: str, why: str, now_ms: int) -> bool:
        """Note that a dead entry is to stay out for good; returns False when it is not dead any more.

        Raises:
            Unavailable: the state server is away.
        """
        letter = msgspec.structs.replace(entry.letter, status=status, by=by, why=why, decided_ms=now_ms)
        base = keyspace.base(entry.segment.environment_id, entry.segment.segment_key)
        return bool(script("decide")(self._client, base, entry.segment.generation, entry.entry_id, letter.encode()))

    def note_replayed(self, entry: DeadEntry, *, by: str, why: str, now_ms: int) -> None:
        """Keep what is known of a dead entry that is about to be alive again, so that it can be looked up then.

        As long as it is dead nevertheless, the note counts for nothing. Noted again, it stays as it was.

        Raises:
            Unavailable: the state server is away.
        """
        letter = msgspec.structs.replace(entry.letter, status="replayed", by=by, why=why, decided_ms=now_ms)
        with state_errors():
            self._client.hsetnx(REPLAYED, _name(entry.segment, entry.entry_id, letter.batch_id), letter.encode())

    def unnote_replayed(self, entry: DeadEntry) -> None:
        """It was not brought to life after all.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            self._client.hdel(REPLAYED, _name(entry.segment, entry.entry_id, entry.letter.batch_id))

    def forget_replayed(self, before_ms: int) -> None:
        """Forget what was replayed before that time.

        Raises:
            Unavailable: the state server is away; some may be forgotten.
        """
        with state_errors():
            for name, kept in self._client.hscan_iter(REPLAYED, count=_PAGE):
                if decode_letter(kept).decided_ms < before_ms:
                    self._client.hdel(REPLAYED, name)  # listings take it out of the index

    def _fields(self, segment: SegmentId, entry_id: str) -> dict[bytes, bytes]:
        prefix = keyspace.prefix(segment)
        with state_errors():
            beside = cast("dict[bytes, bytes]", self._client.hgetall(f"{prefix}:late:{entry_id}"))
            if beside:
                return beside
            found = cast(
                "list[tuple[bytes, dict[bytes, bytes]]]", self._client.xrange(f"{prefix}:log", entry_id, entry_id)
            )
        return found[0][1] if found else {}

    def _read(self, names: Sequence[str]) -> list[DeadEntry]:
        """The entries of these names; names that lead nowhere any more are taken out of the index."""
        placed = [_place(name) for name in names]
        if not names:
            return []
        with state_errors(), self._client.pipeline(transaction=False) as pipe:
            for segment, entry_id in placed:
                pipe.hget(_dead_key(segment), entry_id)
            pipe.hmget(REPLAYED, names)
            *dead, replayed = pipe.execute()
            kept = [letter or note for letter, note in zip(dead, replayed, strict=True)]
            gone = [name for name, letter in zip(names, kept, strict=True) if letter is None]
            if gone:
                self._client.zrem(INDEX, *gone)
        return [
            DeadEntry(segment, entry_id, decode_letter(letter))
            for (segment, entry_id), letter in zip(placed, kept, strict=True)
            if letter is not None
        ]


def _dead_key(segment: SegmentId) -> str:
    return f"{keyspace.prefix(segment)}:dead"


def _name(segment: SegmentId, entry_id: str, batch_id: str) -> str:
    return f"{batch_id}/{keyspace.log_name(segment)}/{entry_id}"


def _place(name: str) -> tuple[SegmentId, str]:
    _, rest = name.split("/", 1)
    log_name, _, entry_id = rest.rpartition("/")
    return keyspace.segment_of(log_name), entry_id
