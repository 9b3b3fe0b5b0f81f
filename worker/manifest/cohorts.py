"""The cohorts that one payload names, gathered member by member, and what is true of all of them."""

from __future__ import annotations

import re

from worker.errors import InvalidBatch
from worker.model import Cohort

MAX_COHORTS = 1000

_CONTEXT_KIND = re.compile(r"[A-Za-z0-9._-]+")


def is_context_kind(kind: str) -> bool:
    """Whether LaunchDarkly would take a context kind of this name."""
    return kind not in {"kind", "multi"} and _CONTEXT_KIND.fullmatch(kind) is not None


class Cohorts:
    """Cohorts by id, the payload's own first, the others as they appear."""

    def __init__(self, own: Cohort) -> None:
        self._own = own
        self._payload_name = own.name
        self._by_id = {own.cohort_id: own}

    def state(self, member_id: str, *, added: bool, cohort_id: str | None, cohort_name: str | None) -> None:
        """Take in one member, whose cohort id and name, where given, override the payload's.

        The last statement of a member counts, and the last name said of a cohort; a name that is said beats one
        that is inherited.

        Raises:
            InvalidBatch: "too_many_cohorts".
        """
        cohort = self._own
        if cohort_id is not None and cohort_id != cohort.cohort_id:
            if cohort_id not in self._by_id:
                if len(self._by_id) == MAX_COHORTS:
                    raise InvalidBatch("too_many_cohorts", f"the payload names more than {MAX_COHORTS} cohorts")
                self._by_id[cohort_id] = Cohort(cohort_id, self._payload_name)
            cohort = self._by_id[cohort_id]
        if cohort_name is not None:
            cohort.name = cohort_name
        cohort.members[member_id] = added

    def gathered(self) -> list[Cohort]:
        """All cohorts."""
        return list(self._by_id.values())
