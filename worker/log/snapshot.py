"""A segment's snapshot: who was decided how, up to a position, in compressed chunks (rules 18 and 19). Pure.

A chunk holds the decisions about up to 20,000 members, sorted by context key; the chunks of a snapshot follow one
another, and together cover every key there can be. A decision is (in or out, the position of the batch that decided
it). Decisions below the snapshot's floor forget their position, and who was out below it is forgotten whole: no batch
below the floor can come back, so nobody asks. There is always one chunk at least.

Keys of one length, such as UUIDs, are stored column by column: their hyphens and versions then cost nothing, and a
million UUIDs take 14 bytes each, where as text they take 19.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import accumulate, pairwise
from sys import byteorder

import msgspec
import zstandard

from worker.log.position import order

CHUNK_MEMBERS = 20_000
# Of the format; a chunk begins with it.
VERSION = b"\x01"
# (in or out, position); no position: decided below the floor.
Decision = tuple[bool, str]

_BELOW_FLOOR = (-1, -1)


class Changes:
    """What some batches decide, in whatever order they come: each member as the latest of them has it."""

    def __init__(self) -> None:
        self._net: dict[str, Decision] = {}
        self._sorted: list[str] | None = []
        self._latest = _BELOW_FLOOR

    def __len__(self) -> int:
        return len(self._net)

    def add(self, position: str, members: Mapping[str, bool]) -> None:
        """Take in one batch: context key -> True (add) or False (remove)."""
        here = order(position)
        decisions: dict[bool, Decision] = {True: (True, position), False: (False, position)}
        if here >= self._latest:  # in order, as logs are read
            self._latest = here
            self._net.update((key, decisions[include]) for key, include in members.items())
        else:
            for key, include in members.items():
                known = self._net.get(key)
                if known is None or order(known[1]) <= here:
                    self._net[key] = decisions[include]
        self._sorted = None

    def within(self, above: str, upto: str | None) -> Iterator[tuple[str, Decision]]:
        """Those with ``above < key <= upto``, sorted; without ``upto``, to the end."""
        if self._sorted is None:
            self._sorted = sorted(self._net)
        keys, net = self._sorted, self._net
        end = len(keys) if upto is None else bisect_right(keys, upto)
        return ((keys[i], net[keys[i]]) for i in range(bisect_right(keys, above), end))


NO_CHANGES = Changes()


def merge(chunks: Iterable[bytes], changes: Changes, floor: str) -> Iterator[bytes]:
    """The chunks of the snapshot that follows from an older one's and from batches that it has not seen.

    Per member the later position decides, whatever came first. Holds the changes and two or three chunks at a time.

    Args:
        chunks: the older snapshot's, in order; none for the first.
        changes: no position below the older snapshot's floor.
        floor: of the new one; not below the older one's.

    Raises:
        ValueError: a chunk was written by a newer segsync.
    """
    lowest = order(floor)

    @cache  # a chunk has thousands of members, and few distinct decisions
    def settled(decision: Decision) -> Decision | None:
        included, position = decision
        if position and order(position) >= lowest:
            return decision
        return (True, "") if included else None

    keys: list[str] = []
    decisions: list[Decision] = []
    above = covered = ""

    def take_in(merged: Iterable[tuple[str, Decision]]) -> None:
        for key, decision in merged:
            if (kept := settled(decision)) is not None:
                keys.append(key)
                decisions.append(kept)

    for chunk in chunks:
        held = _read(chunk)
        if held.keys:
            take_in(_overlaid(held, changes.within(covered, held.keys[-1])))
            covered = held.keys[-1]
        # One more than full: the last chunk is written when it is known to be the last.
        while len(keys) > CHUNK_MEMBERS:
            yield _write(floor, above, keys[:CHUNK_MEMBERS], decisions[:CHUNK_MEMBERS])
            above = keys[CHUNK_MEMBERS - 1]
            del keys[:CHUNK_MEMBERS], decisions[:CHUNK_MEMBERS]
    take_in(changes.within(covered, None))
    for start in range(0, len(keys) or 1, CHUNK_MEMBERS):
        part = keys[start : start + CHUNK_MEMBERS]
        yield _write(floor, above, part, decisions[start : start + CHUNK_MEMBERS])
        above = part[-1] if part else above


def decisions_after(
    chunk: bytes, position: str, beside: Changes = NO_CHANGES, *, final: bool = True
) -> tuple[list[str], list[str]]:
    """Whom to add and whom to remove in a store that has applied everything up to a position.

    Below the chunk's floor, that is everyone whom it knows; a store that is not empty then needs those removed whom no
    chunk names, too.

    Args:
        chunk: one of the snapshot's.
        position: of the store's cursor.
        beside: what batches beside the snapshot decide, all of them; the members in this chunk's reach are answered.
        final: whether it is the snapshot's last chunk; it reaches to the last key there is.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    held = _read(chunk)
    from_ = order(position)
    everyone = from_ < order(held.floor)

    @cache
    def wanted(decision: Decision) -> bool:
        return everyone or _order(decision[1]) > from_

    add: list[str] = []
    remove: list[str] = []
    for key, decision in _overlaid(held, beside.within(held.above, _end(held, final=final))):
        if wanted(decision):
            (add if decision[0] else remove).append(key)
    return add, remove


def unpack_chunk(chunk: bytes) -> Iterator[tuple[str, bool, str]]:
    """Everyone whom it knows, sorted: context key, in or out, and the position that decided so ("": below the floor).

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    held = _read(chunk)
    return ((key, include, position) for key, (include, position) in zip(held.keys, held.decisions, strict=True))


def decisions(chunk: bytes, beside: Changes = NO_CHANGES, *, final: bool = True) -> Iterable[tuple[str, Decision]]:
    """Every decision in a chunk's reach, sorted by context key; of two about a member, the later.

    Args:
        chunk: one of the snapshot's.
        beside: what batches beside the snapshot, or after it, decide.
        final: whether it is the snapshot's last chunk; it reaches to the last key there is.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    held = _read(chunk)
    return _overlaid(held, beside.within(held.above, _end(held, final=final)))


def members(chunk: bytes) -> list[str]:
    """The members in it that are in the segment, sorted by context key.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    held = _read(chunk)
    return [key for key, decision in zip(held.keys, held.decisions, strict=True) if decision[0]]


def counts(chunk: bytes) -> tuple[int, int]:
    """How many members in it are in, and how many were removed and are remembered.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    held = _read(chunk)
    included = sum(decision[0] for decision in held.decisions)
    return included, len(held.decisions) - included


class _Packed(msgspec.Struct, array_like=True):
    """A chunk as it is stored, before compression. Fields are told by their places: new ones go last."""

    floor: str
    above: str  # the last key of the chunk before this one: keys up to it are none of this one's
    width: int  # of each key, in columns then; 0: keys of any length, one after the other
    keys: bytes
    lengths: list[int]  # of each key in characters, where there is no width
    table: list[Decision]
    decided: bytes  # per key its decision's place in the table, 16 bits, in columns


class _Held(msgspec.Struct):
    """A chunk in hand."""

    floor: str
    above: str
    keys: list[str]
    decisions: list[Decision]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Packed)


@lru_cache(maxsize=1 << 16)
def _order(position: str) -> tuple[int, int]:
    return order(position) if position else _BELOW_FLOOR


def _end(held: _Held, *, final: bool) -> str | None:
    """The last key in a chunk's reach; None when it reaches to the last there is."""
    if final:
        return None
    return held.keys[-1] if held.keys else held.above


def _overlaid(held: _Held, changes: Iterator[tuple[str, Decision]]) -> Iterable[tuple[str, Decision]]:
    """A chunk's decisions with the changes in its reach, sorted; of two about a member, the later."""
    merged = dict(zip(held.keys, held.decisions, strict=True))
    for key, decision in changes:
        known = merged.get(key)
        if known is None or _order(known[1]) <= _order(decision[1]):
            merged[key] = decision
    if len(merged) == len(held.keys):
        return merged.items()
    return ((key, merged[key]) for key in sorted(merged))


def _write(floor: str, above: str, keys: Sequence[str], decisions: Sequence[Decision]) -> bytes:
    text = "".join(keys)
    data, lengths = text.encode(), [len(key) for key in keys]
    width = lengths[0] if len(set(lengths)) == 1 and len(data) == len(text) else 0
    places = {decision: place for place, decision in enumerate(dict.fromkeys(decisions))}
    codes = array("H", [places[decision] for decision in decisions])
    if byteorder == "big":
        codes.byteswap()
    packed = _Packed(
        floor=floor,
        above=above,
        width=width,
        keys=_columns(data, width) if width else data,
        lengths=[] if width else lengths,
        table=list(places),
        decided=_columns(codes.tobytes(), 2),
    )
    return VERSION + zstandard.ZstdCompressor(level=1).compress(_encoder.encode(packed))


def _read(chunk: bytes) -> _Held:
    if chunk[:1] != VERSION:
        raise ValueError(f"a snapshot's chunk has format {chunk[0]}, newer than this worker")
    packed = _decoder.decode(zstandard.ZstdDecompressor().decompress(chunk[1:]))
    codes = array("H", _rows(packed.decided, 2))
    if byteorder == "big":
        codes.byteswap()
    if packed.width:
        text = _rows(packed.keys, packed.width).decode()
        ends = list(range(0, len(text) + 1, packed.width))
    else:
        text = packed.keys.decode()
        ends = [0, *accumulate(packed.lengths)]
    return _Held(
        floor=packed.floor,
        above=packed.above,
        keys=[text[start:end] for start, end in pairwise(ends)],
        decisions=[packed.table[code] for code in codes],
    )


def _columns(rows: bytes, width: int) -> bytes:
    return b"".join(rows[place::width] for place in range(width))


def _rows(columns: bytes, width: int) -> bytes:
    rows, height = bytearray(len(columns)), len(columns) // width
    for place in range(width):
        rows[place::width] = columns[place * height : (place + 1) * height]
    return bytes(rows)
