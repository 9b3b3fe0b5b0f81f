"""The wake-up path: from a payload's 204 to the moment at which an SDK would read its members from the store."""

from __future__ import annotations

import http.client
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from urllib.parse import urlsplit

from worker.cli.bench.installation import PREFIX, Installation, installed
from worker.cli.bench.measuring import Plan, Result
from worker.cli.bench.payloads import INTEGRATION, body, people
from worker.errors import Misconfigured
from worker.stores.layout import context_hashes, redis_include_key

COHORTS = 50
MEMBERS = 200
PER_SECOND = 50
_ROUND_SECONDS = 10
_QUICK_ROUND_SECONDS = 4
_SENDERS = 16
# How often the reader looks while anything is to be seen: what the figures are exact to.
_LOOK_SECONDS = 0.001
_PATIENCE_SECONDS = 30.0
# A receiver hangs up after five; which of the senders gets a payload is chance.
_PAUSE_SECONDS = 2.0
_PATH = f"/api/v2/segment-targets/{INTEGRATION}"


def freshness(plan: Plan) -> list[Result]:
    """From the 204 to a reader's seeing the payload's last member, payloads being sent at appointed times.

    Everything runs as in ``segsync up``: one receiver, a worker process per core, the scheduler.
    """
    with (
        installed() as installation,
        installation.scheduler(),
        installation.worker(processes=0),
        installation.receiver() as url,
    ):
        load = _Load(installation, url)
        load.run(COHORTS)  # makes the segments
        rounds = [load.run(PER_SECOND * plan.sized(_ROUND_SECONDS, _QUICK_ROUND_SECONDS)) for _ in range(plan.rounds)]
    p99s = [_percentile([each.after_answer_ms for each in found], 99) for found in rounds]
    p50s = [_percentile([each.after_answer_ms for each in found], 50) for found in rounds]
    from_sending = median(_percentile([each.after_sending_ms for each in found], 99) for found in rounds)
    said = (
        f"{PER_SECOND} payloads/s of {MEMBERS} members over {COHORTS} segments, a worker process per core; "
        f"from when they were to be sent: {from_sending:.1f} ms"
    )
    return [
        Result("freshness_p99_ms", median(p99s), "ms", p99s, said),
        Result("freshness_p50_ms", median(p50s), "ms", p50s),
    ]


@dataclass(slots=True)
class _Payload:
    """A payload on its way. Times are seconds of one clock.

    Attributes:
        ref: what the members' keys in the store shall name.
        keys: those keys; the last one is looked for.
        due: when it is to be sent, however long others take.
    """

    body: bytes
    ref: str
    keys: Sequence[str]
    due: float = math.nan
    answered: float = math.inf
    seen: float = math.nan

    @property
    def after_answer_ms(self) -> float:
        # A reader may see it before the answer has been read.
        return max(0.0, self.seen - self.answered) * 1000

    @property
    def after_sending_ms(self) -> float:
        return (self.seen - self.due) * 1000


class _Load:
    """Sends payloads, each of people of its own, to the cohorts in turn."""

    def __init__(self, installation: Installation, url: str) -> None:
        self._installation = installation
        self._address = urlsplit(url).netloc
        self._headers = {"Authorization": installation.writer_token, "Content-Type": "application/json"}
        self._links = threading.local()
        self._made = 0

    def run(self, count: int) -> list[_Payload]:
        """Send so many, evenly spaced; returns when all of them are in the store.

        Raises:
            Misconfigured: one was not accepted, or its members were not in the store half a minute later.
        """
        payloads = [self._make() for _ in range(count)]
        sending: list[Future[None]] = []
        with ThreadPoolExecutor(_SENDERS) as senders, ThreadPoolExecutor(1) as readers:
            began = time.perf_counter() + _LOOK_SECONDS
            for number, payload in enumerate(payloads):
                payload.due = began + number / PER_SECOND
            reading = readers.submit(self._read, payloads)
            for payload in payloads:
                time.sleep(max(0.0, payload.due - time.perf_counter()))
                sending.append(senders.submit(self._send, payload))
            for sent in sending:
                sent.result()
            reading.result()
        self._check(payloads)
        return payloads

    def _make(self) -> _Payload:
        cohort_id, members = str(self._made % COHORTS), people(MEMBERS, str(self._made))
        self._made += 1
        return _Payload(
            body=body(self._installation.environment_id, cohort_id, members),
            ref=f"{INTEGRATION}-{cohort_id}.g1",
            keys=[redis_include_key(PREFIX, hashed.decode()) for hashed in context_hashes(members)],
        )

    def _send(self, payload: _Payload) -> None:
        link = self._link()
        link.request("POST", _PATH, payload.body, self._headers)
        with link.getresponse() as answer:
            answer.read()
            payload.answered = time.perf_counter()
            if answer.status != http.HTTPStatus.NO_CONTENT:
                raise Misconfigured(f"a payload was answered {answer.status}")

    def _link(self) -> http.client.HTTPConnection:
        """A connection for each sender, kept for all that it sends; opened anew after a pause."""
        now = time.perf_counter()
        if not hasattr(self._links, "link"):
            self._links.link = http.client.HTTPConnection(self._address)
        elif now - self._links.used_at > _PAUSE_SECONDS:
            self._links.link.close()
        self._links.used_at = now
        link: http.client.HTTPConnection = self._links.link
        return link

    def _read(self, payloads: Sequence[_Payload]) -> None:
        """Look for the last member of each payload that has been sent, until all were seen."""
        waiting = list(payloads)
        deadline = payloads[-1].due + _PATIENCE_SECONDS
        with self._installation.client() as client:
            while waiting:
                now = time.perf_counter()
                if now >= deadline:
                    raise Misconfigured(f"{len(waiting)} payloads are not in the store after {_PATIENCE_SECONDS:g} s")
                sent = [each for each in waiting if each.due <= now]
                with client.pipeline(transaction=False) as pipe:
                    for each in sent:
                        pipe.sismember(each.keys[-1], each.ref)
                    found = pipe.execute()
                now = time.perf_counter()
                for each, is_there in zip(sent, found, strict=True):
                    if is_there:
                        each.seen = now
                        waiting.remove(each)
                time.sleep(_LOOK_SECONDS)

    def _check(self, payloads: Sequence[_Payload]) -> None:
        """Everybody is in the segment that was meant, and nobody in another."""
        with self._installation.client() as client, client.pipeline(transaction=False) as pipe:
            for each in payloads:
                pipe.sunion(each.keys)
                pipe.exists(*each.keys)
            found = pipe.execute()
        for each, refs, count in zip(payloads, found[::2], found[1::2], strict=True):
            if refs != {each.ref.encode()} or count != len(each.keys):
                raise Misconfigured(f"{count} of {len(each.keys)} members of a payload are in the store, in {refs}")


def _percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent of them do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]
