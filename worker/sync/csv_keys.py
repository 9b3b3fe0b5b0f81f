"""Reading context keys from CSV (RFC 4180), as LaunchDarkly takes it: no header row, the key in the first column.

Other columns are ignored, and so are empty lines. UTF-8, with or without a byte order mark; lines end in LF or CRLF.
Memory is bounded whatever the file holds.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from io import BufferedReader, RawIOBase

# Partners' longest ids are e-mail addresses and hashes.
MOST_KEY_CHARACTERS = 4_096
MOST_LINE_BYTES = 256 * 1024
_BOM = b"\xef\xbb\xbf"


class BadFile(Exception):
    """Raised when a file cannot be read as it should be; the text names the line, and repeats nothing of it."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem if line is None else f"line {line:,}: {problem}")
        self.line = line


class KeyReader:
    """Iterates over the keys of one file, in its order, doubles and all.

    Attributes:
        lines: how many have been read.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._raw = BufferedReader(_Pieces(pieces), 64 * 1024)
        self.lines = 0

    def __iter__(self) -> Iterator[str]:
        """The keys.

        Raises:
            BadFile: an empty or far too long key, quotes that do not match, or bytes that are no UTF-8.
        """
        # A reader without a quota of its own: no field is longer than a line, but one that has line breaks in it, and
        # those end at the module's bound, 128 KiB.
        rows = csv.reader(self._lines(), strict=True)
        first = 1
        while True:
            first = rows.line_num + 1
            try:
                row = next(rows, None)
            except csv.Error as error:
                raise BadFile(_problem(str(error)), first) from None
            if row is None:
                return
            if not row:
                continue
            key = row[0]
            if not key or key.isspace():
                raise BadFile("the first column, the context key, is empty", first)
            if len(key) > MOST_KEY_CHARACTERS:
                raise BadFile(f"the context key is longer than {MOST_KEY_CHARACTERS:,} characters", first)
            yield key

    def _lines(self) -> Iterator[str]:
        while line := self._raw.readline(MOST_LINE_BYTES + 1):
            self.lines += 1
            if self.lines == 1:
                line = line.removeprefix(_BOM)
            if len(line) > MOST_LINE_BYTES:
                raise BadFile(f"it is longer than {MOST_LINE_BYTES // 1024} KiB", self.lines)
            try:
                yield line.decode()
            except UnicodeDecodeError:
                raise BadFile("it is not UTF-8", self.lines) from None


def _problem(said: str) -> str:
    """The module's words, put for a person; they hold nothing of the file."""
    if "end of data" in said:
        return "a quoted field is never closed"
    if "field larger" in said:
        return "a field is longer than 128 KiB"
    if "new-line" in said:
        return "it has a CR that no LF follows; lines end in LF or CRLF"
    return "its quotes do not match: a quoted field ends with a quote, and a quote in it is doubled"


class _Pieces(RawIOBase):
    """Pieces of a file as a raw stream."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._held = memoryview(piece)
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        return count
