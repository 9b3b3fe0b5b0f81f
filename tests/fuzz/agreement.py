"""Whether the compiled decoder, as a whole and in its parts, reads a body as the reference parser does."""

from __future__ import annotations

from typing import Any, NamedTuple

import reference_parser
from reference_parser import Refused

from worker.errors import InvalidBatch
from worker.manifest.decoder import Decoder, compile_parser
from worker.manifest.fast import FastReader
from worker.manifest.request_parser import RequestParser
from worker.model import MemberPolicy, Payload

Parser = dict[str, Any]
# ("accepted", what was read …) or ("refused", reason, pointer, environment id)
Outcome = tuple[Any, ...]
UNDECIDED: Outcome = ("undecided",)
# Two or three members: so small a body is never cut by anybody else.
SMALL_PIECE_BYTES = 40
POLICIES: tuple[MemberPolicy, ...] = ("reject", "skip")


class Disagreement(AssertionError):
    """Raised when two ways to read a body differ; the message has everything there is to know."""


class Agreed(NamedTuple):
    """What all agreed on under one policy, and whether the fast reader had answered, whole and in pieces."""

    outcome: Outcome
    fast: bool
    in_pieces: bool = False

    @property
    def accepted(self) -> bool:
        return bool(self.outcome[0] == "accepted")

    @property
    def rejected(self) -> int:
        """How many members were left out."""
        return int(self.outcome[4]) if self.accepted else 0


class Comparison:
    """One requestParser, compiled, beside its JSON."""

    def __init__(self, parser: Parser) -> None:
        self.parser = parser
        self.decoder: Decoder = compile_parser(RequestParser.model_validate(parser))
        self._cutting = None
        if self.decoder._fast is not None:
            self._cutting = FastReader(RequestParser.model_validate(parser), piece_bytes=SMALL_PIECE_BYTES)

    def check(self, body: bytes, policy: MemberPolicy = "reject") -> Agreed:
        """What a body means.

        Raises:
            Disagreement: the decoder, its exact or its fast reader, or the decoder where it need not gather members,
                says something else than the reference parser.
        """
        expected = _by_reference(self.parser, body, policy)
        decoder, fast = self.decoder, False
        self._compare(body, policy, "decoder", _by(decoder.decode, body, policy), expected)
        self._compare(body, policy, "exact reader", _by(decoder._exact.read, body, policy), expected)
        judged = _by(decoder.decode, body, policy, members=False)
        self._compare(body, policy, "decoder without members", _judged(judged), _judged(expected))
        if decoder._fast is not None:
            answered = _by(decoder._fast.read, body)
            fast = answered != UNDECIDED
            if fast:
                self._compare(body, policy, "fast reader", answered, expected)
        return Agreed(expected, fast, self._check_pieces(body, policy, expected))

    def _check_pieces(self, body: bytes, policy: str, expected: Outcome) -> bool:
        """A reader that cuts bodies up either leaves this one to others, or has the members of its one cohort."""
        pieces = None if self._cutting is None else self._cutting.read_in_pieces(body)
        if pieces is None:
            return False
        merged: dict[str, bool] = {}
        for piece in pieces:
            merged.update(piece)
        found = [dict(members) for *_, members in expected[3]] if expected[0] == "accepted" else expected
        self._compare(body, policy, "reader in pieces", ("accepted", [merged]), ("accepted", found))
        return True

    def _compare(self, body: bytes, policy: str, who: str, found: Outcome, expected: Outcome) -> None:
        if found != expected:
            raise Disagreement(
                f"the {who} disagrees with the reference parser under {policy!r}\n"
                f"parser:    {self.parser!r}\nbody:      {body!r}\nreference: {expected!r}\n{who}: {found!r}"
            )


def _by_reference(parser: Parser, body: bytes, policy: str) -> Outcome:
    try:
        return ("accepted", *reference_parser.read(parser, body, policy))
    except Refused as refused:
        return ("refused", refused.reason, refused.pointer, refused.environment_id)


def _by(read: Any, body: bytes, *policy: str, **options: bool) -> Outcome:
    try:
        payload = read(body, *policy, **options)
    except InvalidBatch as fault:
        return ("refused", fault.reason, fault.pointer, fault.environment_id)
    except Exception as error:  # noqa: BLE001 - whatever it is, it would be answered 500
        return ("raised", repr(error))
    return UNDECIDED if payload is None else _of_payload(payload)


def _of_payload(payload: Payload) -> Outcome:
    cohorts = [(found.cohort_id, found.name, found.url, list(found.members.items())) for found in payload.cohorts]
    rejected = payload.rejected
    listed = [tuple(member) for member in rejected.listed]
    return ("accepted", payload.environment_id, payload.context_kind, cohorts, rejected.count, listed)


def _judged(outcome: Outcome) -> Outcome:
    """An outcome without what need not be there: the members of a payload of one cohort."""
    if outcome[0] == "accepted" and len(outcome[3]) == 1:
        cohort_id, name, url, _ = outcome[3][0]
        return (*outcome[:3], (cohort_id, name, url), *outcome[4:])
    return outcome
