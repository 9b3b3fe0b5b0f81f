"""The one seam: what segsync asks of a store that LaunchDarkly's SDKs read. Contract suite: tests/contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from worker.model import MemberList, SegmentPatch, SegmentProfile, WriteCounts

BeforeWindow = Callable[[], None]
Describe = Callable[[], SegmentProfile]


class Sentinel(NamedTuple):
    """What segsync leaves in a store to know it again: wiped, foreign, re-pointed or rolled back, it shows here.

    Attributes:
        incarnation: a random id without spaces, new whenever the store is filled from nothing.
        beat_ms: when it was last told that it is the one, in epoch milliseconds; a copy from before has an older one.
    """

    incarnation: str
    beat_ms: int


class Scanned(NamedTuple):
    """What a scan tells of one context: the segment refs that have it in their lists; of one list, or of both."""

    context_hash: bytes
    included: set[str]
    excluded: set[str]


class WriteSession(Protocol):
    """The right to write over one connection; used by one drain at a time, never by two threads."""

    @property
    def connection(self) -> str | None:
        """An opaque identity of the connection that writes go over, or None if this store cannot fence.

        Known before anything is written: it is kept in the open mark, and ``SegmentStore.fence`` takes it. It
        holds no secret. A session never replaces its connection: once that is broken, every write raises.
        """

    @property
    def sentinel(self) -> Sentinel | None:
        """The store's sentinel as it was at checkout, read over that same connection; None when there is none."""

    @property
    def process(self) -> str:
        """Who answered at checkout: opaque; another text means another server process, or one in another role.

        What such a one was told before may be gone from it. Empty where the store does not tell.
        """

    def prepare(self, describe: Describe) -> None:
        """Get a segment ready to be written to; called once by each drain, under its lease, before its first write.

        Stores in LaunchDarkly's layout know of refs alone, and have nothing to do. ``describe`` is called by those
        that have: it asks the state server.

        Raises:
            Unavailable: the store is away or refuses, and ``fate_unknown`` is as with ``write``; or the state server
                is away.
        """

    def write(self, patch: SegmentPatch, before_window: BeforeWindow) -> WriteCounts:
        """Make the members of ``patch.add`` included in the segment, and those of ``patch.remove`` not included.

        With ``patch.add_excluded`` and ``patch.remove_excluded`` it is the same in the excluded list. Neither list is
        touched for what is written into the other: who stands in both is in the segment, as SDKs read it.

        Idempotent; an empty patch writes nothing. Order within the patch does not matter. ``before_window`` is
        called before each bounded portion is sent (at least every few thousand members), and now and then while answers
        are waited for; what it raises ends the write, after everything already sent has been answered.

        A member whom the store will not take, while it takes others, holds nobody up: the rest is written, and the
        counts tell who was refused, each once for each list that it was refused in.

        Returns:
            How many members were really added to each list and removed from it, from the store's replies.

        Raises:
            Unavailable: the store is away or refuses everybody. ``fate_unknown`` says whether something sent was never
                answered, and so may still land; False means that whatever was sent has been answered, some of
                it perhaps applied. Nothing whose fate is unknown is ever sent again in here; what the store has
                certainly not done, as it was throttled or moved elsewhere, may be.
        """

    def write_all(self, patches: Iterable[SegmentPatch], before_window: BeforeWindow) -> WriteCounts:
        """Write patches of one segment in their order, as ``write`` would one after the other.

        A patch is asked for when those before it are on their way, so that a drain decodes the next while the server
        works on the last. What making one raises ends the write as ``before_window`` does: after everything already
        sent has been answered.

        Returns:
            The counts of all together; a member of several patches counts in each.

        Raises:
            Unavailable: as ``write``; some of the patches may be written.
        """

    def remove_hashes(
        self, segment_ref: str, hashes: Sequence[bytes], before_window: BeforeWindow, of: MemberList = "included"
    ) -> int:
        """Take contexts off one of the segment's lists that are known by their hashes alone: strays, found by ``scan``.

        In everything else as ``write``; whom the store refuses stays in. For stores that list members.

        Returns:
            How many were really removed.

        Raises:
            Unavailable: as ``write``.
            ValueError: something is no context hash; nothing was sent.
        """


class SegmentStore(Protocol):
    """A store in the layout that LaunchDarkly's SDKs read. Safe to share between threads; not between forks.

    Reads see every write that was answered before they began. Every method but ``check`` and ``close`` raises
    ``Unavailable`` when the store is away or refuses; ``fate_unknown`` is then as with ``WriteSession.write``.
    """

    @property
    def lists_members(self) -> bool:
        """Whether it can tell everybody who is in it: ``scan``, ``includes``, ``remove_hashes``, ``holds_members``.

        One that cannot, as it knows contexts by their keys alone, is asked about members one by one; those four raise
        ``NotImplementedError``.
        """

    def session(self) -> AbstractContextManager[WriteSession]:
        """Check out a live connection for one drain, and read who is at its other end.

        Raises:
            Unavailable: it cannot be had, or the sentinel cannot be read, which is never taken for "there is none".
                Nothing has been written: ``fate_unknown`` is False.
        """

    def fence(self, connection: str) -> bool:
        """Make sure that no byte sent over that connection can land any more.

        Returns:
            True when that is certain now; False when this store cannot tell (the caller then waits instead).
        """

    def included(self, context_key: str) -> set[str]:
        """The segment refs that include this context key, read from the store."""

    def excluded(self, context_key: str) -> set[str]:
        """The segment refs that exclude it; one that also includes it counts, for SDKs, as one that includes it."""

    def includes_keys(self, segment_ref: str, context_keys: Sequence[str], of: MemberList = "included") -> list[bool]:
        """Whether each of these contexts is in that list of the segment, in their order."""

    def includes(self, segment_ref: str, hashes: Sequence[bytes], of: MemberList = "included") -> list[bool]:
        """Whether each of these contexts, known by their hashes, is in that list of the segment, in their order.

        Raises:
            ValueError: something is no context hash.
        """

    def scan(self) -> Iterator[list[Scanned]]:
        """Everybody who is in any list under the prefix: pages of contexts, in no order.

        A page is never empty and holds at most a few thousand contexts; each is in something. What is there all the
        while is told at least once, what changes meanwhile perhaps, and any of it perhaps twice. A context's two lists
        are told together or apart, in one page or two. Keys and items that are no context's are passed over. Until it
        is exhausted or closed it may hold a connection.
        """

    def holds_members(self) -> bool:
        """Whether anybody is included in anything under the prefix, or excluded, in our segments or others'."""

    def drop_segment(self, segment_ref: str) -> None:
        """Take away what a deleted segment leaves in the store besides its members; gone already is as good.

        For the one store where a segment is a thing by itself, LaunchDarkly. In others, nothing is left of a segment
        once its lists are empty, which whoever deletes it has seen to. Nothing is written for it afterwards. When it
        raises with ``fate_unknown``, it may be done, and is simply called again.
        """

    def sentinel(self) -> Sentinel | None:
        """The store's sentinel, or None when there is none: nobody has claimed the store, or it was wiped."""

    def claim(self, incarnation: str, beat_ms: int) -> Sentinel:
        """Write the sentinel if there is none, and return the one that is there now. Of several claims, one wins."""

    def replace_sentinel(self, incarnation: str, beat_ms: int) -> None:
        """Write the sentinel, whatever is there: the store is about to be filled anew."""

    def synchronized_on(self) -> int | None:
        """The store's freshness, in epoch milliseconds, or None if it was never set."""

    def set_synchronized_on(self, epoch_ms: int, sentinel: Sentinel) -> bool:
        """Write the store's freshness, as SDKs read it, and the sentinel's beat, if it is still the same store.

        One step: the sentinel there has that incarnation, and both are written, or neither is. The beat never goes
        back: a heartbeat that comes late, or by another clock, does not make the store look like an older copy.

        Returns:
            Whether it was written; False when the sentinel is another's or gone.
        """

    def check(self) -> list[str]:
        """What is wrong with this store, for the person who set it up: one sentence each, with the remedy.

        Empty when all is well. It tries what segsync needs, over a connection of its own, and leaves nothing behind
        where the store lets it clear up. Raises nothing for what is wrong with the store.
        """

    def close(self) -> None:
        """Give connections back; idempotent. Using the store again opens new ones."""


def write_in_turn(session: WriteSession, patches: Iterable[SegmentPatch], before_window: BeforeWindow) -> WriteCounts:
    """``WriteSession.write_all`` where there is nothing to be gained from more than one patch at a time."""
    done = WriteCounts(0, 0)
    for patch in patches:
        done = done.plus(session.write(patch, before_window))
    return done
