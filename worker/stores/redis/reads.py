"""What lies under a prefix, read in bulk from one Redis server or many. A key that is no set has nobody in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import hiredis

from worker.errors import Unavailable
from worker.model import MemberList
from worker.stores.layout import MEMBER_LISTS, context_hash, is_hash, redis_context_key, redis_contexts_prefix
from worker.stores.redis.bulk import WINDOW, Replies, pack_commands, socket_of
from worker.stores.redis.faults import is_spoilt
from worker.stores.redis.lanes import MOST_REDIRECTIONS, Lane, Lanes
from worker.stores.redis.link import ask
from worker.stores.segment_store import Scanned

# Keys that one SCAN looks at, ours or others'; a server is busy with a thousand for less than a millisecond.
_LOOKED_AT: Final = 1_000


def read_refs(lanes: Lanes, prefix: str, context_key: str, of: MemberList) -> set[str]:
    """The segments that have a context in that list."""
    key = redis_context_key(prefix, context_hash(context_key), of)
    return {ref.decode() for ref in lanes.ask(key, "SMEMBERS", key)}


def read_pages(lanes: Lanes, prefix: str) -> Iterator[list[Scanned]]:
    """Everybody under the prefix; see ``SegmentStore.scan``. One page may be empty: there is more to come.

    A context's two keys are two names in two places: its lists are told apart.

    Each node over one connection: a cursor means nothing to another server, which might have taken over meanwhile.

    Raises:
        Unavailable: slots moved meanwhile: a key that went from a node that was still to come to one that had been
            looked at was perhaps not told.
    """
    before = _slots_at_rest(lanes)
    for lane in lanes.all():
        for of, hashes in _hashes_under(lanes, lane, prefix):
            for start in range(0, len(hashes), WINDOW):
                yield _read_lists(lanes, prefix, of, hashes[start : start + WINDOW])
    if _slots_at_rest(lanes) != before:
        raise _moving(lanes)


def holds_members(lanes: Lanes, prefix: str) -> bool:
    """Whether there is anybody; see ``SegmentStore``."""
    return any(page for page in read_pages(lanes, prefix))


def read_memberships(
    lanes: Lanes, prefix: str, segment_ref: str, hashes: Sequence[bytes], of: MemberList
) -> list[bool]:
    """Whether each of these contexts is in that list of the segment."""
    found: list[bool] = []
    for start in range(0, len(hashes), WINDOW):
        portion = hashes[start : start + WINDOW]
        replies = _read_each(lanes, (b"SISMEMBER", of), prefix, portion, segment_ref)
        found += (replies[hashed] == 1 for hashed in portion)
    return found


def pattern_of_contexts(prefix: str) -> str:
    """The pattern of every context's keys: no prefix is one."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", redis_contexts_prefix(prefix)) + "*"


def _hashes_under(lanes: Lanes, lane: Lane, prefix: str) -> Iterator[tuple[MemberList, list[bytes]]]:
    """The context hashes that have keys on a node, as SCAN finds them, which passes all keys once for both lists."""
    keys = {of: redis_context_key(prefix, "", of).encode() for of in MEMBER_LISTS}
    start = len(keys["included"])
    pattern = pattern_of_contexts(prefix)
    cursor = 0
    while True:
        lanes.at(lane.address)
        found, names = ask(lane.link, "SCAN", cursor, "MATCH", pattern, "COUNT", _LOOKED_AT)
        for of, key in keys.items():
            yield of, [name[start:] for name in names if name.startswith(key) and is_hash(name[start:])]
        cursor = int(found)
        if cursor == 0:
            return


def _read_lists(lanes: Lanes, prefix: str, of: MemberList, hashes: Sequence[bytes]) -> list[Scanned]:
    replies = _read_each(lanes, (b"SMEMBERS", of), prefix, hashes, None)
    page: list[Scanned] = []
    for hashed in hashes:
        if replies[hashed]:
            refs = {ref.decode(errors="backslashreplace") for ref in replies[hashed]}
            page.append(Scanned(hashed, refs, set()) if of == "included" else Scanned(hashed, set(), refs))
    return page


def _read_each(
    lanes: Lanes,
    command: tuple[bytes, MemberList],
    prefix: str,
    hashes: Sequence[bytes],
    segment_ref: str | None,
) -> dict[bytes, Any]:
    """Ask each context's key of a list, wherever it is; None for a key of another type.

    Raises:
        hiredis.ReplyError: a server refuses.
        Unavailable: the keys come to no rest.
    """
    verb, of = command
    replies: dict[bytes, Any] = {}
    parts = [(lane, part, False) for lane, part in lanes.split(hashes, of)]
    for _ in range(MOST_REDIRECTIONS):
        moved: dict[tuple[Lane, bool], list[bytes]] = {}
        for lane, part, asking in parts:
            commands = pack_commands(verb, prefix, part, segment_ref, of, asking=asking)
            answers = _exchange(lanes.at(lane.address), commands, (2 if asking else 1) * len(part))
            for hashed, reply in zip(part, answers[1::2] if asking else answers, strict=True):
                replies[hashed] = reply
                if isinstance(reply, hiredis.ReplyError):
                    if target := lanes.redirection(lane, reply):
                        moved.setdefault(target, []).append(hashed)
                    elif is_spoilt(reply):
                        replies[hashed] = None
                    else:
                        raise reply
        if not moved:
            return replies
        parts = [(lane, part, asking) for (lane, asking), part in moved.items()]
    raise lanes.restless()


def _exchange(lane: Lane, commands: bytes, count: int) -> list[Any]:
    """Send commands and read their replies, of which some may be errors."""
    try:
        connection = socket_of(lane.link)
        connection.sendall(commands)
        return list(Replies(connection).take(count))
    except BaseException:
        lane.link.disconnect()
        raise


def _slots_at_rest(lanes: Lanes) -> list[list[str]]:
    """The slots of each node, as it says itself; of a store on one server, nothing.

    Raises:
        Unavailable: some are on their way from one node to another.
    """
    if not lanes.spread:
        return []
    owned: list[list[str]] = []
    for lane in lanes.all():
        lanes.at(lane.address)
        own = next(line for line in ask(lane.link, "CLUSTER", "NODES").decode().splitlines() if "myself" in line)
        slots = own.split()[8:]
        if any(slot.startswith("[") for slot in slots):
            raise _moving(lanes)
        owned.append(slots)
    return owned


def _moving(lanes: Lanes) -> Unavailable:
    return Unavailable(
        f"Redis store {lanes.where}: slots of its cluster are moving, so that nobody can tell all that is in it; "
        "wait until they have",
        dependency="store",
    )
