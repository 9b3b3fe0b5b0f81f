"""One entry of a segment log: its fields on the wire, and compression where it pays."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import zstandard

from worker.log.names import Marked, excluded_name, included_name
from worker.model import DEFAULT_MEMBER_POLICY, MemberPolicy, RejectedMember, Rejections

Kind = Literal["body", "slice", "change", "import"]

DEFAULT_KIND: Kind = "body"
VERSION = "1"
# Of entries that people made: a worker that does not know them must not take them for something else.
MADE_VERSION = "2"
# Below this it does not pay: of fifty members it would save a kilobyte, and take a twelfth of all that a receiver does
# for the payload (measured: an eighth fewer accepts).
WORTH_COMPRESSING_BYTES = 4096


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
            several segments share it, or members were left out of it); made by people: "change" (see ``pack_change``)
            and "import" (see imports.py).
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


class _OfThread(threading.local):
    """A compressor for each thread, which none can share: a new one for each body takes three times as long (17 µs)."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=1)


_of_thread = _OfThread()


def compress(data: bytes) -> tuple[bytes, bytes]:
    """Return (codec, bytes): zstd level 1 where it saves a tenth at least, else the data as it is."""
    if len(data) >= WORTH_COMPRESSING_BYTES:
        packed = _of_thread.compressor.compress(data)
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
        policy: e, unless it is the default.
        kind: k, unless it is a body.
        content: c, where it is compressed, and p: the body or the slice.
        original: d and o, the body beside a slice, where it lies in the entry.
        payload_id: r, where the body lies that a slice was taken from.
        rejected: x, the members left out, if there are any.
    """
    fields: list[str | bytes] = ["v", VERSION, "i", integration_key, "m", parser_digest]
    # What nearly every entry would say is left out: each field costs the server half a microsecond.
    if policy != DEFAULT_MEMBER_POLICY:
        fields += ["e", policy]
    if kind != DEFAULT_KIND:
        fields += ["k", kind]
    if payload_id:
        fields += ["r", payload_id]
    if original is not None:
        fields += ["d", original[0], "o", original[1]]
    if rejected is not None and rejected.count:
        fields += ["x", msgspec.msgpack.encode((rejected.count, rejected.listed))]
    if content[0]:
        fields += ["c", content[0]]
    fields += ["p", content[1]]
    return fields


def pack_made(integration_key: str, kind: Kind, content: bytes, *, import_id: str = "") -> list[str | bytes]:
    """The fields of an entry that people made, who have no requestParser and no policy; ``import_id`` is u."""
    codec, data = compress(content)
    fields: list[str | bytes] = ["v", MADE_VERSION, "i", integration_key, "m", "", "e", "", "k", kind]
    if import_id:
        fields += ["u", import_id]
    return [*fields, "c", codec, "p", data]


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
    if found[b"v"].decode() not in _KNOWN:
        raise ValueError(f"log entry {entry_id.decode()} has format {found[b'v'].decode()}, newer than this worker")
    return Entry(
        entry_id=entry_id.decode(),
        batch_id=found[b"b"].decode(),
        batches_total=int(found[b"n"]),
        bytes_total=int(found[b"s"]),
        integration_key=found[b"i"].decode(),
        parser_digest=found[b"m"].decode(),
        policy="skip" if found.get(b"e") == b"skip" else DEFAULT_MEMBER_POLICY,
        kind=_KINDS.get(found.get(b"k", b""), DEFAULT_KIND),
        codec=found.get(b"c", b""),
        data=found[b"p"],
        dead=bool(dead),
        rejected=found.get(b"x", b""),
    )


_KNOWN = frozenset((VERSION, MADE_VERSION))
_KINDS: Mapping[bytes, Kind] = {b"slice": "slice", b"change": "change", b"import": "import"}

_slice_encoder = msgspec.msgpack.Encoder()
_slice_decoder = msgspec.msgpack.Decoder(tuple[list[str], list[str]])
_rejected_decoder = msgspec.msgpack.Decoder(tuple[int, list[RejectedMember]])
_change_decoder = msgspec.msgpack.Decoder(tuple[list[str], list[str], list[str], list[str]])


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


def pack_change(
    add: Sequence[str], remove: Sequence[str], add_excluded: Sequence[str], remove_excluded: Sequence[str]
) -> bytes:
    """What people say of a segment's two lists; in each of them a context is added or removed."""
    return _slice_encoder.encode((add, remove, add_excluded, remove_excluded))


def unpack_change(content: bytes) -> dict[str, bool]:
    """The inverse of ``pack_change``, in names (names.py)."""
    add, remove, add_excluded, remove_excluded = _change_decoder.decode(content)
    said = Marked((included_name(key), True) for key in add)
    said.update((included_name(key), False) for key in remove)
    said.update((excluded_name(key), True) for key in add_excluded)
    said.update((excluded_name(key), False) for key in remove_excluded)
    return said
