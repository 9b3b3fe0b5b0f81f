"""Imports: many keys at once, as one entry of the log that refers to chunks of names beside it (rule 20).

``S:gN:import:{ID}`` is a hash, number -> chunk: up to 20,000 sorted names, none of which sorts before one of an earlier
chunk. It has an hour to live, counted from the last chunk, until the entry is appended, and goes when that is folded
into the snapshot. ``S:gN:imports`` is a hash, import id -> position of its entry: an import is appended once, for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, cast

import msgspec
import redis

from worker.log import keyspace
from worker.log.append import Appends
from worker.log.batch import Made, WakeUp
from worker.log.chunk import CHUNK_MEMBERS, pack_names, unpack_names
from worker.log.entry import Entry, pack_made
from worker.log.names import included_name
from worker.log.scripts import script
from worker.log.segments import Segment
from worker.model import MemberList, SegmentId
from worker.state import state_errors

# replace: who is in the segment and not in the import is out, as of its place in the order; merge: everybody stays.
ImportMode = Literal["merge", "replace"]
# Chunks of an import that is not appended wait so long for the next.
UNAPPENDED_SECONDS = 3600


class ChunksGone(Exception):
    """Raised when chunks of an import that is in the log are not there any more."""


class Import(msgspec.Struct, frozen=True):
    """What an entry of the kind "import" says.

    Attributes:
        import_id: names its chunks.
        chunks: how many there are, counted from 0; none for an import of nobody.
        members: how many names they have together.
        resets: the lists that hold nobody else from here on.
        final: it is the last entry of a log whose segment is deleted.
    """

    import_id: str
    chunks: int
    members: int
    resets: tuple[MemberList, ...] = ()
    final: bool = False


_decoder = msgspec.msgpack.Decoder(Import)


def read_import(entry: Entry) -> Import:
    """What the entry says."""
    return _decoder.decode(entry.content())


def pack_import(integration_key: str, said: Import) -> list[str | bytes]:
    """The fields of its entry."""
    return pack_made(integration_key, "import", msgspec.msgpack.encode(said), import_id=said.import_id)


class ImportChunks:
    """Writes the chunks of imports, and reads them. Safe between threads, as far as the client is."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def add(self, segment: SegmentId, import_id: str, number: int, keys: Sequence[str]) -> bool:
        """Lay down one chunk; doing it again changes nothing, so that an import that was cut short can go on.

        Args:
            segment: for which.
            import_id: without slash, brace or colon.
            number: of the chunk, counted from 0, without a gap.
            keys: 1 to 20,000 context keys, sorted by code point as Python sorts, without duplicates, and all of them
                after those of the chunks before.

        Returns:
            False when the import is in the log already: it needs no chunks any more.

        Raises:
            ValueError: there are too many keys or none, an empty one, or one that UTF-8 cannot hold; or they are not
                sorted.
            Unavailable: the state server is away, or full; it may be there.
        """
        if not 0 < len(keys) <= CHUNK_MEMBERS:
            raise ValueError(f"a chunk of an import has 1 to {CHUNK_MEMBERS:,} keys, not {len(keys):,}")
        if not keys[0]:
            raise ValueError("a chunk of an import has no empty key: nobody is called nothing")
        if any(one >= other for one, other in pairwise(keys)):
            raise ValueError("the keys of an import's chunk are sorted, and different from one another")
        chunk = pack_names([included_name(key) for key in keys])
        base = keyspace.base(segment.environment_id, segment.segment_key)
        told = (segment.generation, import_id, number, chunk, UNAPPENDED_SECONDS)
        return bool(script("import_chunk")(self._client, base, *told))

    def drop(self, segment: SegmentId, import_id: str) -> None:
        """Give the memory of an import that will not be appended back; one that is keeps its chunks.

        Raises:
            Unavailable: the state server is away; the chunks go by themselves within an hour.
        """
        text = "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then redis.call('UNLINK', KEYS[2]) end"
        keys = f"{keyspace.prefix(segment)}:imports", _chunks_key(segment, import_id)
        with state_errors():
            self._client.eval(text, 2, *keys, import_id)

    def names(
        self, segment: SegmentId, said: Import, meanwhile: Callable[[], object] = lambda: None
    ) -> Iterator[list[str]]:
        """The names of an import that is in the log, chunk by chunk; ``meanwhile`` is called before each.

        Raises:
            ChunksGone: some are not there: the import is folded by now, or they are lost.
            Unavailable: the state server is away.
        """
        for number in range(said.chunks):
            meanwhile()
            with state_errors():
                chunk = cast("Any", self._client.hget(_chunks_key(segment, said.import_id), str(number)))
            if chunk is None:
                raise ChunksGone(f"chunk {number} of import {said.import_id}")
            yield unpack_names(chunk)

    def position(self, segment: SegmentId, import_id: str) -> str | None:
        """Where in the log the import lies; None while it is not appended (and once it is older than the log's floor).

        A store has applied it when its cursor stands there or later.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            found = cast("Any", self._client.hget(f"{keyspace.prefix(segment)}:imports", import_id))
        return None if found is None else found.decode()


def append_import(
    appends: Appends,
    environment_id: str,
    segment: Segment,
    said: Import,
    *,
    store_ids: Sequence[str],
    not_after_ms: int,
) -> list[WakeUp]:
    """Append an import, all of whose chunks are there, to the log of a segment that is there; once, for good.

    Args:
        appends: with the durability that batches have.
        environment_id: the segment's.
        segment: as ``read_segments`` found it; the import is for that generation.
        said: see ``merging`` and ``replacing``.
        store_ids: the environment's stores that are on.
        not_after_ms: by the state server's clock: an append that arrives later is refused.

    Returns:
        The wake-ups that are due, and now the caller's to send.

    Raises:
        NotFound: the segment is gone.
        Conflict: some of its chunks are not there: their hour is over.
        Unavailable: the state server is away; it may be appended, and doing it again is right.
    """
    return appends.append_made(
        Made(
            segment=SegmentId(environment_id, segment.segment_key, segment.generation),
            context_kind=segment.context_kind,
            integration_key=segment.integration_key,
            cohort_id=segment.cohort_id,
            batch_id=said.import_id,
            fields=pack_import(segment.integration_key, said),
            store_ids=store_ids,
            not_after_ms=not_after_ms,
            import_id=said.import_id,
            chunks=said.chunks,
        )
    )


def import_of(import_id: str, mode: ImportMode, *, chunks: int, members: int) -> Import:
    """An import into the included list; the excluded one is not touched."""
    return Import(import_id, chunks, members, resets=("included",) if mode == "replace" else ())


def final_import(import_id: str) -> Import:
    """The last entry of a log whose segment is deleted: nobody is in any list."""
    return Import(import_id, 0, 0, resets=("included", "excluded"), final=True)


def _chunks_key(segment: SegmentId, import_id: str) -> str:
    return f"{keyspace.prefix(segment)}:import:{import_id}"
