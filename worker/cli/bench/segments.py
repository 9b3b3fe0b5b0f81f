"""Whether what a payload costs depends on how many segments there are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median

from worker.cli.bench.http_load import request, send_all
from worker.cli.bench.installation import Installation, installed
from worker.cli.bench.measuring import Plan, Result, alternate, over
from worker.cli.bench.payloads import INTEGRATION, append, body, people
from worker.errors import Misconfigured
from worker.log.creation import create_segment
from worker.model import SegmentId

# Those that payloads come for; the others are known and rest, as most cohorts do at any moment.
BUSY = 20
FEW, MANY = 20, 20_000
MEMBERS = 50
_BODIES_OF_A_COHORT = 20
_CREATED_AT_ONCE = 16
_POLL_SECONDS = 0.02


def segments_flatness(plan: Plan) -> list[Result]:
    """What it costs to accept and apply payloads with 20,000 segments known, by what it costs with 20."""
    payloads = plan.sized(12_000, 2_500)
    with _known(FEW) as few, _known(MANY) as many:
        at_many, at_few = alternate(plan, lambda: many.seconds(payloads), lambda: few.seconds(payloads))
    said = (
        f"{median(at_many) / payloads * 1e6:,.0f} by {median(at_few) / payloads * 1e6:,.0f} µs a payload of {MEMBERS} "
        "members, from its request to the store"
    )
    return [over("segments_flatness", at_many, at_few, said=said)]


class _Service:
    """All roles, and what partners send to them."""

    def __init__(self, installation: Installation, url: str, segments: list[SegmentId]) -> None:
        self._installation = installation
        self._url = url
        self._segments = segments
        headers = {"Authorization": installation.writer_token}
        self._requests = [
            request(
                f"{url}/api/v2/segment-targets/{INTEGRATION}",
                headers,
                body(installation.environment_id, str(cohort), people(MEMBERS, f"{cohort} {number}")),
            )
            for number in range(_BODIES_OF_A_COHORT)
            for cohort in range(BUSY)
        ]

    def seconds(self, payloads: int) -> float:
        """From the first request until the store has everything."""
        began = time.perf_counter()
        _, statuses = send_all(self._url, self._requests, payloads)
        if statuses != Counter({204: payloads}):
            raise Misconfigured(f"{payloads} payloads were answered {dict(statuses)}, not 204")
        self._installation.wait_until_applied(self._segments, _POLL_SECONDS)
        return time.perf_counter() - began

    def check(self) -> None:
        """Each cohort has everybody who was sent for it."""
        read = self._installation.wiring.stores.get(self._installation.store_id)
        assert read is not None
        for cohort, segment in enumerate(self._segments):
            sent = [person for n in range(_BODIES_OF_A_COHORT) for person in people(MEMBERS, f"{cohort} {n}")]
            if not all(read.includes_keys(segment.ref, sent)):
                raise Misconfigured(f"members of {segment.ref} are missing from the store")


@contextmanager
def _known(segments: int) -> Iterator[_Service]:
    with installed() as installation:
        busy = [append(installation, str(cohort), []) for cohort in range(BUSY)]
        _create(installation, segments - BUSY)
        with installation.receiver() as url, installation.worker(), installation.scheduler():
            service = _Service(installation, url, busy)
            service.seconds(BUSY * _BODIES_OF_A_COHORT)
            yield service
            service.check()


def _create(installation: Installation, count: int) -> None:
    """Segments that are there and get nothing; made by hand, which is quicker than by payloads."""

    def create(number: int) -> None:
        key, environment_id = f"resting-{number}", installation.environment_id
        create_segment(installation.wiring.client, environment_id, key, context_kind="user", name=key)

    with ThreadPoolExecutor(_CREATED_AT_ONCE) as pool:
        for _ in pool.map(create, range(count)):
            pass
