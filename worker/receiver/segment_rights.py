"""Which segments a token with statements of its own may write to: looked at before anything is allotted or appended.

A token with a role never comes here: what it may do, it may on all segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from worker.errors import Unavailable
from worker.log.segments import read_segments
from worker.receiver.refusals import Refused
from worker.records.directory import Environment, Token
from worker.records.rights import Part, may
from worker.wiring import Wiring

# Whoever is too late by one allotment finds the key the next time.
_MOST_TRIES: Final = 5


class SegmentRights:
    """What one token may do in one environment, by the records of this moment."""

    def __init__(self, wiring: Wiring, token: Token, environment: Environment) -> None:
        self._wiring = wiring
        self._token = token
        self._environment_id = environment.environment_id
        self._resource = wiring.directory.current.resource(environment.project_key, environment.environment_key)

    def suffice(self, segment_keys: Sequence[str]) -> bool:
        """Whether it may write to all of these, also where they must be created first; asks nobody."""
        return all(map(self._may_write_anew, segment_keys))

    def keys(self, integration_key: str, cohort_ids: Sequence[str]) -> list[str]:
        """The cohorts' segment keys; those that have none are allotted one now, all of them or none.

        What is deleted between this look and the append is created anew by it, also for a token that may not create.

        Raises:
            Refused: 403, and nothing was allotted: the token may not write to one of the segments, or there is none
                such yet and it may not create it.
            Unavailable: the state server is away.
        """
        known = self._wiring.segment_keys
        for _ in range(_MOST_TRIES):
            found = known.find(self._environment_id, integration_key, cohort_ids)
            self._check([key for key in found if key is not None])
            missing = [cohort_id for cohort_id, key in zip(cohort_ids, found, strict=True) if key is None]
            if not missing:
                return [key for key in found if key is not None]
            outcome = known.allot_where(self._environment_id, integration_key, missing, self._may_write_anew)
            if outcome == "refused":
                raise _refused()
        raise Unavailable("segment keys are being allotted all the time; try again in a moment", dependency="state")

    def _check(self, segment_keys: Sequence[str]) -> None:
        if not all(self._may("updateIncluded", key) for key in segment_keys):
            raise _refused()
        not_to_create = [key for key in segment_keys if not self._may("createSegment", key)]
        if not_to_create:
            there = read_segments(self._wiring.client, self._environment_id, not_to_create)
            if len(there) < len(not_to_create):
                raise _refused()

    def _may_write_anew(self, segment_key: str) -> bool:
        return self._may("updateIncluded", segment_key) and self._may("createSegment", segment_key)

    def _may(self, action: str, segment_key: str) -> bool:
        return may(self._token, action, (*self._resource, Part("segment", segment_key)))


def _refused() -> Refused:
    return Refused(403, "The token has no right to write to this segment, or to create it", reason="rights")
