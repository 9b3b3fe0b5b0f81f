"""Files in the state server: lists of compressed pieces, written and read as streams.

An upload that is cut, or a file whose writer is killed, goes by itself an hour after its last piece; what is whole is
given another life by whoever puts it on record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import cast

import redis
import zstandard

from worker.errors import Unavailable
from worker.state import state_errors

# What one request to the state server carries, uncompressed: small enough to hold nobody up.
PIECE_BYTES = 256 * 1024
UNFINISHED_SECONDS = 3600


class FileGone(Exception):
    """Raised when the file, or the rest of it, is not there any more."""


class PieceWriter:
    """Writes one file: hand it bytes, in any portions, and ``close`` it.

    Attributes:
        key: where it lies.
        pieces: how many are in the state server.
        size_bytes: what the file is long, uncompressed.
    """

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._client = client
        self.key = key
        self._held = bytearray()
        self.pieces = self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Take more of it.

        Raises:
            Unavailable: the state server is away, or full.
        """
        self._held += data
        self.size_bytes += len(data)
        while len(self._held) >= PIECE_BYTES:
            self._send(bytes(self._held[:PIECE_BYTES]))
            del self._held[:PIECE_BYTES]

    def close(self) -> None:
        """Write what is left; a file has one piece at least.

        Raises:
            Unavailable: the state server is away, or full.
        """
        if self._held or not self.pieces:
            self._send(bytes(self._held))
            self._held.clear()

    def abandon(self) -> None:
        """Give its memory back at once, if the server can be reached."""
        with suppress(Unavailable):
            delete_file(self._client, self.key)

    def _send(self, piece: bytes) -> None:
        packed = zstandard.ZstdCompressor(level=1).compress(piece)
        with state_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.rpush(self.key, packed)
            pipe.expire(self.key, UNFINISHED_SECONDS)
            pipe.execute()
        self.pieces += 1


def write_file(
    client: redis.Redis, key: str, stream: Iterable[bytes], taken: Callable[[int], object] = lambda _bytes: None
) -> PieceWriter:
    """Write a stream into the state server; what ends it early leaves nothing behind.

    ``taken`` is told how much has come, before more is written; what it raises goes on to the caller.

    Raises:
        Unavailable: the state server is away, or full.
    """
    writer = PieceWriter(client, key)
    try:
        for data in stream:
            taken(writer.size_bytes + len(data))
            writer.write(data)
        writer.close()
    except BaseException:
        writer.abandon()
        raise
    return writer


def read_file(client: redis.Redis, key: str, pieces: int) -> Iterator[bytes]:
    """A file of so many pieces, piece by piece.

    Raises:
        FileGone: it is not there, or goes while it is read.
        Unavailable: the state server is away.
    """
    for number in range(pieces):
        with state_errors():
            packed = cast("bytes | None", client.lindex(key, number))
        if packed is None:
            raise FileGone
        yield zstandard.ZstdDecompressor().decompress(packed)


def delete_file(client: redis.Redis, key: str) -> None:
    """Take a file away; one that is not there is as good.

    Raises:
        Unavailable: the state server is away.
    """
    with state_errors():
        client.unlink(key)
