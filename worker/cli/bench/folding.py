"""Batches of the same people: one write for those that wait together, against one for each that comes alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from statistics import median

from worker.cli.bench.applying import Applying, applying, portions
from worker.cli.bench.installation import PREFIX
from worker.cli.bench.measuring import Plan, Result, alternate, over
from worker.cli.bench.payloads import append, body, people
from worker.errors import Misconfigured
from worker.model import SegmentId
from worker.stores.layout import context_hashes, redis_include_key

BATCHES = 100
MEMBERS = 10_000
# Of each batch: others in each, so that the outcome is right only if the last batch has the last word.
_REMOVED = MEMBERS // BATCHES
_CHECKED_AT_ONCE = 5000


def fold_gain(plan: Plan) -> list[Result]:
    """Batches a second where a hundred wait, by batches a second where each is applied before the next is there."""
    members = people(MEMBERS)
    with applying(members) as here:
        sides = _Sides(here)
        together, one_by_one = alternate(plan, sides.together, sides.one_by_one)
    said = f"{median(together):,.0f} by {median(one_by_one):,.0f} batches/s of the same {MEMBERS:,} people"
    return [over("fold_gain", together, one_by_one, said=said)]


class _Sides:
    """Both ways to bring the same batches into a store that has nobody; each returns batches a second."""

    def __init__(self, here: Applying) -> None:
        self._here = here
        self._cohort_ids = map(str, count())

    def together(self) -> float:
        """All of them wait when the worker is woken up."""
        cohort_id = next(self._cohort_ids)
        log = append(self._here.installation, cohort_id, self._bodies(cohort_id))
        return self._checked(log, self._here.drain([log]))

    def one_by_one(self) -> float:
        """Each waits alone. Its append is not measured, as with the others."""
        cohort_id, seconds = next(self._cohort_ids), 0.0
        for each in self._bodies(cohort_id):
            log = append(self._here.installation, cohort_id, [each])
            seconds += self._here.drain([log])
        return self._checked(log, seconds)

    def _bodies(self, cohort_id: str) -> list[bytes]:
        environment_id, members = self._here.installation.environment_id, self._here.members
        return [
            body(environment_id, cohort_id, [*members[: place * _REMOVED], *members[(place + 1) * _REMOVED :]], removed)
            for place, removed in enumerate(portions(members, _REMOVED))
        ]

    def _checked(self, log: SegmentId, seconds: float) -> float:
        """Who is in the segment is what the last batch says; then nobody is."""
        wrong = [place for place, is_in in enumerate(self._found(log)) if is_in != (place < MEMBERS - _REMOVED)]
        if wrong:
            raise Misconfigured(f"{len(wrong)} of {MEMBERS:,} members are in {log.ref} or not as the last batch says")
        self._here.empty()
        return BATCHES / seconds

    def _found(self, log: SegmentId) -> Sequence[bool]:
        keys = [redis_include_key(PREFIX, hashed.decode()) for hashed in context_hashes(self._here.members)]
        found: list[bool] = []
        with self._here.installation.store_client() as client:
            for portion in portions(keys, _CHECKED_AT_ONCE):
                asked = client.pipeline(transaction=False)
                for key in portion:
                    asked.sismember(key, log.ref)
                found += map(bool, asked.execute())
        return found
