"""One entry of a segment log: its fields on the wire, and compression where it pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import zstandard

from worker.model import DEFAULT_MEMBER_POLICY, MemberPolicy, RejectedMember, Rejections

Kind = Literal["body", "slice"]

VERSION = b"1"
# Below this a frame's header and the call cost more than the bytes saved.
WORTH_COMPRESSING_BYTES = 512


@dataclass(slots=True, frozen=True)
class Entry:
    """What a drain reads back.

    Attributes:
        entry_id: stream id; its milliseconds are the accept time by the state server's clock.
        batch_id: id of the accepted request.
        batches_total: how many entries this log had ever taken, up to and with this one.
        bytes_total: the same for the bytes of the entries' fields.
        integration_key: the integration that it came through.
        parser_digest: which requestParser it was accepted under; every later parse uses that one.
        policy: what was to become of members that cannot be read; every later parse uses that one, too.
        kind: "body" (the request's bytes, unchanged) or "slice" (this segment's part of the payload, parsed: where
            several segments share it, or members were left out of it).
        codec, data: the bytes as stored; ``content`` undoes the codec.
        dead: decided to be dead, for all stores; folds skip it.
        rejected: the members that were left out of the payload, packed; empty when there are none, and for drains,
            which are not told. Of a payload of several segments, only its own cohort's entry has them.
    """

    entry_id: str
    batch_id: str
    batches_total: int
    bytes_total: int
    integration_key: str
    parser_digest: str
    policy: MemberPolicy
    kind: Kind
    codec: bytes
    data: bytes
    dead: bool = False
    rejected: bytes = b""

    def content(self) -> bytes:
        """The request's body, or the slice, decompressed."""
        return decompress(self.codec, self.data)


def compress(data: bytes) -> tuple[bytes, bytes]:
    """Return (codec, bytes): zstd level 1 where it saves a tenth at least, else the data as it is."""
    if len(data) >= WORTH_COMPRESSING_BYTES:
        packed = zstandard.ZstdCompressor(level=1).compress(data)
        if len(packed) < len(data) * 9 // 10:
            return b"z", packed
    return b"", data


def decompress(codec: bytes, data: bytes) -> bytes:
    """The inverse of ``compress``."""
    if codec == b"z":
        return zstandard.ZstdDecompressor().decompress(data)
    return data


def pack_fields(
    *,
    integration_key: str,
    parser_digest: str,
    policy: MemberPolicy,
    kind: Kind,
    content: tuple[bytes, bytes],
    original: tuple[bytes, bytes] | None = None,
    payload_id: str = "",
    rejected: Rejections | None = None,
) -> list[str | bytes]:
    """The fields that a receiver decides; the append adds batch id and totals (b, n, s).

    Args:
        integration_key: i.
        parser_digest: m.
        policy: e.
        kind: k.
        content: c and p, the body or the slice, compressed.
        original: d and o, the body beside a slice, where it lies in the entry.
        payload_id: r, where the body lies that a slice was taken from.
        rejected: x, the members left out, if there are any.
    """
    fields: list[str | bytes] = ["v", VERSION, "i", integration_key, "m", parser_digest, "e", policy, "k", kind]
    if payload_id:
        fields += ["r", payload_id]
    if original is not None:
        fields += ["d", original[0], "o", original[1]]
    if rejected is not None and rejected.count:
        fields += ["x", msgspec.msgpack.encode((rejected.count, rejected.listed))]
    return [*fields, "c", content[0], "p", content[1]]


def unpack_rejected(packed: bytes) -> Rejections:
    """What an entry's ``rejected`` says."""
    count, listed = _rejected_decoder.decode(packed)
    return Rejections(count, listed)


def unpack(entry_id: bytes, fields: Sequence[bytes], dead: int) -> Entry:
    """Read an entry as ``read.lua`` returns it.

    Raises:
        ValueError: the entry was written by a newer segsync; roll this worker forward.
    """
    found: Mapping[bytes, bytes] = dict(zip(fields[::2], fields[1::2], strict=True))
    if found[b"v"] != VERSION:
        raise ValueError(f"log entry {entry_id.decode()} has format {found[b'v'].decode()}, newer than this worker")
    return Entry(
        entry_id=entry_id.decode(),
        batch_id=found[b"b"].decode(),
        batches_total=int(found[b"n"]),
        bytes_total=int(found[b"s"]),
        integration_key=found[b"i"].decode(),
        parser_digest=found[b"m"].decode(),
        policy="skip" if found[b"e"] == b"skip" else DEFAULT_MEMBER_POLICY,
        kind="slice" if found[b"k"] == b"slice" else "body",
        codec=found[b"c"],
        data=found[b"p"],
        dead=bool(dead),
        rejected=found.get(b"x", b""),
    )


_slice_encoder = msgspec.msgpack.Encoder()
_slice_decoder = msgspec.msgpack.Decoder(tuple[list[str], list[str]])
_rejected_decoder = msgspec.msgpack.Decoder(tuple[int, list[RejectedMember]])


def pack_slice(members: Mapping[str, bool]) -> bytes:
    """One segment's part of a payload: the members added and the members removed."""
    added = [key for key, include in members.items() if include]
    return _slice_encoder.encode((added, [key for key, include in members.items() if not include]))


def unpack_slice(content: bytes) -> dict[str, bool]:
    """The inverse of ``pack_slice``: context key -> True (add) or False (remove)."""
    added, removed = _slice_decoder.decode(content)
    members = dict.fromkeys(added, True)
    members.update(dict.fromkeys(removed, False))
    return members
