"""From a requestParser to a decoder of bodies: compiled once, fast where it can be, exact where it must."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from worker.manifest.exact import Action, ExactReader
from worker.manifest.fast import FastReader
from worker.manifest.request_parser import RequestParser
from worker.manifest.shape import UnsupportedShape
from worker.model import DEFAULT_MEMBER_POLICY, MemberPolicy, Payload

# From that size on, a body's members are decoded piece by piece where that can be done.
LARGE_BODY_BYTES: Final = 4 * 1024 * 1024


class Decoder:
    """Decodes bodies by one requestParser. Safe to share among threads."""

    def __init__(self, parser: RequestParser) -> None:
        self.parser = parser
        self._exact = ExactReader(parser)
        self._fast: FastReader | None
        try:
            self._fast = FastReader(parser)
        except UnsupportedShape:
            self._fast = None

    def decode(self, body: bytes, policy: MemberPolicy = DEFAULT_MEMBER_POLICY, *, members: bool = True) -> Payload:
        """Read one request's body (decompressed, else as it came).

        Args:
            body: the bytes.
            policy: with "reject", a member that cannot be read refuses the payload whole; with "skip", such members
                are left out, counted and listed in ``rejected``. Faults of the payload itself refuse it either way.
            members: False for whoever has no use for the members of a payload of one cohort, which the body says: they
                may then be missing, which saves time and memory. They are judged all the same.

        Returns:
            The environment id, the context kind and the cohorts with their members; ``cohorts[0]`` is the payload's
            own cohort, even when it has no members.

        Raises:
            InvalidBatch: the body breaks the parser's contract. ``environment_id`` is set for every fault that is
                met after the environment id was read.
        """
        payload = self.decode_fast(body, members=members)
        return self.decode_exactly(body, policy, members=members) if payload is None else payload

    def decode_members(self, body: bytes, policy: MemberPolicy = DEFAULT_MEMBER_POLICY) -> Iterator[dict[str, bool]]:
        """The members of a body of one cohort, as ``decode`` gives them: of a large one piece by piece.

        The whole body is judged before this returns. A million members decoded at once take four times what their text
        does; in pieces, no more than one piece does, and a second look at each.

        Returns:
            Member -> True (add) or False (remove); a member of several pieces is what the last of them says.

        Raises:
            InvalidBatch: as ``decode``.
        """
        pieces = None
        if self._fast is not None and len(body) >= LARGE_BODY_BYTES:
            pieces = self._fast.read_in_pieces(body)
        return iter([self.decode(body, policy).cohorts[0].members]) if pieces is None else pieces

    def decode_fast(self, body: bytes, *, members: bool = True) -> Payload | None:
        """``decode``'s first half: it answers most bodies, in tenths of a microsecond a member.

        Returns:
            What ``decode`` would, under either policy; or None where only ``decode_exactly`` can tell.
        """
        return None if self._fast is None else self._fast.read(body, members=members)

    def decode_exactly(
        self, body: bytes, policy: MemberPolicy = DEFAULT_MEMBER_POLICY, *, members: bool = True
    ) -> Payload:
        """``decode`` by its second half alone: the same, in microseconds a member.

        Raises:
            InvalidBatch: see ``decode``.
        """
        return self._exact.read(body, policy, members=members)

    def action(self, body: bytes) -> Action | None:
        """What a body's action says, which decides what becomes of its members; None when the parser asks for none.

        Raises:
            InvalidBatch: the body cannot be read, or has no action.
        """
        return self._exact.action(body)


def compile_parser(parser: RequestParser) -> Decoder:
    """Compile a requestParser; costs a few milliseconds, so keep the decoder."""
    return Decoder(parser)


@lru_cache(maxsize=256)
def decoder_from_text(text: str) -> Decoder:
    """The decoder of a requestParser's canonical text, as ``RequestParser.text`` gave it; compiled once a process.

    Raises:
        ValueError: the text is no requestParser.
    """
    return compile_parser(RequestParser.from_text(text))
