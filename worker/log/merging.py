"""The snapshot that follows from an older one, from batches and an import; a few chunks in hand at a time. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

from worker.log.chunk import CHUNK_MEMBERS, Decision, read_chunk, write_chunk
from worker.log.names import is_excluded
from worker.log.position import order
from worker.log.snapshot import Changes, in_order, order_of, overlaid
from worker.model import MemberList

T = TypeVar("T")


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
            yield write_chunk(floor, above, keys[:CHUNK_MEMBERS], decisions[:CHUNK_MEMBERS], reset)
            above = keys[CHUNK_MEMBERS - 1]
            del keys[:CHUNK_MEMBERS], decisions[:CHUNK_MEMBERS]
    reset = _reset_after(former.reset, imported, lowest)
    for start in range(0, len(keys) or 1, CHUNK_MEMBERS):
        part = keys[start : start + CHUNK_MEMBERS]
        yield write_chunk(floor, above, part, decisions[start : start + CHUNK_MEMBERS], reset)
        above = part[-1] if part else above


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
            held = read_chunk(chunk)
            self.reset = held.reset
            yield held.keys, held.decisions


def _runs(former: _Former, changes: Changes, imported: Imported | None) -> Iterator[Iterable[tuple[str, Decision]]]:
    """Everything merged, in sorted runs: each as far as both the chunk and the portion in hand reach."""
    came = _Feed((names, names) for names in imported.names) if imported is not None else _Feed(iter(()))
    covered = ""
    while True:
        upto = min((end for end in (former.end(), came.end()) if end is not None), default=None)
        keys, decisions = former.take(upto) if upto is not None else ([], ())
        merged = overlaid(keys, decisions, changes.within(covered, upto), former.reset)
        if imported is not None:
            if imported.resets:
                _take_out(merged, imported)
            if upto is not None:
                merged.update(dict.fromkeys(came.take(upto)[0], (True, imported.position)))
        yield merged.items() if len(merged) == len(keys) else in_order(merged)
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
    return reset if order_of(reset) >= lowest else ""
