"""One member of a body, read by a memberArrayParser."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Raw

from worker.errors import Reason
from worker.manifest.cohorts import LONGEST_COHORT_TEXT, Cohorts
from worker.manifest.document import Place, Places, optional_place, place_of
from worker.manifest.json_text import boolean, is_null, is_object, scalar
from worker.manifest.request_parser import MemberArrayParser

MISSING = "is missing"
NO_SCALAR = "must be a non-empty string or an integer"
TOO_LONG = f"is longer than {LONGEST_COHORT_TEXT} characters"


class MemberFault(NamedTuple):
    """Why a member cannot be read; ``path`` is a pointer into the member."""

    reason: Reason
    path: str
    problem: str


_NO_OBJECT = MemberFault("member", "", "must be an object")


class MemberReader:
    """Reads one member by a memberArrayParser."""

    def __init__(self, parser: MemberArrayParser) -> None:
        self._id = place_of(parser.member_id_path)
        self._membership = optional_place(parser.boolean_membership_path)
        self._cohort_id = optional_place(parser.cohort_id_path)
        self._cohort_name = optional_place(parser.cohort_name_path)
        places = (self._membership, self._id, self._cohort_id, self._cohort_name)
        self._places = Places([None if place is None else place.tokens for place in places])

    def read(self, member: Raw, added: bool | None, cohorts: Cohorts) -> MemberFault | None:
        """State a member in ``cohorts``, or return why it cannot be read: then nothing of it is stated."""
        if self._id.tokens and not is_object(member):
            return _NO_OBJECT
        membership, id_, own_cohort_id, own_cohort_name = self._places.find(member)
        if added is None:
            added = boolean(membership)
            if added is None:
                assert self._membership is not None, "a parser in boolean mode has a booleanMembershipPath"
                return MemberFault("membership", self._membership.path, "must be true or false")
        member_id = scalar(id_)
        if not member_id:
            return MemberFault("member_id", self._id.path, MISSING if id_ is None else NO_SCALAR)
        cohort_id, fault = self._read_override(own_cohort_id, self._cohort_id)
        if fault is not None:
            return fault
        cohort_name, fault = self._read_override(own_cohort_name, self._cohort_name)
        if fault is not None:
            return fault
        cohorts.state(member_id, added=added, cohort_id=cohort_id, cohort_name=cohort_name)
        return None

    @staticmethod
    def _read_override(value: Raw | None, place: Place | None) -> tuple[str | None, MemberFault | None]:
        text = scalar(value)
        if place is not None and value is not None and text is None and not is_null(value):
            return None, MemberFault("member_cohort", place.path, NO_SCALAR)
        if place is not None and text is not None and len(text) > LONGEST_COHORT_TEXT:
            return None, MemberFault("member_cohort", place.path, TOO_LONG)
        return text or None, None
