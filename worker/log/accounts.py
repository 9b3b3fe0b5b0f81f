"""What one segment's log says of itself: its counters and what lies in it, as of one moment, for counting it over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import redis

from worker.log import keyspace
from worker.log.dead import decode_letter
from worker.log.lease import Lease
from worker.log.position import START
from worker.log.scripts import script
from worker.log.upkeep import NO_LIFE, read_lives
from worker.model import SegmentId
from worker.state import state_errors

_PAGE = 2_000


@dataclass(slots=True, frozen=True)
class Reached:
    """How far a store has applied a log: the position, and how many batches the log had taken up to there."""

    position: str
    batches: int


@dataclass(slots=True, frozen=True)
class Books:
    """One log at one moment.

    Attributes:
        last: its last position.
        batches: how many were ever appended, ``inserted`` how many came by replay at a place of their own.
        folded: how many of them are in the snapshot; ``expired``, dead letters that had their time; ``forgotten``,
            discarded or moved ones that had theirs.
        trimmed: the last position that the stream does not have any more, and ``trimmed_batches`` how many that were.
        snapshot: its token; "" when there is none.
        unread: ids of the entries that no fold reads: dead, discarded or moved.
        beside: ids of the entries beside the stream.
        stores: how far each store is.
    """

    segment: SegmentId
    last: str
    batches: int
    inserted: int
    folded: int
    expired: int
    forgotten: int
    trimmed: str
    trimmed_batches: int
    snapshot: str
    unread: frozenset[str]
    beside: frozenset[str]
    stores: Mapping[str, Reached]


def read_books(client: redis.Redis, segment: SegmentId, store_ids: Sequence[str]) -> Books:
    """The books of one log, read in one step.

    Raises:
        Unavailable: the state server is away.
    """
    prefix = keyspace.prefix(segment)
    lives = read_lives(client, store_ids)
    with state_errors(), client.pipeline(transaction=True) as pipe:
        pipe.hgetall(f"{prefix}:head")
        pipe.hkeys(f"{prefix}:dead")
        pipe.zrange(f"{prefix}:late", 0, -1)
        for store_id in store_ids:
            pipe.hmget(f"{prefix}:cursor:{store_id}", "position", "batches", "incarnation")
        found, unread, beside, *cursors = pipe.execute()
    head = {name.decode(): value.decode() for name, value in found.items()}

    def number(name: str) -> int:
        return int(head.get(name, 0))

    return Books(
        segment=segment,
        last=head.get("last", START),
        batches=number("batches"),
        inserted=number("inserted"),
        folded=number("folded"),
        expired=number("expired"),
        forgotten=number("forgotten"),
        trimmed=head.get("trimmed", START),
        trimmed_batches=number("trimmed_batches"),
        snapshot=head.get("snapshot", ""),
        unread=frozenset(entry_id.decode() for entry_id in unread),
        beside=frozenset(entry_id.decode() for entry_id in beside),
        stores={
            store_id: _reached(cursor, lives.get(store_id, NO_LIFE).incarnation)
            for store_id, cursor in zip(store_ids, cursors, strict=True)
        },
    )


def walk(client: redis.Redis, segment: SegmentId, position: str) -> Iterator[tuple[str, int]]:
    """The entries of the stream after a position: id, and the how many-th that the log ever took; read page by page.

    Raises:
        Unavailable: the state server is away.
    """
    base = keyspace.base(segment.environment_id, segment.segment_key)
    while True:
        found = script("walk")(client, base, segment.generation, position, _PAGE)
        for entry_id, ordinal in zip(found[::2], found[1::2], strict=True):
            yield entry_id.decode(), int(ordinal)
        if not found:
            return
        position = found[-2].decode()


def undecided(client: redis.Redis, segment: SegmentId, entry_ids: Sequence[str]) -> list[str]:
    """Those of the entries that no fold reads which wait for a person.

    What was decided, or replayed, since their ids were read is not among them.

    Raises:
        Unavailable: the state server is away.
    """
    found: list[str] = []
    for ids in _portions(entry_ids):
        with state_errors():
            kept = cast("list[bytes | None]", client.hmget(f"{keyspace.prefix(segment)}:dead", list(ids)))
        letters = zip(ids, kept, strict=True)
        found += [entry_id for entry_id, letter in letters if letter and decode_letter(letter).status == "dead"]
    return found


def hollow(client: redis.Redis, segment: SegmentId, entry_ids: Sequence[str]) -> list[str]:
    """Those of the entries beside the stream that are listed, now as before, and are not there.

    Raises:
        Unavailable: the state server is away.
    """
    prefix = keyspace.prefix(segment)
    found: list[str] = []
    for ids in _portions(entry_ids):
        with state_errors(), client.pipeline(transaction=True) as pipe:
            for entry_id in ids:
                pipe.exists(f"{prefix}:late:{entry_id}")
                pipe.zscore(f"{prefix}:late", entry_id)
            replies = pipe.execute()
        looks = zip(ids, replies[::2], replies[1::2], strict=True)
        found += [entry_id for entry_id, there, listed in looks if listed is not None and not there]
    return found


def note_members(client: redis.Redis, lease: Lease, members: int, excluded: int) -> bool:
    """Make it the segment's exact counts that the leased store has so many in each list, as the log says (rule 22).

    Returns:
        Whether it is: not when something waits in the log, or may still land in the store.

    Raises:
        Unavailable: the state server is away; it may be noted.
    """
    segment = lease.segment
    base = keyspace.base(segment.environment_id, segment.segment_key)
    return bool(script("count")(client, base, segment.generation, lease.store_id, lease.token, members, excluded))


def _portions(entry_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (entry_ids[start : start + _PAGE] for start in range(0, len(entry_ids), _PAGE))


def _reached(cursor: Sequence[bytes | None], life: str) -> Reached:
    position, batches, made_for = (None if part is None else part.decode() for part in cursor)
    # Rule 12: a cursor that was made for another life of the store says nothing about this one.
    if position is None or (made_for and life and made_for != life):
        return Reached(START, 0)
    return Reached(position, int(batches or 0))
