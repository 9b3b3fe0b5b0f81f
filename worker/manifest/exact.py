"""The exact way to read a body: plain and complete, it decides what is accepted and words every refusal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from msgspec import Raw

from worker.errors import InvalidBatch, Reason
from worker.manifest.cohorts import LONGEST_COHORT_TEXT, Cohorts, is_context_kind
from worker.manifest.document import Document, Place, optional_place, place_of
from worker.manifest.json_text import boolean, elements, is_array, is_null, scalar, sound_object
from worker.manifest.member import MISSING, NO_SCALAR, TOO_LONG, MemberReader
from worker.manifest.request_parser import RequestParser, compile_matcher
from worker.model import (
    DEFAULT_CONTEXT_KIND,
    DEFAULT_MEMBER_POLICY,
    MOST_REJECTED_LISTED,
    Cohort,
    MemberPolicy,
    Payload,
    RejectedMember,
    Rejections,
)

_Text = TypeVar("_Text", str, str | None)


class _Nowhere(dict[str, bool]):
    """Where the members go that nobody asked for."""

    def __setitem__(self, member_id: str, added: bool, /) -> None:
        """Forget it."""


class _Members(NamedTuple):
    """One member array of a body; ``added`` is None when each member says for itself."""

    at: str
    values: Iterable[Raw]
    added: bool | None


class Action(NamedTuple):
    """What a body's action says, and whether the matcher takes it: then all members are added, else removed."""

    text: str
    matches: bool


class ExactReader:
    """Reads bodies by one requestParser, looking up pointer after pointer."""

    def __init__(self, parser: RequestParser) -> None:
        self._environment_id = place_of(parser.environment_id_path)
        self._context_kind = optional_place(parser.context_kind_path)
        self._cohort_id = place_of(parser.cohort_id_path)
        self._cohort_name = place_of(parser.cohort_name_path)
        self._cohort_url = optional_place(parser.cohort_url_path)
        split = ((parser.add_member_array_path, True), (parser.remove_member_array_path, False))
        self._split = [(place_of(path), added) for path, added in split if path is not None]
        self._single = optional_place(parser.member_array_path)
        self._member = MemberReader(parser.member_array_parser)
        inclusion = parser.array_inclusion
        self._inclusion = (
            None if inclusion is None else _Inclusion(place_of(inclusion.path), compile_matcher(inclusion.matcher))
        )

    def read(self, body: bytes, policy: MemberPolicy = DEFAULT_MEMBER_POLICY, *, members: bool = True) -> Payload:
        """What a body means. ``members``: see ``Decoder.decode``.

        Raises:
            InvalidBatch: with ``environment_id`` set for every fault that is met after the environment id was read.
        """
        document = Document(sound_object(body))
        environment_id = _required(document, self._environment_id, "environment")
        try:
            if not members and policy == "reject":
                payload = self._read_rest(document, environment_id, policy, _Nowhere())
                payload.cohorts[0].members = {}
                if len(payload.cohorts) == 1:
                    return payload
            return self._read_rest(document, environment_id, policy, {})
        except InvalidBatch as fault:
            fault.environment_id = environment_id
            raise

    def action(self, body: bytes) -> Action | None:
        """What a body's action says: see ``Decoder.action``."""
        return None if self._inclusion is None else self._inclusion.read(Document(sound_object(body)))

    def _read_rest(
        self, document: Document, environment_id: str, policy: MemberPolicy, own_members: dict[str, bool]
    ) -> Payload:
        context_kind = self._read_context_kind(document)
        own = Cohort(
            _bounded(_required(document, self._cohort_id, "cohort"), self._cohort_id),
            _bounded(_required(document, self._cohort_name, "cohort"), self._cohort_name),
            _bounded(_optional(document, self._cohort_url, "cohort"), self._cohort_url),
            own_members,
        )
        cohorts, rejected = Cohorts(own), Rejections()
        for members in self._arrays(document):
            for index, value in enumerate(members.values):
                fault = self._member.read(value, members.added, cohorts)
                if fault is None:
                    continue
                if policy == "reject":
                    raise _refusal(fault.reason, f"{members.at}/{index}{fault.path}", fault.problem)
                rejected.count += 1
                if rejected.count <= MOST_REJECTED_LISTED:
                    rejected.listed.append(RejectedMember(f"{members.at}/{index}{fault.path}", fault.reason))
        return Payload(environment_id, context_kind, cohorts.gathered(), rejected)

    def _read_context_kind(self, document: Document) -> str:
        kind = _optional(document, self._context_kind, "context_kind")
        if kind is None or self._context_kind is None:
            return DEFAULT_CONTEXT_KIND
        if not is_context_kind(kind):
            expected = "must be at most 256 letters, digits, '.', '_' and '-', and neither 'kind' nor 'multi'"
            raise _refusal("context_kind", self._context_kind.path, expected)
        return kind

    def _arrays(self, document: Document) -> Iterator[_Members]:
        for place, added in self._split:
            value = document.find(place.tokens)
            absent = value is None or is_null(value)
            yield _Members(place.path, () if absent else _array(document, place), added)
        if self._single is not None:
            values = _array(document, self._single)
            inclusion = None if self._inclusion is None else self._inclusion.read(document).matches
            yield _Members(self._single.path, values, inclusion)


class _Inclusion(NamedTuple):
    """Where a payload's action lies, and what it must match to be an add."""

    place: Place
    matcher: Any

    def read(self, document: Document) -> Action:
        value = document.find(self.place.tokens)
        flag = boolean(value)
        action = scalar(value) if flag is None else str(flag).lower()
        if not action:
            expected = "must be a non-empty string, a boolean or an integer"
            raise _refusal("action", self.place.path, MISSING if value is None else expected)
        return Action(action, self.matcher.search(action) is not None)


def _refusal(reason: Reason, pointer: str, problem: str) -> InvalidBatch:
    return InvalidBatch(reason, f"{pointer or 'the body'} {problem}", pointer=pointer)


def _required(document: Document, place: Place, reason: Reason) -> str:
    value = document.find(place.tokens)
    text = scalar(value)
    if not text:
        raise _refusal(reason, place.path, MISSING if value is None else NO_SCALAR)
    return text


def _optional(document: Document, place: Place | None, reason: Reason) -> str | None:
    value = None if place is None else document.find(place.tokens)
    text = scalar(value)
    if place is not None and value is not None and text is None and not is_null(value):
        raise _refusal(reason, place.path, NO_SCALAR)
    return text or None


def _bounded(text: _Text, place: Place | None) -> _Text:
    if text is not None and place is not None and len(text) > LONGEST_COHORT_TEXT:
        raise _refusal("cohort", place.path, TOO_LONG)
    return text


def _array(document: Document, place: Place) -> Iterator[Raw]:
    value = document.find(place.tokens)
    if value is None or not is_array(value):
        raise _refusal("members", place.path, MISSING if value is None else "must be an array")
    return elements(value)
