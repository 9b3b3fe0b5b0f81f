"""The cohorts that one payload names, gathered member by member, and what is true of all of them."""

from __future__ import annotations

import re
from functools import lru_cache

from worker.errors import InvalidBatch
from worker.model import Cohort

MAX_COHORTS = 1000
# Of a cohort's id, name and url: far above what a partner has (LaunchDarkly recommends 128 for an id), and short enough
# to be kept, sent and shown.
LONGEST_COHORT_TEXT = 65_536
_LONGEST_CONTEXT_KIND = 256

_CONTEXT_KIND = re.compile(r"[A-Za-z0-9._-]+")


def is_context_kind(kind: str) -> bool:
    """Whether LaunchDarkly would take a context kind of this name; nobody has one of more than 256 characters."""
    return len(kind) <= _LONGEST_CONTEXT_KIND and _is_context_kind(kind)


@lru_cache(maxsize=256)  # every payload names one, and nearly always the same
def _is_context_kind(kind: str) -> bool:
    return _CONTEXT_KIND.fullmatch(kind) is not None and kind not in {"kind", "multi"}


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
