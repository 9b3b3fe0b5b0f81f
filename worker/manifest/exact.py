"""The exact way to read a body: plain and complete, it decides what is accepted and words every refusal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from jsonpointer import JsonPointer
from msgspec import Raw

from worker.errors import InvalidBatch, Reason
from worker.manifest.cohorts import Cohorts, is_context_kind
from worker.manifest.document import Document, boolean, elements, is_null, scalar
from worker.manifest.request_parser import ArrayInclusion, MemberArrayParser, RequestParser, compile_matcher
from worker.model import DEFAULT_CONTEXT_KIND, DEFAULT_MEMBER_POLICY, Cohort, MemberPolicy, Payload, Rejections

_NO_SCALAR = "must be a non-empty string or an integer"


class _Members(NamedTuple):
    """One member array of a body; ``added`` is None when each member says for itself."""

    at: str
    values: list[Raw]
    added: bool | None


class ExactReader:
    """Reads bodies by one requestParser, looking up pointer after pointer."""

    def __init__(self, parser: RequestParser) -> None:
        self._environment_id = JsonPointer(parser.environment_id_path)
        self._context_kind = _optional_pointer(parser.context_kind_path)
        self._cohort_id = JsonPointer(parser.cohort_id_path)
        self._cohort_name = JsonPointer(parser.cohort_name_path)
        self._cohort_url = _optional_pointer(parser.cohort_url_path)
        split = ((parser.add_member_array_path, True), (parser.remove_member_array_path, False))
        self._split = [(JsonPointer(path), added) for path, added in split if path is not None]
        self._single = _optional_pointer(parser.member_array_path)
        self._member = _MemberReader(parser.member_array_parser)
        inclusion = parser.array_inclusion
        self._inclusion = None if inclusion is None else _Inclusion.compiled(inclusion)

    def read(self, body: bytes, policy: MemberPolicy = DEFAULT_MEMBER_POLICY) -> Payload:
        """What a body means.

        Raises:
            InvalidBatch: with ``environment_id`` set for every fault that is met after the environment id was read.
        """
        document = Document.from_body(body)
        environment_id = _required(document, self._environment_id, "environment")
        try:
            return self._read_rest(document, environment_id, policy)
        except InvalidBatch as fault:
            fault.environment_id = environment_id
            raise

    def _read_rest(self, document: Document, environment_id: str, policy: MemberPolicy) -> Payload:
        context_kind = self._read_context_kind(document)
        own = Cohort(
            _required(document, self._cohort_id, "cohort"),
            _required(document, self._cohort_name, "cohort"),
            _optional(document, self._cohort_url, "cohort"),
        )
        cohorts, rejected = Cohorts(own), Rejections()
        for members in self._arrays(document):
            for index, value in enumerate(members.values):
                try:
                    self._member.read(value, f"{members.at}/{index}", members.added, cohorts)
                except InvalidBatch as fault:
                    if policy == "reject":
                        raise
                    rejected.add(fault.pointer or "", fault.reason)
        return Payload(environment_id, context_kind, cohorts.gathered(), rejected)

    def _read_context_kind(self, document: Document) -> str:
        if self._context_kind is None:
            return DEFAULT_CONTEXT_KIND
        kind = _optional(document, self._context_kind, "context_kind") or DEFAULT_CONTEXT_KIND
        if not is_context_kind(kind):
            expected = "must be letters, digits, '.', '_' and '-', and neither 'kind' nor 'multi'"
            raise _fault("context_kind", self._context_kind.path, expected)
        return kind

    def _arrays(self, document: Document) -> Iterator[_Members]:
        for pointer, added in self._split:
            yield _Members(pointer.path, _array_or_nothing(document, pointer), added)
        if self._single is not None:
            values = _array(document, self._single)
            inclusion = None if self._inclusion is None else self._inclusion.read(document)
            yield _Members(self._single.path, values, inclusion)


class _Inclusion(NamedTuple):
    """Where a payload's action lies, and what it must match to be an add."""

    pointer: JsonPointer
    matcher: Any

    @classmethod
    def compiled(cls, inclusion: ArrayInclusion) -> _Inclusion:
        return cls(JsonPointer(inclusion.path), compile_matcher(inclusion.matcher))

    def read(self, document: Document) -> bool:
        value = document.find(self.pointer)
        flag = boolean(value)
        action = scalar(value) if flag is None else str(flag).lower()
        if not action:
            expected = "must be a non-empty string, a boolean or an integer"
            raise _fault("action", self.pointer.path, "is missing" if value is None else expected)
        return self.matcher.search(action) is not None


class _MemberReader:
    """Reads one member by a memberArrayParser."""

    def __init__(self, parser: MemberArrayParser) -> None:
        self._id = JsonPointer(parser.member_id_path)
        self._membership = _optional_pointer(parser.boolean_membership_path)
        self._cohort_id = _optional_pointer(parser.cohort_id_path)
        self._cohort_name = _optional_pointer(parser.cohort_name_path)

    def read(self, value: Raw, at: str, added: bool | None, cohorts: Cohorts) -> None:
        """State the member ``value``, which lies ``at`` a pointer of the body, in ``cohorts``.

        Raises:
            InvalidBatch: "member", "member_id", "membership" or "member_cohort"; nothing was stated.
        """
        member = Document(value)
        if self._id.parts and not member.is_object():
            raise _fault("member", at, "must be an object")
        if added is None:
            assert self._membership is not None, "a parser in boolean mode has a booleanMembershipPath"
            added = boolean(member.find(self._membership))
            if added is None:
                raise _fault("membership", at + self._membership.path, "must be true or false")
        cohorts.state(
            _required(member, self._id, "member_id", at),
            added=added,
            cohort_id=_optional(member, self._cohort_id, "member_cohort", at),
            cohort_name=_optional(member, self._cohort_name, "member_cohort", at),
        )


def _optional_pointer(text: str | None) -> JsonPointer | None:
    return None if text is None else JsonPointer(text)


def _fault(reason: Reason, pointer: str, problem: str) -> InvalidBatch:
    return InvalidBatch(reason, f"{pointer or 'the body'} {problem}", pointer=pointer)


def _required(document: Document, pointer: JsonPointer, reason: Reason, at: str = "") -> str:
    value = document.find(pointer)
    text = scalar(value)
    if not text:
        raise _fault(reason, at + pointer.path, "is missing" if value is None else _NO_SCALAR)
    return text


def _optional(document: Document, pointer: JsonPointer | None, reason: Reason, at: str = "") -> str | None:
    value = None if pointer is None else document.find(pointer)
    if pointer is None or value is None:
        return None
    text = scalar(value)
    if text is None and not is_null(value):
        raise _fault(reason, at + pointer.path, _NO_SCALAR)
    return text or None


def _array(document: Document, pointer: JsonPointer) -> list[Raw]:
    value = document.find(pointer)
    found = None if value is None else elements(value)
    if found is None:
        raise _fault("members", pointer.path, "is missing" if value is None else "must be an array")
    return found


def _array_or_nothing(document: Document, pointer: JsonPointer) -> list[Raw]:
    value = document.find(pointer)
    return [] if value is None or is_null(value) else _array(document, pointer)
