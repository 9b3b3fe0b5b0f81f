"""Reading a request's body: one cap everywhere, and the content encodings that partners use."""

from __future__ import annotations

import zlib
from typing import Protocol

import zstandard
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from worker.errors import InvalidBatch
from worker.receiver.headers import header

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
# Members of one gzip body: empty ones cost time, and no room.
_MOST_MEMBERS = 1000


class TooLarge(Exception):
    """Raised when a body is larger than the cap, before or after decoding."""


class UnsupportedEncoding(Exception):
    """Raised when a body has a content encoding that segsync does not know."""


class _Decoder(Protocol):
    def feed(self, data: bytes, room: int) -> bytes:
        """Decode; return at most ``room + 1`` bytes of what that gives."""

    def close(self) -> None:
        """Raise InvalidBatch unless the stream was whole."""


async def read_body(scope: Scope, receive: Receive, largest: int) -> bytes:
    """Read and decode a request's body, never holding more than the cap.

    Raises:
        TooLarge: it has more than ``largest`` bytes, as sent or decoded.
        UnsupportedEncoding: its Content-Encoding is neither gzip, deflate, zstd nor identity.
        InvalidBatch: it is not what its Content-Encoding says.
        ClientDisconnect: the request ended before its body.
    """
    length = header(scope, b"content-length")
    if length.isdecimal() and int(length) > largest:
        raise TooLarge
    decoder = _decoder(header(scope, b"content-encoding").strip().lower())
    chunk, more = _chunk_of(await receive())
    if not (more or decoder):  # as most bodies come: nothing is copied
        if len(chunk) > largest:
            raise TooLarge
        return chunk
    received, body = 0, bytearray()  # one buffer: a list of chunks of two bytes would take twenty times their size
    while True:
        received += len(chunk)
        body += decoder.feed(chunk, largest - len(body)) if decoder and chunk else chunk
        if len(body) > largest or received > largest:
            raise TooLarge
        if not more:
            break
        chunk, more = _chunk_of(await receive())
    if decoder:
        body += decoder.feed(b"", largest - len(body))
        if len(body) > largest:
            raise TooLarge
        decoder.close()
    return bytes(body)


def _chunk_of(message: Message) -> tuple[bytes, bool]:
    """Some bytes of a body, and whether there are more."""
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def _decoder(encoding: str) -> _Decoder | None:
    if encoding in {"", "identity"}:
        return None
    if encoding in {"gzip", "x-gzip"}:
        return _Zlib(_GZIP_OR_ZLIB, streams=_MOST_MEMBERS)
    if encoding == "deflate":
        return _Deflate()
    if encoding == "zstd":
        return _Zstandard()
    raise UnsupportedEncoding


class _Zlib:
    """gzip (also of several members, RFC 1952), zlib or raw deflate, by the window bits."""

    def __init__(self, window_bits: int, *, streams: int = 1) -> None:
        self._window_bits = window_bits
        self._stream = zlib.decompressobj(window_bits)
        self._streams_left = streams - 1

    def feed(self, data: bytes, room: int) -> bytes:
        parts, size = [], 0
        while data and size <= room:
            if self._stream.eof:
                if not self._streams_left:
                    raise _broken()
                self._streams_left -= 1
                self._stream = zlib.decompressobj(self._window_bits)
            try:
                decoded = self._stream.decompress(data, room + 1 - size)
            except zlib.error as error:
                raise _broken() from error
            parts.append(decoded)
            size += len(decoded)
            data = self._stream.unconsumed_tail or self._stream.unused_data
        return b"".join(parts)

    def close(self) -> None:
        if not self._stream.eof:
            raise _broken()


class _Deflate:
    """RFC 9110's deflate is zlib, but many senders send a raw stream: the first byte tells."""

    def __init__(self) -> None:
        self._inner: _Zlib | None = None

    def feed(self, data: bytes, room: int) -> bytes:
        if self._inner is None:
            if not data:
                return b""
            is_zlib = data[0] & 0x0F == zlib.DEFLATED
            self._inner = _Zlib(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        return self._inner.feed(data, room)

    def close(self) -> None:
        if self._inner is None:
            raise _broken()
        self._inner.close()


class _Zstandard:
    """Frames are collected, then decoded at once with a bound: the compressed form is under the cap as well.

    A frame that is cut short yields what there is of it, which then is no JSON.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes, room: int) -> bytes:
        self._parts.append(data)
        if data:
            return b""
        try:
            with zstandard.ZstdDecompressor().stream_reader(b"".join(self._parts), read_across_frames=True) as reader:
                return reader.read(room + 1)
        except zstandard.ZstdError as error:
            raise _broken() from error

    def close(self) -> None:
        """Nothing is left to check."""


def _broken() -> InvalidBatch:
    return InvalidBatch("malformed", "the body is not what its Content-Encoding says, or is cut short")
