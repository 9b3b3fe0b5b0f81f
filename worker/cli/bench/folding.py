"""Batches of the same people: one write for those that wait together, against one for each that comes alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from statistics import median

from worker.cli.bench.applying import BATCH_MEMBERS, Applying, applying, portions
from worker.cli.bench.installation import PREFIX
from worker.cli.bench.measuring import Plan, Result, alternate, over
from worker.cli.bench.payloads import append, body, people
from worker.errors import Misconfigured
from worker.model import SegmentId
from worker.stores.layout import context_hashes, redis_include_key

BATCHES = 100
MEMBERS = 10_000
_CHECKED_AT_ONCE = 5000


def fold_gain(plan: Plan) -> list[Result]:
    """Batches a second where a hundred wait, by batches a second where each is applied before the next is there.

    Once as partners send a cohort of ten thousand again and again, a thousand people a batch; and, where there is time,
    with all of them in each batch, as no partner does: then most of the time goes into decoding, which nothing saves.
    """
    members, results = people(MEMBERS), list[Result]()
    sizes = {"fold_gain": BATCH_MEMBERS} if plan.quick else {"fold_gain": BATCH_MEMBERS, "fold_gain_whole": MEMBERS}
    with applying(members) as here:
        for name, batch_members in sizes.items():
            sides = _Sides(here, batch_members)
            together, one_by_one = alternate(plan, sides.together, sides.one_by_one)
            said = (
                f"{median(together):,.0f} by {median(one_by_one):,.0f} batches/s of {batch_members:,}, "
                f"the same {MEMBERS:,} people"
            )
            results.append(over(name, together, one_by_one, said=said))
    return results


class _Sides:
    """Both ways to bring the same batches into a store that has nobody; each returns batches a second."""

    def __init__(self, here: Applying, batch_members: int) -> None:
        self._here = here
        self._pages = portions(here.members, batch_members)
        # Of each page: others each time, so that the outcome is right only if the last batch has the last word.
        self._removed = len(self._pages) * batch_members // BATCHES
        self._cohort_ids = (f"{batch_members}-{number}" for number in count())

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
        environment_id, bodies = self._here.installation.environment_id, list[bytes]()
        for number in range(BATCHES):
            page = self._pages[number % len(self._pages)]
            first = number // len(self._pages) * self._removed
            out = page[first : first + self._removed]
            bodies.append(body(environment_id, cohort_id, [*page[:first], *page[first + len(out) :]], out))
        return bodies

    def _checked(self, log: SegmentId, seconds: float) -> float:
        """Who is in the segment is what the last batch says; then nobody is."""
        page = len(self._pages[0])
        last_in = [place % page < page - self._removed for place in range(MEMBERS)]
        wrong = [is_in for is_in, right in zip(self._found(log), last_in, strict=True) if is_in != right]
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
