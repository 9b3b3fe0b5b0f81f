"""What lies under a prefix, read in bulk over one Redis connection. A key that is no set includes nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import hiredis
import redis

from worker.stores.layout import is_hash, redis_include_key
from worker.stores.redis_bulk import WINDOW, Replies, pack_commands, socket_of
from worker.stores.redis_link import ask

# Keys that one SCAN looks at, ours or others'; a server is busy with a thousand for less than a millisecond.
_LOOKED_AT: Final = 1_000


def read_pages(link: redis.Connection, prefix: str) -> Iterator[list[tuple[bytes, set[str]]]]:
    """Everything included under the prefix; see ``SegmentStore.scan``. One page may be empty: there is more to come.

    All over one connection: a cursor means nothing to another server, which might have taken over meanwhile.
    """
    for hashes in _hashes_under(link, prefix):
        for start in range(0, len(hashes), WINDOW):
            yield _read_refs(link, prefix, hashes[start : start + WINDOW])


def holds_members(link: redis.Connection, prefix: str) -> bool:
    """Whether there is anybody; see ``SegmentStore``."""
    return any(page for page in read_pages(link, prefix))


def read_inclusions(link: redis.Connection, prefix: str, segment_ref: str, hashes: Sequence[bytes]) -> list[bool]:
    """Whether the segment includes each of these contexts."""
    found: list[bool] = []
    for start in range(0, len(hashes), WINDOW):
        portion = hashes[start : start + WINDOW]
        commands = pack_commands(b"SISMEMBER", prefix, portion, segment_ref)
        found += (reply == 1 for reply in _exchange(link, commands, len(portion)))
    return found


def _hashes_under(link: redis.Connection, prefix: str) -> Iterator[list[bytes]]:
    """The context hashes that have an include key, as SCAN finds them."""
    key = redis_include_key(prefix, "")
    start = len(key.encode())
    pattern = glob_of(key)
    cursor = 0
    while True:
        found, names = ask(link, "SCAN", cursor, "MATCH", pattern, "COUNT", _LOOKED_AT)
        yield [name[start:] for name in names if is_hash(name[start:])]
        cursor = int(found)
        if cursor == 0:
            return


def glob_of(beginning: str) -> str:
    """The pattern of every key that begins so."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", beginning) + "*"


def _read_refs(link: redis.Connection, prefix: str, hashes: Sequence[bytes]) -> list[tuple[bytes, set[str]]]:
    replies = _exchange(link, pack_commands(b"SMEMBERS", prefix, hashes, None), len(hashes))
    return [
        (hashed, {ref.decode(errors="backslashreplace") for ref in refs})
        for hashed, refs in zip(hashes, replies, strict=True)
        if refs
    ]


def _exchange(link: redis.Connection, commands: bytes, count: int) -> list[Any]:
    """Send commands and read their replies; None for a key of another type.

    Raises:
        hiredis.ReplyError: the server refuses.
    """
    try:
        connection = socket_of(link)
        connection.sendall(commands)
        replies = list(Replies(connection).take(count))
    except BaseException:
        link.disconnect()
        raise
    return [_of_a_set(reply) for reply in replies]


def _of_a_set(reply: Any) -> Any:
    if isinstance(reply, hiredis.ReplyError):
        if str(reply).startswith("WRONGTYPE"):
            return None
        raise reply
    return reply
