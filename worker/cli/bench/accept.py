"""The accept path: from a partner's request to its 204, which says that the payload is in the log, on disk."""

from __future__ import annotations

from collections import Counter
from statistics import median

from worker.cli.bench import reference_servers
from worker.cli.bench.http_load import request, send_all
from worker.cli.bench.installation import Installation, installed
from worker.cli.bench.measuring import Plan, Result, alternate, over
from worker.cli.bench.payloads import INTEGRATION, body, people
from worker.cli.bench.reference_servers import reference_server
from worker.errors import Misconfigured

COHORTS = 20
MEMBERS = 50
CONNECTIONS = 32
_BODIES_OF_A_COHORT = 50
_WARM_UP = 2000
_TURNS = 5
_PATH = f"/api/v2/segment-targets/{INTEGRATION}"


def accept(plan: Plan) -> list[Result]:
    """204s a second of one receiver, against a server that only reads, and against one that publishes a task each."""
    with (
        installed() as installation,
        installation.receiver() as receiver_url,
        reference_server("bare") as bare_url,
        reference_server("tasks", installation.wiring.settings.broker()) as tasks_url,
    ):
        requests = _requests(installation)
        ours = _Sending(receiver_url, requests, plan.sized(4_000, 2_000))
        bare = _Sending(bare_url, requests, plan.sized(4_000, 2_000))
        tasks = _Sending(tasks_url, requests, plan.sized(600, 300))
        for each in (ours, bare, tasks):
            each.send(_WARM_UP)

        def publish() -> float:
            found = tasks()
            _take_tasks(installation, tasks)
            return found

        of_ours, of_bare, of_tasks = alternate(plan, ours, bare, publish, turns=_TURNS)
        _check_logs(installation, ours.answered)
    rates = f"{median(of_ours):,.0f} durable 204s/s"
    return [
        over(
            "accept_vs_bare",
            of_ours,
            of_bare,
            said=f"{rates}; a route that only reads the body: {median(of_bare):,.0f}",
        ),
        over(
            "accept_vs_task_per_payload",
            of_ours,
            of_tasks,
            said=f"{rates}; a Celery task each: {median(of_tasks):,.0f}",
        ),
        Result("accepts_per_second", median(of_ours), "payloads/s", of_ours, f"{MEMBERS} members each"),
    ]


class _Sending:
    """A server under load; called, it takes one turn and returns the 204s per second."""

    def __init__(self, url: str, requests: list[bytes], count: int) -> None:
        self.answered = 0
        self._url = url
        self._requests = requests
        self._count = count

    def __call__(self) -> float:
        return self._count / self.send(self._count)

    def send(self, count: int) -> float:
        """Seconds that so many requests take.

        Raises:
            Misconfigured: one was not answered 204.
        """
        seconds, statuses = send_all(self._url, self._requests, count, connections=CONNECTIONS)
        if statuses != Counter({204: count}):
            raise Misconfigured(f"{count} requests to {self._url} were answered {dict(statuses)}, not 204")
        self.answered += count
        return seconds


def _requests(installation: Installation) -> list[bytes]:
    """Distinct payloads, those of different cohorts in turn."""
    headers = {"Authorization": installation.writer_token}
    return [
        request(
            f"http://bench{_PATH}",
            headers,
            body(installation.environment_id, str(cohort), people(MEMBERS, f"{cohort} {n}")),
        )
        for n in range(_BODIES_OF_A_COHORT)
        for cohort in range(COHORTS)
    ]


def _check_logs(installation: Installation, accepted: int) -> None:
    """Every payload that was answered 204 is in a log, and nothing else is."""
    wiring, environment_id = installation.wiring, installation.environment_id
    keys = wiring.segment_keys.registered(environment_id)
    statuses = list(wiring.upkeep.statuses(environment_id, keys, [installation.store_id]))
    found = sum(status.batches for status in statuses)
    if (len(statuses), found) != (COHORTS, accepted):
        raise Misconfigured(
            f"{accepted} payloads of {COHORTS} cohorts were accepted; {len(statuses)} logs have {found}"
        )


def _take_tasks(installation: Installation, tasks: _Sending) -> None:
    """Count the messages, and make room: they are larger than what the log keeps."""
    with installation.client() as client:
        found = client.llen(reference_servers.QUEUE)
        client.delete(reference_servers.QUEUE)
    if found != tasks.answered:
        raise Misconfigured(f"{tasks.answered} tasks were published; {found} are in the queue")
    tasks.answered = 0
