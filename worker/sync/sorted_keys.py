"""Sorting more keys than memory should hold: sorted runs in a temporary file, merged as they are read."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import msgspec
import zstandard

# So many keys are held at once, some 10 MB of UUIDs.
RUN_KEYS = 100_000
# Of each run, so many are in memory while they are merged.
_BLOCK_KEYS = 500

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[str])


class SortedKeys:
    """Takes keys in any order, gives them back sorted, each once. The file has no name, and goes with the process."""

    def __init__(self, run_keys: int = RUN_KEYS) -> None:
        self._run_keys = run_keys
        self._held: list[str] = []
        self._file = tempfile.TemporaryFile(prefix="segsync-")  # noqa: SIM115 - closed with this object
        self._runs: list[list[tuple[int, int]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, key: str) -> None:
        """Take one in.

        Raises:
            OSError: there is no room for the file.
        """
        self._held.append(key)
        if len(self._held) >= self._run_keys:
            self._write_run()

    def __iter__(self) -> Iterator[str]:
        """All of them, sorted by code points, each once; call it when the last has been taken in."""
        if self._held:
            self._write_run()
        before = None
        for key in heapq.merge(*(self._read_run(run) for run in self._runs)):
            if key != before:
                before = key
                yield key

    def _write_run(self) -> None:
        self._held.sort()
        self._file.seek(0, 2)
        blocks: list[tuple[int, int]] = []
        compressor = zstandard.ZstdCompressor(level=1)
        for start in range(0, len(self._held), _BLOCK_KEYS):
            packed = compressor.compress(_encoder.encode(self._held[start : start + _BLOCK_KEYS]))
            blocks.append((self._file.tell(), len(packed)))
            self._file.write(packed)
        self._runs.append(blocks)
        self._held.clear()

    def _read_run(self, blocks: list[tuple[int, int]]) -> Iterator[str]:
        for offset, size in blocks:
            self._file.seek(offset)
            yield from _decoder.decode(zstandard.ZstdDecompressor().decompress(self._file.read(size)))
