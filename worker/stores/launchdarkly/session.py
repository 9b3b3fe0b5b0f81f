"""Writing members to LaunchDarkly: a portion in each request, and apart from all others those whom it does not take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from itertools import chain
from typing import Final

from worker.model import MemberList, RefusedMember, SegmentPatch, SegmentProfile, WriteCounts
from worker.stores.launchdarkly.faults import OF_ONE_SEGMENT
from worker.stores.launchdarkly.preparation import Preparation, SegmentLost, Standing
from worker.stores.launchdarkly.segments import LaunchDarklySegments
from worker.stores.layout import context_hash, portions
from worker.stores.segment_store import BeforeWindow, Describe, Sentinel, write_in_turn

# LaunchDarkly tells no limit of members in a request. A thousand is what others who take them allow, keeps a request
# well below a second, and costs a cohort of a million no more than a thousand requests.
WINDOW: Final = 1_000
# Of their keys in one request, whatever their number: what stands before an API mostly ends at a megabyte.
MOST_BYTES: Final = 512 * 1024
# After so many single members of one portion, from all over it, without one who was taken, it is not the members.
MOST_REFUSED_ALONE: Final = 32
_REFUSED: Final = (
    "LaunchDarkly does not take this member, in a request of its own either; see whether the key is one that its SDKs "
    "can have"
)


class LaunchDarklyWriteSession:
    """A ``WriteSession``. It has no connection of its own, and cannot be fenced: HTTP requests go over any."""

    connection: str | None = None
    process = ""

    def __init__(
        self,
        segments: LaunchDarklySegments,
        preparation: Preparation,
        sentinel: Sentinel | None,
        lose: Callable[[Sentinel | None], None],
        *,
        window: int,
    ) -> None:
        self.sentinel = sentinel
        self._segments = segments
        self._preparation = preparation
        self._lose = lose
        self._window = window
        self._profile: SegmentProfile | None = None
        self._standing: Standing = "ready"
        self._wrote = False

    def prepare(self, describe: Describe) -> None:
        """See ``WriteSession``, and ``Preparation.prepare``.

        Raises:
            Unavailable: also when the segment has lost its members. Then the store's sentinel is gone as well, and its
                next life begins with everything written anew, as its record allows.
        """
        self._profile = describe()
        incarnation = self.sentinel.incarnation if self.sentinel is not None else ""
        try:
            self._standing = self._preparation.prepare(self._profile, incarnation)
        except SegmentLost:
            raise self._lost(self._profile.segment.ref) from None

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``. LaunchDarkly does not tell what really changed: the counts are what was asked for."""
        if self._standing == "retired":
            return WriteCounts(0, 0)
        refused = SegmentPatch(patch.segment_ref, [], [])
        for portion in self._portions(patch):
            for known, not_taken in zip(_lists(refused), _lists(self._send(portion, before_window)), strict=True):
                known.extend(not_taken)
        added, removed, added_excluded, removed_excluded = (
            len(asked) - len(not_taken) for asked, not_taken in zip(_lists(patch), _lists(refused), strict=True)
        )
        return WriteCounts(
            added=added,
            removed=removed,
            refused=(*_told("included", refused.add, refused.remove), *_told("excluded", *_excluded_of(refused))),
            exact=not _members(patch),
            added_excluded=added_excluded,
            removed_excluded=removed_excluded,
        )

    def write_all(self, patches: Iterable[SegmentPatch], before_window: BeforeWindow) -> WriteCounts:
        """See ``WriteSession``."""
        return write_in_turn(self, patches, before_window)

    def remove_hashes(
        self, segment_ref: str, hashes: Sequence[bytes], before_window: BeforeWindow, of: MemberList = "included"
    ) -> int:
        """LaunchDarkly knows contexts by their keys."""
        raise NotImplementedError

    def _portions(self, patch: SegmentPatch) -> Iterator[SegmentPatch]:
        for portion in portions(patch, self._window):
            pending = [portion]
            while pending:
                piece = pending.pop()
                if _members(piece) > 1 and _key_bytes(piece) > MOST_BYTES:
                    pending += reversed(_halves(piece))
                else:
                    yield piece

    def _send(self, portion: SegmentPatch, before_window: BeforeWindow) -> SegmentPatch:
        """Write a portion; whom LaunchDarkly does not take is found by halves, and returned.

        The halves are every other member, not the first and the last: such members often come together, and the
        others must not wait for them until it looks as if nobody was taken.
        """
        refused = SegmentPatch(portion.segment_ref, [], [])
        taken, alone = False, 0
        pending = [portion]
        while pending:
            piece = pending.pop()
            before_window()
            if self._is_taken(piece, before_window):
                taken = True
                continue
            if piece is portion and self._profile is not None:
                self._prove_big(self._profile)
            if _members(piece) > 1:
                pending += _halves(piece)
            else:
                for known, not_taken in zip(_lists(refused), _lists(piece), strict=True):
                    known.extend(not_taken)
                alone += 1
            if alone >= MOST_REFUSED_ALONE and not taken:
                raise self._segments.faults.unavailable(
                    f"segment {_key(portion.segment_ref)} takes nobody; see whether it can still be changed there, and "
                    "by whom",
                    fault=OF_ONE_SEGMENT,
                )
        return refused

    def _is_taken(self, piece: SegmentPatch, before_window: BeforeWindow) -> bool:
        answer = self._segments.change_members(_key(piece.segment_ref), piece, before_window)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            self._segments.prove_environment()
            raise self._lost(piece.segment_ref)
        taken = answer.status_code == HTTPStatus.NO_CONTENT
        self._wrote = self._wrote or taken
        return taken

    def _prove_big(self, profile: SegmentProfile) -> None:
        try:
            self._preparation.prove_big(profile)
        except SegmentLost:
            raise self._lost(profile.segment.ref) from None

    def _lost(self, ref: str) -> Exception:
        faults, key = self._segments.faults, _key(ref)
        if self._profile is not None and self._profile.fresh and not self._wrote:
            # Nothing is lost of a segment that had nobody in it.
            return faults.unavailable(f"segment {key} is gone again; it is created once more")
        self._lose(self.sentinel)
        return faults.unavailable(
            f"segment {key} was deleted or replaced there, and its members are lost; the sentinel is taken away, so "
            "that the whole store counts as wiped; who wants a segment gone deletes it at the partner"
        )


def _key(ref: str) -> str:
    return ref.rpartition(".g")[0]


def _lists(patch: SegmentPatch) -> tuple[list[str], list[str], list[str], list[str]]:
    return patch.add, patch.remove, patch.add_excluded, patch.remove_excluded


def _excluded_of(patch: SegmentPatch) -> tuple[list[str], list[str]]:
    return patch.add_excluded, patch.remove_excluded


def _told(of: MemberList, *keys: list[str]) -> Iterator[RefusedMember]:
    return (RefusedMember(context_hash(key), _REFUSED, of) for key in dict.fromkeys(chain(*keys)))


def _members(patch: SegmentPatch) -> int:
    return sum(map(len, _lists(patch)))


def _key_bytes(patch: SegmentPatch) -> int:
    return sum(len(key.encode()) for key in chain(*_lists(patch)))


def _halves(patch: SegmentPatch) -> list[SegmentPatch]:
    """Two patches of every other member; neither is empty, of two members or more."""
    halves: tuple[list[list[str]], list[list[str]]] = ([], [])
    turn = 0
    for members in _lists(patch):
        halves[0].append(members[turn::2])
        halves[1].append(members[1 - turn :: 2])
        # Each list begins where the one before it ends, so that one of each is two halves.
        turn = (turn + len(members)) % 2
    return [SegmentPatch(patch.segment_ref, *lists) for lists in halves]
