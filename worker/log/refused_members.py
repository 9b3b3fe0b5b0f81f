"""Members whom a store does not take while it takes all others: noted apart, so that one of them holds nobody up.

``segsync:refused:{STORE}`` is a hash: log name, a space, context hash -> JSON of what the store said, and when; of the
excluded list, with a hyphen before the context hash. A note goes when that member is written into that list after all,
and with the store. Context keys are never kept here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, cast

import msgspec
import redis
import structlog

from worker.log import keyspace
from worker.model import MemberList, RefusedMember, SegmentId
from worker.state import state_errors

# Of more, a store's layout is what is wrong, and the first ones tell it.
MOST_NOTED: Final = 10_000
# What was read of a store's notes holds for so long. A note that is missed stays until the member is written again.
REMEMBERED_SECONDS: Final = 10.0
# No hash begins with it.
_EXCLUDED: Final = "-"

_log = structlog.get_logger(__name__)


@dataclass(slots=True, frozen=True)
class Refusal:
    """One member whom a store refused in one of a segment's lists; times by the state server's clock."""

    segment: SegmentId
    context_hash: str
    reason: str
    since_ms: int
    of: MemberList = "included"


class _Note(msgspec.Struct):
    reason: str
    since_ms: int


class RefusedMembers:
    """The notes of all stores. Safe between threads."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, tuple[float, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def note(self, store_id: str, segment: SegmentId, refused: Sequence[RefusedMember]) -> None:
        """Note members whom a store has refused; of a store with too many, only the first are noted, and all logged.

        Raises:
            Unavailable: the state server is away; they were noted or not.
        """
        key, name = _key(store_id), keyspace.log_name(segment)
        with state_errors():
            seconds, micros = self._client.time()
            room = max(0, MOST_NOTED - self._client.hlen(key))
            note = {_told(member.of, member.context_hash): member.reason for member in refused[: max(room, 1)]}
            now_ms = seconds * 1000 + micros // 1000
            self._client.hset(
                key,
                mapping={f"{name} {told}": msgspec.json.encode(_Note(reason, now_ms)) for told, reason in note.items()},
            )
        with self._lock:
            self._known.pop(store_id, None)
        _log.error(
            "store.members_refused",
            store_id=store_id,
            segment=segment.ref,
            members=len(refused),
            reasons=sorted({member.reason for member in refused}),
        )

    def has(self, store_id: str, segment: SegmentId) -> bool:
        """Whether members of a segment are noted, as far as is known; asks the state server now and then.

        Raises:
            Unavailable: the state server is away.
        """
        now = self._clock()
        with self._lock:
            asked_at, segments = self._known.get(store_id, (None, frozenset()))
        if asked_at is None or now - asked_at >= REMEMBERED_SECONDS:
            with state_errors():
                fields = cast("list[bytes]", self._client.hkeys(_key(store_id)))
            segments = frozenset(field.decode().rpartition(" ")[0] for field in fields)
            with self._lock:
                self._known[store_id] = (now, segments)
        return keyspace.log_name(segment) in segments

    def among(
        self, store_id: str, segment: SegmentId, context_hashes: Iterable[str], of: MemberList = "included"
    ) -> set[str]:
        """Which of these members are noted as refused in that list.

        Raises:
            Unavailable: the state server is away.
        """
        name = keyspace.log_name(segment)
        with state_errors():
            noted = {field.decode() for field in cast("list[bytes]", self._client.hkeys(_key(store_id)))}
        return {hashed for hashed in context_hashes if f"{name} {_told(of, hashed)}" in noted}

    def written(
        self, store_id: str, segment: SegmentId, context_hashes: Iterable[str], of: MemberList = "included"
    ) -> None:
        """These members have been written into that list: they are refused there no longer.

        Raises:
            Unavailable: the state server is away; the notes are gone or not.
        """
        name = keyspace.log_name(segment)
        with state_errors():
            noted = {field.decode() for field in cast("list[bytes]", self._client.hkeys(_key(store_id)))}
            gone = noted & {f"{name} {_told(of, hashed)}" for hashed in context_hashes}
            if gone:
                self._client.hdel(_key(store_id), *gone)
        with self._lock:
            self._known.pop(store_id, None)

    def count(self, store_id: str) -> int:
        """How many are noted.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            return self._client.hlen(_key(store_id))

    def listed(self, store_id: str) -> list[Refusal]:
        """Those that are noted, the latest first.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            found = cast("dict[bytes, bytes]", self._client.hgetall(_key(store_id)))
        refusals: list[Refusal] = []
        for field, text in found.items():
            name, _, told = field.decode().rpartition(" ")
            of: MemberList = "excluded" if told.startswith(_EXCLUDED) else "included"
            note = msgspec.json.decode(text, type=_Note)
            hashed = told.removeprefix(_EXCLUDED)
            refusals.append(Refusal(keyspace.segment_of(name), hashed, note.reason, note.since_ms, of))
        return sorted(
            refusals, key=lambda refusal: (-refusal.since_ms, refusal.segment, refusal.context_hash, refusal.of)
        )

    def forget(self, store_id: str) -> None:
        """Drop the notes of a store that was removed.

        Raises:
            Unavailable: the state server is away.
        """
        with state_errors():
            self._client.delete(_key(store_id))
        with self._lock:
            self._known.pop(store_id, None)


def _told(of: MemberList, context_hash: str) -> str:
    return context_hash if of == "included" else _EXCLUDED + context_hash


def _key(store_id: str) -> str:
    return f"segsync:refused:{{{store_id}}}"
