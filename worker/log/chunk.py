"""One chunk of a snapshot, as it is kept: packed, compressed, with the version of its format. Pure.

Keys of one length, such as UUIDs, are stored column by column: their hyphens and versions then cost nothing, and a
million UUIDs take 14 bytes each, where as text they take 19.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from sys import byteorder

import msgspec
import zstandard

from worker.log.names import marked_range

CHUNK_MEMBERS = 20_000
# Of the format; a chunk begins with it. The second is of one that has marked names, or a reset: an older worker, which
# would misread these alone, refuses it.
VERSION = b"\x01"
VERSION_MARKED = b"\x02"
# (in or out, position); no position: decided below the floor.
Decision = tuple[bool, str]


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


class Chunk(msgspec.Struct):
    """A chunk in hand; ``above`` is the last key of the one before it."""

    floor: str
    above: str
    keys: list[str]
    decisions: list[Decision]
    reset: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Packed)


def write_chunk(floor: str, above: str, keys: Sequence[str], decisions: Sequence[Decision], reset: str) -> bytes:
    """Pack sorted names and their decisions; ``above`` is the last name of the chunk before."""
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


def read_chunk(chunk: bytes) -> Chunk:
    """Unpack a chunk.

    Raises:
        ValueError: it was written by a newer segsync.
    """
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
    return Chunk(
        floor=packed.floor,
        above=packed.above,
        keys=[text[start:end] for start, end in pairwise(ends)],
        decisions=[packed.table[code] for code in codes],
        reset=packed.reset,
    )


def pack_names(names: Sequence[str]) -> bytes:
    """Sorted names alone, as they are kept in an import's chunk."""
    return write_chunk("0-0", "", names, [(True, "")] * len(names), "")


def unpack_names(chunk: bytes) -> list[str]:
    """The inverse of ``pack_names``.

    Raises:
        ValueError: the chunk was written by a newer segsync.
    """
    return read_chunk(chunk).keys


def _columns(rows: bytes, width: int) -> bytes:
    return b"".join(rows[place::width] for place in range(width))


def _rows(columns: bytes, width: int) -> bytes:
    rows, height = bytearray(len(columns)), len(columns) // width
    for place in range(width):
        rows[place::width] = columns[place * height : (place + 1) * height]
    return bytes(rows)
