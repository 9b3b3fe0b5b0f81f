"""A segment's snapshot: who was decided how, up to a position, in compressed chunks (rules 18 and 19). Pure.

A chunk holds the decisions about up to 20,000 members, sorted by context key; the chunks of a snapshot follow one
another, and together cover every key there can be. A decision is (in or out, the position of the batch that decided
it). Decisions below the snapshot's floor forget their position, and who was out below it is forgotten whole: no batch
below the floor can come back, so nobody asks. There is always one chunk at least.

Members of both of the segment's lists are in it, by their names (names.py). A snapshot into which a replace was folded
remembers where that was, its ``reset``: whatever an earlier batch says of the included list is over, also of those whom
no chunk names any more, until the floor passes it (rule 20).

Keys of one length, such as UUIDs, are stored column by column: their hyphens and versions then cost nothing, and a
million UUIDs take 14 bytes each, where as text they take 19.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate, pairwise
from sys import byteorder
from typing import Generic, NamedTuple, TypeVar

import msgspec
import zstandard

from worker.log.names import excluded_range, is_excluded, marked_range, split_sorted
from worker.log.position import order
from worker.model import MemberList

CHUNK_MEMBERS = 20_000
# Of the format; a chunk begins with it. The second is of one that has marked names, or a reset: an older worker, which
# would misread these alone, refuses it.
VERSION = b"\x01"
VERSION_MARKED = b"\x02"
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


@dataclass(slots=True)
class Imported:
    """An import that is folded in, as of its position, which is later than all else that is.

    Attributes:
        names: who is in, sorted, in portions.
        resets: the lists in which nobody else is.
    """

    position: str
    names: Iterator[list[str]]
    resets: Sequence[MemberList] = ()


def merge(chunks: Iterable[bytes], changes: Changes, floor: str, imported: Imported | None = None) -> Iterator[bytes]:
    """The chunks of the snapshot that follows from an older one's and from batches that it has not seen.

    Per member the later position decides, whatever came first. Holds the changes and two or three chunks at a time, and
    as many portions of the import.

    Args:
        chunks: the older snapshot's, in order; none for the first.
        changes: no position below the older snapshot's floor.
        floor: of the new one; not below the older one's.
        imported: what comes after all of these.

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
    above = ""
    former = _Former(chunks)
    for run in _runs(former, changes, imported):
        for key, decision in run:
            if (kept := settled(decision)) is not None:
                keys.append(key)
                decisions.append(kept)
        # One more than full: the last chunk is written when it is known to be the last.
        while len(keys) > CHUNK_MEMBERS:
            reset = _reset_after(former.reset, imported, lowest)
            yield _write(floor, above, keys[:CHUNK_MEMBERS], decisions[:CHUNK_MEMBERS], reset)
            above = keys[CHUNK_MEMBERS - 1]
            del keys[:CHUNK_MEMBERS], decisions[:CHUNK_MEMBERS]
    reset = _reset_after(former.reset, imported, lowest)
    for start in range(0, len(keys) or 1, CHUNK_MEMBERS):
        part = keys[start : start + CHUNK_MEMBERS]
        yield _write(floor, above, part, decisions[start : start + CHUNK_MEMBERS], reset)
        above = part[-1] if part else above


def decisions_after(
    chunk: bytes, position: str, beside: Changes = NO_CHANGES, *, final: bool = True
) -> tuple[list[str], list[str]]:
    """Whom to add and whom to remove in a store that has applied everything up to a position: sorted names.

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
    for key, decision in _of_chunk(held, beside, final=final):
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
    return _of_chunk(_read(chunk), beside, final=final)


def reset_of(chunk: bytes) -> str:
    """Where a replace was folded into this chunk's snapshot; "" when none was, or no earlier batch can come any more.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    return _read(chunk).reset


def members(chunk: bytes) -> tuple[list[str], list[str]]:
    """The context keys in it that the segment includes, and those that it excludes.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    held = _read(chunk)
    return split_sorted([key for key, decision in zip(held.keys, held.decisions, strict=True) if decision[0]])


class Counts(NamedTuple):
    """How many members are included, and how many excluded; how many left one of the lists, and are remembered."""

    included: int
    excluded: int
    removed: int


def counts(chunk: bytes) -> Counts:
    """How many are in the chunk.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    held = _read(chunk)
    first, beyond = excluded_range(held.keys)
    there = sum(decision[0] for decision in held.decisions)
    excluded = sum(decision[0] for decision in held.decisions[first:beyond])
    return Counts(there - excluded, excluded, len(held.decisions) - there)


def pack_names(names: Sequence[str]) -> bytes:
    """Sorted names alone, as they are kept in an import's chunk."""
    return _write("0-0", "", names, [(True, "")] * len(names), "")


def unpack_names(chunk: bytes) -> list[str]:
    """The inverse of ``pack_names``.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    return _read(chunk).keys


class _Packed(msgspec.Struct, array_like=True):
    """A chunk as it is stored, before compression. Fields are told by their places: new ones go last."""

    floor: str
    above: str  # the last key of the chunk before this one: keys up to it are none of this one's
    width: int  # of each key, in columns then; 0: keys of any length, one after the other
    keys: bytes
    lengths: list[int]  # of each key in characters, where there is no width
    table: list[Decision]
    decided: bytes  # per key its decision's place in the table, 16 bits, in columns
    reset: str = ""  # of the snapshot


class _Held(msgspec.Struct):
    """A chunk in hand."""

    floor: str
    above: str
    keys: list[str]
    decisions: list[Decision]
    reset: str


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


def _of_chunk(held: _Held, beside: Changes, *, final: bool) -> Iterable[tuple[str, Decision]]:
    """A chunk's decisions and those beside it that are in its reach, sorted."""
    changes = beside.within(held.above, _end(held, final=final))
    merged = _overlaid(held.keys, held.decisions, changes, held.reset)
    return merged.items() if len(merged) == len(held.keys) else _sorted(merged)


def _overlaid(
    keys: Sequence[str], decisions: Sequence[Decision], changes: Iterator[tuple[str, Decision]], reset: str
) -> dict[str, Decision]:
    """Decisions and changes; of two about a member, the later. What came before the reset is out (rule 20)."""
    merged = dict(zip(keys, decisions, strict=True))
    over = _order(reset)
    for key, decision in changes:
        known = merged.get(key)
        here = _order(decision[1])
        if here < over and not is_excluded(key):
            if known is None or _order(known[1]) < over:
                merged[key] = (False, reset)
        elif known is None or _order(known[1]) <= here:
            merged[key] = decision
    return merged


def _sorted(merged: Mapping[str, Decision]) -> Iterator[tuple[str, Decision]]:
    return ((key, merged[key]) for key in sorted(merged))


T = TypeVar("T")


class _Feed(Generic[T]):
    """Sorted keys, each with a value, that come in portions and are taken in others."""

    def __init__(self, portions: Iterator[tuple[list[str], Sequence[T]]]) -> None:
        self._portions = portions
        self._keys: list[str] = []
        self._values: Sequence[T] = ()
        self._at = 0

    def end(self) -> str | None:
        """The last key of the portion in hand; None when there is nothing more."""
        while self._at == len(self._keys):
            portion = next(self._portions, None)
            if portion is None:
                return None
            (self._keys, self._values), self._at = portion, 0
        return self._keys[-1]

    def take(self, upto: str) -> tuple[list[str], Sequence[T]]:
        """Those up to a key, which is not beyond the portion in hand."""
        start, self._at = self._at, bisect_right(self._keys, upto, self._at)
        return self._keys[start : self._at], self._values[start : self._at]


class _Former(_Feed[Decision]):
    """The older snapshot's decisions; and its reset, once a chunk of it was read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.reset = ""
        super().__init__(self._decisions(chunks))

    def _decisions(self, chunks: Iterable[bytes]) -> Iterator[tuple[list[str], Sequence[Decision]]]:
        for chunk in chunks:
            held = _read(chunk)
            self.reset = held.reset
            yield held.keys, held.decisions


def _runs(former: _Former, changes: Changes, imported: Imported | None) -> Iterator[Iterable[tuple[str, Decision]]]:
    """Everything merged, in sorted runs: each as far as both the chunk and the portion in hand reach."""
    came = _Feed((names, names) for names in imported.names) if imported is not None else _Feed(iter(()))
    covered = ""
    while True:
        upto = min((end for end in (former.end(), came.end()) if end is not None), default=None)
        keys, decisions = former.take(upto) if upto is not None else ([], ())
        merged = _overlaid(keys, decisions, changes.within(covered, upto), former.reset)
        if imported is not None:
            if imported.resets:
                _take_out(merged, imported)
            if upto is not None:
                merged.update(dict.fromkeys(came.take(upto)[0], (True, imported.position)))
        yield merged.items() if len(merged) == len(keys) else _sorted(merged)
        if upto is None:
            return
        covered = upto


def _take_out(merged: dict[str, Decision], imported: Imported) -> None:
    """Whoever is in one of the lists that are reset is out; whoever was out before stays so, since when he was."""
    out = (False, imported.position)
    for name, decision in merged.items():
        if decision[0] and ("excluded" if is_excluded(name) else "included") in imported.resets:
            merged[name] = out


def _reset_after(former: str, imported: Imported | None, lowest: tuple[int, int]) -> str:
    reset = imported.position if imported is not None and "included" in imported.resets else former
    return reset if _order(reset) >= lowest else ""


def _write(floor: str, above: str, keys: Sequence[str], decisions: Sequence[Decision], reset: str) -> bytes:
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
        reset=reset,
    )
    first, beyond = marked_range(keys)
    version = VERSION if first == beyond and not reset else VERSION_MARKED
    return version + zstandard.ZstdCompressor(level=1).compress(_encoder.encode(packed))


def _read(chunk: bytes) -> _Held:
    if chunk[:1] not in {VERSION, VERSION_MARKED}:
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
        reset=packed.reset,
    )


def _columns(rows: bytes, width: int) -> bytes:
    return b"".join(rows[place::width] for place in range(width))


def _rows(columns: bytes, width: int) -> bytes:
    rows, height = bytearray(len(columns)), len(columns) // width
    for place in range(width):
        rows[place::width] = columns[place * height : (place + 1) * height]
    return bytes(rows)
